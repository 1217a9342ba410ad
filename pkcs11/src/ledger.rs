//! What the processes of a server know together of the PINs they use: each wrong one is tried once by one of them.

use crate::raw::{self, SharedMapping};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// PINs by fingerprints (never 0), for each configured token: which were refused, which accepted, who is trying one.
pub(crate) struct Ledger {
    words: Words,
    tokens: usize,
}

/// Whether a PIN may be tried.
pub(crate) enum Permit<'a> {
    /// It may; a PIN that nobody knows yet is tried by nobody else meanwhile.
    Granted(Claim<'a>),
    /// It was refused before.
    Refused,
    /// Another process is trying one, and takes too long.
    Busy,
}

/// The right to try a PIN, until it is dropped.
pub(crate) struct Claim<'a> {
    page: &'a [AtomicU64],
    fingerprint: u64,
    /// Whether the claim's word is ours to clear.
    holds: bool,
}

enum Words {
    Shared(SharedMapping),
    /// The system gives no memory to share: each process counts for itself.
    Own(Box<[AtomicU64]>),
}

// Words of a token.
const CLAIM: usize = 0;
const ACCEPTED: usize = 1;
const TURN: usize = 2;
const REFUSED: usize = 3;
const TOKEN_WORDS: usize = 16;

const POLL: Duration = Duration::from_millis(1);

impl Ledger {
    pub(crate) fn new(tokens: usize) -> Self {
        let tokens = tokens.max(1);
        let count = tokens * TOKEN_WORDS;
        let own = || Words::Own((0..count).map(|_| AtomicU64::new(0)).collect());
        let words = SharedMapping::anonymous(count * size_of::<u64>()).map_or_else(|_| own(), Words::Shared);
        Self { words, tokens }
    }

    /// Whether a PIN was refused.
    pub(crate) fn is_refused(&self, token: usize, fingerprint: u64) -> bool {
        self.page(token)[REFUSED..].iter().any(|word| word.load(Ordering::Acquire) == fingerprint)
    }

    /// Asks for the right to try a PIN, and waits for whoever is trying one.
    pub(crate) fn permit(&self, token: usize, fingerprint: u64, patience: Duration) -> Permit<'_> {
        let page = self.page(token);
        let process = u64::from(std::process::id());
        let mut until = None;
        loop {
            if self.is_refused(token, fingerprint) {
                return Permit::Refused;
            }
            if page[ACCEPTED].load(Ordering::Acquire) == fingerprint {
                return Permit::Granted(Claim { page, fingerprint, holds: false });
            }
            let holder = page[CLAIM].load(Ordering::Acquire);
            let is_free = holder == 0 || !u32::try_from(holder).is_ok_and(raw::process_lives);
            let exchange = |word: &AtomicU64| {
                word.compare_exchange(holder, process, Ordering::AcqRel, Ordering::Acquire)
            };
            if is_free && exchange(&page[CLAIM]).is_ok() {
                let claim = Claim { page, fingerprint, holds: true };
                // It may have been refused to the last holder since it was looked for.
                if self.is_refused(token, fingerprint) {
                    return Permit::Refused;
                }
                return Permit::Granted(claim);
            }
            let now = Instant::now();
            if now >= *until.get_or_insert(now + patience) {
                return Permit::Busy;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits until no other process is connecting to the token. A software token may rewrite its files at a login, and a
    /// process that initialises the module meanwhile would read them half written. After `patience` it goes on without.
    pub(crate) fn turn(&self, token: usize, patience: Duration) -> Turn<'_> {
        let word = &self.page(token)[TURN];
        let process = u64::from(std::process::id());
        let until = Instant::now() + patience;
        loop {
            let holder = word.load(Ordering::Acquire);
            let is_free = holder == 0 || !u32::try_from(holder).is_ok_and(raw::process_lives);
            if is_free && word.compare_exchange(holder, process, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                return Turn(Some(word));
            }
            // A thread of this process that is at it already does this for us.
            if holder == process || Instant::now() >= until {
                return Turn(None);
            }
            std::thread::sleep(POLL);
        }
    }

    fn page(&self, token: usize) -> &[AtomicU64] {
        let words = match &self.words {
            Words::Shared(mapping) => mapping.words(),
            Words::Own(words) => words,
        };
        let start = token.min(self.tokens - 1) * TOKEN_WORDS;
        &words[start..start + TOKEN_WORDS]
    }
}

impl Claim<'_> {
    /// The token took the PIN: from now on everybody may use it.
    pub(crate) fn accepted(self) {
        self.page[ACCEPTED].store(self.fingerprint, Ordering::Release);
    }

    /// The token refused the PIN: nobody tries it again.
    pub(crate) fn refused(self) {
        let _ =
            self.page[ACCEPTED].compare_exchange(self.fingerprint, 0, Ordering::AcqRel, Ordering::Acquire);
        let refused = &self.page[REFUSED..];
        let free = |word: &&AtomicU64| {
            word.compare_exchange(0, self.fingerprint, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        if refused.iter().find(free).is_none() {
            // So many PINs were wrong that the first ones are forgotten.
            refused.iter().zip(refused.iter().skip(1)).for_each(|(older, newer)| {
                older.store(newer.load(Ordering::Acquire), Ordering::Release);
            });
            refused[refused.len() - 1].store(self.fingerprint, Ordering::Release);
        }
    }
}

/// The right to connect to a token, until it is dropped.
pub(crate) struct Turn<'a>(Option<&'a AtomicU64>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(word) = self.0 {
            word.store(0, Ordering::Release);
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.holds {
            self.page[CLAIM].store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(5);

    fn grant(ledger: &Ledger, fingerprint: u64) -> Claim<'_> {
        match ledger.permit(0, fingerprint, PATIENCE) {
            Permit::Granted(claim) => claim,
            Permit::Refused => panic!("refused"),
            Permit::Busy => panic!("busy"),
        }
    }

    #[test]
    fn a_refused_pin_is_granted_to_nobody() {
        let ledger = Ledger::new(2);
        grant(&ledger, 7).refused();
        assert!(ledger.is_refused(0, 7) && !ledger.is_refused(1, 7) && !ledger.is_refused(0, 8));
        assert!(matches!(ledger.permit(0, 7, PATIENCE), Permit::Refused));
        assert!(matches!(ledger.permit(1, 7, PATIENCE), Permit::Granted(_)));
    }

    #[test]
    fn an_unknown_pin_is_tried_by_one_at_a_time_and_an_accepted_one_by_all() {
        let ledger = Ledger::new(1);
        let claim = grant(&ledger, 7);
        assert!(matches!(ledger.permit(0, 7, PATIENCE), Permit::Busy));
        claim.accepted();
        let (_first, _second) = (grant(&ledger, 7), grant(&ledger, 7));
    }

    #[test]
    fn a_claim_that_ends_undecided_or_whose_process_died_is_free() {
        let ledger = Ledger::new(1);
        drop(grant(&ledger, 7));
        // No process has this number (proc(5), pid_max).
        ledger.page(0)[CLAIM].store(u64::from(u32::MAX >> 1), Ordering::Release);
        drop(grant(&ledger, 7));
    }

    #[test]
    fn a_pin_that_is_accepted_and_later_refused_is_refused() {
        let ledger = Ledger::new(1);
        grant(&ledger, 7).accepted();
        grant(&ledger, 7).refused();
        assert!(matches!(ledger.permit(0, 7, PATIENCE), Permit::Refused));
    }

    #[test]
    fn one_process_connects_at_a_time_and_one_that_died_or_takes_too_long_is_not_waited_for() {
        let ledger = Ledger::new(2);
        let turn = ledger.turn(0, PATIENCE);
        assert!(turn.0.is_some() && ledger.turn(1, PATIENCE).0.is_some());
        assert!(ledger.turn(0, PATIENCE).0.is_none(), "a thread of the same process");
        drop(turn);
        ledger.page(0)[TURN].store(1, Ordering::Release);
        let began = Instant::now();
        assert!(ledger.turn(0, PATIENCE).0.is_none() && began.elapsed() >= PATIENCE, "init lives");
        // No process has this number (proc(5), pid_max).
        ledger.page(0)[TURN].store(u64::from(u32::MAX >> 1), Ordering::Release);
        assert!(ledger.turn(0, PATIENCE).0.is_some());
    }

    #[test]
    fn the_latest_refused_pins_are_remembered() {
        let ledger = Ledger::new(1);
        (1..=20).for_each(|fingerprint| grant(&ledger, fingerprint).refused());
        assert!((10..=20).all(|fingerprint| ledger.is_refused(0, fingerprint)));
    }
}
