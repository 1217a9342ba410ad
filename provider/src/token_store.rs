//! What a `pkcs11:` URI leads to, one object after another, for OpenSSL's store (`ossl_store(7)`).

use crate::problem::{Problem, Reason};
use crate::provider::{Provider, refuse_inside_token};
use qtls_pkcs11::{ErrorKind, Hsm, ObjectClass, Uri};
use std::collections::VecDeque;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What the program wants, as `OSSL_STORE_expect` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Anything,
    PrivateKey,
    PublicKey,
    Certificate,
    /// Parameters, revocation lists: no token has them.
    Other,
}

/// An object, in DER.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// The content of a PEM block `PKCS#11 PROVIDER URI`.
    PrivateKey(Zeroizing<Vec<u8>>),
    /// SubjectPublicKeyInfo.
    PublicKey(Vec<u8>),
    Certificate(Vec<u8>),
}

/// An open store.
pub(crate) struct TokenStore {
    pub(crate) provider: Arc<Provider>,
    uri: Uri,
    /// As it was given, with its PIN.
    text: Zeroizing<String>,
    pub(crate) expected: Expected,
    /// What is left; none before the first question.
    objects: Option<VecDeque<Object>>,
}

impl TokenStore {
    /// Reads the URI. Nothing is asked of a token.
    ///
    /// # Errors
    /// It is wrong; a token's module asks.
    pub(crate) fn open(provider: Arc<Provider>, uri: &str) -> Result<Self, Problem> {
        refuse_inside_token()?;
        Ok(Self {
            uri: Uri::parse(uri)?,
            text: Zeroizing::new(uri.to_owned()),
            provider,
            expected: Expected::Anything,
            objects: None,
        })
    }

    /// The next object; none when there is no more.
    ///
    /// # Errors
    /// The token failed, or has not what the URI names. Afterwards nothing is left.
    pub(crate) fn next(&mut self) -> Result<Option<Object>, Problem> {
        if self.objects.is_none() {
            // After an error nothing is left either: programs ask again until the end.
            self.objects = Some(VecDeque::new());
            let found = self.provider.with_tokens(|hsm| self.find(hsm))?;
            if found.is_empty() && self.expected != Expected::Other {
                return Err(Problem::new(
                    Reason::TokenObject,
                    format!("{}: the token has nothing of the kind that is asked for", self.uri),
                ));
            }
            self.objects = Some(found.into());
        }
        Ok(self.objects.as_mut().and_then(VecDeque::pop_front))
    }

    /// Whether nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.objects.as_ref().is_some_and(VecDeque::is_empty)
    }

    fn find(&self, hsm: &Arc<Hsm>) -> Result<Vec<Object>, qtls_pkcs11::Error> {
        let wants = |class: ObjectClass, expected: &[Expected]| {
            self.uri.class.is_none_or(|asked| asked == class) && expected.contains(&self.expected)
        };
        let mut objects = Vec::new();
        if wants(ObjectClass::Certificate, &[Expected::Anything, Expected::Certificate]) {
            let certificates = hsm.certificates(&self.uri)?;
            objects.extend(certificates.into_iter().map(|certificate| Object::Certificate(certificate.der)));
        }
        // Without a type a public key is asked for only where nothing else will do: the private one holds it.
        if wants(ObjectClass::Public, &[Expected::PublicKey])
            || (self.uri.class == Some(ObjectClass::Public) && self.expected == Expected::Anything)
        {
            let keys = hsm.public_keys(&self.uri)?;
            objects.extend(keys.iter().map(|key| Object::PublicKey(key.to_spki_der())));
            if keys.is_empty() && self.uri.class.is_none() {
                objects.push(Object::PublicKey(hsm.key(&self.uri, None)?.public().to_spki_der()));
            }
        }
        if wants(ObjectClass::Private, &[Expected::Anything, Expected::PrivateKey]) {
            match hsm.key(&self.uri, None) {
                Ok(_) => {
                    let block = Zeroizing::new(Uri::to_pem_der(&self.text));
                    objects.insert(0, Object::PrivateKey(block));
                }
                // A certificate without a key is worth reading where not only a key will do.
                Err(error) if error.kind() == ErrorKind::Object && !objects.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(objects)
    }
}
