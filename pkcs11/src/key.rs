//! Keys in tokens.

use crate::encoding::{self, DIGEST_INFO_BYTES, Fields, tag};
use crate::object::{self, Wanted};
use crate::raw::SignMechanism;
use crate::software::SoftwareKey;
use crate::token::{Common, Purpose, Session, Token, Trouble};
use crate::{Error, ErrorKind};
use cryptoki_sys::*;
use qtls_crypto::{HashFunction, KeyAlgorithm, MlDsa, SignatureAlgorithm};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The curves there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EcCurve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

impl EcCurve {
    /// Both.
    pub const ALL: [Self; 2] = [Self::P256, Self::P384];

    /// Bytes of a coordinate, and of the order (FIPS 186-5).
    pub const fn field_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// The object identifier in DER (RFC 5480 section 2.1.1.1), which is CKA_EC_PARAMS as well.
    pub(crate) const fn oid_der(self) -> &'static [u8] {
        match self {
            Self::P256 => &[6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7],
            Self::P384 => &[6, 5, 0x2B, 0x81, 4, 0, 0x22],
        }
    }

    /// Bytes of an uncompressed point.
    pub(crate) const fn point_bytes(self) -> usize {
        1 + 2 * self.field_bytes()
    }
}

impl fmt::Display for EcCurve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        })
    }
}

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// RSA with a modulus of so many bits.
    Rsa {
        /// 2048 to 16384.
        bits: u32,
    },
    /// ECDSA.
    Ec(EcCurve),
    /// ML-DSA: a row without a composite.
    MlDsa(&'static SignatureAlgorithm),
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA; big-endian, without leading zeros.
    Rsa {
        /// n
        modulus: Vec<u8>,
        /// e
        exponent: Vec<u8>,
    },
    /// A point on a curve.
    Ec {
        /// The curve.
        curve: EcCurve,
        /// SEC 1, uncompressed: 0x04, x, y.
        point: Vec<u8>,
    },
    /// ML-DSA.
    MlDsa {
        /// A row without a composite.
        algorithm: &'static SignatureAlgorithm,
        /// FIPS 204's encoding.
        key: Vec<u8>,
    },
}

impl fmt::Display for KeyType {
    /// As people write it: `RSA 3072`, `EC P-256`, `ML-DSA-65`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa { bits } => write!(f, "RSA {bits}"),
            Self::Ec(curve) => write!(f, "EC {curve}"),
            Self::MlDsa(algorithm) => f.write_str(algorithm.name),
        }
    }
}

/// RSA moduli that are taken, in bits.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=16_384;
/// rsaEncryption and NULL (RFC 3279 section 2.3.1), inside an AlgorithmIdentifier.
const RSA_ENCRYPTION: &[u8] = &[6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1, tag::NULL, 0];
/// id-ecPublicKey (RFC 5480 section 2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[6, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
/// SEC 1 section 2.3.3.
const UNCOMPRESSED: u8 = 4;

impl PublicKey {
    /// What it is.
    pub fn key_type(&self) -> KeyType {
        match self {
            Self::Rsa { modulus, .. } => KeyType::Rsa { bits: bits(modulus) },
            Self::Ec { curve, .. } => KeyType::Ec(*curve),
            Self::MlDsa { algorithm, .. } => KeyType::MlDsa(algorithm),
        }
    }

    /// Reads a SubjectPublicKeyInfo (RFC 5280, 3279, 5480, 9881) in DER.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`]: another type of key, or damaged.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, Error> {
        Self::read_spki(der).ok_or_else(|| {
            let text = "the public key is damaged, or none of RSA (2,048 to 16,384 bits), EC (P-256, P-384) and ML-DSA";
            Error::new(ErrorKind::Unsupported, text)
        })
    }

    /// Writes it.
    pub fn to_spki_der(&self) -> Vec<u8> {
        let (algorithm, key) = match self {
            Self::Rsa { modulus, exponent } => {
                let (n, e) = (encoding::unsigned_integer(modulus), encoding::unsigned_integer(exponent));
                (encoding::tlv(tag::SEQUENCE, &[RSA_ENCRYPTION]), encoding::tlv(tag::SEQUENCE, &[&n, &e]))
            }
            Self::Ec { curve, point } => {
                (encoding::tlv(tag::SEQUENCE, &[EC_PUBLIC_KEY, curve.oid_der()]), point.clone())
            }
            Self::MlDsa { algorithm, key } => {
                let identifier = qtls_crypto::algorithm_identifier_der(KeyAlgorithm::Signature(algorithm));
                (identifier.unwrap_or_default(), key.clone())
            }
        };
        let key = encoding::tlv(tag::BIT_STRING, &[&[0], &key]);
        encoding::tlv(tag::SEQUENCE, &[&algorithm, &key])
    }

    /// An RSA key; `None` where it is too short or long.
    pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let (modulus, exponent) =
            (encoding::without_leading_zeros(modulus), encoding::without_leading_zeros(exponent));
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        let fits = Self::takes_modulus(modulus) && is_odd(modulus) && is_odd(exponent);
        fits.then(|| Self::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
    }

    /// Whether a modulus has a length that is taken.
    pub(crate) fn takes_modulus(modulus: &[u8]) -> bool {
        RSA_BITS.contains(&bits(encoding::without_leading_zeros(modulus)))
    }

    /// A point; `None` where it is not uncompressed or of another length.
    pub(crate) fn ec(curve: EcCurve, point: &[u8]) -> Option<Self> {
        let fits = point.len() == curve.point_bytes() && point[0] == UNCOMPRESSED;
        fits.then(|| Self::Ec { curve, point: point.to_vec() })
    }

    /// An ML-DSA key; `None` where the length is another.
    pub(crate) fn ml_dsa(algorithm: &'static SignatureAlgorithm, key: &[u8]) -> Option<Self> {
        (key.len() == algorithm.public_key_bytes()).then(|| Self::MlDsa { algorithm, key: key.to_vec() })
    }

    fn read_spki(der: &[u8]) -> Option<Self> {
        let mut outer = Fields::new(der);
        let mut info = outer.nested(tag::SEQUENCE)?;
        outer.end()?;
        let algorithm = info.value(tag::SEQUENCE)?;
        let (0, key) = info.value(tag::BIT_STRING)?.split_first()? else { return None };
        info.end()?;
        if algorithm == RSA_ENCRYPTION {
            let mut numbers = Fields::new(key).nested(tag::SEQUENCE)?;
            let modulus = encoding::read_unsigned(numbers.value(tag::INTEGER)?)?;
            let exponent = encoding::read_unsigned(numbers.value(tag::INTEGER)?)?;
            numbers.end()?;
            return Self::rsa(modulus, exponent);
        }
        if let Some(parameters) = algorithm.strip_prefix(EC_PUBLIC_KEY) {
            let curve = EcCurve::ALL.into_iter().find(|curve| curve.oid_der() == parameters)?;
            return Self::ec(curve, key);
        }
        let Some(KeyAlgorithm::Signature(algorithm)) = qtls_crypto::spki_algorithm(der) else { return None };
        if algorithm.composite.is_some() {
            return None;
        }
        // Its own reading is the strict one.
        <qtls_crypto::PublicKey>::from_spki_der(der).ok()?;
        Self::ml_dsa(algorithm, key)
    }

    /// The longest signature, in bytes.
    fn max_signature_bytes(&self) -> usize {
        match self {
            Self::Rsa { modulus, .. } => modulus.len(),
            Self::Ec { curve: EcCurve::P256, .. } => 72,
            Self::Ec { curve: EcCurve::P384, .. } => 104,
            Self::MlDsa { algorithm, .. } => algorithm.max_signature_bytes(),
        }
    }

    /// Bytes of a signature as a token makes it; each has exactly so many.
    fn token_signature_bytes(&self) -> usize {
        match self {
            Self::Ec { curve, .. } => 2 * curve.field_bytes(),
            _ => self.max_signature_bytes(),
        }
    }
}

fn bits(number: &[u8]) -> u32 {
    let leading = number.first().map_or(0, |first| first.leading_zeros());
    u32::try_from(number.len() * 8).unwrap_or(u32::MAX) - leading
}

/// How to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism<'a> {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2) of a digest.
    RsaPkcs1 {
        /// Of the digest.
        hash: HashFunction,
    },
    /// RSASSA-PSS (RFC 8017 section 8.1) of a digest.
    RsaPss {
        /// Of the digest.
        hash: HashFunction,
        /// Of MGF1.
        mgf1: HashFunction,
        /// Salt bytes.
        salt: usize,
    },
    /// ECDSA of a digest; the signature is DER (RFC 3279 section 2.2.3), each INTEGER in its shortest form.
    Ecdsa,
    /// ML-DSA (FIPS 204), pure, of a message.
    MlDsa {
        /// At most 255 bytes.
        context: &'a [u8],
        /// Not hedged.
        deterministic: bool,
    },
}

/// A key pair whose private half is in a token. Cheap to share; survives forks.
pub struct TokenKey {
    uri: String,
    public: PublicKey,
    places: Vec<Place>,
    software: Option<Arc<SoftwareKey>>,
    common: Arc<Common>,
}

/// Where a key is to be found.
pub(crate) struct Place {
    pub(crate) token: Arc<Token>,
    /// Among the keys of that token.
    pub(crate) number: usize,
    pub(crate) wanted: Wanted,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({}, {})", self.public.key_type(), self.uri)
    }
}

impl TokenKey {
    pub(crate) fn new(
        uri: String,
        public: PublicKey,
        places: Vec<Place>,
        software: Option<Arc<SoftwareKey>>,
        common: Arc<Common>,
    ) -> Self {
        Self { uri, public, places, software, common }
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Its URI without PIN, for people.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The longest signature, in bytes.
    pub fn max_signature_bytes(&self) -> usize {
        self.public.max_signature_bytes()
    }

    /// Signs `input`: a digest, or for ML-DSA the message. Opens and logs in where this process has not yet; tries again
    /// after a lost session; goes on to the next token, and at last to a declared software key.
    ///
    /// # Errors
    /// Each names the URI, the cause, and what to do.
    pub fn sign(&self, mechanism: Mechanism<'_>, input: &[u8]) -> Result<Vec<u8>, Error> {
        let mut info = [0; DIGEST_INFO_BYTES];
        let (in_token, bytes) = self.prepare(mechanism, input, &mut info)?;
        let mut errors: Vec<Error> = Vec::new();
        for place in &self.places {
            match self.sign_in(place, errors.is_empty(), in_token, bytes) {
                Ok(signature) => {
                    if let (false, Some(status)) = (errors.is_empty(), self.common.status.get()) {
                        status.failovers().fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(signature);
                }
                Err(error) => errors.push(error),
            }
        }
        if let Some(software) = &self.software {
            match software.sign(mechanism, input) {
                Ok(signature) => {
                    if let Some(status) = self.common.status.get() {
                        status.software_signatures().fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(signature);
                }
                Err(error) => errors.push(error),
            }
        }
        Err(self.with_uri(errors))
    }

    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// What the token is to do with which bytes.
    fn prepare<'a>(
        &self,
        mechanism: Mechanism<'a>,
        input: &'a [u8],
        info: &'a mut [u8; DIGEST_INFO_BYTES],
    ) -> Result<(SignMechanism<'a>, &'a [u8]), Error> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::Unsupported, format!("{}: {why}", self.uri)));
        match (mechanism, &self.public) {
            (Mechanism::RsaPkcs1 { hash }, PublicKey::Rsa { .. }) => {
                match encoding::digest_info(hash, input, info) {
                    Some(length) => Ok((SignMechanism::RsaPkcs1, &info[..length])),
                    None => refuse("RSA signs digests of SHA-224, SHA-256, SHA-384 and SHA-512, whole ones"),
                }
            }
            (Mechanism::RsaPss { hash, mgf1, salt }, PublicKey::Rsa { modulus, .. }) => {
                let (Some((hash_type, _)), Some((_, mgf))) = (pss_types(hash), pss_types(mgf1)) else {
                    return refuse("RSA signs digests of SHA-224, SHA-256, SHA-384 and SHA-512, whole ones");
                };
                if input.len() != hash.output_bytes() {
                    return refuse("the digest has another length than its hash function gives it");
                }
                // RFC 8017 section 9.1.1: emLen ≥ hLen + sLen + 2, where emLen has as many bits as the modulus less one.
                let encoded = (bits(modulus) as usize - 1).div_ceil(8);
                if salt > encoded.saturating_sub(hash.output_bytes() + 2) {
                    return refuse("the salt of PSS is longer than the key allows");
                }
                Ok((SignMechanism::RsaPss { hash: hash_type, mgf, salt }, input))
            }
            (Mechanism::Ecdsa, PublicKey::Ec { curve, .. }) => {
                if input.is_empty() {
                    return refuse("ECDSA signs a digest, and this one is empty");
                }
                // FIPS 186-5 section 6.4.1: the leftmost bits, as many as the order has.
                Ok((SignMechanism::Ecdsa, &input[..input.len().min(curve.field_bytes())]))
            }
            (Mechanism::MlDsa { context, deterministic }, PublicKey::MlDsa { .. }) => {
                if context.len() > MlDsa::MAX_CONTEXT_BYTES {
                    return refuse("a context of ML-DSA has at most 255 bytes");
                }
                Ok((SignMechanism::MlDsa { context, deterministic }, input))
            }
            _ => refuse(&format!("a key of type {} does not sign so", self.public.key_type())),
        }
    }

    fn sign_in(
        &self,
        place: &Place,
        is_first: bool,
        mechanism: SignMechanism<'_>,
        input: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let expected = self.public.token_signature_bytes();
        place.token.operate(Purpose::Sign, Some(place.number), |session| {
            let key = session.key(place.number, |session| self.find_in(session, place, is_first))?;
            if let PublicKey::Ec { .. } = self.public {
                let mut r_and_s = [0; 2 * EcCurve::P384.field_bytes()];
                let r_and_s = &mut r_and_s[..expected];
                let length = session.sign(key, mechanism, input, r_and_s)?;
                check_length(session, length, expected)?;
                return Ok(encoding::ecdsa_signature(r_and_s));
            }
            let mut signature = vec![0; expected];
            let length = session.sign(key, mechanism, input, &mut signature)?;
            check_length(session, length, expected)?;
            Ok(signature)
        })
    }

    /// The private key's handle in a session. It must be the half of our public key, or a server would send signatures that
    /// nobody can verify.
    fn find_in(
        &self,
        session: &mut Session<'_>,
        place: &Place,
        is_first: bool,
    ) -> Result<CK_OBJECT_HANDLE, Trouble> {
        let object = object::one_private_key(session, &place.wanted, false)?;
        let token = session.token().name();
        match object::public_key_of(session, &object)? {
            Some(public) if public == self.public => Ok(object.handle),
            Some(public) => {
                let text = format!(
                    "the key in {token} is another one ({}) than the one whose public key was read ({}): generate the \
                     certificate anew, write the key file again by qtls key-ref, or restart",
                    public.key_type(),
                    self.public.key_type()
                );
                Err(Trouble::last(ErrorKind::Object, text))
            }
            // The first token is where the public key was read once, or whoever wrote the key file vouches for it.
            None if is_first => Ok(object.handle),
            None => {
                let text = format!(
                    "{token} does not show the public key, so that it cannot be told whether it is the same: put a public key \
                     object or the certificate with the same CKA_ID beside it"
                );
                Err(Trouble::last(ErrorKind::Object, text))
            }
        }
    }

    fn with_uri(&self, errors: Vec<Error>) -> Error {
        let kind = errors.first().map_or(ErrorKind::Token, Error::kind);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Error::new(kind, format!("{}: {}", self.uri, texts.join("; then: ")))
    }
}

fn check_length(session: &Session<'_>, length: usize, expected: usize) -> Result<(), Trouble> {
    if length == expected {
        return Ok(());
    }
    let token = session.token().name();
    let text = format!(
        "{token} answered with a signature of {length} bytes, where this key makes {expected}: it is faulty"
    );
    Err(Trouble::last(ErrorKind::Token, text))
}

/// A hash's mechanism and mask generation function.
fn pss_types(hash: HashFunction) -> Option<(CK_MECHANISM_TYPE, CK_RSA_PKCS_MGF_TYPE)> {
    match hash {
        HashFunction::Sha224 => Some((CKM_SHA224, CKG_MGF1_SHA224)),
        HashFunction::Sha256 => Some((CKM_SHA256, CKG_MGF1_SHA256)),
        HashFunction::Sha384 => Some((CKM_SHA384, CKG_MGF1_SHA384)),
        HashFunction::Sha512 => Some((CKM_SHA512, CKG_MGF1_SHA512)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa(bits: usize) -> PublicKey {
        PublicKey::rsa(&vec![0xFF; bits / 8], &[1, 0, 1]).unwrap()
    }

    #[test]
    fn public_keys_read_back_as_they_were_written() {
        let ml_dsa = qtls_crypto::signature_by_name("ML-DSA-44").unwrap();
        let generated = <qtls_crypto::SignaturePrivateKey>::generate(ml_dsa).unwrap();
        let mut point = vec![7; 97];
        point[0] = 4;
        for key in [
            rsa(2048),
            rsa(16_384),
            PublicKey::ec(EcCurve::P256, &point[..65]).unwrap(),
            PublicKey::ec(EcCurve::P384, &point).unwrap(),
            PublicKey::ml_dsa(ml_dsa, generated.public_key()).unwrap(),
        ] {
            assert_eq!(PublicKey::from_spki_der(&key.to_spki_der()).unwrap(), key);
        }
    }

    #[test]
    fn other_and_damaged_public_keys_are_refused() {
        let good = rsa(2048).to_spki_der();
        for length in 0..good.len() {
            assert!(PublicKey::from_spki_der(&good[..length]).is_err());
        }
        assert!(PublicKey::from_spki_der(&[&good[..], &[0]].concat()).is_err());
        let short = PublicKey::Rsa { modulus: vec![0xFF; 128], exponent: vec![3] };
        assert!(PublicKey::from_spki_der(&short.to_spki_der()).is_err());
        let composite = qtls_crypto::SIGNATURE_ALGORITHMS.iter().find(|row| row.composite.is_some()).unwrap();
        let generated = <qtls_crypto::SignaturePrivateKey>::generate(composite).unwrap();
        let public =
            <qtls_crypto::SignaturePublicKey>::from_bytes(composite, generated.public_key()).unwrap();
        let der = qtls_crypto::PublicKey::Signature(public).to_spki_der().unwrap();
        assert!(PublicKey::from_spki_der(&der).is_err());
    }

    #[test]
    fn types_are_named_as_people_write_them() {
        assert_eq!(rsa(3072).key_type().to_string(), "RSA 3072");
        assert_eq!(KeyType::Ec(EcCurve::P384).to_string(), "EC P-384");
    }
}
