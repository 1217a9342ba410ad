//! When a token that fails is asked again: the pause after an attempt to reach it, and the circuit breaker. Both are told
//! the time, so that they can be tested without one passing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many of the last operations decide.
const WINDOW: usize = 100;
/// Fewer say nothing.
const FEWEST_OPERATIONS: usize = 10;
/// More than one half failed opens the breaker.
const FAILURES_THAT_OPEN_PERCENT: usize = 50;
/// More than so many failed attempts to reach the token, one after the other, open it too.
const UNREACHABLE_IN_A_ROW: u32 = 10;
/// So many operations are looked at in a half-open breaker before it closes.
const TRIALS: u32 = 5;
/// The longest pause between two attempts to reach a token.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether operations go through to a token.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// All of them.
    Closed,
    /// None, for a time.
    Open,
    /// All of them, and the first that fails opens it again.
    HalfOpen,
}

/// A circuit breaker. It opens when the token fails so often that asking it only makes everybody wait; after a time it lets
/// operations through on trial. With a limit of 80 % and five trials, of which none may fail, five that succeed close it.
#[derive(Debug)]
pub(crate) struct Breaker {
    open_for: Duration,
    phase: Phase,
    /// The last operations: whether each failed.
    failed: VecDeque<bool>,
    unreachable: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { succeeded: u32 },
}

impl Breaker {
    /// A closed one, that will stay open for so long.
    pub(crate) fn new(open_for: Duration) -> Self {
        Self { open_for, phase: Phase::Closed, failed: VecDeque::with_capacity(WINDOW), unreachable: 0 }
    }

    /// Whether an operation may go through now.
    pub(crate) fn permits(&mut self, now: Instant) -> bool {
        if let Phase::Open { until } = self.phase {
            if now < until {
                return false;
            }
            self.phase = Phase::HalfOpen { succeeded: 0 };
        }
        true
    }

    /// An operation that was permitted succeeded.
    pub(crate) fn succeeded(&mut self, _now: Instant) {
        self.unreachable = 0;
        match &mut self.phase {
            Phase::Closed => self.note(false),
            // It began before the breaker opened.
            Phase::Open { .. } => {}
            Phase::HalfOpen { succeeded } => {
                *succeeded += 1;
                if *succeeded >= TRIALS {
                    self.phase = Phase::Closed;
                    self.failed.clear();
                }
            }
        }
    }

    /// An operation that was permitted failed. The answer is whether the breaker opened now.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Closed => {
                self.note(true);
                let failures = self.failed.iter().filter(|failed| **failed).count();
                let enough = self.failed.len() >= FEWEST_OPERATIONS;
                enough && failures * 100 > self.failed.len() * FAILURES_THAT_OPEN_PERCENT && self.trip(now)
            }
            Phase::Open { .. } => false,
            Phase::HalfOpen { .. } => self.trip(now),
        }
    }

    /// An attempt to reach the token failed. The answer is whether the breaker opened now.
    pub(crate) fn unreachable(&mut self, now: Instant) -> bool {
        self.unreachable = self.unreachable.saturating_add(1);
        match self.phase {
            Phase::Closed => self.unreachable > UNREACHABLE_IN_A_ROW && self.trip(now),
            Phase::Open { .. } => false,
            Phase::HalfOpen { .. } => self.trip(now),
        }
    }

    /// Opens it whatever was counted, as after a call that did not come back. The answer is whether it was not open before.
    pub(crate) fn trip(&mut self, now: Instant) -> bool {
        let opened = !matches!(self.phase, Phase::Open { .. });
        self.phase = Phase::Open { until: now + self.open_for };
        self.failed.clear();
        self.unreachable = 0;
        opened
    }

    /// As after the last call of the other methods: an open breaker becomes half-open when it is asked for a permit.
    #[cfg(test)]
    pub(crate) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn note(&mut self, failed: bool) {
        if self.failed.len() == WINDOW {
            self.failed.pop_front();
        }
        self.failed.push_back(failed);
    }
}

/// The pause between attempts to reach a token: twice as long after each that fails.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    pause: Duration,
    next: Option<Instant>,
}

impl Backoff {
    /// The first pause will be so long.
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, pause: first, next: None }
    }

    /// Whether the next attempt may be made.
    pub(crate) fn due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.next = Some(now + self.pause);
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
    }

    /// An attempt succeeded.
    pub(crate) fn succeeded(&mut self) {
        (self.pause, self.next) = (self.first, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(60);

    #[test]
    fn nine_failures_say_nothing_and_the_tenth_opens_it() {
        let (mut breaker, now) = (Breaker::new(OPEN_FOR), Instant::now());
        for _ in 0..9 {
            assert!(!breaker.failed(now) && breaker.permits(now));
        }
        assert!(breaker.failed(now), "it opens now");
        assert!(!breaker.failed(now), "it is open already");
        assert_eq!((breaker.state(), breaker.permits(now)), (BreakerState::Open, false));
    }

    #[test]
    fn one_half_failing_keeps_it_closed_and_one_more_opens_it() {
        let (mut breaker, now) = (Breaker::new(OPEN_FOR), Instant::now());
        for _ in 0..50 {
            breaker.succeeded(now);
            assert!(!breaker.failed(now));
        }
        // The window holds 100: a success leaves, a failure comes.
        assert!(breaker.failed(now));
    }

    #[test]
    fn failures_older_than_a_hundred_operations_are_forgotten() {
        let (mut breaker, now) = (Breaker::new(OPEN_FOR), Instant::now());
        (0..9).for_each(|_| assert!(!breaker.failed(now)));
        (0..100).for_each(|_| breaker.succeeded(now));
        (0..50).for_each(|_| assert!(!breaker.failed(now)));
        assert!(breaker.failed(now));
    }

    #[test]
    fn more_than_ten_attempts_to_reach_it_that_fail_in_a_row_open_it() {
        let (mut breaker, now) = (Breaker::new(OPEN_FOR), Instant::now());
        (0..10).for_each(|_| assert!(!breaker.unreachable(now)));
        breaker.succeeded(now);
        (0..10).for_each(|_| assert!(!breaker.unreachable(now)));
        assert!(breaker.unreachable(now));
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn after_its_time_five_successes_close_it_and_one_failure_opens_it_again() {
        let (mut breaker, start) = (Breaker::new(OPEN_FOR), Instant::now());
        assert!(breaker.trip(start) && !breaker.trip(start));
        assert!(!breaker.permits(start + OPEN_FOR - Duration::from_millis(1)));
        let later = start + OPEN_FOR;
        assert!(breaker.permits(later));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        (0..4).for_each(|_| breaker.succeeded(later));
        assert!(breaker.failed(later) && !breaker.permits(later));
        let last = later + OPEN_FOR;
        assert!(breaker.permits(last));
        (0..5).for_each(|_| breaker.succeeded(last));
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(!breaker.failed(last), "what was before it opened is forgotten");
    }

    #[test]
    fn one_that_is_on_trial_opens_again_when_the_token_cannot_be_reached() {
        let (mut breaker, start) = (Breaker::new(OPEN_FOR), Instant::now());
        breaker.trip(start);
        assert!(breaker.permits(start + OPEN_FOR) && breaker.unreachable(start + OPEN_FOR));
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn what_began_before_it_opened_changes_nothing() {
        let (mut breaker, now) = (Breaker::new(OPEN_FOR), Instant::now());
        breaker.trip(now);
        (0..20).for_each(|_| breaker.succeeded(now));
        assert!(!breaker.failed(now) && !breaker.unreachable(now));
        assert_eq!((breaker.state(), breaker.permits(now)), (BreakerState::Open, false));
    }

    #[test]
    fn pauses_double_up_to_thirty_seconds_and_a_success_ends_them() {
        let (first, mut now) = (Duration::from_millis(100), Instant::now());
        let mut backoff = Backoff::new(first);
        assert!(backoff.due(now));
        for expected in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            backoff.failed(now);
            let pause = Duration::from_millis(expected);
            assert!(!backoff.due(now + pause - Duration::from_millis(1)), "{expected}");
            now += pause;
            assert!(backoff.due(now), "{expected}");
        }
        backoff.failed(now);
        backoff.succeeded();
        assert!(backoff.due(now));
        backoff.failed(now);
        assert!(backoff.due(now + first));
    }
}
