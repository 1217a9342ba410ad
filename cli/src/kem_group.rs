//! A `qtls-crypto` KEM as a rustls key-exchange group, for the groups that rustls lacks
//! (SecP384r1MLKEM1024 and MLKEM512).

use std::fmt;

use qtls_crypto::{KemAlgorithm, KemPrivateKey, KemPublicKey, RustCrypto};
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};
use zeroize::Zeroizing;

/// One row of the table as a group: the client's share is a public key, the server's a ciphertext.
pub(crate) struct KemGroup {
    algorithm: &'static KemAlgorithm,
}

impl KemGroup {
    pub(crate) fn new(algorithm: &'static KemAlgorithm) -> Self {
        Self { algorithm }
    }
}

impl fmt::Debug for KemGroup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.algorithm.group_name)
    }
}

impl SupportedKxGroup for KemGroup {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let private_key = KemPrivateKey::generate(self.algorithm).map_err(own_failure)?;
        Ok(Box::new(Active { algorithm: self.algorithm, private_key }))
    }

    fn start_and_complete(&self, client_share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let public_key = KemPublicKey::<RustCrypto>::from_bytes(self.algorithm, client_share)
            .map_err(|_| INVALID_KEY_SHARE)?;
        let mut ciphertext = vec![0; self.algorithm.ciphertext_bytes()];
        let mut secret = Zeroizing::new(vec![0; self.algorithm.shared_secret_bytes()]);
        public_key.encapsulate(&mut ciphertext, &mut secret).map_err(own_failure)?;
        Ok(CompletedKeyExchange {
            group: self.name(),
            pub_key: ciphertext,
            secret: SharedSecret::from(secret.as_slice()),
        })
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::from(self.algorithm.group_id)
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

struct Active {
    algorithm: &'static KemAlgorithm,
    private_key: KemPrivateKey<RustCrypto>,
}

impl ActiveKeyExchange for Active {
    fn complete(self: Box<Self>, server_share: &[u8]) -> Result<SharedSecret, Error> {
        let mut secret = Zeroizing::new(vec![0; self.algorithm.shared_secret_bytes()]);
        self.private_key.decapsulate(server_share, &mut secret).map_err(|_| INVALID_KEY_SHARE)?;
        Ok(SharedSecret::from(secret.as_slice()))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        self.private_key.public_key()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::from(self.algorithm.group_id)
    }
}

const INVALID_KEY_SHARE: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);

fn own_failure(error: qtls_crypto::Error) -> Error {
    Error::General(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree_and_a_bad_share_is_the_peers_fault() {
        for group in qtls_crypto::KEM_ALGORITHMS.iter().map(KemGroup::new) {
            let client = group.start().unwrap();
            let server = group.start_and_complete(client.pub_key()).unwrap();
            let secret = client.complete(&server.pub_key).unwrap();
            assert_eq!(secret.secret_bytes(), server.secret.secret_bytes(), "{group:?}");

            let client = group.start().unwrap();
            let cut = &client.pub_key()[1..];
            assert!(
                matches!(group.start_and_complete(cut).err(), Some(Error::PeerMisbehaved(_))),
                "{group:?}"
            );
            assert!(matches!(client.complete(&server.pub_key[1..]).err(), Some(Error::PeerMisbehaved(_))));
        }
    }
}
