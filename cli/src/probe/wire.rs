//! The first bytes of TLS on the wire: the ClientHello we write and what a server answers to it.
//!
//! To learn which groups a server accepts no cryptography is needed: a ClientHello that names one group and
//! carries no key share for it must be answered by a HelloRetryRequest for that group, or refused
//! (RFC 8446 section 4.1.1). Everything here is pure: bytes in, bytes or values out, and it never panics.

/// Protocol version TLS 1.2 as on the wire.
pub const TLS_1_2: u16 = 0x0303;
/// Protocol version TLS 1.3 as on the wire.
pub const TLS_1_3: u16 = 0x0304;

/// The `random` of a ServerHello that makes it a HelloRetryRequest: SHA-256 of "HelloRetryRequest"
/// (RFC 8446 section 4.1.3).
pub const HELLO_RETRY_REQUEST_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Content types of a record (RFC 8446 section 5.1).
mod content_type {
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
}

/// Handshake message types (RFC 8446 section 4).
mod handshake_type {
    pub(super) const CLIENT_HELLO: u8 = 1;
    pub(super) const SERVER_HELLO: u8 = 2;
}

/// Extension types (RFC 8446 section 4.2, RFC 7627).
mod extension_type {
    pub(super) const SERVER_NAME: u16 = 0;
    pub(super) const SUPPORTED_GROUPS: u16 = 10;
    pub(super) const EC_POINT_FORMATS: u16 = 11;
    pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub(super) const ALPN: u16 = 16;
    pub(super) const EXTENDED_MASTER_SECRET: u16 = 23;
    pub(super) const SUPPORTED_VERSIONS: u16 = 43;
    pub(super) const PSK_KEY_EXCHANGE_MODES: u16 = 45;
    pub(super) const KEY_SHARE: u16 = 51;
    pub(super) const RENEGOTIATION_INFO: u16 = 0xff01;
}

/// Longest fragment of a record: 2^14 bytes of plaintext and 256 of expansion (RFC 8446 section 5.2).
const MAX_FRAGMENT_BYTES: usize = (1 << 14) + 256;
/// A ServerHello longer than this comes from no TLS server.
const MAX_SERVER_HELLO_BYTES: usize = 1 << 16;

/// "I do not know that name and go on": the one alert that a ServerHello may follow (RFC 6066 section 3).
const UNRECOGNIZED_NAME_WARNING: ServerAnswer = ServerAnswer::Alert { level: 1, description: 112 };

/// What a server says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAnswer {
    /// "Try again with a share of this group": the server accepts the group.
    HelloRetryRequest {
        /// The group asked for; none when only a cookie is.
        group: Option<u16>,
        /// The cipher suite chosen.
        cipher_suite: u16,
    },
    /// The server goes on with what it was given.
    ServerHello {
        /// The version chosen: `supported_versions` where present, else `legacy_version`.
        version: u16,
        /// The cipher suite chosen.
        cipher_suite: u16,
        /// The group of the server's key share, TLS 1.3 only.
        group: Option<u16>,
    },
    /// The server refuses.
    Alert {
        /// 1 warning, 2 fatal.
        level: u8,
        /// What is wrong (RFC 8446 section 6); [`alert_name`] gives its name.
        description: u8,
    },
}

/// Why an answer could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlightError {
    /// Well-formed so far: read more.
    Incomplete,
    /// The peer does not speak TLS at all.
    NotTls,
    /// It speaks TLS, but this part breaks its rules.
    Malformed(&'static str),
}

impl std::fmt::Display for FlightError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Incomplete => formatter.write_str("the answer is cut short"),
            Self::NotTls => formatter.write_str("the answer is not TLS"),
            Self::Malformed(what) => write!(formatter, "malformed answer: {what}"),
        }
    }
}

impl std::error::Error for FlightError {}

/// Reads the start of a server's first flight: an alert, a HelloRetryRequest or a ServerHello.
///
/// # Errors
/// [`FlightError::Incomplete`] when `bytes` may be the beginning of a valid answer, the others when they cannot be.
pub fn parse_server_flight(bytes: &[u8]) -> Result<ServerAnswer, FlightError> {
    let mut rest = bytes;
    let mut handshake = Vec::new();
    loop {
        let (content_type, fragment, after) = split_record(rest)?;
        match content_type {
            content_type::ALERT if handshake.is_empty() => match parse_alert(fragment)? {
                UNRECOGNIZED_NAME_WARNING => {
                    rest = after;
                    continue;
                }
                alert => return Ok(alert),
            },
            content_type::HANDSHAKE if !fragment.is_empty() => handshake.extend_from_slice(fragment),
            content_type::HANDSHAKE => return Err(FlightError::Malformed("empty handshake record")),
            content_type::ALERT => return Err(FlightError::Malformed("alert inside a handshake message")),
            _ => return Err(FlightError::Malformed("neither handshake nor alert comes first")),
        }
        match parse_handshake(&handshake) {
            Err(FlightError::Incomplete) => rest = after,
            outcome => return outcome,
        }
    }
}

/// One TLS record at the start of `bytes`: content type, fragment, what follows.
fn split_record(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), FlightError> {
    // The first bytes are judged as soon as they are there, so that a peer that says "HTTP/1.1 400" and then waits
    // is recognised without waiting for it.
    if let Some(first) = bytes.first()
        && !(20..=24).contains(first)
    {
        return Err(FlightError::NotTls);
    }
    if bytes.get(1).is_some_and(|major| *major != 3) {
        return Err(FlightError::NotTls);
    }
    let mut reader = Reader::new(bytes);
    let content_type = reader.u8().ok_or(FlightError::Incomplete)?;
    let _legacy_version = reader.u16().ok_or(FlightError::Incomplete)?;
    let length = usize::from(reader.u16().ok_or(FlightError::Incomplete)?);
    if length > MAX_FRAGMENT_BYTES {
        return Err(FlightError::Malformed("record longer than 2^14 + 256 bytes"));
    }
    let fragment = reader.take(length).ok_or(FlightError::Incomplete)?;
    Ok((content_type, fragment, reader.rest))
}

fn parse_alert(fragment: &[u8]) -> Result<ServerAnswer, FlightError> {
    match *fragment {
        [level, description] => Ok(ServerAnswer::Alert { level, description }),
        _ => Err(FlightError::Malformed("an alert has two bytes")),
    }
}

/// A ServerHello at the start of the handshake bytes seen so far.
fn parse_handshake(bytes: &[u8]) -> Result<ServerAnswer, FlightError> {
    let mut reader = Reader::new(bytes);
    let message_type = reader.u8().ok_or(FlightError::Incomplete)?;
    if message_type != handshake_type::SERVER_HELLO {
        return Err(FlightError::Malformed("the first handshake message is not a ServerHello"));
    }
    let length = reader.u24().ok_or(FlightError::Incomplete)?;
    if length > MAX_SERVER_HELLO_BYTES {
        return Err(FlightError::Malformed("ServerHello longer than 65,536 bytes"));
    }
    let body = reader.take(length).ok_or(FlightError::Incomplete)?;
    parse_server_hello(body)
}

fn parse_server_hello(body: &[u8]) -> Result<ServerAnswer, FlightError> {
    const CUT: FlightError = FlightError::Malformed("ServerHello shorter than its fields");
    let mut reader = Reader::new(body);
    let legacy_version = reader.u16().ok_or(CUT)?;
    let random = reader.take(32).ok_or(CUT)?;
    let session_id = reader.vector_u8().ok_or(CUT)?;
    if session_id.len() > 32 {
        return Err(FlightError::Malformed("session id longer than 32 bytes"));
    }
    let cipher_suite = reader.u16().ok_or(CUT)?;
    let _legacy_compression_method = reader.u8().ok_or(CUT)?;
    let retry = random == HELLO_RETRY_REQUEST_RANDOM;

    let mut version = None;
    let mut group = None;
    // A TLS 1.2 ServerHello may end here.
    if !reader.rest.is_empty() {
        let mut extensions = Reader::new(reader.vector_u16().ok_or(CUT)?);
        if !reader.rest.is_empty() {
            return Err(FlightError::Malformed("bytes after the extensions"));
        }
        while !extensions.rest.is_empty() {
            let extension_type = extensions.u16().ok_or(CUT)?;
            let mut content = Reader::new(extensions.vector_u16().ok_or(CUT)?);
            let known = match extension_type {
                extension_type::SUPPORTED_VERSIONS => &mut version,
                extension_type::KEY_SHARE => &mut group,
                _ => continue,
            };
            let value = content.u16().ok_or(CUT)?;
            if extension_type == extension_type::KEY_SHARE && !retry {
                content.vector_u16().ok_or(CUT)?;
            }
            if !content.rest.is_empty() {
                return Err(FlightError::Malformed("an extension is longer than its content"));
            }
            if known.replace(value).is_some() {
                return Err(FlightError::Malformed("an extension comes twice"));
            }
        }
    }
    Ok(if retry {
        ServerAnswer::HelloRetryRequest { group, cipher_suite }
    } else {
        ServerAnswer::ServerHello { version: version.unwrap_or(legacy_version), cipher_suite, group }
    })
}

/// The name of an alert description (RFC 8446 section 6, RFC 5246 section 7.2).
pub fn alert_name(description: u8) -> &'static str {
    match description {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "unassigned alert",
    }
}

/// The cipher suites of TLS 1.3 (RFC 8446 appendix B.4) and the SM4 ones of RFC 8998, so that a server that speaks
/// only those answers too.
const TLS_1_3_SUITES: [u16; 7] = [0x1301, 0x1302, 0x1303, 0x1304, 0x1305, 0x00c6, 0x00c7];

/// The TLS 1.2 suites in use: ECDHE, DHE and RSA key exchange with AES-GCM, ChaCha20 and AES-CBC.
const TLS_1_2_SUITES: [u16; 24] = [
    0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xccaa, 0x009e, 0x009f, 0x009c, 0x009d, 0xc023, 0xc027,
    0xc009, 0xc013, 0xc024, 0xc028, 0xc00a, 0xc014, 0x0067, 0x0033, 0x003c, 0x002f, 0x0035,
];

/// Every signature scheme a server could sign with, so that its certificate is never the reason to refuse:
/// ML-DSA (draft-ietf-tls-mldsa), ECDSA, EdDSA, RSA-PSS, RSA PKCS#1, SM2 (RFC 8998), Brainpool (RFC 8734), SHA-1.
const SIGNATURE_SCHEMES: [u16; 23] = [
    0x0904, 0x0905, 0x0906, 0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a,
    0x080b, 0x0401, 0x0501, 0x0601, 0x0708, 0x081a, 0x081b, 0x081c, 0x0203, 0x0201,
];

/// A ClientHello to ask with.
#[derive(Clone, Debug)]
pub struct ClientHello<'a> {
    /// The one version offered, [`TLS_1_2`] or [`TLS_1_3`].
    pub version: u16,
    /// The name for `server_name`; none for an address.
    pub server_name: Option<&'a str>,
    /// Protocols for ALPN, none to leave it out.
    pub alpn: &'a [String],
    /// `supported_groups`, in order.
    pub groups: &'a [u16],
    /// Key shares as (group, share); empty asks for a HelloRetryRequest. TLS 1.3 only.
    pub key_shares: &'a [(u16, &'a [u8])],
    /// Fresh randomness: `random`, then the session id of middlebox compatibility (RFC 8446 appendix D.4).
    pub randomness: &'a [u8; 64],
}

impl ClientHello<'_> {
    /// The ClientHello as one record.
    pub fn encode(&self) -> Vec<u8> {
        let tls_1_3 = self.version == TLS_1_3;
        let mut body = Vec::with_capacity(512);
        put_u16(&mut body, TLS_1_2);
        body.extend_from_slice(&self.randomness[..32]);
        put_vector_u8(&mut body, if tls_1_3 { &self.randomness[32..] } else { &[] });
        let suites: &[u16] = if tls_1_3 { &TLS_1_3_SUITES } else { &TLS_1_2_SUITES };
        put_vector_u16(&mut body, &list_u16(suites));
        put_vector_u8(&mut body, &[0]);
        put_vector_u16(&mut body, &self.extensions(tls_1_3));

        let mut message = vec![handshake_type::CLIENT_HELLO];
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        message.extend_from_slice(&length[1..]);
        message.extend_from_slice(&body);

        // legacy_record_version of an initial ClientHello may be 0x0301 "for compatibility" (RFC 8446 section 5.1).
        let mut record = vec![content_type::HANDSHAKE, 3, 1];
        put_vector_u16(&mut record, &message);
        record
    }

    fn extensions(&self, tls_1_3: bool) -> Vec<u8> {
        let mut extensions = Vec::with_capacity(256);
        if let Some(name) = self.server_name {
            let mut entry = vec![0];
            put_vector_u16(&mut entry, name.as_bytes());
            put_extension(&mut extensions, extension_type::SERVER_NAME, &with_length_u16(&entry));
        }
        put_extension(
            &mut extensions,
            extension_type::SUPPORTED_GROUPS,
            &with_length_u16(&list_u16(self.groups)),
        );
        put_extension(
            &mut extensions,
            extension_type::SIGNATURE_ALGORITHMS,
            &with_length_u16(&list_u16(&SIGNATURE_SCHEMES)),
        );
        if !self.alpn.is_empty() {
            let mut protocols = Vec::new();
            for protocol in self.alpn {
                put_vector_u8(&mut protocols, protocol.as_bytes());
            }
            put_extension(&mut extensions, extension_type::ALPN, &with_length_u16(&protocols));
        }
        if tls_1_3 {
            put_extension(&mut extensions, extension_type::SUPPORTED_VERSIONS, &[2, 3, 4]);
            // psk_dhe_ke
            put_extension(&mut extensions, extension_type::PSK_KEY_EXCHANGE_MODES, &[1, 1]);
            let mut shares = Vec::new();
            for (group, share) in self.key_shares {
                put_u16(&mut shares, *group);
                put_vector_u16(&mut shares, share);
            }
            put_extension(&mut extensions, extension_type::KEY_SHARE, &with_length_u16(&shares));
        } else {
            put_extension(&mut extensions, extension_type::EC_POINT_FORMATS, &[1, 0]);
            put_extension(&mut extensions, extension_type::EXTENDED_MASTER_SECRET, &[]);
            put_extension(&mut extensions, extension_type::RENEGOTIATION_INFO, &[0]);
        }
        extensions
    }
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A vector with a length of one byte; what does not fit is cut, since no caller comes near.
fn put_vector_u8(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u8::MAX))];
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

/// A vector with a length of two bytes; what does not fit is cut, since no caller comes near.
fn put_vector_u16(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    put_u16(out, bytes.len() as u16);
    out.extend_from_slice(bytes);
}

fn put_extension(out: &mut Vec<u8>, extension_type: u16, content: &[u8]) {
    put_u16(out, extension_type);
    put_vector_u16(out, content);
}

fn with_length_u16(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + bytes.len());
    put_vector_u16(&mut out, bytes);
    out
}

fn list_u16(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// Takes fields off the front of a byte slice; `None` when there are too few bytes.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u24(&mut self) -> Option<usize> {
        self.take(3)
            .map(|bytes| usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]))
    }

    fn vector_u8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    fn vector_u16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Captured from OpenSSL 3.0.19 (s_server, ECDSA P-256 certificate).
    /// HelloRetryRequest for X25519, then a change_cipher_spec record.
    const HELLO_RETRY_REQUEST: &str = "1603030058020000540303cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c20802be69e\
        0c4fb8a62b096ff1f89d75cabba90675b5eccacd7dfc75fe1bc8bd3c130100000c002b0002030400330002001d140303\
        000101";
    /// ServerHello of TLS 1.3 with an X25519 share.
    const SERVER_HELLO_TLS_1_3: &str = "160303007a0200007603037ee735774edaaf8badb417007c3985100d3cffefb3cbdcea64af26156de386be202b4817bd\
        85e4de1d46e3c339b1bf11fc5f67bd3cf4dc587ae3bd33f1a195ee2c130200002e002b0002030400330024001d00203a\
        23886e780b53280ba9e53eaa8b84d04b2162e9341e480758865c565b0a3550";
    /// ServerHello of TLS 1.2.
    const SERVER_HELLO_TLS_1_2: &str = "160303005d020000590303865078eb8d9f485e8122d697c804260709fdc75f0a1f1b85444f574e47524401201655db9c\
        d6622c7f5e6ab9b85f62540fdb200ae08dd5e16a15f885fd99c76731c02b000011ff01000100000b0004030001020017\
        0000";
    /// Alert handshake_failure.
    const HANDSHAKE_FAILURE: &str = "15030300020228";

    /// Offset of the group in the HelloRetryRequest's key_share.
    const RETRY_GROUP_OFFSET: usize = 91;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|index| u8::from_str_radix(&hex[index..index + 2], 16).unwrap())
            .collect()
    }

    fn captures() -> [(Vec<u8>, ServerAnswer); 4] {
        [
            (
                bytes(HELLO_RETRY_REQUEST),
                ServerAnswer::HelloRetryRequest { group: Some(0x001d), cipher_suite: 0x1301 },
            ),
            (
                bytes(SERVER_HELLO_TLS_1_3),
                ServerAnswer::ServerHello { version: TLS_1_3, cipher_suite: 0x1302, group: Some(0x001d) },
            ),
            (
                bytes(SERVER_HELLO_TLS_1_2),
                ServerAnswer::ServerHello { version: TLS_1_2, cipher_suite: 0xc02b, group: None },
            ),
            (bytes(HANDSHAKE_FAILURE), ServerAnswer::Alert { level: 2, description: 40 }),
        ]
    }

    #[test]
    fn captured_answers_are_read() {
        for (capture, expected) in captures() {
            assert_eq!(parse_server_flight(&capture), Ok(expected));
        }
    }

    #[test]
    fn an_answer_cut_short_at_any_length_asks_for_more() {
        for (capture, expected) in captures() {
            let record_bytes = 5 + usize::from(u16::from_be_bytes([capture[3], capture[4]]));
            for length in 0..capture.len() {
                let expected =
                    if length < record_bytes { Err(FlightError::Incomplete) } else { Ok(expected.clone()) };
                assert_eq!(parse_server_flight(&capture[..length]), expected, "{length} bytes");
            }
        }
    }

    #[test]
    fn an_answer_split_over_records_of_any_size_is_read() {
        for (capture, expected) in captures().into_iter().filter(|(capture, _)| capture[0] == 22) {
            let record_bytes = 5 + usize::from(u16::from_be_bytes([capture[3], capture[4]]));
            for size in 1..record_bytes {
                let mut split = Vec::new();
                for fragment in capture[5..record_bytes].chunks(size) {
                    split.extend_from_slice(&capture[..3]);
                    put_vector_u16(&mut split, fragment);
                }
                assert_eq!(parse_server_flight(&split), Ok(expected.clone()), "fragments of {size}");
            }
        }
    }

    #[test]
    fn no_change_of_a_byte_makes_it_panic() {
        for (capture, _) in captures() {
            for position in 0..capture.len() {
                for value in [0x00, 0x01, 0x7f, 0x80, 0xff, capture[position].wrapping_add(1)] {
                    let mut changed = capture.clone();
                    changed[position] = value;
                    let _ = parse_server_flight(&changed);
                }
            }
        }
    }

    #[test]
    fn the_group_of_a_retry_is_the_servers_word() {
        let mut retry = bytes(HELLO_RETRY_REQUEST);
        retry[RETRY_GROUP_OFFSET..RETRY_GROUP_OFFSET + 2].copy_from_slice(&[0x11, 0xec]);
        assert_eq!(
            parse_server_flight(&retry),
            Ok(ServerAnswer::HelloRetryRequest { group: Some(0x11ec), cipher_suite: 0x1301 })
        );
    }

    #[test]
    fn a_warning_about_the_name_is_passed_over() {
        let mut flight = bytes("15030100020170");
        assert_eq!(parse_server_flight(&flight), Err(FlightError::Incomplete));
        flight.extend(bytes(SERVER_HELLO_TLS_1_2));
        assert!(matches!(
            parse_server_flight(&flight),
            Ok(ServerAnswer::ServerHello { version: TLS_1_2, .. })
        ));
    }

    #[test]
    fn what_is_not_tls_is_told_apart_from_bad_tls() {
        for other in
            [b"HTTP/1.1 400 Bad Request".as_slice(), b"H", b"220 mail.example ESMTP", b"\x16\x00\x00"]
        {
            assert_eq!(parse_server_flight(other), Err(FlightError::NotTls), "{other:?}");
        }
        for malformed in [
            "1503030001ff",           // alert of one byte
            "1703030001ff",           // application data first
            "1603034101",             // record longer than allowed
            "1603030000",             // empty handshake record
            "160303000401000000",     // a ClientHello
            "160303000402ffffff",     // longer than any ServerHello
            "1603030006020000020303", // ServerHello without its fields
        ] {
            let malformed = bytes(malformed);
            assert!(
                matches!(parse_server_flight(&malformed), Err(FlightError::Malformed(_))),
                "{malformed:x?}"
            );
        }
    }

    #[test]
    fn an_extension_that_comes_twice_or_is_too_long_is_malformed() {
        let retry = bytes(HELLO_RETRY_REQUEST);
        let fixed = 5 + 4 + 2 + 32 + 1 + 32 + 2 + 1;
        for extensions in ["002b00020304002b00020304", "002b0003030400", "0033000300", "002b0001"] {
            let mut body = retry[9..fixed].to_vec();
            put_vector_u16(&mut body, &bytes(extensions));
            let mut message = vec![2, 0, 0, body.len() as u8];
            message.extend(body);
            let mut record = vec![22, 3, 3];
            put_vector_u16(&mut record, &message);
            assert!(matches!(parse_server_flight(&record), Err(FlightError::Malformed(_))), "{extensions}");
        }
    }

    #[test]
    fn rustls_reads_our_client_hello_as_meant() {
        for version in [TLS_1_2, TLS_1_3] {
            let hello = ClientHello {
                version,
                server_name: Some("shop.example"),
                alpn: &["h2".to_owned(), "http/1.1".to_owned()],
                groups: &[0x11ec, 0x001d],
                key_shares: &[(0x001d, &[9; 32])],
                randomness: &[7; 64],
            };
            let mut acceptor = rustls::server::Acceptor::default();
            acceptor.read_tls(&mut hello.encode().as_slice()).unwrap();
            let accepted =
                acceptor.accept().map_err(|(error, _)| error).unwrap().expect("one whole ClientHello");
            let read = accepted.client_hello();
            assert_eq!(read.server_name(), Some("shop.example"));
            assert_eq!(read.alpn().unwrap().collect::<Vec<_>>(), [b"h2".as_slice(), b"http/1.1"]);
            let groups: Vec<u16> =
                read.named_groups().unwrap().iter().map(|group| u16::from(*group)).collect();
            assert_eq!(groups, [0x11ec, 0x001d]);
            assert_eq!(read.signature_schemes().len(), SIGNATURE_SCHEMES.len());
            let suites: &[u16] = if version == TLS_1_3 { &TLS_1_3_SUITES } else { &TLS_1_2_SUITES };
            assert_eq!(read.cipher_suites().len(), suites.len());
        }
    }
}
