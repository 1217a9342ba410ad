//! The log: lines on stderr, which nginx points at its error log.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

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

/// As [`write`] for errors, but the same text at most once a second: what fails in each handshake would fill the log.
pub(crate) fn write_error(text: &str) {
    if DISTINCT.try_lock().is_ok_and(|mut recent| recent.has(text, Instant::now())) {
        return;
    }
    // A lock that is taken, perhaps by a thread that did not come along when this process was forked, costs no line.
    write(Level::Error, Level::Error, text);
}

static DISTINCT: Mutex<Recent> = Mutex::new(Recent(Vec::new()));

/// The texts of the last second.
struct Recent(Vec<(String, Instant)>);

impl Recent {
    const PAUSE: Duration = Duration::from_secs(1);
    /// Of more texts than these the oldest is forgotten.
    const MOST: usize = 16;

    /// Whether this text was written less than [`Self::PAUSE`] ago; if not, it is from now on.
    fn has(&mut self, text: &str, now: Instant) -> bool {
        self.0.retain(|(_, when)| now.saturating_duration_since(*when) < Self::PAUSE);
        if self.0.iter().any(|(written, _)| written == text) {
            return true;
        }
        if self.0.len() == Self::MOST {
            self.0.remove(0);
        }
        self.0.push((text.to_owned(), now));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_written_once_a_second_and_another_at_once() {
        let (mut recent, begin) = (Recent(Vec::new()), Instant::now());
        assert!(!recent.has("away", begin));
        assert!(recent.has("away", begin + Recent::PAUSE / 2));
        assert!(!recent.has("locked", begin + Recent::PAUSE / 2));
        assert!(
            !recent.has("away", begin + Recent::PAUSE),
            "a text that was held back does not prolong the pause"
        );
        for number in 0..2 * Recent::MOST {
            assert!(!recent.has(&number.to_string(), begin + Recent::PAUSE));
        }
        assert_eq!(recent.0.len(), Recent::MOST);
    }
}
