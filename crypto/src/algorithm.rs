//! The table of algorithms: one row for each, everything else is derived from it.
//!
//! Sources: FIPS 203 table 3 (ML-KEM sizes), the TLS hybrid and ML-KEM group definitions
//! (`draft-ietf-tls-ecdhe-mlkem`, `draft-ietf-tls-mlkem`), OpenSSL 3.5's `providers/implementations/include/prov/names.h`
//! for the names.

/// A parameter set of ML-KEM (FIPS 203 section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MlKem {
    /// Security category 1.
    MlKem512,
    /// Security category 3.
    MlKem768,
    /// Security category 5.
    MlKem1024,
}

impl MlKem {
    /// Bytes of the seed `d ‖ z` a key pair is made from (FIPS 203 algorithm 16).
    pub const SEED_BYTES: usize = 64;
    /// Bytes of the shared secret.
    pub const SECRET_BYTES: usize = 32;
    /// Bytes of the randomness `m` of an encapsulation (FIPS 203 algorithm 17).
    pub const RANDOMNESS_BYTES: usize = 32;

    /// Bytes of an encapsulation (public) key.
    pub const fn encapsulation_key_bytes(self) -> usize {
        match self {
            Self::MlKem512 => 800,
            Self::MlKem768 => 1184,
            Self::MlKem1024 => 1568,
        }
    }

    /// Bytes of an expanded decapsulation (private) key.
    pub const fn decapsulation_key_bytes(self) -> usize {
        match self {
            Self::MlKem512 => 1632,
            Self::MlKem768 => 2400,
            Self::MlKem1024 => 3168,
        }
    }

    /// Bytes of a ciphertext.
    pub const fn ciphertext_bytes(self) -> usize {
        match self {
            Self::MlKem512 => 768,
            Self::MlKem768 => 1088,
            Self::MlKem1024 => 1568,
        }
    }

    /// Bytes of `k` encoded polynomials of 256 coefficients of 12 bits: the length of the vector that begins
    /// both the encapsulation and the expanded decapsulation key.
    pub(crate) const fn vector_bytes(self) -> usize {
        // The encapsulation key is the vector and the 32-byte seed of the matrix.
        self.encapsulation_key_bytes() - 32
    }
}

/// An elliptic curve that a hybrid adds to ML-KEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Curve {
    /// X25519 (RFC 7748).
    X25519,
    /// NIST P-256 (SEC 2 secp256r1).
    P256,
    /// NIST P-384 (SEC 2 secp384r1).
    P384,
}

impl Curve {
    /// Bytes of a public value: the u coordinate of X25519, the uncompressed point `04 ‖ x ‖ y` of the others
    /// (RFC 8446 section 4.2.8.2).
    pub const fn share_bytes(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::P256 => 65,
            Self::P384 => 97,
        }
    }

    /// Bytes of a private scalar.
    pub const fn scalar_bytes(self) -> usize {
        match self {
            Self::X25519 | Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// Bytes of the shared secret, the x coordinate (RFC 8446 section 7.4.2).
    pub const fn secret_bytes(self) -> usize {
        self.scalar_bytes()
    }

    /// The name as people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X25519 => "X25519",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }
}

/// Which half comes first in a hybrid's keys, ciphertext and secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// ML-KEM, then the curve: X25519MLKEM768.
    MlKemFirst,
    /// The curve, then ML-KEM: the NIST-curve hybrids, so that the approved one leads.
    CurveFirst,
}

/// One row: a key-encapsulation mechanism and the TLS group that uses it.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KemAlgorithm {
    /// The name, as OpenSSL 3.5 names the key type: `X25519MLKEM768`, `ML-KEM-768`.
    pub name: &'static str,
    /// The TLS group name as OpenSSL 3.5 spells it: `X25519MLKEM768`, `MLKEM768`.
    pub group_name: &'static str,
    /// Further names accepted on input and never written: OpenSSL's other names and those from before the standard.
    pub aliases: &'static [&'static str],
    /// The names exactly as OpenSSL 3.5's default provider registers them, separated by colons.
    pub openssl_names: &'static str,
    /// The dotted object identifier; hybrids have none.
    pub oid: Option<&'static str>,
    /// The TLS `NamedGroup` code point.
    pub group_id: u16,
    /// Security strength in bits, as OpenSSL 3.5 states it (by ML-KEM's size).
    pub security_bits: u32,
    /// The ML-KEM half.
    pub ml_kem: MlKem,
    /// The curve half of a hybrid, and which half comes first.
    pub curve: Option<(Curve, Order)>,
    /// The self-test's vectors, see [`crate::run_known_answer`].
    pub(crate) known_answer: &'static [u8],
}

impl KemAlgorithm {
    /// Bytes of an encoded public key, which is also the TLS client's share.
    pub const fn public_key_bytes(&self) -> usize {
        self.ml_kem.encapsulation_key_bytes()
            + match self.curve {
                Some((curve, _)) => curve.share_bytes(),
                None => 0,
            }
    }

    /// Bytes of an expanded private key: ML-KEM's decapsulation key and the curve's scalar, in the order of the
    /// public key.
    pub const fn private_key_bytes(&self) -> usize {
        self.ml_kem.decapsulation_key_bytes() + self.scalar_bytes()
    }

    /// Bytes of a private key's seed: ML-KEM's `d ‖ z`, then the curve's scalar, whatever the order of the public key.
    pub const fn seed_bytes(&self) -> usize {
        MlKem::SEED_BYTES + self.scalar_bytes()
    }

    /// Bytes of the randomness of a deterministic encapsulation: ML-KEM's `m`, then the curve's ephemeral scalar.
    pub const fn randomness_bytes(&self) -> usize {
        MlKem::RANDOMNESS_BYTES + self.scalar_bytes()
    }

    /// Bytes of a ciphertext, which is also the TLS server's share.
    pub const fn ciphertext_bytes(&self) -> usize {
        self.ml_kem.ciphertext_bytes()
            + match self.curve {
                Some((curve, _)) => curve.share_bytes(),
                None => 0,
            }
    }

    /// Bytes of the shared secret.
    pub const fn shared_secret_bytes(&self) -> usize {
        MlKem::SECRET_BYTES
            + match self.curve {
                Some((curve, _)) => curve.secret_bytes(),
                None => 0,
            }
    }

    const fn scalar_bytes(&self) -> usize {
        match self.curve {
            Some((curve, _)) => curve.scalar_bytes(),
            None => 0,
        }
    }
}

/// Every algorithm, hybrids first, in the order in which to prefer them.
pub static KEM_ALGORITHMS: [KemAlgorithm; 6] = [
    KemAlgorithm {
        name: "X25519MLKEM768",
        group_name: "X25519MLKEM768",
        aliases: &["x25519_mlkem768", "x25519_kyber768"],
        openssl_names: "X25519MLKEM768",
        oid: None,
        group_id: 0x11EC,
        security_bits: 192,
        ml_kem: MlKem::MlKem768,
        curve: Some((Curve::X25519, Order::MlKemFirst)),
        known_answer: include_bytes!("known_answer/X25519MLKEM768.bin"),
    },
    KemAlgorithm {
        name: "SecP256r1MLKEM768",
        group_name: "SecP256r1MLKEM768",
        aliases: &["p256_mlkem768", "p256_kyber768"],
        openssl_names: "SecP256r1MLKEM768",
        oid: None,
        group_id: 0x11EB,
        security_bits: 192,
        ml_kem: MlKem::MlKem768,
        curve: Some((Curve::P256, Order::CurveFirst)),
        known_answer: include_bytes!("known_answer/SecP256r1MLKEM768.bin"),
    },
    KemAlgorithm {
        name: "SecP384r1MLKEM1024",
        group_name: "SecP384r1MLKEM1024",
        aliases: &["p384_mlkem1024", "p384_kyber1024"],
        openssl_names: "SecP384r1MLKEM1024",
        oid: None,
        group_id: 0x11ED,
        security_bits: 256,
        ml_kem: MlKem::MlKem1024,
        curve: Some((Curve::P384, Order::CurveFirst)),
        known_answer: include_bytes!("known_answer/SecP384r1MLKEM1024.bin"),
    },
    KemAlgorithm {
        name: "ML-KEM-512",
        group_name: "MLKEM512",
        aliases: &["id-alg-ml-kem-512", "2.16.840.1.101.3.4.4.1", "kyber512"],
        openssl_names: "ML-KEM-512:MLKEM512:id-alg-ml-kem-512:2.16.840.1.101.3.4.4.1",
        oid: Some("2.16.840.1.101.3.4.4.1"),
        group_id: 0x0200,
        security_bits: 128,
        ml_kem: MlKem::MlKem512,
        curve: None,
        known_answer: include_bytes!("known_answer/ML-KEM-512.bin"),
    },
    KemAlgorithm {
        name: "ML-KEM-768",
        group_name: "MLKEM768",
        aliases: &["id-alg-ml-kem-768", "2.16.840.1.101.3.4.4.2", "kyber768"],
        openssl_names: "ML-KEM-768:MLKEM768:id-alg-ml-kem-768:2.16.840.1.101.3.4.4.2",
        oid: Some("2.16.840.1.101.3.4.4.2"),
        group_id: 0x0201,
        security_bits: 192,
        ml_kem: MlKem::MlKem768,
        curve: None,
        known_answer: include_bytes!("known_answer/ML-KEM-768.bin"),
    },
    KemAlgorithm {
        name: "ML-KEM-1024",
        group_name: "MLKEM1024",
        aliases: &["id-alg-ml-kem-1024", "2.16.840.1.101.3.4.4.3", "kyber1024"],
        openssl_names: "ML-KEM-1024:MLKEM1024:id-alg-ml-kem-1024:2.16.840.1.101.3.4.4.3",
        oid: Some("2.16.840.1.101.3.4.4.3"),
        group_id: 0x0202,
        security_bits: 256,
        ml_kem: MlKem::MlKem1024,
        curve: None,
        known_answer: include_bytes!("known_answer/ML-KEM-1024.bin"),
    },
];

/// Groups that were on the wire before the standard, as (name, code point): recognised in reports, never offered.
/// `X25519Kyber768Draft00` carried round-3 Kyber, which does not interoperate with ML-KEM.
pub const OBSOLETE_GROUPS: [(&str, u16); 1] = [("X25519Kyber768Draft00", 0x6399)];

/// Finds an algorithm by its name, TLS group name or an alias; ASCII case does not matter.
pub fn kem_by_name(name: &str) -> Option<&'static KemAlgorithm> {
    KEM_ALGORITHMS.iter().find(|algorithm| {
        [algorithm.name, algorithm.group_name]
            .iter()
            .chain(algorithm.aliases)
            .any(|known| known.eq_ignore_ascii_case(name))
    })
}

/// Finds an algorithm by its TLS `NamedGroup` code point.
pub fn kem_by_group_id(id: u16) -> Option<&'static KemAlgorithm> {
    KEM_ALGORITHMS.iter().find(|algorithm| algorithm.group_id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_standards() {
        // name, public key = client share, ciphertext = server share, secret, expanded private key, seed
        let expected = [
            ("X25519MLKEM768", 1216, 1120, 64, 2432, 96),
            ("SecP256r1MLKEM768", 1249, 1153, 64, 2432, 96),
            ("SecP384r1MLKEM1024", 1665, 1665, 80, 3216, 112),
            ("ML-KEM-512", 800, 768, 32, 1632, 64),
            ("ML-KEM-768", 1184, 1088, 32, 2400, 64),
            ("ML-KEM-1024", 1568, 1568, 32, 3168, 64),
        ];
        let actual = KEM_ALGORITHMS.each_ref().map(|a| {
            (
                a.name,
                a.public_key_bytes(),
                a.ciphertext_bytes(),
                a.shared_secret_bytes(),
                a.private_key_bytes(),
                a.seed_bytes(),
            )
        });
        assert_eq!(actual, expected);
    }

    #[test]
    fn every_name_and_alias_finds_its_own_row_in_any_case() {
        for algorithm in &KEM_ALGORITHMS {
            let names = [algorithm.name, algorithm.group_name]
                .into_iter()
                .chain(algorithm.aliases.iter().copied())
                .chain(algorithm.openssl_names.split(':'))
                .chain(algorithm.oid);
            for name in names {
                for spelling in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                    assert_eq!(kem_by_name(&spelling), Some(algorithm), "{spelling}");
                }
            }
            assert_eq!(kem_by_group_id(algorithm.group_id), Some(algorithm));
        }
    }

    #[test]
    fn names_aliases_and_code_points_are_unambiguous() {
        let mut names: Vec<String> = KEM_ALGORITHMS
            .iter()
            .flat_map(|a| {
                let mut of_row: Vec<String> =
                    [a.name, a.group_name].iter().chain(a.aliases).map(|n| n.to_ascii_lowercase()).collect();
                of_row.sort();
                of_row.dedup();
                of_row
            })
            .collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        for (index, algorithm) in KEM_ALGORITHMS.iter().enumerate() {
            assert!(KEM_ALGORITHMS[..index].iter().all(|other| other.group_id != algorithm.group_id));
        }
    }

    #[test]
    fn obsolete_and_unknown_groups_are_never_offered() {
        for (name, id) in OBSOLETE_GROUPS {
            assert_eq!(kem_by_name(name), None);
            assert_eq!(kem_by_group_id(id), None);
        }
        assert_eq!(kem_by_name(""), None);
        assert_eq!(kem_by_name("X25519"), None);
        assert_eq!(kem_by_group_id(0), None);
    }
}
