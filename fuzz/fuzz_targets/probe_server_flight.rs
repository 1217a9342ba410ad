//! What a server answers to `qtls probe`: read without a panic, and what is read never depends on what comes later.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The file alone and not the crate: it has no dependencies, and the tool has many.
#[allow(dead_code)]
#[path = "../../cli/src/probe/wire.rs"]
mod wire;

use wire::{FlightError, HELLO_RETRY_REQUEST_RANDOM, parse_server_flight};

/// Where `random` lies when the ServerHello comes in one record: after record header, message header and version.
const RANDOM_OFFSET: usize = 5 + 4 + 2;

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let mut flight = data.to_vec();
    // No mutation finds these 32 bytes, and half of the parser lies behind them.
    if choice & 1 == 1
        && let Some(random) = flight.get_mut(RANDOM_OFFSET..RANDOM_OFFSET + 32)
    {
        random.copy_from_slice(&HELLO_RETRY_REQUEST_RANDOM);
    }
    let whole = parse_server_flight(&flight);
    for length in 0..flight.len() {
        let part = parse_server_flight(&flight[..length]);
        if part != Err(FlightError::Incomplete) {
            assert_eq!(part, whole, "decided after {length} bytes");
            break;
        }
    }
});
