//! Encrypted PKCS#8, `EncryptedPrivateKeyInfo` (RFC 5958 section 3), by PBES2 (RFC 8018 section 6.2).
//!
//! Only written: OpenSSL takes the encryption off itself before it asks anybody for the key inside.

use super::{NULL, OCTET_STRING, SEQUENCE, oid_der, tlv};
use crate::{Backend, DefaultBackend, Error};
use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use der::Encode;
use zeroize::Zeroizing;

/// Iterations of PBKDF2: what OWASP's Password Storage Cheat Sheet asks of HMAC-SHA256. OpenSSL takes 0.2 s for them, once
/// for each reading of the file; its own 2048, from when machines were far slower, would leave a passphrase open to
/// guessing. Every reader takes the number from the file.
const ITERATIONS: u32 = 600_000;
/// The minimum of NIST SP 800-132 section 5.1.
const SALT_BYTES: usize = 16;
const BLOCK_BYTES: usize = 16;

const PBES2: &str = "1.2.840.113549.1.5.13";
const PBKDF2: &str = "1.2.840.113549.1.5.12";
const HMAC_WITH_SHA256: &str = "1.2.840.113549.2.9";

/// The ciphers that a private key can be encrypted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PbesCipher {
    /// AES-128 in CBC mode.
    Aes128Cbc,
    /// AES-192 in CBC mode.
    Aes192Cbc,
    /// AES-256 in CBC mode.
    Aes256Cbc,
}

impl PbesCipher {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aes128Cbc, Self::Aes192Cbc, Self::Aes256Cbc];

    /// Finds one by a name of OpenSSL's: `AES-256-CBC`, `AES256`, `2.16.840.1.101.3.4.1.42`; ASCII case does not matter.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| {
            [cipher.name(), cipher.short_name(), cipher.oid()]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        })
    }

    /// The name, as OpenSSL spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Cbc => "AES-128-CBC",
            Self::Aes192Cbc => "AES-192-CBC",
            Self::Aes256Cbc => "AES-256-CBC",
        }
    }

    const fn short_name(self) -> &'static str {
        match self {
            Self::Aes128Cbc => "AES128",
            Self::Aes192Cbc => "AES192",
            Self::Aes256Cbc => "AES256",
        }
    }

    /// The dotted object identifier (RFC 3565 section 4.1).
    pub const fn oid(self) -> &'static str {
        match self {
            Self::Aes128Cbc => "2.16.840.1.101.3.4.1.2",
            Self::Aes192Cbc => "2.16.840.1.101.3.4.1.22",
            Self::Aes256Cbc => "2.16.840.1.101.3.4.1.42",
        }
    }

    const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Cbc => 16,
            Self::Aes192Cbc => 24,
            Self::Aes256Cbc => 32,
        }
    }
}

/// Encrypts a PKCS#8 private key in DER under a passphrase, with PBKDF2-HMAC-SHA256 and a fresh salt and initialisation
/// vector: the content of PEM's `ENCRYPTED PRIVATE KEY`.
///
/// # Errors
/// [`Error::Randomness`] and [`Error::Backend`] if the machine fails.
pub fn encrypt_pkcs8(pkcs8: &[u8], passphrase: &[u8], cipher: PbesCipher) -> Result<Vec<u8>, Error> {
    let (mut salt, mut vector) = ([0; SALT_BYTES], [0; BLOCK_BYTES]);
    DefaultBackend::random(&mut salt)?;
    DefaultBackend::random(&mut vector)?;
    encrypt_with(pkcs8, passphrase, cipher, ITERATIONS, &salt, &vector)
}

fn encrypt_with(
    pkcs8: &[u8],
    passphrase: &[u8],
    cipher: PbesCipher,
    iterations: u32,
    salt: &[u8],
    vector: &[u8; BLOCK_BYTES],
) -> Result<Vec<u8>, Error> {
    let mut key = Zeroizing::new([0; 32]);
    let key = &mut key[..cipher.key_bytes()];
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(passphrase, salt, iterations, key);
    // RFC 8018 section 6.1.1: padded to whole blocks, by one byte at least.
    let mut buffer = Zeroizing::new(vec![0; (pkcs8.len() / BLOCK_BYTES + 1) * BLOCK_BYTES]);
    buffer[..pkcs8.len()].copy_from_slice(pkcs8);
    let encrypted = match cipher {
        PbesCipher::Aes128Cbc => {
            encrypt_blocks::<cbc::Encryptor<Aes128>>(key, vector, &mut buffer, pkcs8.len())
        }
        PbesCipher::Aes192Cbc => {
            encrypt_blocks::<cbc::Encryptor<Aes192>>(key, vector, &mut buffer, pkcs8.len())
        }
        PbesCipher::Aes256Cbc => {
            encrypt_blocks::<cbc::Encryptor<Aes256>>(key, vector, &mut buffer, pkcs8.len())
        }
    }?;

    let hmac = tlv(SEQUENCE, &[&oid_der(HMAC_WITH_SHA256)?, &tlv(NULL, &[])?])?;
    let iterations = iterations.to_der().map_err(|_| Error::Backend("the DER encoder"))?;
    let derivation = tlv(SEQUENCE, &[&tlv(OCTET_STRING, &[salt])?, &iterations, &hmac])?;
    let derivation = tlv(SEQUENCE, &[&oid_der(PBKDF2)?, &derivation])?;
    let scheme = tlv(SEQUENCE, &[&oid_der(cipher.oid())?, &tlv(OCTET_STRING, &[vector])?])?;
    let algorithm = tlv(SEQUENCE, &[&oid_der(PBES2)?, &tlv(SEQUENCE, &[&derivation, &scheme])?])?;
    let mut info = tlv(SEQUENCE, &[&algorithm, &tlv(OCTET_STRING, &[encrypted])?])?;
    Ok(std::mem::take(&mut *info))
}

/// Encrypts the first `length` bytes of the buffer, which has room for the padding, in place.
fn encrypt_blocks<'a, C: BlockModeEncrypt + KeyIvInit>(
    key: &[u8],
    vector: &[u8],
    buffer: &'a mut [u8],
    length: usize,
) -> Result<&'a [u8], Error> {
    C::new_from_slices(key, vector)
        .ok()
        .and_then(|cipher| cipher.encrypt_padded::<Pkcs7>(buffer, length).ok())
        .ok_or(Error::Backend("AES-CBC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_that_of_openssl_byte_for_byte() {
        // openssl genpkey -algorithm ed25519 -outform DER, then for each cipher
        // openssl pkcs8 -topk8 -v2 … -passout 'pass:correct horse' -outform DER, OpenSSL 3.0.19, whose salt has 8
        // bytes and whose iterations are 2048.
        const PLAIN: &str = "302e020100300506032b657004220420ab56e182548483297e0cc0d7841ff729bc61b40f431a87e99223ce20be96\
                             6d83";
        const ENCRYPTED: [&str; 3] = [
            "30819b305706092a864886f70d01050d304a302906092a864886f70d01050c301c04080cdde9548b7a910b020208\
             00300c06082a864886f70d02090500301d0609608648016503040102041057486af45e074319a30c2f65b2eb90b9\
             0440f0c23a638bfcb9854684c46ec1a070945ecb879881ba74f4219631267d6879d91e1506334461c62cba3caa7c\
             b9c3ab828826172f8ee28ee59491a97dcedfeae9",
            "30819b305706092a864886f70d01050d304a302906092a864886f70d01050c301c040881dbb5f81f12246e020208\
             00300c06082a864886f70d02090500301d060960864801650304011604106b5556ac14827f30cf965761c463e087\
             04402719fdbc6e5651d9fc3608c2e1b1600b4dc98a930d916d9c163b4618a23e91e64bc98163d2e3150714eb803a\
             3b3b9b61045385bfe409c6047b9de4637ea9fe4e",
            "30819b305706092a864886f70d01050d304a302906092a864886f70d01050c301c040811652576f04d680a020208\
             00300c06082a864886f70d02090500301d060960864801650304012a0410b94df822cedaa8a5425702f6b8645737\
             0440dff9c603d33cf039721f5d31903ab448eafb3ee15d18db2512b25148ab8e35da745eed05d73e0e8b0196464f\
             ba9500b53b0ca7e9968aef44fc4c5747cbc62e07",
        ];
        let plain = hex::decode(PLAIN).unwrap();
        for (cipher, encrypted) in PbesCipher::ALL.into_iter().zip(ENCRYPTED) {
            let encrypted = hex::decode(encrypted).unwrap();
            // Where asn1parse shows them.
            let salt = &encrypted[35..43];
            let vector = encrypted[76..][..BLOCK_BYTES].try_into().unwrap();
            assert_eq!(encrypt_with(&plain, b"correct horse", cipher, 2048, salt, vector), Ok(encrypted));
        }
    }

    #[test]
    fn each_encryption_has_a_salt_and_a_vector_of_its_own() {
        let encrypt = || encrypt_pkcs8(&[1; 32], b"", PbesCipher::Aes256Cbc).unwrap();
        // Both stand behind headers of a known length, and the number of iterations between them.
        let (one, other) = (encrypt(), encrypt());
        assert_eq!(one.len(), other.len());
        assert_eq!(one[51..56], [2, 3, 9, 0x27, 0xC0]);
        assert_ne!(one[35..51], other[35..51]);
        assert_ne!(one[85..101], other[85..101]);
    }

    #[test]
    fn a_cipher_is_found_by_the_names_of_openssl_in_any_case() {
        for (name, cipher) in [
            ("AES-128-CBC", PbesCipher::Aes128Cbc),
            ("aes128", PbesCipher::Aes128Cbc),
            ("aes-192-cbc", PbesCipher::Aes192Cbc),
            ("2.16.840.1.101.3.4.1.22", PbesCipher::Aes192Cbc),
            ("AES256", PbesCipher::Aes256Cbc),
            ("Aes-256-Cbc", PbesCipher::Aes256Cbc),
        ] {
            assert_eq!(PbesCipher::by_name(name), Some(cipher), "{name}");
        }
        for name in ["", "AES", "AES-256-GCM", "DES-EDE3-CBC", "2.16.840.1.101.3.4.1.4"] {
            assert_eq!(PbesCipher::by_name(name), None, "{name}");
        }
        let error = Error::CipherUnknown.to_string();
        assert!(PbesCipher::ALL.iter().all(|cipher| error.contains(cipher.name())), "{error}");
    }
}
