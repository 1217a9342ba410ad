//! Keys as files have them: SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), PKCS#8 (RFC 5958), its encryption (RFC 8018)
//! and PEM (RFC 7468).
//!
//! What stands inside is said by RFC 9881 (ML-DSA), RFC 9935 (ML-KEM) and `draft-ietf-lamps-pq-composite-sigs-19` section
//! 5 (composites). All are DER and have one encoding for one content; nothing else is taken.

mod encrypted;
mod pem;
mod pkcs8;
mod spki;

pub use encrypted::{PbesCipher, encrypt_pkcs8};
pub use pem::to_pem;
pub use pkcs8::{PrivateKeyForm, pkcs8_algorithm};
pub use spki::spki_algorithm;

use crate::{Error, KeyAlgorithm};
use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Encode, ErrorKind, Length, Reader, SliceReader};
use std::fmt;
use zeroize::Zeroizing;

/// What is wrong with a part of a key's encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodingProblem {
    /// It is not there, or its length reaches beyond the end of what holds it.
    Truncated,
    /// It is followed by bytes that belong to nothing.
    TrailingBytes,
    /// It has another ASN.1 type than the standard gives it.
    Tag,
    /// Its length or its value is in a form that DER (X.690) does not allow.
    NotDer,
    /// It is a BIT STRING whose last byte is not used as a whole.
    UnusedBits,
}

impl fmt::Display for EncodingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "reaches beyond the end of the data: they are cut short",
            Self::TrailingBytes => "is followed by bytes that do not belong to it: remove them",
            Self::Tag => {
                "has another ASN.1 type than the standard gives it: the data are damaged or something else"
            }
            Self::NotDer => "is not in DER: the data are damaged or in BER, which `openssl asn1parse` shows",
            Self::UnusedBits => "has unused bits, a key is a whole number of bytes: the data are damaged",
        })
    }
}

// Identifier octets (X.690 section 8.1.2).
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// The `AlgorithmIdentifier` of an algorithm in DER, its parameters absent; `None` without an object identifier.
pub fn algorithm_identifier_der(algorithm: KeyAlgorithm) -> Option<Vec<u8>> {
    let oid = oid_der(algorithm.oid()?).ok()?;
    let mut identifier = tlv(SEQUENCE, &[&oid]).ok()?;
    Some(std::mem::take(&mut *identifier))
}

fn algorithm_identifier(algorithm: KeyAlgorithm) -> Result<Vec<u8>, Error> {
    algorithm_identifier_der(algorithm).ok_or(Error::Unsupported {
        algorithm: algorithm.name(),
        what: "a key file format, because no standard gives it an object identifier",
    })
}

/// Whose an `AlgorithmIdentifier` is, said by the object identifier alone: what follows it may be wrong, and is judged when
/// the key is read. `bytes` begin with its SEQUENCE.
fn algorithm_ahead(bytes: &[u8]) -> Option<KeyAlgorithm> {
    let mut reader = SliceReader::new(inside(bytes, SEQUENCE)?).ok()?;
    by_object_identifier(reader.decode().ok()?)
}

fn by_object_identifier(oid: ObjectIdentifier) -> Option<KeyAlgorithm> {
    KeyAlgorithm::by_oid(&oid.to_string())
}

/// What begins behind a header with this tag, whatever length that gives and however.
fn inside(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (length, rest) = bytes.strip_prefix(&[tag])?.split_first()?;
    // X.690 section 8.1.3: the number of bytes that follow, if the top bit is set.
    let more = if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7F) };
    rest.get(more..)
}

/// Reads the values inside of something, one after the other.
struct Fields<'a> {
    reader: SliceReader<'a>,
    /// What is being read, as the errors name it.
    structure: &'static str,
}

impl<'a> Fields<'a> {
    fn new(structure: &'static str, bytes: &'a [u8]) -> Result<Self, Error> {
        let reader = SliceReader::new(bytes).map_err(|error| reason(structure, "content", error))?;
        Ok(Self { reader, structure })
    }

    /// The inside of the one SEQUENCE that `bytes` are.
    fn of(structure: &'static str, bytes: &'a [u8]) -> Result<Self, Error> {
        let mut all = Self::new(structure, bytes)?;
        let inside = all.value("SEQUENCE", SEQUENCE)?;
        all.finish("SEQUENCE")?;
        Self::new(structure, inside)
    }

    fn next_tag(&self) -> Option<u8> {
        self.reader.peek_byte()
    }

    /// The value that comes next, which must have this tag.
    fn value(&mut self, field: &'static str, tag: u8) -> Result<&'a [u8], Error> {
        if self.next_tag().is_some_and(|found| found != tag) {
            return Err(self.error(field, EncodingProblem::Tag));
        }
        let any = AnyRef::decode(&mut self.reader).map_err(|error| reason(self.structure, field, error))?;
        Ok(any.value())
    }

    fn optional(&mut self, field: &'static str, tag: u8) -> Result<Option<&'a [u8]>, Error> {
        if self.next_tag() == Some(tag) { self.value(field, tag).map(Some) } else { Ok(None) }
    }

    /// The values of the next one, which must have this tag.
    fn nested(&mut self, field: &'static str, tag: u8) -> Result<Self, Error> {
        Self::new(self.structure, self.value(field, tag)?)
    }

    /// `AlgorithmIdentifier` (RFC 5280 section 4.1.1.2) of one of ours.
    fn algorithm(&mut self, field: &'static str) -> Result<KeyAlgorithm, Error> {
        let mut identifier = self.nested(field, SEQUENCE)?;
        let algorithm = ObjectIdentifier::from_bytes(identifier.value(field, OBJECT_IDENTIFIER)?)
            .ok()
            .and_then(by_object_identifier)
            .ok_or(Error::KeyAlgorithmUnknown { structure: self.structure })?;
        if let Some(tag) = identifier.next_tag() {
            return Err(Error::KeyParameters { algorithm: algorithm.name(), null: tag == NULL });
        }
        Ok(algorithm)
    }

    /// A BIT STRING's bytes; `content` is what its header was followed by.
    fn bits(&self, field: &'static str, content: &'a [u8]) -> Result<&'a [u8], Error> {
        match content.split_first() {
            Some((0, bytes)) => Ok(bytes),
            Some((1..=7, _)) => Err(self.error(field, EncodingProblem::UnusedBits)),
            _ => Err(self.error(field, EncodingProblem::NotDer)),
        }
    }

    fn finish(self, field: &'static str) -> Result<(), Error> {
        if self.reader.is_finished() {
            Ok(())
        } else {
            Err(self.error(field, EncodingProblem::TrailingBytes))
        }
    }

    fn error(&self, field: &'static str, problem: EncodingProblem) -> Error {
        Error::KeyEncoding { structure: self.structure, field, problem }
    }
}

fn reason(structure: &'static str, field: &'static str, error: der::Error) -> Error {
    let problem = match error.kind() {
        ErrorKind::Incomplete { .. } => EncodingProblem::Truncated,
        _ => EncodingProblem::NotDer,
    };
    Error::KeyEncoding { structure, field, problem }
}

/// A value in DER whose content is the parts, one after the other. The buffer has the right size from the beginning and
/// never moves, so that no copy of a secret stays behind.
fn tlv(tag: u8, parts: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, Error> {
    const TOO_LONG: Error = Error::Backend("the DER encoder");
    let content: usize = parts.iter().map(|part| part.len()).sum();
    let length =
        Length::try_from(content).and_then(|length: Length| length.to_der()).map_err(|_| TOO_LONG)?;
    let mut encoded = Zeroizing::new(Vec::with_capacity(1 + length.len() + content));
    encoded.push(tag);
    encoded.extend_from_slice(&length);
    parts.iter().for_each(|part| encoded.extend_from_slice(part));
    Ok(encoded)
}

fn oid_der(dotted: &str) -> Result<Vec<u8>, Error> {
    ObjectIdentifier::new(dotted)
        .ok()
        .and_then(|oid| oid.to_der().ok())
        .ok_or(Error::Backend("the encoder of object identifiers"))
}
