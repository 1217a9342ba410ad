//! The table of signature algorithms, beside that of [`crate::KEM_ALGORITHMS`]: one row for each.
//!
//! Sources: FIPS 204 table 2 (ML-DSA sizes), `draft-ietf-tls-mldsa` (TLS code points), RFC 9881 (object identifiers),
//! `draft-ietf-lamps-pq-composite-sigs-19` section 6 (composites), OpenSSL 3.5's
//! `providers/implementations/include/prov/names.h` for the names.

/// A parameter set of ML-DSA (FIPS 204 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MlDsa {
    /// Security category 2.
    MlDsa44,
    /// Security category 3.
    MlDsa65,
    /// Security category 5.
    MlDsa87,
}

impl MlDsa {
    /// Bytes of the seed ξ a key pair is made from (FIPS 204 algorithm 6).
    pub const SEED_BYTES: usize = 32;
    /// Bytes of the randomness `rnd` of a signature (FIPS 204 algorithm 7).
    pub const RANDOMNESS_BYTES: usize = 32;
    /// Bytes of the message representative µ (FIPS 204 algorithm 7), and of the public key's hash `tr`.
    pub const MU_BYTES: usize = 64;
    /// The longest context string (FIPS 204 algorithm 2).
    pub const MAX_CONTEXT_BYTES: usize = 255;

    /// Bytes of a public key.
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Self::MlDsa44 => 1312,
            Self::MlDsa65 => 1952,
            Self::MlDsa87 => 2592,
        }
    }

    /// Bytes of an expanded private key.
    pub const fn private_key_bytes(self) -> usize {
        match self {
            Self::MlDsa44 => 2560,
            Self::MlDsa65 => 4032,
            Self::MlDsa87 => 4896,
        }
    }

    /// Bytes of a signature.
    pub const fn signature_bytes(self) -> usize {
        match self {
            Self::MlDsa44 => 2420,
            Self::MlDsa65 => 3309,
            Self::MlDsa87 => 4627,
        }
    }

    /// Rows k and columns l of the matrix, and the bound η of the secret coefficients (FIPS 204 table 1).
    pub(crate) const fn dimensions(self) -> (usize, usize, u32) {
        match self {
            Self::MlDsa44 => (4, 4, 2),
            Self::MlDsa65 => (6, 5, 4),
            Self::MlDsa87 => (8, 7, 2),
        }
    }

    /// Bytes of an encoded polynomial with coefficients from -η to η: three bits each, or four.
    pub(crate) const fn eta_polynomial_bytes(self) -> usize {
        match self {
            Self::MlDsa44 | Self::MlDsa87 => 96,
            Self::MlDsa65 => 128,
        }
    }

    /// Where s1 and s2 begin in an expanded private key, after ρ, K and tr (FIPS 204 algorithm 24).
    pub(crate) const fn secret_begins(self) -> usize {
        32 + 32 + Self::MU_BYTES
    }

    /// NIST's security category.
    pub const fn security_category(self) -> u8 {
        match self {
            Self::MlDsa44 => 2,
            Self::MlDsa65 => 3,
            Self::MlDsa87 => 5,
        }
    }
}

/// The classical half of a composite, with the hash of its own that the draft's table 3 gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Classical {
    /// ECDSA on P-256 with SHA-256 (FIPS 186-5).
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384 (FIPS 186-5).
    EcdsaP384,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

impl Classical {
    /// Bytes of a public key: the uncompressed point `04 ‖ x ‖ y`, or Ed25519's 32.
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Self::EcdsaP256 => 65,
            Self::EcdsaP384 => 97,
            Self::Ed25519 => 32,
        }
    }

    /// Bytes of the private scalar, or of Ed25519's seed.
    pub const fn scalar_bytes(self) -> usize {
        match self {
            Self::EcdsaP256 | Self::Ed25519 => 32,
            Self::EcdsaP384 => 48,
        }
    }

    /// Bytes of the longest signature: `Ecdsa-Sig-Value` in DER, or Ed25519's 64.
    pub const fn max_signature_bytes(self) -> usize {
        match self {
            Self::EcdsaP256 => 72,
            Self::EcdsaP384 => 104,
            Self::Ed25519 => 64,
        }
    }

    /// The name as people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// What stands before and after the scalar in a composite's private key: an `ECPrivateKey` (RFC 5915) with the named
    /// curve and without the public key, which has only one DER form; nothing around Ed25519's seed.
    pub(crate) const fn scalar_frame(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::EcdsaP256 => (
                &[0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20],
                &[0xA0, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07],
            ),
            Self::EcdsaP384 => (
                &[0x30, 0x3E, 0x02, 0x01, 0x01, 0x04, 0x30],
                &[0xA0, 0x07, 0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22],
            ),
            Self::Ed25519 => (&[], &[]),
        }
    }
}

/// The hash functions that signatures need of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashFunction {
    /// SHA-224 (FIPS 180-4).
    Sha224,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-384 (FIPS 180-4).
    Sha384,
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// SHAKE256 (FIPS 202), squeezed once, to any length.
    Shake256,
}

impl HashFunction {
    /// Bytes of the output where it is fixed; for SHAKE256 those of ML-DSA's µ and `tr`.
    pub const fn output_bytes(self) -> usize {
        match self {
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 | Self::Shake256 => 64,
        }
    }
}

/// What makes a row a composite: ML-DSA's half is that of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Composite {
    /// The other half.
    pub classical: Classical,
    /// The label, which is part of what is signed and ML-DSA's context.
    pub label: &'static str,
    /// The hash of the message, PH in the draft.
    pub pre_hash: HashFunction,
}

/// A signature scheme of TLS 1.3 (RFC 8446 section 4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsSignatureScheme {
    /// The name as OpenSSL 3.5 spells it: `mldsa65`.
    pub name: &'static str,
    /// The `SignatureScheme` code point.
    pub code_point: u16,
}

/// One row: a signature algorithm.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignatureAlgorithm {
    /// The name, as OpenSSL 3.5 or the composite draft spells it: `ML-DSA-65`, `id-MLDSA65-ECDSA-P256-SHA512`.
    pub name: &'static str,
    /// Further names accepted on input and never written: OpenSSL's other names and those from before the standard.
    pub aliases: &'static [&'static str],
    /// The names exactly as OpenSSL 3.5's default provider registers them, separated by colons; for a composite, which
    /// OpenSSL does not have, those of the same pattern.
    pub openssl_names: &'static str,
    /// The dotted object identifier.
    pub oid: &'static str,
    /// The TLS 1.3 signature scheme; composites have none.
    pub tls_scheme: Option<TlsSignatureScheme>,
    /// Security strength in bits, as OpenSSL 3.5 states it (by ML-DSA's size).
    pub security_bits: u32,
    /// The ML-DSA half.
    pub ml_dsa: MlDsa,
    /// The other half of a composite.
    pub composite: Option<Composite>,
    /// The self-test's vectors, see [`crate::run_signature_known_answer`].
    pub(crate) known_answer: &'static [u8],
}

impl SignatureAlgorithm {
    /// Bytes of an encoded public key: ML-DSA's, then the composite's other half.
    pub const fn public_key_bytes(&self) -> usize {
        self.ml_dsa.public_key_bytes()
            + match self.composite {
                Some(composite) => composite.classical.public_key_bytes(),
                None => 0,
            }
    }

    /// Bytes of a private key's short form: ML-DSA's seed; in a composite then an `ECPrivateKey` in DER or Ed25519's seed.
    pub const fn seed_bytes(&self) -> usize {
        MlDsa::SEED_BYTES
            + match self.composite {
                Some(composite) => {
                    let (before, after) = composite.classical.scalar_frame();
                    before.len() + composite.classical.scalar_bytes() + after.len()
                }
                None => 0,
            }
    }

    /// Bytes of an expanded private key; composites have no such form.
    pub const fn private_key_bytes(&self) -> Option<usize> {
        match self.composite {
            Some(_) => None,
            None => Some(self.ml_dsa.private_key_bytes()),
        }
    }

    /// Bytes of the longest signature. One with an ECDSA half may be some bytes shorter, any other has exactly these.
    pub const fn max_signature_bytes(&self) -> usize {
        self.ml_dsa.signature_bytes()
            + match self.composite {
                Some(composite) => composite.classical.max_signature_bytes(),
                None => 0,
            }
    }
}

/// Every signature algorithm: ML-DSA, then the composites.
pub static SIGNATURE_ALGORITHMS: [SignatureAlgorithm; 8] = [
    SignatureAlgorithm {
        name: "ML-DSA-44",
        aliases: &[
            "MLDSA44",
            "id-ml-dsa-44",
            "2.16.840.1.101.3.4.3.17",
            "CRYSTALS-DILITHIUM-2",
            "DILITHIUM2",
        ],
        openssl_names: "ML-DSA-44:MLDSA44:2.16.840.1.101.3.4.3.17:id-ml-dsa-44",
        oid: "2.16.840.1.101.3.4.3.17",
        tls_scheme: Some(TlsSignatureScheme { name: "mldsa44", code_point: 0x0904 }),
        security_bits: 128,
        ml_dsa: MlDsa::MlDsa44,
        composite: None,
        known_answer: include_bytes!("known_answer/ML-DSA-44.bin"),
    },
    SignatureAlgorithm {
        name: "ML-DSA-65",
        aliases: &[
            "MLDSA65",
            "id-ml-dsa-65",
            "2.16.840.1.101.3.4.3.18",
            "CRYSTALS-DILITHIUM-3",
            "DILITHIUM3",
        ],
        openssl_names: "ML-DSA-65:MLDSA65:2.16.840.1.101.3.4.3.18:id-ml-dsa-65",
        oid: "2.16.840.1.101.3.4.3.18",
        tls_scheme: Some(TlsSignatureScheme { name: "mldsa65", code_point: 0x0905 }),
        security_bits: 192,
        ml_dsa: MlDsa::MlDsa65,
        composite: None,
        known_answer: include_bytes!("known_answer/ML-DSA-65.bin"),
    },
    SignatureAlgorithm {
        name: "ML-DSA-87",
        aliases: &[
            "MLDSA87",
            "id-ml-dsa-87",
            "2.16.840.1.101.3.4.3.19",
            "CRYSTALS-DILITHIUM-5",
            "DILITHIUM5",
        ],
        openssl_names: "ML-DSA-87:MLDSA87:2.16.840.1.101.3.4.3.19:id-ml-dsa-87",
        oid: "2.16.840.1.101.3.4.3.19",
        tls_scheme: Some(TlsSignatureScheme { name: "mldsa87", code_point: 0x0906 }),
        security_bits: 256,
        ml_dsa: MlDsa::MlDsa87,
        composite: None,
        known_answer: include_bytes!("known_answer/ML-DSA-87.bin"),
    },
    SignatureAlgorithm {
        name: "id-MLDSA44-ECDSA-P256-SHA256",
        aliases: &["MLDSA44-ECDSA-P256-SHA256", "1.3.6.1.5.5.7.6.40", "HYBRID:DILITHIUM2+P256"],
        openssl_names: "id-MLDSA44-ECDSA-P256-SHA256:MLDSA44-ECDSA-P256-SHA256:1.3.6.1.5.5.7.6.40",
        oid: "1.3.6.1.5.5.7.6.40",
        tls_scheme: None,
        security_bits: 128,
        ml_dsa: MlDsa::MlDsa44,
        composite: Some(Composite {
            classical: Classical::EcdsaP256,
            label: "COMPSIG-MLDSA44-ECDSA-P256-SHA256",
            pre_hash: HashFunction::Sha256,
        }),
        known_answer: include_bytes!("known_answer/id-MLDSA44-ECDSA-P256-SHA256.bin"),
    },
    SignatureAlgorithm {
        name: "id-MLDSA65-ECDSA-P256-SHA512",
        aliases: &["MLDSA65-ECDSA-P256-SHA512", "1.3.6.1.5.5.7.6.45", "HYBRID:DILITHIUM3+P256"],
        openssl_names: "id-MLDSA65-ECDSA-P256-SHA512:MLDSA65-ECDSA-P256-SHA512:1.3.6.1.5.5.7.6.45",
        oid: "1.3.6.1.5.5.7.6.45",
        tls_scheme: None,
        security_bits: 192,
        ml_dsa: MlDsa::MlDsa65,
        composite: Some(Composite {
            classical: Classical::EcdsaP256,
            label: "COMPSIG-MLDSA65-ECDSA-P256-SHA512",
            pre_hash: HashFunction::Sha512,
        }),
        known_answer: include_bytes!("known_answer/id-MLDSA65-ECDSA-P256-SHA512.bin"),
    },
    SignatureAlgorithm {
        name: "id-MLDSA65-ECDSA-P384-SHA512",
        aliases: &["MLDSA65-ECDSA-P384-SHA512", "1.3.6.1.5.5.7.6.46", "HYBRID:DILITHIUM3+P384"],
        openssl_names: "id-MLDSA65-ECDSA-P384-SHA512:MLDSA65-ECDSA-P384-SHA512:1.3.6.1.5.5.7.6.46",
        oid: "1.3.6.1.5.5.7.6.46",
        tls_scheme: None,
        security_bits: 192,
        ml_dsa: MlDsa::MlDsa65,
        composite: Some(Composite {
            classical: Classical::EcdsaP384,
            label: "COMPSIG-MLDSA65-ECDSA-P384-SHA512",
            pre_hash: HashFunction::Sha512,
        }),
        known_answer: include_bytes!("known_answer/id-MLDSA65-ECDSA-P384-SHA512.bin"),
    },
    SignatureAlgorithm {
        name: "id-MLDSA65-Ed25519-SHA512",
        aliases: &["MLDSA65-Ed25519-SHA512", "1.3.6.1.5.5.7.6.48"],
        openssl_names: "id-MLDSA65-Ed25519-SHA512:MLDSA65-Ed25519-SHA512:1.3.6.1.5.5.7.6.48",
        oid: "1.3.6.1.5.5.7.6.48",
        tls_scheme: None,
        security_bits: 192,
        ml_dsa: MlDsa::MlDsa65,
        composite: Some(Composite {
            classical: Classical::Ed25519,
            label: "COMPSIG-MLDSA65-Ed25519-SHA512",
            pre_hash: HashFunction::Sha512,
        }),
        known_answer: include_bytes!("known_answer/id-MLDSA65-Ed25519-SHA512.bin"),
    },
    SignatureAlgorithm {
        name: "id-MLDSA87-ECDSA-P384-SHA512",
        aliases: &["MLDSA87-ECDSA-P384-SHA512", "1.3.6.1.5.5.7.6.49", "HYBRID:DILITHIUM5+P384"],
        openssl_names: "id-MLDSA87-ECDSA-P384-SHA512:MLDSA87-ECDSA-P384-SHA512:1.3.6.1.5.5.7.6.49",
        oid: "1.3.6.1.5.5.7.6.49",
        tls_scheme: None,
        security_bits: 256,
        ml_dsa: MlDsa::MlDsa87,
        composite: Some(Composite {
            classical: Classical::EcdsaP384,
            label: "COMPSIG-MLDSA87-ECDSA-P384-SHA512",
            pre_hash: HashFunction::Sha512,
        }),
        known_answer: include_bytes!("known_answer/id-MLDSA87-ECDSA-P384-SHA512.bin"),
    },
];

/// Finds a signature algorithm by its name, TLS scheme name or an alias; ASCII case does not matter.
pub fn signature_by_name(name: &str) -> Option<&'static SignatureAlgorithm> {
    SIGNATURE_ALGORITHMS.iter().find(|algorithm| {
        [algorithm.name].iter().chain(algorithm.aliases).any(|known| known.eq_ignore_ascii_case(name))
            || algorithm.tls_scheme.is_some_and(|scheme| scheme.name.eq_ignore_ascii_case(name))
    })
}

/// Finds a signature algorithm by its TLS `SignatureScheme` code point.
pub fn signature_by_code_point(code_point: u16) -> Option<&'static SignatureAlgorithm> {
    SIGNATURE_ALGORITHMS
        .iter()
        .find(|algorithm| algorithm.tls_scheme.is_some_and(|scheme| scheme.code_point == code_point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_standards() {
        // name, public key, seed form, expanded form, longest signature
        let expected = [
            ("ML-DSA-44", 1312, 32, Some(2560), 2420),
            ("ML-DSA-65", 1952, 32, Some(4032), 3309),
            ("ML-DSA-87", 2592, 32, Some(4896), 4627),
            // The draft's appendix A, table 4.
            ("id-MLDSA44-ECDSA-P256-SHA256", 1377, 83, None, 2492),
            ("id-MLDSA65-ECDSA-P256-SHA512", 2017, 83, None, 3381),
            ("id-MLDSA65-ECDSA-P384-SHA512", 2049, 96, None, 3413),
            ("id-MLDSA65-Ed25519-SHA512", 1984, 64, None, 3373),
            ("id-MLDSA87-ECDSA-P384-SHA512", 2689, 96, None, 4731),
        ];
        let actual = SIGNATURE_ALGORITHMS.each_ref().map(|a| {
            (a.name, a.public_key_bytes(), a.seed_bytes(), a.private_key_bytes(), a.max_signature_bytes())
        });
        assert_eq!(actual, expected);
    }

    #[test]
    fn every_name_and_alias_finds_its_own_row_in_any_case() {
        for algorithm in &SIGNATURE_ALGORITHMS {
            let names = [algorithm.name, algorithm.oid]
                .into_iter()
                .chain(algorithm.aliases.iter().copied())
                .chain(algorithm.openssl_names.split(':'))
                .chain(algorithm.tls_scheme.map(|scheme| scheme.name));
            for name in names {
                for spelling in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                    assert_eq!(signature_by_name(&spelling), Some(algorithm), "{spelling}");
                }
            }
            if let Some(scheme) = algorithm.tls_scheme {
                assert_eq!(signature_by_code_point(scheme.code_point), Some(algorithm));
            }
        }
        for unknown in ["", "ML-DSA", "ML-KEM-768", "ED25519", "HYBRID:DILITHIUM2"] {
            assert_eq!(signature_by_name(unknown), None);
        }
        assert_eq!(signature_by_code_point(0), None);
    }

    #[test]
    fn names_and_object_identifiers_are_unambiguous() {
        let mut names: Vec<String> = SIGNATURE_ALGORITHMS
            .iter()
            .flat_map(|a| {
                [a.name].iter().chain(a.aliases).map(|n| n.to_ascii_lowercase()).collect::<Vec<_>>()
            })
            .collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        for algorithm in &SIGNATURE_ALGORITHMS {
            for name in [algorithm.name].iter().chain(algorithm.aliases) {
                assert!(crate::kem_by_name(name).is_none(), "{name}");
            }
        }
    }

    #[test]
    fn a_label_is_the_name_of_its_row() {
        for algorithm in &SIGNATURE_ALGORITHMS {
            if let Some(composite) = algorithm.composite {
                assert_eq!(Some(&composite.label["COMPSIG-".len()..]), algorithm.name.strip_prefix("id-"));
            }
        }
    }
}
