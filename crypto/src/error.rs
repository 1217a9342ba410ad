//! What can go wrong, and whose fault it is.

use crate::{EncodingProblem, KnownAnswerStep, PbesCipher};
use std::fmt;

/// Why an operation was refused. The text says what was wrong; [`Error::fault`] says who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A public key (a TLS client's share) has the wrong length.
    PublicKeyLength {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Bytes it must have.
        expected: usize,
        /// Bytes it had.
        got: usize,
    },
    /// A coefficient of an ML-KEM encapsulation key is not below q = 3329 (FIPS 203 section 7.2).
    PublicKeyModulus {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// The curve half of a public key is not an uncompressed point on the curve.
    PublicKeyPoint {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Name of the curve.
        curve: &'static str,
    },
    /// The peer's X25519 value has small order: whatever our scalar, the secret would be all zero
    /// (RFC 7748 section 6.1, RFC 8446 section 7.4.2).
    AllZeroSharedSecret {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// A ciphertext (a TLS server's share) has the wrong length.
    CiphertextLength {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Bytes it must have.
        expected: usize,
        /// Bytes it had.
        got: usize,
    },
    /// The curve half of a ciphertext is not an uncompressed point on the curve.
    CiphertextPoint {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Name of the curve.
        curve: &'static str,
    },
    /// A buffer that the caller provides for a result has the wrong length.
    BufferLength {
        /// What the buffer is for: "ciphertext", "shared secret".
        what: &'static str,
        /// Bytes it must have.
        expected: usize,
        /// Bytes it had.
        got: usize,
    },
    /// A seed has the wrong length.
    SeedLength {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Bytes it must have.
        expected: usize,
        /// Bytes it had.
        got: usize,
    },
    /// The randomness for a deterministic encapsulation has the wrong length.
    RandomnessLength {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Bytes it must have.
        expected: usize,
        /// Bytes it had.
        got: usize,
    },
    /// A curve scalar that the caller gave is zero or not below the order of the group.
    Scalar {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Name of the curve.
        curve: &'static str,
    },
    /// An expanded private key has the wrong length.
    PrivateKeyLength {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Bytes it must have.
        expected: usize,
        /// Bytes it had.
        got: usize,
    },
    /// An expanded private key holds a coefficient that is not below q = 3329: it is damaged.
    PrivateKeyModulus {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// The hash inside an expanded private key is not that of the public key inside it (FIPS 203 section 7.3):
    /// the key is damaged or put together from two.
    PrivateKeyHash {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// An expanded private key cannot decapsulate what is encapsulated to its own public key, or the parts of an ML-DSA
    /// private key do not fit each other: it is damaged or put together from two.
    PrivateKeyPair {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// A coefficient of the secret vectors in an expanded ML-DSA private key is outside -η … η (FIPS 204 algorithm 25):
    /// it is damaged.
    PrivateKeyRange {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// The classical half of a composite private key is not what its algorithm asks for: an `ECPrivateKey` in DER with the
    /// named curve and without the public key.
    PrivateKeyEncoding {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Name of the classical half.
        classical: &'static str,
    },
    /// A key's encoding is not what its standard says.
    KeyEncoding {
        /// What was read: "SubjectPublicKeyInfo", "PKCS#8 private key".
        structure: &'static str,
        /// The part of it, by the standard's name.
        field: &'static str,
        /// What is wrong with that.
        problem: EncodingProblem,
    },
    /// A key's encoding holds the key of an algorithm that is not in the tables.
    KeyAlgorithmUnknown {
        /// What was read.
        structure: &'static str,
    },
    /// The algorithm identifier of a key has parameters, which must be absent.
    KeyParameters {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Whether they are NULL, the usual mistake.
        null: bool,
    },
    /// A PKCS#8 private key has a version that RFC 5958 does not know, or a public key although its version is 0.
    KeyVersion {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// The content of a PKCS#8 private key is in none of the three forms of RFC 9881 section 6 and RFC 9935 section 6.
    PrivateKeyChoice {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// The expanded key that stands beside a seed is not the one that the seed gives.
    PrivateKeySeedMismatch {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// The public key that stands beside a private key is not its own.
    PublicKeyMismatch {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// The seed of a private key is asked for that was made from its expanded form.
    SeedUnknown {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// A private key is to be encrypted with a cipher that is not among [`PbesCipher::ALL`].
    CipherUnknown,
    /// A signature does not belong to message, context and public key.
    SignatureInvalid {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// A context string is longer than 255 bytes (FIPS 204 algorithm 2).
    ContextLength {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Bytes it had.
        got: usize,
    },
    /// An external message representative µ does not have 64 bytes.
    MuLength {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Bytes it had.
        got: usize,
    },
    /// A classical private key is not PKCS#8 with RSA of 2,048 to 16,384 bits or with a key on P-256 or P-384.
    ClassicalKey,
    /// Something is asked of an algorithm that it does not have.
    Unsupported {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// What it does not have: "an expanded private key", "a raw message".
        what: &'static str,
    },
    /// A power-on self-test did not give the known answer.
    KnownAnswerMismatch {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// The step that failed.
        step: KnownAnswerStep,
    },
    /// The operating system or the backend gave no random bytes.
    Randomness,
    /// The backend failed where it should not: the named call.
    Backend(&'static str),
}

/// Who has to act when an [`Error`] comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The peer sent something that the standard forbids; in TLS the answer is the alert `illegal_parameter`.
    Peer,
    /// The calling program passed a wrong buffer, seed or private key.
    Caller,
    /// This machine: no randomness, a failed self-test, an exhausted or broken library.
    Machine,
}

impl Error {
    /// Who has to act.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::PublicKeyLength { .. }
            | Self::PublicKeyModulus { .. }
            | Self::PublicKeyPoint { .. }
            | Self::AllZeroSharedSecret { .. }
            | Self::CiphertextLength { .. }
            | Self::CiphertextPoint { .. }
            | Self::SignatureInvalid { .. } => Fault::Peer,
            Self::BufferLength { .. }
            | Self::SeedLength { .. }
            | Self::RandomnessLength { .. }
            | Self::Scalar { .. }
            | Self::PrivateKeyLength { .. }
            | Self::PrivateKeyModulus { .. }
            | Self::PrivateKeyHash { .. }
            | Self::PrivateKeyPair { .. }
            | Self::PrivateKeyRange { .. }
            | Self::PrivateKeyEncoding { .. }
            | Self::KeyEncoding { .. }
            | Self::KeyAlgorithmUnknown { .. }
            | Self::KeyParameters { .. }
            | Self::KeyVersion { .. }
            | Self::PrivateKeyChoice { .. }
            | Self::PrivateKeySeedMismatch { .. }
            | Self::PublicKeyMismatch { .. }
            | Self::SeedUnknown { .. }
            | Self::CipherUnknown
            | Self::ContextLength { .. }
            | Self::MuLength { .. }
            | Self::ClassicalKey
            | Self::Unsupported { .. } => Fault::Caller,
            Self::KnownAnswerMismatch { .. } | Self::Randomness | Self::Backend(_) => Fault::Machine,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PublicKeyLength { algorithm, expected, got } => {
                write!(f, "{algorithm}: the public key (key share) has {got} bytes, it must have {expected}")
            }
            Self::PublicKeyModulus { algorithm } => write!(
                f,
                "{algorithm}: the public key (key share) holds an ML-KEM coefficient that is not below 3329 \
                 (FIPS 203 section 7.2); the peer's implementation is wrong or the bytes were altered"
            ),
            Self::PublicKeyPoint { algorithm, curve } => write!(
                f,
                "{algorithm}: the {curve} half of the public key (key share) is not an uncompressed point on the curve"
            ),
            Self::AllZeroSharedSecret { algorithm } => write!(
                f,
                "{algorithm}: the peer's X25519 value has small order and would make the shared secret all zero \
                 (RFC 7748 section 6.1)"
            ),
            Self::CiphertextLength { algorithm, expected, got } => {
                write!(
                    f,
                    "{algorithm}: the ciphertext (server's key share) has {got} bytes, it must have {expected}"
                )
            }
            Self::CiphertextPoint { algorithm, curve } => write!(
                f,
                "{algorithm}: the {curve} half of the ciphertext (server's key share) is not an uncompressed point on \
                 the curve"
            ),
            Self::BufferLength { what, expected, got } => {
                write!(f, "the buffer for the {what} has {got} bytes, it must have exactly {expected}")
            }
            Self::SeedLength { algorithm, expected, got } => {
                write!(f, "{algorithm}: the private key's seed has {got} bytes, it must have {expected}")
            }
            Self::RandomnessLength { algorithm, expected, got } => {
                write!(
                    f,
                    "{algorithm}: the randomness for the encapsulation has {got} bytes, it must have {expected}"
                )
            }
            Self::Scalar { algorithm, curve } => write!(
                f,
                "{algorithm}: the {curve} private scalar is zero or not below the order of the group; make a new key"
            ),
            Self::PrivateKeyLength { algorithm, expected, got } => {
                write!(f, "{algorithm}: the expanded private key has {got} bytes, it must have {expected}")
            }
            Self::PrivateKeyModulus { algorithm } => write!(
                f,
                "{algorithm}: the expanded private key holds a coefficient that is not below 3329: it is damaged, \
                 restore it from a backup or from its seed"
            ),
            Self::PrivateKeyHash { algorithm } => write!(
                f,
                "{algorithm}: the expanded private key does not hold the hash of its own public key (FIPS 203 section \
                 7.3): it is damaged, restore it from a backup or from its seed"
            ),
            Self::PrivateKeyPair { algorithm } => write!(
                f,
                "{algorithm}: the expanded private key does not belong to its own public key: it is damaged, restore it \
                 from a backup or from its seed"
            ),
            Self::PrivateKeyRange { algorithm } => write!(
                f,
                "{algorithm}: the expanded private key holds a secret coefficient out of range (FIPS 204 algorithm 25): it \
                 is damaged, restore it from a backup or from its seed"
            ),
            Self::PrivateKeyEncoding { algorithm, classical } => write!(
                f,
                "{algorithm}: the {classical} half of the private key is not an ECPrivateKey in DER with the named curve \
                 and without the public key; make a new key"
            ),
            Self::KeyEncoding { structure, field, problem } => {
                write!(f, "the {structure} cannot be read: its {field} {problem}")
            }
            Self::KeyAlgorithmUnknown { structure } => write!(
                f,
                "the {structure} is of an algorithm that Q-TLS does not have; leave it to another provider"
            ),
            Self::KeyParameters { algorithm, null } => write!(
                f,
                "{algorithm}: the key's AlgorithmIdentifier has {}, which must be absent (RFC 9881 section 2, RFC 9935 \
                 section 3): whatever wrote the key is wrong, write it again with another program",
                if null { "NULL parameters" } else { "parameters" }
            ),
            Self::KeyVersion { algorithm } => write!(
                f,
                "{algorithm}: the PKCS#8 private key has neither version 0 nor version 1, or a publicKey with version 0 \
                 (RFC 5958 section 2): it is damaged, or whatever wrote it is wrong"
            ),
            Self::PrivateKeyChoice { algorithm } => write!(
                f,
                "{algorithm}: the PKCS#8 private key is neither a [0] seed, nor an OCTET STRING with the expanded key, nor a \
                 SEQUENCE of both (RFC 9881 section 6, RFC 9935 section 6), but perhaps one of the forms from before these \
                 standards, as oqs-provider writes; OpenSSL 3.5 converts them: `openssl pkey -in old.pem -out new.pem`"
            ),
            Self::PrivateKeySeedMismatch { algorithm } => write!(
                f,
                "{algorithm}: the expanded private key is not the one that the seed beside it gives: the file is damaged \
                 or put together from two, restore it from a backup"
            ),
            Self::PublicKeyMismatch { algorithm } => write!(
                f,
                "{algorithm}: the public key in the private key's file is not that of the private key: the file is damaged \
                 or put together from two, restore it from a backup"
            ),
            Self::SeedUnknown { algorithm } => write!(
                f,
                "{algorithm}: the private key came in its expanded form, from which its seed cannot be found; write the \
                 expanded form"
            ),
            Self::CipherUnknown => {
                write!(f, "a private key cannot be encrypted with this cipher; choose one of these:")?;
                PbesCipher::ALL.iter().try_for_each(|cipher| write!(f, " {}", cipher.name()))
            }
            Self::SignatureInvalid { algorithm } => {
                write!(
                    f,
                    "{algorithm}: the signature does not belong to this message, context and public key"
                )
            }
            Self::ContextLength { algorithm, got } => {
                write!(f, "{algorithm}: the context string has {got} bytes, it may have at most 255")
            }
            Self::MuLength { algorithm, got } => {
                write!(f, "{algorithm}: the message representative mu has {got} bytes, it must have 64")
            }
            Self::ClassicalKey => write!(
                f,
                "this is no RSA (2,048 to 16,384 bits) or EC (P-256, P-384) private key in PKCS#8, or a damaged one; \
                 `openssl pkcs8 -topk8 -nocrypt` converts other forms"
            ),
            Self::Unsupported { algorithm, what } => write!(f, "{algorithm} does not have {what}"),
            Self::KnownAnswerMismatch { algorithm, step } => write!(
                f,
                "{algorithm}: the self-test of {step} did not give the known answer; do not use this build on this \
                 machine"
            ),
            Self::Randomness => write!(f, "the system gave no random bytes"),
            Self::Backend(call) => {
                write!(f, "the cryptographic backend failed in {call}; the system may be out of memory")
            }
        }
    }
}

impl std::error::Error for Error {}
