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
    TokenRequest = 12,
    TokenModule = 13,
    TokenAbsent = 14,
    TokenPin = 15,
    TokenObject = 16,
    TokenSessions = 17,
    TokenTimeout = 18,
    TokenUnavailable = 19,
    TokenFull = 20,
    TokenUnsupported = 21,
    TokenFailed = 22,
    KeyStaysInToken = 23,
    InsideToken = 24,
}

impl Reason {
    pub(crate) const ALL: [(Self, &CStr); 24] = [
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
        (Self::TokenRequest, c"invalid PKCS#11 URI, or an option that does not fit it"),
        (Self::TokenModule, c"the PKCS#11 module cannot be used"),
        (Self::TokenAbsent, c"the token is away"),
        (Self::TokenPin, c"the token's PIN is missing, refused or locked"),
        (Self::TokenObject, c"no such object in the token, or several"),
        (Self::TokenSessions, c"no session of the token came free"),
        (Self::TokenTimeout, c"the token did not answer in time"),
        (Self::TokenUnavailable, c"the token failed and is not tried again yet"),
        (Self::TokenFull, c"the token is full"),
        (Self::TokenUnsupported, c"the token or its key cannot do this"),
        (Self::TokenFailed, c"the token failed"),
        (Self::KeyStaysInToken, c"the private key stays in its token"),
        (Self::InsideToken, c"asked by a token's own module"),
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

    /// True where this machine, its token or this build is at fault, not a peer or the calling program: such errors are logged
    /// beside the error queue.
    pub(crate) fn is_ours(&self) -> bool {
        match self.reason {
            Reason::InvalidOption
            | Reason::SelfTestFailed
            | Reason::CryptographyFailed
            | Reason::Panic
            | Reason::NoUpcall
            | Reason::TokenRequest
            | Reason::TokenModule
            | Reason::TokenAbsent
            | Reason::TokenPin
            | Reason::TokenObject
            | Reason::TokenSessions
            | Reason::TokenTimeout
            | Reason::TokenUnavailable
            | Reason::TokenFull
            | Reason::TokenUnsupported
            | Reason::TokenFailed => true,
            Reason::InvalidPeerKey
            | Reason::InvalidArgument
            | Reason::InvalidPrivateKey
            | Reason::MissingKey
            | Reason::InvalidSignature
            | Reason::InvalidKeyFile
            | Reason::KeyStaysInToken
            | Reason::InsideToken => false,
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

impl From<qtls_pkcs11::Error> for Problem {
    fn from(error: qtls_pkcs11::Error) -> Self {
        use qtls_pkcs11::ErrorKind;
        let reason = match error.kind() {
            ErrorKind::Configuration => Reason::TokenRequest,
            ErrorKind::Module => Reason::TokenModule,
            ErrorKind::TokenAbsent => Reason::TokenAbsent,
            ErrorKind::Pin => Reason::TokenPin,
            ErrorKind::Object => Reason::TokenObject,
            ErrorKind::Sessions => Reason::TokenSessions,
            ErrorKind::Timeout => Reason::TokenTimeout,
            ErrorKind::Unavailable => Reason::TokenUnavailable,
            ErrorKind::Full => Reason::TokenFull,
            ErrorKind::Unsupported => Reason::TokenUnsupported,
            _ => Reason::TokenFailed,
        };
        Self::new(reason, error.to_string())
    }
}
