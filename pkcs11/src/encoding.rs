//! The little ASN.1 (DER, X.690) that keys and signatures in tokens need.

use qtls_crypto::HashFunction;

/// Identifier octets (X.690 section 8.1.2).
pub(crate) mod tag {
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const SEQUENCE: u8 = 0x30;
    /// `[0]`, constructed.
    pub(crate) const CONTEXT_0: u8 = 0xA0;
}

/// Reads values one after the other. Every method answers `None` where what comes next is something else or damaged.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of the next value, which must have this tag.
    pub(crate) fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (content, _) = self.both(tag)?;
        Some(content)
    }

    /// The next value with its header.
    pub(crate) fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (_, whole) = self.both(tag)?;
        Some(whole)
    }

    pub(crate) fn nested(&mut self, tag: u8) -> Option<Self> {
        self.value(tag).map(Self)
    }

    pub(crate) fn next_is(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    fn both(&mut self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        let bytes = self.0;
        let (found, rest) = bytes.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                let length = octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
                // DER's length is the shortest.
                (octets[0] != 0 && length > 0x7F).then_some((length, rest))?
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        (*found == tag).then_some((content, &bytes[..bytes.len() - after.len()]))
    }
}

/// A value whose content is the parts, one after the other.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut value = Vec::with_capacity(length + 6);
    value.push(tag);
    let octets = length.to_be_bytes();
    let octets = &octets[octets.iter().take_while(|octet| **octet == 0).count()..];
    match octets {
        [] => value.push(0),
        [short @ 0..=0x7F] => value.push(*short),
        _ => {
            value.push(0x80 | octets.len() as u8);
            value.extend_from_slice(octets);
        }
    }
    parts.iter().for_each(|part| value.extend_from_slice(part));
    value
}

/// An INTEGER that is not negative, in its shortest form.
pub(crate) fn unsigned_integer(big_endian: &[u8]) -> Vec<u8> {
    let digits = without_leading_zeros(big_endian);
    let pad: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    tlv(tag::INTEGER, &[pad, digits])
}

/// The number that the content of an INTEGER is, without leading zeros; `None` for a negative one, or one that DER writes shorter.
pub(crate) fn read_unsigned(content: &[u8]) -> Option<&[u8]> {
    match content {
        [] | [0] | [0x80..=0xFF, ..] | [0, 0..=0x7F, ..] => None,
        _ => Some(without_leading_zeros(content)),
    }
}

pub(crate) fn without_leading_zeros(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|digit| **digit == 0).count()..]
}

/// The longest DigestInfo there is: SHA-512's.
pub(crate) const DIGEST_INFO_BYTES: usize = 19 + 64;

/// `DigestInfo` in DER (RFC 8017 section 9.2, note 1) in `out`, and its length; `None` for another hash, or a digest of another
/// length.
pub(crate) fn digest_info(
    hash: HashFunction,
    digest: &[u8],
    out: &mut [u8; DIGEST_INFO_BYTES],
) -> Option<usize> {
    let prefix: &[u8; 19] = match hash {
        HashFunction::Sha224 => {
            b"\x30\x2d\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x04\x05\x00\x04\x1c"
        }
        HashFunction::Sha256 => {
            b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
        }
        HashFunction::Sha384 => {
            b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"
        }
        HashFunction::Sha512 => {
            b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
        }
        _ => return None,
    };
    if digest.len() != hash.output_bytes() {
        return None;
    }
    let length = prefix.len() + digest.len();
    out[..prefix.len()].copy_from_slice(prefix);
    out[prefix.len()..length].copy_from_slice(digest);
    Some(length)
}

/// `Ecdsa-Sig-Value` (RFC 3279 section 2.2.3) of r ‖ s as a token writes it (PKCS#11 3.2 section 6.3.1).
pub(crate) fn ecdsa_signature(r_and_s: &[u8]) -> Vec<u8> {
    let (r, s) = r_and_s.split_at(r_and_s.len() / 2);
    // Each is shorter than 128 bytes, and so is all of it: P-384's have 49 and a header.
    let (r, s) = (without_leading_zeros(r), without_leading_zeros(s));
    let pad = |digits: &[u8]| usize::from(digits.first().is_none_or(|first| *first >= 0x80));
    let content = 4 + pad(r) + r.len() + pad(s) + s.len();
    let mut signature = Vec::with_capacity(2 + content);
    signature.extend_from_slice(&[tag::SEQUENCE, content as u8]);
    for digits in [r, s] {
        signature.extend_from_slice(&[tag::INTEGER, (pad(digits) + digits.len()) as u8]);
        if pad(digits) == 1 {
            signature.push(0);
        }
        signature.extend_from_slice(digits);
    }
    signature
}

/// The `SubjectPublicKeyInfo` of an X.509 certificate (RFC 5280 section 4.1).
pub(crate) fn certificate_public_key(certificate: &[u8]) -> Option<&[u8]> {
    let mut signed = Fields::new(certificate).nested(tag::SEQUENCE)?.nested(tag::SEQUENCE)?;
    if signed.next_is(tag::CONTEXT_0) {
        signed.value(tag::CONTEXT_0)?;
    }
    signed.value(tag::INTEGER)?;
    // signature, issuer, validity, subject
    for _ in 0..4 {
        signed.value(tag::SEQUENCE)?;
    }
    signed.whole(tag::SEQUENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_the_shortest_and_read_back() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let value = tlv(tag::OCTET_STRING, &[&content]);
            let mut fields = Fields::new(&value);
            assert_eq!(fields.value(tag::OCTET_STRING), Some(&content[..]));
            assert_eq!(fields.end(), Some(()));
        }
        assert_eq!(Fields::new(&[4, 0x81, 1, 7]).value(4), None, "a longer length than needed");
        assert_eq!(Fields::new(&[4, 2, 7]).value(4), None, "cut short");
        assert_eq!(Fields::new(&[4, 1, 7]).value(5), None, "another tag");
    }

    #[test]
    fn integers_are_the_shortest() {
        for (number, written) in [
            (&[][..], &[2, 1, 0][..]),
            (&[0, 0], &[2, 1, 0]),
            (&[0, 5], &[2, 1, 5]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[0x7F, 1], &[2, 2, 0x7F, 1]),
        ] {
            assert_eq!(unsigned_integer(number), written);
        }
        assert_eq!(read_unsigned(&[0, 0x80]), Some(&[0x80][..]));
        assert_eq!(read_unsigned(&[0]), None, "no key has a number of zero");
        assert_eq!((read_unsigned(&[0x80]), read_unsigned(&[0, 1]), read_unsigned(&[])), (None, None, None));
    }

    #[test]
    fn ecdsa_signatures_have_integers_in_their_shortest_form() {
        let mut r_and_s = [0; 64];
        (r_and_s[31], r_and_s[32]) = (1, 0x80);
        let mut expected = vec![0x30, 38, 2, 1, 1, 2, 33, 0, 0x80];
        expected.extend_from_slice(&[0; 31]);
        assert_eq!(ecdsa_signature(&r_and_s), expected);
        assert_eq!(ecdsa_signature(&[0xFF; 96]).len(), 104);
        assert_eq!(ecdsa_signature(&[0; 64]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
    }

    #[test]
    fn a_digest_info_takes_digests_of_its_hash_alone() {
        let mut out = [0; DIGEST_INFO_BYTES];
        let hashes = [HashFunction::Sha224, HashFunction::Sha256, HashFunction::Sha384, HashFunction::Sha512];
        for hash in hashes {
            let digest = vec![9; hash.output_bytes()];
            let length = digest_info(hash, &digest, &mut out).unwrap();
            let mut info = Fields::new(&out[..length]).nested(tag::SEQUENCE).unwrap();
            assert!(info.value(tag::SEQUENCE).is_some());
            assert_eq!(info.value(tag::OCTET_STRING), Some(&digest[..]));
            assert_eq!(digest_info(hash, &digest[1..], &mut out), None);
        }
        assert_eq!(digest_info(HashFunction::Shake256, &[0; 64], &mut out), None);
    }
}
