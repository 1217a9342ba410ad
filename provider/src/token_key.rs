//! RSA and EC keys of tokens, as libcrypto holds them. (ML-DSA keys of tokens are [`crate::key::Key`]s.)
//!
//! Their public halves come in from files and certificates too: OpenSSL 3.0 compares a certificate with its private key by
//! handing the certificate's to the key management of the private one.

use crate::problem::{Problem, Reason};
use crate::provider::{Provider, refuse_inside_token};
use qtls_pkcs11::{EcCurve, KeyType, PublicKey, TokenKey};
use std::ffi::CStr;
use std::sync::{Arc, OnceLock};

/// The types of keys of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClassicalType {
    Rsa = 0,
    Ec = 1,
}

impl ClassicalType {
    pub(crate) const ALL: [Self; 2] = [Self::Rsa, Self::Ec];

    /// The type of a key; none for ML-DSA.
    pub(crate) fn of(key: &PublicKey) -> Option<Self> {
        match key {
            PublicKey::Rsa { .. } => Some(Self::Rsa),
            PublicKey::Ec { .. } => Some(Self::Ec),
            PublicKey::MlDsa { .. } => None,
        }
    }

    /// The names of its key management, exactly as OpenSSL's `default` registers them.
    pub(crate) const fn openssl_names(self) -> &'static CStr {
        match self {
            Self::Rsa => c"RSA:rsaEncryption:1.2.840.113549.1.1.1",
            Self::Ec => c"EC:id-ecPublicKey:1.2.840.10045.2.1",
        }
    }

    /// The first of those names.
    pub(crate) const fn name(self) -> &'static CStr {
        match self {
            Self::Rsa => c"RSA",
            Self::Ec => c"EC",
        }
    }

    /// The names of its signature, likewise.
    pub(crate) const fn signature_name(self) -> &'static CStr {
        match self {
            Self::Rsa => c"RSA:rsaEncryption:1.2.840.113549.1.1.1",
            Self::Ec => c"ECDSA",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::Ec => "EC",
        }
    }
}

/// A key object. It starts empty, as libcrypto makes it, and is filled once.
pub(crate) struct TokenKeyObject {
    pub(crate) provider: Arc<Provider>,
    kind: ClassicalType,
    material: OnceLock<Material>,
}

#[derive(Clone)]
enum Material {
    /// An EC point stands as it came, perhaps compressed: it is only compared.
    Public(PublicKey),
    Token(Arc<TokenKey>),
}

impl TokenKeyObject {
    /// An empty key.
    ///
    /// # Errors
    /// A token's module asks.
    pub(crate) fn empty(provider: Arc<Provider>, kind: ClassicalType) -> Result<Self, Problem> {
        refuse_inside_token()?;
        Ok(Self { provider, kind, material: OnceLock::new() })
    }

    /// The key of a token.
    ///
    /// # Errors
    /// As [`Self::empty`].
    pub(crate) fn of_token(
        provider: Arc<Provider>,
        kind: ClassicalType,
        key: Arc<TokenKey>,
    ) -> Result<Self, Problem> {
        let made = Self::empty(provider, kind)?;
        made.fill(Material::Token(key))?;
        Ok(made)
    }

    pub(crate) fn kind(&self) -> ClassicalType {
        self.kind
    }

    /// Fills an empty key with a public key.
    ///
    /// # Errors
    /// The key is not empty, or of another type.
    pub(crate) fn import(&self, key: PublicKey) -> Result<(), Problem> {
        if ClassicalType::of(&key) != Some(self.kind) {
            return Err(Problem::argument(format!("{}: a key of another type was given", self.kind.text())));
        }
        self.fill(Material::Public(key))
    }

    pub(crate) fn public(&self) -> Option<&PublicKey> {
        self.material.get().map(|material| match material {
            Material::Public(key) => key,
            Material::Token(key) => key.public(),
        })
    }

    /// The private half.
    pub(crate) fn token(&self) -> Option<&Arc<TokenKey>> {
        match self.material.get() {
            Some(Material::Token(key)) => Some(key),
            _ => None,
        }
    }

    /// The key in the token, to sign with.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn to_signing(&self) -> Result<Arc<TokenKey>, Problem> {
        self.token().cloned().ok_or_else(|| {
            Problem::new(
                Reason::MissingKey,
                format!("{}: signing needs a private key, and this key object has none", self.kind.text()),
            )
        })
    }

    /// Whether two keys have the same type and, where `compare_keys`, are the same. EC keys that differ in their curves never
    /// match.
    pub(crate) fn matches(&self, other: &Self, compare_keys: bool) -> bool {
        match (self.public(), other.public()) {
            _ if self.kind != other.kind => false,
            (Some(one), Some(other)) if compare_keys => same(one, other),
            (Some(PublicKey::Ec { curve: one, .. }), Some(PublicKey::Ec { curve: other, .. })) => {
                one == other
            }
            _ => !compare_keys,
        }
    }

    /// A second key object with the same contents, or with the public part alone.
    ///
    /// # Errors
    /// As [`Self::empty`].
    pub(crate) fn duplicate(&self, with_private: bool) -> Result<Self, Problem> {
        let copy = Self::empty(self.provider.clone(), self.kind)?;
        match self.material.get() {
            Some(Material::Token(key)) if !with_private => {
                copy.fill(Material::Public(key.public().clone()))?
            }
            Some(material) => copy.fill(material.clone())?,
            None => {}
        }
        Ok(copy)
    }

    fn fill(&self, material: Material) -> Result<(), Problem> {
        self.material.set(material).map_err(|_| {
            Problem::argument(format!(
                "{}: this key object already holds a key, and keys are not changed; make a new one",
                self.kind.text()
            ))
        })
    }
}

/// What OpenSSL calls a curve.
pub(crate) fn group_name(curve: EcCurve) -> &'static CStr {
    match curve {
        EcCurve::P256 => c"prime256v1",
        EcCurve::P384 => c"secp384r1",
    }
}

/// The curve that OpenSSL, or somebody else, calls so.
pub(crate) fn curve_by_name(name: &str) -> Option<EcCurve> {
    const NAMES: [(EcCurve, [&str; 4]); 2] = [
        (EcCurve::P256, ["prime256v1", "P-256", "secp256r1", "1.2.840.10045.3.1.7"]),
        (EcCurve::P384, ["secp384r1", "P-384", "ansip384r1", "1.3.132.0.34"]),
    ];
    let found = NAMES.iter().find(|(_, names)| names.iter().any(|known| known.eq_ignore_ascii_case(name)));
    found.map(|(curve, _)| *curve)
}

/// Bytes of a coordinate.
pub(crate) fn coordinate_bytes(curve: EcCurve) -> usize {
    match curve {
        EcCurve::P256 => 32,
        EcCurve::P384 => 48,
    }
}

/// x and y of an uncompressed point.
pub(crate) fn coordinates(curve: EcCurve, point: &[u8]) -> Option<(&[u8], &[u8])> {
    const UNCOMPRESSED: u8 = 4;
    let (form, rest) = point.split_first()?;
    (*form == UNCOMPRESSED && rest.len() == 2 * coordinate_bytes(curve))
        .then(|| rest.split_at(coordinate_bytes(curve)))
}

/// Bits of the key and bits of security, as OpenSSL states them.
pub(crate) fn strength(key_type: KeyType) -> (u32, u32) {
    match key_type {
        KeyType::Rsa { bits } => (bits, rsa_security_bits(bits)),
        KeyType::Ec(EcCurve::P256) => (256, 128),
        KeyType::Ec(EcCurve::P384) => (384, 192),
        KeyType::MlDsa(row) => (8 * row.public_key_bytes() as u32, row.security_bits),
    }
}

/// Security of an RSA key (NIST SP 800-56B rev. 2 appendix D; OpenSSL's `ossl_ifc_ffc_compute_security_bits`).
fn rsa_security_bits(bits: u32) -> u32 {
    // The sizes that the standards name are in its table 2 of estimates.
    match bits {
        0..8 => return 0,
        2048 => return 112,
        3072 => return 128,
        4096 => return 152,
        6144 => return 176,
        7680 => return 192,
        8192 => return 200,
        15360 => return 256,
        _ => {}
    }
    let cap = match bits {
        0..=7680 => 192,
        7681..=15360 => 256,
        _ => 1200,
    };
    let x = f64::from(bits) * std::f64::consts::LN_2;
    let estimate = (1.923 * (x * x.ln() * x.ln()).cbrt() - 4.69) / std::f64::consts::LN_2;
    // Rounded to a multiple of 8.
    (((estimate as u32) + 4) & !7).min(cap)
}

fn same(one: &PublicKey, other: &PublicKey) -> bool {
    match (one, other) {
        (PublicKey::Ec { curve, point }, PublicKey::Ec { curve: other_curve, point: other_point }) => {
            curve == other_curve && same_point(*curve, point, other_point)
        }
        _ => one == other,
    }
}

/// Whether two points are the same, each in whatever form of SEC 1 section 2.3.3: the forms agree in x and, where not in y,
/// in whether it is odd.
fn same_point(curve: EcCurve, one: &[u8], other: &[u8]) -> bool {
    let read = |point: &[u8]| {
        let (form, rest) = point.split_first()?;
        let size = coordinate_bytes(curve);
        let (x, y) = rest.split_at_checked(size)?;
        match (form, y.len()) {
            (2 | 3, 0) => Some((x.to_vec(), form & 1, None)),
            // 6 and 7 are the hybrid forms.
            (4 | 6 | 7, length) if length == size => Some((x.to_vec(), y[size - 1] & 1, Some(y.to_vec()))),
            _ => None,
        }
    };
    let (Some((one_x, one_odd, one_y)), Some((other_x, other_odd, other_y))) = (read(one), read(other))
    else {
        return false;
    };
    let same_y = match (one_y, other_y) {
        (Some(one), Some(other)) => one == other,
        _ => one_odd == other_odd,
    };
    one_x == other_x && same_y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_the_same_in_every_form_and_another_is_not() {
        let x = [7; 32];
        let y = [&[9; 31][..], &[3]].concat();
        let form = |first: u8, with_y: bool| {
            let y = if with_y { &y[..] } else { &[] };
            [&[first][..], &x, y].concat()
        };
        let forms = [form(4, true), form(7, true), form(3, false)];
        for one in &forms {
            for other in &forms {
                assert!(same_point(EcCurve::P256, one, other));
            }
            for other in [form(2, false), form(4, false), form(3, true), form(9, true), vec![]] {
                assert!(!same_point(EcCurve::P256, one, &other), "{other:?}");
            }
            let mut other_x = one.clone();
            other_x[1] ^= 1;
            assert!(!same_point(EcCurve::P256, one, &other_x));
            assert!(!same_point(EcCurve::P384, one, one));
        }
    }

    #[test]
    fn curves_go_by_every_name_that_openssl_knows() {
        for (name, curve) in [
            ("prime256v1", Some(EcCurve::P256)),
            ("p-256", Some(EcCurve::P256)),
            ("SECP384R1", Some(EcCurve::P384)),
            ("secp521r1", None),
        ] {
            assert_eq!(curve_by_name(name), curve);
        }
    }

    #[test]
    fn security_of_rsa_keys_is_what_openssl_states() {
        // `openssl genrsa`, then EVP_PKEY_get_security_bits of OpenSSL 3.0.
        for (bits, security) in [(2048, 112), (3072, 128), (4096, 152), (2560, 120), (16384, 256 + 16)] {
            assert_eq!(rsa_security_bits(bits), security, "{bits}");
        }
    }
}
