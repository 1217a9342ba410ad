//! Every error: what was wrong, with which key, and what to do next. None holds a PIN.

use std::fmt;

/// What kind of thing went wrong, for whoever decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option, a URI or a request is wrong; nothing was asked of a token.
    Configuration,
    /// The module's file is missing, is no PKCS#11 module, or refuses to start.
    Module,
    /// No slot holds the token, or it is away.
    TokenAbsent,
    /// The PIN could not be had, or the token refuses it, or it is locked.
    Pin,
    /// No such object, or several.
    Object,
    /// The session limit was reached and none came free in time.
    Sessions,
    /// The module did not answer in time.
    Timeout,
    /// The circuit breaker is open, or the next attempt is not due yet: nothing was asked of the token.
    Unavailable,
    /// The token has no room left.
    Full,
    /// The key or the token cannot do what was asked (type, mechanism, always-authenticate).
    Unsupported,
    /// Any other failure of the token.
    Token,
}

/// An error of this crate. Its text says what was wrong, with which key (URI without PIN), and what to do next.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    text: String,
}

impl Error {
    /// Makes one.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// What kind it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
