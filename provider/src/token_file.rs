//! Files that name a key in a token: a PEM block `PKCS#11 PROVIDER URI`, and behind it perhaps the public key (`qtls
//! key-ref`), so that the key is known while the token is away.
//!
//! OpenSSL reads keys in two stages, PEM to DER and DER to a key; the first hands the second both blocks in one.

use crate::problem::{Problem, Reason};
use base64ct::{Base64, Encoding};
use qtls_pkcs11::{PublicKey, Uri};
use zeroize::Zeroizing;

/// The label of the block with the URI.
pub(crate) const URI_LABEL: &str = "PKCS#11 PROVIDER URI";

/// The label of a public key (RFC 7468 section 13).
pub(crate) const PUBLIC_KEY_LABEL: &str = "PUBLIC KEY";

/// What OpenSSL is told that the first stage hands over.
pub(crate) const STRUCTURE: &std::ffi::CStr = c"qtls-token-key";

/// What one line of a file is, for whoever looks for blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Begin(&'a str),
    End(&'a str),
    Other,
}

impl<'a> Line<'a> {
    /// As OpenSSL's `PEM_read_bio` reads it: what stands behind the last printable character is cut off.
    pub(crate) fn read(line: &'a [u8]) -> Self {
        let text = std::str::from_utf8(line).unwrap_or_default().trim_end();
        let Some(inner) = text.strip_prefix("-----").and_then(|text| text.strip_suffix("-----")) else {
            return Self::Other;
        };
        match (inner.strip_prefix("BEGIN "), inner.strip_prefix("END ")) {
            (Some(label), _) => Self::Begin(label),
            (_, Some(label)) => Self::End(label),
            _ => Self::Other,
        }
    }
}

/// The lines of a block, as they are collected.
pub(crate) struct Block {
    label: &'static str,
    base64: Zeroizing<Vec<u8>>,
}

impl Block {
    /// Characters of a block: those of a long URI, and of an RSA public key of 16,384 bits or one of ML-DSA.
    const MAX_CHARACTERS: usize = 16 << 10;

    pub(crate) fn new(label: &'static str) -> Self {
        Self { label, base64: Zeroizing::new(Vec::with_capacity(Self::MAX_CHARACTERS)) }
    }

    /// Takes in a line between the first and the last.
    ///
    /// # Errors
    /// The block is too long.
    pub(crate) fn add(&mut self, line: &[u8]) -> Result<(), Problem> {
        if self.base64.len() + line.len() > Self::MAX_CHARACTERS {
            return Err(self.damaged("is too long"));
        }
        self.base64.extend(line.iter().filter(|character| !character.is_ascii_whitespace()));
        Ok(())
    }

    /// What the block holds.
    ///
    /// # Errors
    /// It is encrypted, or damaged.
    pub(crate) fn finish(self, ended_as: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Problem> {
        if ended_as != Some(self.label) {
            return Err(self.damaged("has no END line of its own"));
        }
        if self.base64.contains(&b':') {
            return Err(self.damaged("has a header, as encrypted ones have"));
        }
        let text = std::str::from_utf8(&self.base64).unwrap_or_default();
        Base64::decode_vec(text).map(Zeroizing::new).map_err(|_| self.damaged("is no base64"))
    }

    fn damaged(&self, what: &str) -> Problem {
        Problem::new(
            Reason::InvalidKeyFile,
            format!(
                "the block '{}' of a key file that names a key in a token {what}; write the file again: qtls key-ref",
                self.label
            ),
        )
    }
}

/// The key that a file names.
#[derive(Debug)]
pub(crate) struct NamedKey {
    pub(crate) uri: Uri,
    /// Known without the token.
    pub(crate) public: Option<PublicKey>,
}

impl NamedKey {
    /// What the first stage hands to the second: the content of the one block and of the other, in a SEQUENCE.
    pub(crate) fn hand_over(uri_block: &[u8], public_key: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
        let content = Zeroizing::new([uri_block, public_key.unwrap_or_default()].concat());
        let length = content.len();
        let header = match length {
            0..0x80 => vec![SEQUENCE, length as u8],
            0x80..0x100 => vec![SEQUENCE, 0x81, length as u8],
            // A block is shorter than 65,536 bytes by far.
            _ => vec![SEQUENCE, 0x82, (length >> 8) as u8, length as u8],
        };
        Zeroizing::new([&header[..], &content].concat())
    }

    /// Reads what [`Self::hand_over`] wrote; none if it is something else.
    ///
    /// # Errors
    /// The URI or the public key is wrong.
    pub(crate) fn read(der: &[u8]) -> Result<Option<Self>, Problem> {
        let Some(Some((uri_block, rest))) =
            sequence(der).filter(|(_, rest)| rest.is_empty()).map(|(inside, _)| {
                let (_, rest) = sequence(inside)?;
                Some(inside.split_at(inside.len() - rest.len()))
            })
        else {
            return Ok(None);
        };
        let Some(uri) = Uri::from_pem_der(uri_block)? else { return Ok(None) };
        let public = if rest.is_empty() { None } else { Some(PublicKey::from_spki_der(rest)?) };
        Ok(Some(Self { uri, public }))
    }
}

const SEQUENCE: u8 = 0x30;

/// The content of the SEQUENCE that `der` begins with, and what is behind it.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = match *der {
        [SEQUENCE, length @ 0..=0x7F, ..] => (2, usize::from(length)),
        [SEQUENCE, 0x81, length, ..] => (3, usize::from(length)),
        [SEQUENCE, 0x82, high, low, ..] => (4, usize::from(high) << 8 | usize::from(low)),
        _ => return None,
    };
    der[header..].split_at_checked(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_as_openssl_does() {
        assert_eq!(Line::read(b"-----BEGIN PUBLIC KEY-----\r\n"), Line::Begin("PUBLIC KEY"));
        assert_eq!(Line::read(b"-----END PUBLIC KEY-----"), Line::End("PUBLIC KEY"));
        for other in
            [&b"-----BEGIN PUBLIC KEY"[..], b" -----BEGIN PUBLIC KEY-----", b"MIIB\n", b"\xFF-----", b""]
        {
            assert_eq!(Line::read(other), Line::Other);
        }
    }

    #[test]
    fn a_block_that_is_damaged_is_told_with_its_label_and_a_way_out() {
        let finish = |lines: &[&str], end| {
            let mut block = Block::new(URI_LABEL);
            lines.iter().try_for_each(|line| block.add(line.as_bytes()))?;
            block.finish(end)
        };
        assert_eq!(*finish(&["AQ\n", "ID\r\n"], Some(URI_LABEL)).unwrap(), [1, 2, 3]);
        for (lines, end, what) in [
            (&["AQID"][..], None, "END"),
            (&["AQID"], Some("PUBLIC KEY"), "END"),
            (&["AQ!D"], Some(URI_LABEL), "base64"),
            (&["Proc-Type: 4,ENCRYPTED\n", "\n", "AQID"], Some(URI_LABEL), "encrypted"),
            (&[&"A".repeat(9000)[..], &"A".repeat(9000)], Some(URI_LABEL), "too long"),
        ] {
            let problem = finish(lines, end).unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidKeyFile);
            for part in [what, URI_LABEL, "qtls key-ref"] {
                assert!(problem.text.contains(part), "{} lacks {part}", problem.text);
            }
        }
    }

    #[test]
    fn what_is_handed_over_is_read_again_and_what_is_something_else_is_passed_over() {
        let uri = "pkcs11:token=t;object=k?pin-source=/run/pin";
        let block = Uri::to_pem_der(uri);
        let read = NamedKey::read(&NamedKey::hand_over(&block, None)).unwrap().unwrap();
        assert_eq!(read.uri, Uri::parse(uri).unwrap());
        assert_eq!(read.public, None);
        let wrong = NamedKey::hand_over(&block, Some(&[SEQUENCE, 0]));
        assert!(NamedKey::read(&wrong).is_err(), "a public key that is none");
        let long = Uri::to_pem_der(&format!("pkcs11:object={}", "k".repeat(300)));
        assert!(NamedKey::read(&NamedKey::hand_over(&long, None)).unwrap().is_some());
        for other in [&block[..], &[SEQUENCE, 0], &[SEQUENCE, 3, SEQUENCE, 1, 0], &[SEQUENCE, 0x82], &[]] {
            assert!(NamedKey::read(other).unwrap().is_none(), "{other:?}");
        }
    }
}
