//! Every error that leaves the provider, with the text that its reader sees in OpenSSL's error queue.

use std::borrow::Cow;
use std::ffi::CStr;

/// The classes of errors, as OpenSSL's error codes tell them apart. Codes are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Reason {
    InvalidOption = 1,
    InvalidPeerKey = 2,
    InvalidArgument = 3,
    InvalidPrivateKey = 4,
    MissingKey = 5,
    SelfTestFailed = 6,
    CryptographyFailed = 7,
    Panic = 8,
    NoUpcall = 9,
    InvalidSignature = 10,
    InvalidKeyFile = 11,
}

impl Reason {
    pub(crate) const ALL: [(Self, &CStr); 11] = [
        (Self::InvalidOption, c"invalid option in openssl.cnf"),
        (Self::InvalidPeerKey, c"invalid key share or ciphertext from the peer"),
        (Self::InvalidArgument, c"invalid argument"),
        (Self::InvalidPrivateKey, c"invalid private key"),
        (Self::MissingKey, c"the key lacks the part that this operation needs"),
        (Self::SelfTestFailed, c"self-test failed, algorithm disabled"),
        (Self::CryptographyFailed, c"cryptographic operation failed"),
        (Self::Panic, c"internal error, please report it"),
        (Self::NoUpcall, c"OpenSSL's core lacks a function that the provider needs"),
        (Self::InvalidSignature, c"the signature does not verify"),
        (Self::InvalidKeyFile, c"invalid key file"),
    ];
}

/// An error on its way to OpenSSL's error queue.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) reason: Reason,
    /// What was wrong, where, and what to do next.
    pub(crate) text: Cow<'static, str>,
}

impl Problem {
    pub(crate) fn new(reason: Reason, text: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, text: text.into() }
    }

    pub(crate) fn argument(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::InvalidArgument, text)
    }

    /// True where this machine or this build is at fault, not a peer or the calling program: such errors are logged
    /// beside the error queue.
    pub(crate) fn is_ours(&self) -> bool {
        match self.reason {
            Reason::InvalidOption
            | Reason::SelfTestFailed
            | Reason::CryptographyFailed
            | Reason::Panic
            | Reason::NoUpcall => true,
            Reason::InvalidPeerKey
            | Reason::InvalidArgument
            | Reason::InvalidPrivateKey
            | Reason::MissingKey
            | Reason::InvalidSignature
            | Reason::InvalidKeyFile => false,
        }
    }
}

impl From<qtls_crypto::Error> for Problem {
    fn from(error: qtls_crypto::Error) -> Self {
        use qtls_crypto::{Error, Fault};
        let reason = match (error, error.fault()) {
            (Error::KnownAnswerMismatch { .. }, _) => Reason::SelfTestFailed,
            (Error::SignatureInvalid { .. }, _) => Reason::InvalidSignature,
            (
                Error::KeyEncoding { .. }
                | Error::KeyAlgorithmUnknown { .. }
                | Error::KeyParameters { .. }
                | Error::KeyVersion { .. }
                | Error::PrivateKeyChoice { .. }
                | Error::PrivateKeySeedMismatch { .. }
                | Error::PublicKeyMismatch { .. },
                _,
            ) => Reason::InvalidKeyFile,
            (
                Error::PrivateKeyLength { .. }
                | Error::PrivateKeyModulus { .. }
                | Error::PrivateKeyHash { .. }
                | Error::PrivateKeyPair { .. }
                | Error::PrivateKeyRange { .. }
                | Error::PrivateKeyEncoding { .. }
                | Error::SeedLength { .. }
                | Error::Scalar { .. },
                _,
            ) => Reason::InvalidPrivateKey,
            (_, Fault::Peer) => Reason::InvalidPeerKey,
            (_, Fault::Caller) => Reason::InvalidArgument,
            _ => Reason::CryptographyFailed,
        };
        Self::new(reason, error.to_string())
    }
}
