//! Certificates signed by a composite key, which rcgen cannot make: its certificates, signed anew.

use qtls_crypto::{MessageEncoding, SignatureAlgorithm, SignaturePrivateKey, SigningRandomness};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A composite key that signs certificates.
pub(crate) struct CompositeKey(SignaturePrivateKey);

impl CompositeKey {
    pub(crate) fn generate(algorithm: &'static SignatureAlgorithm) -> Self {
        Self(<SignaturePrivateKey>::generate(algorithm).unwrap())
    }

    /// The certificate with this key as its issuer's.
    pub(crate) fn sign(&self, certificate: &[u8]) -> Vec<u8> {
        self.sign_with(certificate, None)
    }

    /// The certificate with this key as its own and its issuer's.
    pub(crate) fn self_sign(&self, certificate: &[u8]) -> Vec<u8> {
        let key = [&self.identifier()[..], &element(0x03, &[&[0], self.0.public_key()])].concat();
        self.sign_with(certificate, Some(element(0x30, &[&key])))
    }

    fn sign_with(&self, certificate: &[u8], key: Option<Vec<u8>>) -> Vec<u8> {
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        let old_key = parsed.public_key().raw;
        // RFC 5280 section 4.1: version, serial number, signature, …, subjectPublicKeyInfo, … extensions.
        let mut fields = elements(content(parsed.tbs_certificate.as_ref()));
        let at = fields.iter().position(|field| *field == old_key).unwrap();
        let identifier = self.identifier();
        fields[2] = &identifier;
        if let Some(key) = &key {
            fields[at] = key;
        }
        let tbs = element(0x30, &fields);
        let signature = self.0.sign(&tbs, MessageEncoding::PURE, SigningRandomness::Hedged).unwrap();
        element(0x30, &[&tbs, &identifier, &element(0x03, &[&[0], &signature])])
    }

    /// `AlgorithmIdentifier` without parameters; the OID's last arc alone differs, and is below 128.
    fn identifier(&self) -> Vec<u8> {
        let last = self.0.algorithm().oid.strip_prefix("1.3.6.1.5.5.7.6.").unwrap().parse().unwrap();
        element(0x30, &[&element(0x06, &[&[0x2B, 6, 1, 5, 5, 7, 6, last]])])
    }
}

/// A DER element.
fn element(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let length = content.len();
    let header = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [header, content].concat()
}

/// Bytes of an element's header, and of its content.
fn lengths(der: &[u8]) -> (usize, usize) {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    match der[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => (2 + usize::from(long & 0x7F), number(&der[2..2 + usize::from(long & 0x7F)])),
    }
}

fn content(der: &[u8]) -> &[u8] {
    &der[lengths(der).0..]
}

/// The elements one after the other.
fn elements(mut der: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (header, content) = lengths(der);
        let (element, rest) = der.split_at(header + content);
        found.push(element);
        der = rest;
    }
    found
}
