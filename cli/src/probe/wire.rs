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
const HELLO_RETRY_REQUEST_RANDOM: [u8; 32] = [
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
