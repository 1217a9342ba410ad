//! Message digests, for signatures whose private key is elsewhere: a token is handed the digest, not the message.

use crate::{Backend, DefaultBackend, Error, HashFunction};

/// A digest being computed, of a message that comes in pieces.
pub struct Digest<B: Backend = DefaultBackend> {
    function: HashFunction,
    hash: B::Hash,
}

impl<B: Backend> Digest<B> {
    /// Begins one.
    ///
    /// # Errors
    /// [`Error::Backend`]: the machine failed.
    pub fn new(function: HashFunction) -> Result<Self, Error> {
        Ok(Self { function, hash: B::hash(function)? })
    }

    /// The digest of a whole message, of [`HashFunction::output_bytes`].
    ///
    /// # Errors
    /// [`Error::Backend`]: the machine failed.
    pub fn of(function: HashFunction, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut digest = Self::new(function)?;
        digest.update(message)?;
        digest.finish()
    }

    /// Takes in the next piece.
    ///
    /// # Errors
    /// [`Error::Backend`]: the machine failed.
    pub fn update(&mut self, piece: &[u8]) -> Result<(), Error> {
        B::hash_update(&mut self.hash, piece)
    }

    /// A second one that has taken in the same.
    ///
    /// # Errors
    /// [`Error::Backend`]: the machine failed.
    pub fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self { function: self.function, hash: B::hash_clone(&self.hash)? })
    }

    /// The digest, of [`HashFunction::output_bytes`].
    ///
    /// # Errors
    /// [`Error::Backend`]: the machine failed.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; self.function.output_bytes()];
        B::hash_finish(self.hash, &mut out)?;
        Ok(out)
    }
}
