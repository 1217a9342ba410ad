//! What a client sends to `qtls serve`: read without a panic, and the same request however its bytes arrive.
#![no_main]

use std::io::{self, Read, Write};

use libfuzzer_sys::fuzz_target;

// The file alone and not the crate: it has no dependencies, and the tool has many.
#[allow(dead_code)]
#[path = "../../cli/src/serve/http.rs"]
mod http;

use http::{Failure, Incoming, read_incoming};

/// Hands out at most `size` bytes a read and forgets what is written.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.size.min(buffer.len()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(piece);
        self.rest = rest;
        Ok(count)
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The requests at the start of the input, and the status that ends them, if one does.
fn requests(data: &[u8], size: usize) -> (Vec<http::Request>, Option<u16>) {
    let (mut stream, mut buffer, mut requests) = (Pieces { rest: data, size }, Vec::new(), Vec::new());
    loop {
        match read_incoming(&mut stream, &mut buffer) {
            Ok(Incoming::Request(request)) => requests.push(request),
            Ok(Incoming::Raw(_) | Incoming::End) | Err(Failure::Io(_)) => return (requests, None),
            Err(Failure::Status(status, _)) => return (requests, Some(status)),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((size, data)) = data.split_first() else { return };
    assert_eq!(requests(data, usize::from(*size) + 1), requests(data, data.len().max(1)));
});
