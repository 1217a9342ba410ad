//! PINs: where they come from, and the memory they lie in.

use crate::Error;

/// A PIN in locked memory that is left out of core dumps, survives a fork, and is wiped. `Debug` shows nothing of it;
/// comparison takes constant time.
#[derive(Clone)]
pub struct Pin(std::sync::Arc<zeroize::Zeroizing<Vec<u8>>>);

impl Pin {
    /// Takes the bytes over and wipes where they were.
    pub fn new(bytes: zeroize::Zeroizing<Vec<u8>>) -> Self {
        Self(std::sync::Arc::new(bytes))
    }

    /// The bytes, for `C_Login` alone.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pin(…)")
    }
}

impl PartialEq for Pin {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Pin {}

/// Where a PIN comes from: `file:PATH` (or a path alone), `env:NAME`, `cmd:COMMAND LINE`, `cred:NAME` (systemd credential),
/// `value:PIN` (openssl.cnf itself).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    /// A file, whose first line is the PIN.
    File(std::path::PathBuf),
    /// An environment variable.
    Environment(String),
    /// What a command line, given to `/bin/sh -c`, writes first.
    Command(String),
    /// A systemd credential (`$CREDENTIALS_DIRECTORY/NAME`).
    Credential(String),
    /// The PIN itself.
    Value(Pin),
}

impl PinSource {
    /// Reads the text of an option or of `pin-source`.
    ///
    /// # Errors
    /// An unknown prefix, nothing behind it.
    pub fn parse(_text: &str) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Gets the PIN now.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Pin`]: the file, variable, credential is not there or not readable, the command fails or takes too long.
    pub fn resolve(&self) -> Result<Pin, Error> {
        unimplemented!()
    }
}
