//! As much of HTTP/1.1 (RFC 9112) as a server needs that answers every request by itself.

use std::io::{self, Read, Write};

/// Longest head of a request.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Longest body that is echoed.
pub(crate) const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// An HTTP request.
    Request(Request),
    /// Anything else: bytes to be echoed, as `openssl s_client` sends a line that was typed.
    Raw(Vec<u8>),
    /// The client is done.
    End,
}

/// An HTTP request, read completely.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) body: Vec<u8>,
    pub(crate) wants_json: bool,
    pub(crate) keep_alive: bool,
}

/// Why a request is refused, as an HTTP status.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Answer this status and close.
    Status(u16, &'static str),
    /// The connection broke.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads from a stream what comes next; bytes read too far wait in `buffer` for the next call.
pub(crate) fn read_incoming(stream: &mut impl ReadWrite, buffer: &mut Vec<u8>) -> Result<Incoming, Failure> {
    let first_line_end = loop {
        if let Some(end) = find(buffer, b"\n") {
            break end;
        }
        if buffer.len() > MAX_HEAD_BYTES {
            return Ok(Incoming::Raw(std::mem::take(buffer)));
        }
        if !read_more(stream, buffer)? {
            let rest = std::mem::take(buffer);
            return Ok(if rest.is_empty() { Incoming::End } else { Incoming::Raw(rest) });
        }
    };
    let first_line = String::from_utf8_lossy(&buffer[..first_line_end]).trim_end().to_owned();
    let mut words = first_line.split(' ');
    let (Some(method), Some(_path), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Ok(Incoming::Raw(std::mem::take(buffer)));
    };
    if !version.starts_with("HTTP/1.") {
        return Ok(Incoming::Raw(std::mem::take(buffer)));
    }

    let head_end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > MAX_HEAD_BYTES {
            return Err(Failure::Status(431, "Request Header Fields Too Large"));
        }
        if !read_more(stream, buffer)? {
            return Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    };
    let head = String::from_utf8_lossy(&buffer[first_line_end..head_end]).into_owned();
    buffer.drain(..head_end);

    let mut request = Request {
        method: method.to_owned(),
        body: Vec::new(),
        wants_json: false,
        keep_alive: version != "HTTP/1.0",
    };
    let (mut length, mut expects_continue) = (0, false);
    for line in head.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Failure::Status(400, "Bad Request"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "accept" => request.wants_json = value.to_ascii_lowercase().contains("application/json"),
            "connection" if value.eq_ignore_ascii_case("close") => request.keep_alive = false,
            "content-length" => length = value.parse().map_err(|_| Failure::Status(400, "Bad Request"))?,
            "transfer-encoding" => return Err(Failure::Status(411, "Length Required")),
            "expect" => expects_continue = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    if length > MAX_BODY_BYTES {
        return Err(Failure::Status(413, "Content Too Large"));
    }
    if expects_continue && buffer.len() < length {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    while buffer.len() < length {
        if !read_more(stream, buffer)? {
            return Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    request.body = buffer.drain(..length).collect();
    Ok(Incoming::Request(request))
}

/// A whole response; `head_only` leaves the body out but keeps its length.
pub(crate) fn response(
    status: u16,
    reason: &str,
    content_type: &str,
    body: &[u8],
    keep_alive: bool,
    head_only: bool,
) -> Vec<u8> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut response = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if !head_only {
        response.extend_from_slice(body);
    }
    response
}

/// Both directions of one connection.
pub(crate) trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

fn read_more(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 4096];
    let count = match stream.read(&mut chunk) {
        Ok(count) => count,
        // A peer that just closes, without close_notify, is done as well.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
        Err(error) => return Err(error),
    };
    buffer.extend_from_slice(&chunk[..count]);
    Ok(count > 0)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Hands out one piece a read and keeps what is written.
    struct Pieces {
        pieces: VecDeque<Vec<u8>>,
        written: Vec<u8>,
    }

    impl Pieces {
        fn new(bytes: &[u8], size: usize) -> Self {
            Self { pieces: bytes.chunks(size).map(<[u8]>::to_vec).collect(), written: Vec::new() }
        }
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.pieces.pop_front() else { return Ok(0) };
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const TWO_REQUESTS: &[u8] =
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nAccept: application/json\r\n\r\n\
        helloGET / HTTP/1.1\r\nConnection: close\r\n\r\n";

    #[test]
    fn requests_are_read_whatever_the_size_of_the_pieces() {
        for size in [1, 2, 7, TWO_REQUESTS.len()] {
            let (mut stream, mut buffer) = (Pieces::new(TWO_REQUESTS, size), Vec::new());
            let Incoming::Request(first) = read_incoming(&mut stream, &mut buffer).unwrap() else { panic!() };
            assert_eq!((first.method.as_str(), first.body.as_slice()), ("POST", b"hello".as_slice()));
            assert!(first.wants_json && first.keep_alive);
            let Incoming::Request(second) = read_incoming(&mut stream, &mut buffer).unwrap() else {
                panic!()
            };
            assert_eq!(second.method, "GET");
            assert!(!second.wants_json && !second.keep_alive);
            assert_eq!(read_incoming(&mut stream, &mut buffer).unwrap(), Incoming::End);
        }
    }

    #[test]
    fn what_is_not_http_is_raw() {
        for raw in [b"hello\n".as_slice(), b"GET /\n", b"a b HTTP/2.0\n", b"no newline"] {
            let incoming = read_incoming(&mut Pieces::new(raw, 3), &mut Vec::new()).unwrap();
            assert_eq!(incoming, Incoming::Raw(raw.to_vec()));
        }
    }

    #[test]
    fn a_client_that_waits_for_100_continue_gets_it() {
        let bytes = b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok";
        let mut stream = Pieces::new(bytes, bytes.len() - 2);
        let Incoming::Request(request) = read_incoming(&mut stream, &mut Vec::new()).unwrap() else {
            panic!()
        };
        assert_eq!(request.body, b"ok");
        assert_eq!(stream.written, b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    #[test]
    fn what_cannot_be_served_has_its_status() {
        let endless = [b"GET / HTTP/1.1\r\n".as_slice(), &vec![b'a'; 2 * MAX_HEAD_BYTES]].concat();
        for (bytes, status) in [
            (b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n".as_slice(), 413),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            (&endless, 431),
        ] {
            match read_incoming(&mut Pieces::new(bytes, 1000), &mut Vec::new()) {
                Err(Failure::Status(found, _)) => assert_eq!(found, status),
                other => panic!("{status}: {other:?}"),
            }
        }
    }
}
