//! The log: lines on stderr, which nginx points at its error log.

use std::io::Write;

/// How much is said; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    pub(crate) const ALL: [(&'static str, Self); 4] =
        [("error", Self::Error), ("warn", Self::Warn), ("info", Self::Info), ("debug", Self::Debug)];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// Writes one line if `threshold` lets `level` through. The line is one `write` call, so that the lines of several
/// workers on one file do not mix; a stderr that is closed is no reason to fail.
pub(crate) fn write(threshold: Level, level: Level, text: &str) {
    if level <= threshold {
        let line = format!("qtls[{}] {}: {text}\n", std::process::id(), level.name());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
