//! Signing with RSA and EC keys of tokens: the digest is made here, the rest in the token.
//!
//! Nothing goes to the token before a signature is made: libssl initialises a context several times in a handshake, and asks
//! for the size.

use crate::problem::{Problem, Reason};
use crate::provider::{Provider, refuse_inside_token};
use crate::token_key::TokenKeyObject;
use qtls_crypto::{Digest, HashFunction};
use qtls_pkcs11::{KeyType, Mechanism, PublicKey, TokenKey};
use std::sync::Arc;

/// A signature being made.
pub(crate) struct TokenSignature {
    pub(crate) provider: Arc<Provider>,
    role: Option<Role>,
    settings: Settings,
    /// A message that comes in pieces.
    begun: Option<Digest>,
}

#[derive(Clone)]
enum Role {
    Sign(Arc<TokenKey>),
    /// With the public half of a token's key, for whoever has no other object of it. It takes place here.
    Verify(PublicKey),
}

/// What `EVP_PKEY_CTX_set_params` may change (EVP_SIGNATURE-RSA(7), EVP_SIGNATURE-ECDSA(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) digest: Option<HashFunction>,
    pub(crate) padding: Padding,
    pub(crate) salt: Salt,
    /// Of MGF1; the digest's where none is set.
    pub(crate) mgf1: Option<HashFunction>,
}

/// How RSA pads (RFC 8017 sections 8.1 and 8.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Padding {
    #[default]
    Pkcs1,
    Pss,
}

/// The salt of PSS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Salt {
    /// For whoever signs to choose, for whoever verifies to find out. Signed is with one as long as the digest: what TLS and FIPS
    /// 186-5 have, and every token can do.
    #[default]
    Auto,
    /// As long as the digest.
    Digest,
    /// As long as there is room.
    Max,
    Bytes(usize),
}

impl TokenSignature {
    /// # Errors
    /// A token's module asks.
    pub(crate) fn new(provider: Arc<Provider>) -> Result<Self, Problem> {
        refuse_inside_token()?;
        Ok(Self { provider, role: None, settings: Settings::default(), begun: None })
    }

    /// Begins to sign a digest or a message with a key, or again with the one before.
    ///
    /// # Errors
    /// No key at all, or one that is not in a token.
    pub(crate) fn begin_signing(&mut self, key: Option<&TokenKeyObject>) -> Result<(), Problem> {
        match key {
            Some(key) => self.role = Some(Role::Sign(key.to_signing()?)),
            None => drop(self.signing_key()?),
        }
        self.begun = None;
        Ok(())
    }

    /// Begins to verify with the public half of a key, or again with the one before.
    ///
    /// # Errors
    /// No key at all, or an empty one.
    pub(crate) fn begin_verifying(&mut self, key: Option<&TokenKeyObject>) -> Result<(), Problem> {
        match key {
            Some(key) => self.role = Some(Role::Verify(key.public().cloned().ok_or_else(no_key)?)),
            None => drop(self.public()?),
        }
        self.begun = None;
        Ok(())
    }

    /// Sets the digest by one of OpenSSL's names for it; none leaves the one before.
    ///
    /// # Errors
    /// It is not one of SHA-2 with 224 to 512 bits.
    pub(crate) fn set_digest(&mut self, name: Option<&str>) -> Result<(), Problem> {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            self.settings.digest = Some(digest_by_name(name)?);
        }
        Ok(())
    }

    /// The digest of messages that are signed without one being named (OpenSSL's choice).
    pub(crate) fn default_digest(&mut self) {
        self.settings.digest.get_or_insert(HashFunction::Sha256);
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// The longest signature.
    ///
    /// # Errors
    /// There is no key yet.
    pub(crate) fn max_bytes(&self) -> Result<usize, Problem> {
        Ok(self.signing_key()?.max_signature_bytes())
    }

    /// Takes in the next piece of the message.
    ///
    /// # Errors
    /// There is no key yet; the machine failed.
    pub(crate) fn update(&mut self, piece: &[u8]) -> Result<(), Problem> {
        self.public()?;
        let digest = match &mut self.begun {
            Some(digest) => digest,
            None => self.begun.insert(Digest::new(self.settings.digest.unwrap_or(HashFunction::Sha256))?),
        };
        Ok(digest.update(piece)?)
    }

    /// The signature of what was taken in.
    ///
    /// # Errors
    /// As [`Self::sign_digest`].
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>, Problem> {
        match self.begun.take() {
            Some(digest) => self.sign_digest(&digest.finish()?),
            None => self.sign_message(&[]),
        }
    }

    /// The signature of a whole message.
    ///
    /// # Errors
    /// As [`Self::sign_digest`].
    pub(crate) fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, Problem> {
        self.sign_digest(&<Digest>::of(self.settings.digest.unwrap_or(HashFunction::Sha256), message)?)
    }

    /// The signature of a digest.
    ///
    /// # Errors
    /// There is no key; what is given is no digest, or not that one; the salt does not fit; the token failed.
    pub(crate) fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, Problem> {
        let key = self.signing_key()?;
        let mechanism = self.mechanism(digest.len())?;
        self.provider.with_tokens(|_| key.sign(mechanism, digest))
    }

    /// Whether a signature is one of what was taken in.
    ///
    /// # Errors
    /// As [`Self::verify_digest`].
    pub(crate) fn finish_verifying(&mut self, signature: &[u8]) -> Result<(), Problem> {
        match self.begun.take() {
            Some(digest) => self.verify_digest(&digest.finish()?, signature),
            None => self.verify_message(&[], signature),
        }
    }

    /// Whether a signature is one of a whole message.
    ///
    /// # Errors
    /// As [`Self::verify_digest`].
    pub(crate) fn verify_message(&self, message: &[u8], signature: &[u8]) -> Result<(), Problem> {
        let digest = <Digest>::of(self.settings.digest.unwrap_or(HashFunction::Sha256), message)?;
        self.verify_digest(&digest, signature)
    }

    /// Whether a signature is one of a digest.
    ///
    /// # Errors
    /// It is not; there is no key; what is given is no digest, or not that one.
    #[cfg(feature = "aws-lc")]
    pub(crate) fn verify_digest(&self, digest: &[u8], signature: &[u8]) -> Result<(), Problem> {
        use qtls_crypto::{ClassicalPublicKey, RsaPadding};
        let padding = match self.mechanism(digest.len())? {
            Mechanism::RsaPkcs1 { hash } => Some(RsaPadding::Pkcs1 { hash }),
            Mechanism::RsaPss { hash, mgf1, .. } if self.settings.salt == Salt::Auto => {
                Some(RsaPadding::Pss { hash, mgf1, salt_bytes: RsaPadding::ANY_SALT })
            }
            Mechanism::RsaPss { hash, mgf1, salt } => Some(RsaPadding::Pss { hash, mgf1, salt_bytes: salt }),
            _ => None,
        };
        let key = ClassicalPublicKey::from_spki_der(&self.public()?.to_spki_der())?;
        if key.verify(padding, digest, signature)? {
            return Ok(());
        }
        Err(Problem::new(
            Reason::InvalidSignature,
            "the signature is not one of this message by this key: one of the three was changed, or belongs to another",
        ))
    }

    /// # Errors
    /// Always: this build has no RSA.
    #[cfg(not(feature = "aws-lc"))]
    pub(crate) fn verify_digest(&self, _digest: &[u8], _signature: &[u8]) -> Result<(), Problem> {
        Err(Problem::argument(
            "this build of the provider (without AWS-LC) does not verify with a token's key object; verify with its public key \
             (openssl pkey -in URI -pubout, then -pubin)",
        ))
    }

    /// The `AlgorithmIdentifier` of these signatures (RFC 4055, RFC 5758), in DER.
    ///
    /// # Errors
    /// There is no key or no digest yet; the salt does not fit.
    pub(crate) fn algorithm_identifier(&self) -> Result<Vec<u8>, Problem> {
        let hash = self.settings.digest.ok_or_else(no_digest)?;
        Ok(match self.mechanism(hash.output_bytes())? {
            Mechanism::RsaPss { hash, mgf1, salt } => pss_identifier(hash, mgf1, salt),
            Mechanism::RsaPkcs1 { hash } => sequence(&[&RSA_WITH[place(hash)], NULL]),
            _ => sequence(&[&ECDSA_WITH[place(hash)]]),
        })
    }

    /// A second operation in the same state.
    ///
    /// # Errors
    /// The machine failed.
    pub(crate) fn duplicate(&self) -> Result<Self, Problem> {
        Ok(Self {
            provider: self.provider.clone(),
            role: self.role.clone(),
            settings: self.settings,
            begun: self.begun.as_ref().map(Digest::try_clone).transpose()?,
        })
    }

    /// Salt bytes of PSS with a key of so many bits.
    pub(crate) fn salt_bytes(&self) -> Result<usize, Problem> {
        match self.public()?.key_type() {
            KeyType::Rsa { bits } => self.salt_of(bits, self.settings.digest.ok_or_else(no_digest)?),
            _ => Ok(0),
        }
    }

    fn mechanism(&self, digest_bytes: usize) -> Result<Mechanism<'static>, Problem> {
        let hash = self.settings.digest;
        if let Some(hash) = hash.filter(|hash| hash.output_bytes() != digest_bytes) {
            return Err(Problem::argument(format!(
                "{digest_bytes} bytes were given to sign, and {} has {}",
                name_of(hash),
                hash.output_bytes()
            )));
        }
        let KeyType::Rsa { bits } = self.public()?.key_type() else {
            return if DIGESTS.iter().any(|(hash, _)| hash.output_bytes() == digest_bytes) {
                Ok(Mechanism::Ecdsa)
            } else {
                Err(Problem::argument(format!(
                    "{digest_bytes} bytes were given to sign, which are no SHA-2 digest; hash the message first, or have it \
                     hashed (openssl pkeyutl -rawin -digest sha256)"
                )))
            };
        };
        let hash = hash.ok_or_else(no_digest)?;
        match self.settings.padding {
            Padding::Pkcs1 => Ok(Mechanism::RsaPkcs1 { hash }),
            Padding::Pss => {
                let mgf1 = self.settings.mgf1.unwrap_or(hash);
                Ok(Mechanism::RsaPss { hash, mgf1, salt: self.salt_of(bits, hash)? })
            }
        }
    }

    fn salt_of(&self, key_bits: u32, hash: HashFunction) -> Result<usize, Problem> {
        // RFC 8017 section 9.1.1: emLen is of the modulus' bits less one.
        let room = ((key_bits as usize - 1).div_ceil(8)).saturating_sub(hash.output_bytes() + 2);
        let salt = match self.settings.salt {
            Salt::Auto | Salt::Digest => hash.output_bytes(),
            Salt::Max => room,
            Salt::Bytes(bytes) => bytes,
        };
        if salt > room {
            return Err(Problem::argument(format!(
                "a PSS salt of {salt} bytes was asked for, and a key of {key_bits} bits has room for {room} with {}",
                name_of(hash)
            )));
        }
        Ok(salt)
    }

    fn signing_key(&self) -> Result<&Arc<TokenKey>, Problem> {
        match &self.role {
            Some(Role::Sign(key)) => Ok(key),
            Some(Role::Verify(_)) => {
                Err(Problem::argument("signing was not initialised (EVP_DigestSignInit, EVP_PKEY_sign_init)"))
            }
            None => Err(no_key()),
        }
    }

    fn public(&self) -> Result<&PublicKey, Problem> {
        match &self.role {
            Some(Role::Sign(key)) => Ok(key.public()),
            Some(Role::Verify(key)) => Ok(key),
            None => Err(no_key()),
        }
    }
}

fn no_key() -> Problem {
    Problem::new(
        Reason::MissingKey,
        "no key was given for the signature (EVP_DigestSignInit and its siblings)",
    )
}

/// OpenSSL's names of the digests; those of older signatures (`RSA-SHA256`) too, which programs still ask for.
const DIGESTS: [(HashFunction, [&str; 5]); 4] = [
    (HashFunction::Sha224, ["SHA224", "SHA2-224", "SHA-224", "2.16.840.1.101.3.4.2.4", "RSA-SHA224"]),
    (HashFunction::Sha256, ["SHA256", "SHA2-256", "SHA-256", "2.16.840.1.101.3.4.2.1", "RSA-SHA256"]),
    (HashFunction::Sha384, ["SHA384", "SHA2-384", "SHA-384", "2.16.840.1.101.3.4.2.2", "RSA-SHA384"]),
    (HashFunction::Sha512, ["SHA512", "SHA2-512", "SHA-512", "2.16.840.1.101.3.4.2.3", "RSA-SHA512"]),
];

/// The digest that OpenSSL calls so.
///
/// # Errors
/// It is not one of SHA-2 with 224 to 512 bits.
pub(crate) fn digest_by_name(name: &str) -> Result<HashFunction, Problem> {
    let known =
        |(_, names): &&(HashFunction, [&str; 5])| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    DIGESTS.iter().find(known).map(|(hash, _)| *hash).ok_or_else(|| {
        Problem::argument(format!(
            "the digest {name} was asked for, and keys in tokens sign with SHA-224, SHA-256, SHA-384 or SHA-512 (SHA-1 and MD5 \
             are broken; TLS 1.0 and 1.1 need them: use TLS 1.2 or 1.3)"
        ))
    })
}

/// OpenSSL's name of a digest.
pub(crate) fn name_of(hash: HashFunction) -> &'static str {
    DIGESTS[place(hash)].1[0]
}

/// The place of a digest in the tables here.
fn place(hash: HashFunction) -> usize {
    // The settings hold no other than these.
    DIGESTS.iter().position(|(known, _)| *known == hash).unwrap_or_default()
}

fn no_digest() -> Problem {
    Problem::argument(
        "RSA keys in tokens sign digests, and which was not said (openssl pkeyutl: -pkeyopt digest:sha256, or -rawin -digest \
         sha256; EVP_PKEY_CTX_set_signature_md)",
    )
}

/// OBJECT IDENTIFIERs in DER. RFC 4055 section 5: sha224WithRSAEncryption and its siblings.
const RSA_WITH: [[u8; 11]; 4] = [pkcs1(14), pkcs1(11), pkcs1(12), pkcs1(13)];
/// RFC 4055 section 2.1 and 3.1.
const MGF1: [u8; 11] = pkcs1(8);
const RSASSA_PSS: [u8; 11] = pkcs1(10);
/// RFC 5758 section 3.2: ecdsa-with-SHA224 and its siblings.
const ECDSA_WITH: [[u8; 10]; 4] = [ecdsa_with(1), ecdsa_with(2), ecdsa_with(3), ecdsa_with(4)];
/// RFC 4055 section 2.1: id-sha224 and its siblings.
const SHA2: [[u8; 11]; 4] = [sha2(4), sha2(1), sha2(2), sha2(3)];
const NULL: &[u8] = &[0x05, 0x00];

/// 1.2.840.113549.1.1.`last`
const fn pkcs1(last: u8) -> [u8; 11] {
    [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, last]
}

/// 1.2.840.10045.4.3.`last`
const fn ecdsa_with(last: u8) -> [u8; 10] {
    [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, last]
}

/// 2.16.840.1.101.3.4.2.`last`
const fn sha2(last: u8) -> [u8; 11] {
    [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last]
}

/// RFC 4055 section 3.1. No field has its default, which is SHA-1 and 20 bytes, but the trailer.
fn pss_identifier(hash: HashFunction, mgf1: HashFunction, salt: usize) -> Vec<u8> {
    let digest = |hash| sequence(&[&SHA2[place(hash)], NULL]);
    let mask = sequence(&[&MGF1, &digest(mgf1)]);
    let salt_field = if salt == 20 { Vec::new() } else { tagged(0xA2, &integer(salt)) };
    let parameters = sequence(&[&tagged(0xA0, &digest(hash)), &tagged(0xA1, &mask), &salt_field]);
    sequence(&[&RSASSA_PSS, &parameters])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tagged(0x30, &parts.concat())
}

/// Every content here is shorter than 128 bytes, and its length one byte.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, content.len() as u8][..], content].concat()
}

fn integer(value: usize) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len() - 1);
    // A first bit that is set would make it negative.
    let sign = if bytes[zeros] & 0x80 == 0 { &[][..] } else { &[0] };
    tagged(0x02, &[sign, &bytes[zeros..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_sha_2_is_known_and_what_is_broken_is_refused_with_a_way_out() {
        for (hash, names) in DIGESTS {
            for name in names {
                assert_eq!(digest_by_name(name).unwrap(), hash);
                assert_eq!(digest_by_name(&name.to_lowercase()).unwrap(), hash);
            }
        }
        for name in ["SHA1", "MD5-SHA1", "SHA512-256", "SHA3-256", ""] {
            let problem = digest_by_name(name).unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidArgument);
            assert!(problem.text.contains(name) && problem.text.contains("SHA-256"));
        }
    }

    #[test]
    fn integers_are_written_shortest_and_positive() {
        for (value, der) in
            [(0, &[2, 1, 0][..]), (32, &[2, 1, 32]), (200, &[2, 2, 0, 200]), (478, &[2, 2, 1, 0xDE])]
        {
            assert_eq!(integer(value), der);
        }
    }

    #[test]
    fn the_identifier_of_pss_is_that_of_openssl() {
        // `openssl req -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -sha256` of OpenSSL 3.0.
        let expected = "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108\
                        300d06096086480165030402010500a203020120";
        let hash = HashFunction::Sha256;
        let written: String =
            pss_identifier(hash, hash, 32).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, expected);
    }
}
