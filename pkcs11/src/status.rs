//! Counters and state that other processes read: one small file for each process that has token keys, mapped by it and by all
//! that it forks.

use std::path::Path;

/// What one server (its processes together) says of itself.
#[derive(Clone, Debug)]
pub struct Status {
    /// The process that made the file: nginx's master.
    pub pid: u32,
    /// One for each configured token, in order of failover.
    pub tokens: Vec<TokenStatus>,
    /// Signatures that another than the first token made.
    pub failovers: u64,
    /// Signatures by a software key.
    pub software_signatures: u64,
}

/// One token's counters.
#[derive(Clone, Debug, Default)]
pub struct TokenStatus {
    /// The module's file and the token, without PIN.
    pub name: String,
    /// The last operation succeeded; none before the first.
    pub connected: Option<bool>,
    /// Signatures made.
    pub signatures: u64,
    /// Signatures that failed.
    pub failures: u64,
    /// Time of all signatures made, in microseconds.
    pub latency_us: u64,
    /// Operations tried again after an error.
    pub retries: u64,
    /// Times that the module was initialised again after an error.
    pub reconnects: u64,
    /// Times that the circuit breaker opened.
    pub breaker_opened: u64,
    /// Calls that took longer than allowed.
    pub timeouts: u64,
    /// The PIN in use was refused and is not tried again.
    pub pin_refused: bool,
}

/// Reads the status of every live server in a directory, removing files of processes that are gone.
///
/// # Errors
/// The directory cannot be read.
pub fn read_status(_directory: &Path) -> std::io::Result<Vec<Status>> {
    unimplemented!()
}
