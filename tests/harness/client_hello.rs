//! A raw TLS 1.3 ClientHello with one key share of the caller's bytes, and what the server says to it.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

/// `illegal_parameter` (RFC 8446, section 6).
pub const ILLEGAL_PARAMETER: u8 = 47;

/// SHA-256 of "HelloRetryRequest", the random of such a ServerHello (RFC 8446, section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// The server's first answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A fatal alert with this description.
    Alert(u8),
    /// A ServerHello with a share of this group and this many bytes.
    ServerHello {
        /// Code point.
        group: u16,
        /// Bytes of the server's share.
        share: usize,
    },
    /// A HelloRetryRequest for this group.
    Retry(u16),
    /// It hung up without a word.
    Closed,
}

/// Sends a ClientHello that offers `groups` and has `shares`, and reads the first answer.
///
/// # Errors
/// When the server can't be reached, does not answer in 20 s, or answers what is no TLS.
pub fn send(port: u16, groups: &[u16], shares: &[(u16, &[u8])]) -> Result<Reply> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).context("connecting")?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.write_all(&record(22, &client_hello(groups, shares)))?;
    read_reply(&mut socket)
}

fn client_hello(groups: &[u16], shares: &[(u16, &[u8])]) -> Vec<u8> {
    let named_groups: Vec<u8> = groups.iter().flat_map(|group| group.to_be_bytes()).collect();
    let key_shares: Vec<u8> = shares
        .iter()
        .flat_map(|(group, key)| [&group.to_be_bytes()[..], &with_length_16(key)].concat())
        .collect();
    let host = [&[0][..], &with_length_16(b"localhost")].concat();
    let extensions = [
        extension(0x0000, &with_length_16(&host)),         // server_name
        extension(0x000a, &with_length_16(&named_groups)), // supported_groups
        extension(0x000d, &with_length_16(&[0x04, 0x03, 0x08, 0x04])), // signature_algorithms
        extension(0x002b, &[2, 0x03, 0x04]),               // supported_versions: TLS 1.3
        extension(0x0033, &with_length_16(&key_shares)),   // key_share
    ]
    .concat();
    let body = [
        &[0x03, 0x03][..], // legacy_version
        &[0x51; 32],       // random
        &[32],             // legacy_session_id: middlebox compatibility
        &[0x7a; 32],
        &[0, 4, 0x13, 0x01, 0x13, 0x02], // TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384
        &[1, 0],                         // legacy_compression_methods
        &with_length_16(&extensions),
    ]
    .concat();
    [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_length_16(data)].concat()
}

fn with_length_16(data: &[u8]) -> Vec<u8> {
    [&(data.len() as u16).to_be_bytes()[..], data].concat()
}

fn record(kind: u8, data: &[u8]) -> Vec<u8> {
    [&[kind, 0x03, 0x01][..], &with_length_16(data)].concat()
}

fn read_reply(socket: &mut TcpStream) -> Result<Reply> {
    let mut header = [0; 5];
    match socket.read_exact(&mut header) {
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            return Ok(Reply::Closed);
        }
        outcome => outcome.context("reading the server's first record")?,
    }
    let mut data = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    socket.read_exact(&mut data).context("reading the server's first record")?;
    match header[0] {
        21 => Ok(Reply::Alert(*data.get(1).context("an alert of one byte")?)),
        22 => server_hello(&data),
        other => bail!("the server's first record is of type {other}"),
    }
}

/// Reads a ServerHello (RFC 8446, section 4.1.3) as far as its key_share extension.
fn server_hello(message: &[u8]) -> Result<Reply> {
    ensure!(message.first() == Some(&2), "the server's first message is no ServerHello");
    let mut rest = message.get(4 + 2..).context("a short ServerHello")?;
    let random = take(&mut rest, 32)?;
    let session = usize::from(take(&mut rest, 1)?[0]);
    take(&mut rest, session + 2 + 1)?; // session id, cipher suite, compression
    take(&mut rest, 2)?;
    while !rest.is_empty() {
        let kind = number(&mut rest)?;
        let length = usize::from(number(&mut rest)?);
        let mut data = take(&mut rest, length)?;
        if kind != 0x0033 {
            continue;
        }
        let group = number(&mut data)?;
        if random == RETRY_RANDOM {
            return Ok(Reply::Retry(group));
        }
        let share = usize::from(number(&mut data)?);
        ensure!(data.len() == share, "the server's share says {share} bytes and has {}", data.len());
        return Ok(Reply::ServerHello { group, share });
    }
    bail!("a ServerHello without a key_share: not TLS 1.3")
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length).context("a ServerHello that ends too early")?;
    *rest = tail;
    Ok(head)
}

fn number(rest: &mut &[u8]) -> Result<u16> {
    let bytes = take(rest, 2)?;
    Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
}
