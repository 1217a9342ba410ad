//! PEM (RFC 7468).

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

/// Bytes of a line, 64 characters (RFC 7468 section 2).
const LINE_BYTES: usize = 48;

/// Puts DER into PEM, exactly as OpenSSL writes it. The label goes between `BEGIN` or `END` and the dashes: `PRIVATE KEY`,
/// `PUBLIC KEY`, `ENCRYPTED PRIVATE KEY`.
pub fn to_pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let frame = "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len();
    // Every line of at most 64 characters and its end. Enough from the beginning, so that no copy of a secret stays behind.
    let body = der.len().div_ceil(LINE_BYTES) * 65;
    let mut pem = Zeroizing::new(String::with_capacity(frame + body));
    let mut buffer = Zeroizing::new([0; 64]);
    let mark = |pem: &mut String, edge: &str| {
        ["-----", edge, " ", label, "-----\n"].iter().for_each(|part| pem.push_str(part));
    };
    mark(&mut pem, "BEGIN");
    for line in der.chunks(LINE_BYTES) {
        // The buffer holds four characters for each three bytes of a line.
        pem.push_str(Base64::encode(line, &mut *buffer).unwrap_or_default());
        pem.push('\n');
    }
    mark(&mut pem, "END");
    pem
}
