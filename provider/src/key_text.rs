//! Keys for a person to read, in the form of OpenSSL 3.5 (`openssl pkey -text`).

use crate::key::Key;
use crate::problem::{Problem, Reason};
use qtls_crypto::KeyAlgorithm;
use std::fmt::Write;
use zeroize::Zeroizing;

/// The text of a key, with its private parts where they are asked for.
///
/// # Errors
/// The key has not what is asked for; the backend failed.
pub(crate) fn key_text(key: &Key, with_private: bool) -> Result<Zeroizing<String>, Problem> {
    let name = key.algorithm().name();
    let missing =
        |what: &str| Problem::new(Reason::MissingKey, format!("{name}: the key has no {what} part to print"));
    let public = key.public_bytes().ok_or_else(|| missing("public"))?;
    // FIPS 203 calls the halves of an ML-KEM key dk and ek.
    let [private_label, public_label] = match key.algorithm() {
        KeyAlgorithm::Kem(_) => ["dk", "ek"],
        KeyAlgorithm::Signature(_) => ["priv", "pub"],
    };
    // Every byte takes three characters and every line of 15 a few more: reserved at once, so that a growing string leaves
    // no copy of a secret behind.
    let mut text =
        Zeroizing::new(String::with_capacity(4 * (key.algorithm().seed_bytes() + public.len()) + 32_768));
    if let Some(token) = key.token().filter(|_| with_private) {
        append(&mut text, format_args!("{name} Private-Key in a token:\nuri: {}\n", token.uri()));
    } else if with_private {
        let private = key.private_bytes()?.ok_or_else(|| missing("private"))?;
        append(&mut text, format_args!("{name} Private-Key:\n"));
        if let Some(seed) = key.seed() {
            append_bytes(&mut text, "seed", seed);
        }
        append_bytes(&mut text, private_label, &private);
    } else {
        append(&mut text, format_args!("{name} Public-Key:\n"));
    }
    append_bytes(&mut text, public_label, public);
    Ok(text)
}

pub(crate) fn append_bytes(text: &mut String, label: &str, bytes: &[u8]) {
    const IN_A_LINE: usize = 15;
    append(text, format_args!("{label}:\n"));
    for (index, byte) in bytes.iter().enumerate() {
        let before = match index % IN_A_LINE {
            0 if index > 0 => ":\n    ",
            0 => "    ",
            _ => ":",
        };
        append(text, format_args!("{before}{byte:02x}"));
    }
    text.push('\n');
}

pub(crate) fn append(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(what);
}
