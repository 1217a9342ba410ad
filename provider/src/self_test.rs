//! Known answers, computed before an algorithm's first use or when the provider is loaded.

use crate::problem::{Problem, Reason};
use qtls_crypto::{KEM_ALGORITHMS, KemAlgorithm, KnownAnswerObserver, run_known_answer};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

/// What is known of an algorithm's self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    NotRun = 0,
    Passed = 1,
    Failed = 2,
}

/// The state of each algorithm of [`KEM_ALGORITHMS`], in its order.
#[derive(Default)]
pub(crate) struct SelfTests {
    states: [AtomicU8; KEM_ALGORITHMS.len()],
    running: Mutex<()>,
}

impl SelfTests {
    pub(crate) fn state(&self, row: usize) -> State {
        match self.states[row].load(Ordering::Acquire) {
            0 => State::NotRun,
            1 => State::Passed,
            _ => State::Failed,
        }
    }

    pub(crate) fn any_failed(&self) -> bool {
        (0..KEM_ALGORITHMS.len()).any(|row| self.state(row) == State::Failed)
    }

    /// Makes sure that the algorithm's self-test was run and passed; one that failed stays failed.
    ///
    /// # Errors
    /// [`Reason::SelfTestFailed`].
    pub(crate) fn require(
        &self,
        row: usize,
        observer: impl FnOnce() -> Box<dyn KnownAnswerObserver>,
    ) -> Result<(), Problem> {
        if self.state(row) == State::NotRun {
            let _only_one = self.running.lock();
            if self.state(row) == State::NotRun {
                return self.run(row, observer);
            }
        }
        match self.state(row) {
            State::Passed => Ok(()),
            _ => Err(failed_before(&KEM_ALGORITHMS[row])),
        }
    }

    /// Runs the algorithm's self-test again, whatever is known of it. A failure sticks.
    ///
    /// # Errors
    /// [`Reason::SelfTestFailed`].
    pub(crate) fn run(
        &self,
        row: usize,
        observer: impl FnOnce() -> Box<dyn KnownAnswerObserver>,
    ) -> Result<(), Problem> {
        let algorithm = &KEM_ALGORITHMS[row];
        let result = run_known_answer(algorithm, &mut *observer());
        let state = if result.is_ok() { State::Passed } else { State::Failed };
        self.states[row].fetch_max(state as u8, Ordering::AcqRel);
        match (result, self.state(row)) {
            (Ok(()), State::Passed) => Ok(()),
            (Ok(()), _) => Err(failed_before(algorithm)),
            (Err(error), _) => Err(error.into()),
        }
    }
}

fn failed_before(algorithm: &KemAlgorithm) -> Problem {
    Problem::new(
        Reason::SelfTestFailed,
        format!(
            "{} is disabled in this process because its self-test failed; the log has the first failure. Restart, and \
             replace the module or the machine if it fails again",
            algorithm.name
        ),
    )
}
