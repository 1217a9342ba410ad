//! Known answers, computed before an algorithm's first use or when the provider is loaded.

use crate::problem::{Problem, Reason};
use qtls_crypto::{KeyAlgorithm, KnownAnswerObserver, run_known_answer, run_signature_known_answer};
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

/// The state of each algorithm, by [`KeyAlgorithm::index`].
#[derive(Default)]
pub(crate) struct SelfTests {
    states: [AtomicU8; KeyAlgorithm::COUNT],
    running: Mutex<()>,
}

impl SelfTests {
    pub(crate) fn state(&self, algorithm: KeyAlgorithm) -> State {
        match self.states[algorithm.index()].load(Ordering::Acquire) {
            0 => State::NotRun,
            1 => State::Passed,
            _ => State::Failed,
        }
    }

    pub(crate) fn any_failed(&self) -> bool {
        KeyAlgorithm::all().any(|algorithm| self.state(algorithm) == State::Failed)
    }

    /// Makes sure that the algorithm's self-test was run and passed; one that failed stays failed.
    ///
    /// # Errors
    /// [`Reason::SelfTestFailed`].
    pub(crate) fn require(
        &self,
        algorithm: KeyAlgorithm,
        observer: impl FnOnce() -> Box<dyn KnownAnswerObserver>,
    ) -> Result<(), Problem> {
        if self.state(algorithm) == State::NotRun {
            let _only_one = self.running.lock();
            if self.state(algorithm) == State::NotRun {
                return self.run(algorithm, observer);
            }
        }
        match self.state(algorithm) {
            State::Passed => Ok(()),
            _ => Err(failed_before(algorithm)),
        }
    }

    /// Runs the algorithm's self-test again, whatever is known of it. A failure sticks.
    ///
    /// # Errors
    /// [`Reason::SelfTestFailed`].
    pub(crate) fn run(
        &self,
        algorithm: KeyAlgorithm,
        observer: impl FnOnce() -> Box<dyn KnownAnswerObserver>,
    ) -> Result<(), Problem> {
        let result = match algorithm {
            KeyAlgorithm::Kem(row) => run_known_answer(row, &mut *observer()),
            KeyAlgorithm::Signature(row) => run_signature_known_answer(row, &mut *observer()),
        };
        let state = if result.is_ok() { State::Passed } else { State::Failed };
        self.states[algorithm.index()].fetch_max(state as u8, Ordering::AcqRel);
        match (result, self.state(algorithm)) {
            (Ok(()), State::Passed) => Ok(()),
            (Ok(()), _) => Err(failed_before(algorithm)),
            (Err(error), _) => Err(error.into()),
        }
    }
}

fn failed_before(algorithm: KeyAlgorithm) -> Problem {
    Problem::new(
        Reason::SelfTestFailed,
        format!(
            "{} is disabled in this process because its self-test failed; the log has the first failure. Restart, and \
             replace the module or the machine if it fails again",
            algorithm.name()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use qtls_crypto::{KEM_ALGORITHMS, KnownAnswerStep};
    use std::sync::atomic::AtomicUsize;

    /// Counts runs, and spoils the first step of those that it is told to.
    struct Watch<'a> {
        runs: &'a AtomicUsize,
        spoil: bool,
    }

    impl KnownAnswerObserver for Watch<'_> {
        fn begin(&mut self, step: KnownAnswerStep) {
            if step == KnownAnswerStep::KEM[0] {
                self.runs.fetch_add(1, Ordering::Relaxed);
            }
        }

        fn corrupt(&mut self, _step: KnownAnswerStep, output: &mut [u8]) {
            if self.spoil {
                output[0] ^= 1;
            }
        }
    }

    fn row(index: usize) -> KeyAlgorithm {
        KeyAlgorithm::Kem(&KEM_ALGORITHMS[index])
    }

    static RUNS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

    #[test]
    fn threads_that_need_an_algorithm_at_once_wait_for_one_run_of_its_self_test() {
        let tests = SelfTests::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    tests.require(row(0), || Box::new(Watch { runs: &RUNS[0], spoil: false })).unwrap();
                    assert_eq!(tests.state(row(0)), State::Passed);
                });
            }
        });
        assert_eq!(RUNS[0].load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_failure_sticks_whatever_runs_later() {
        let tests = SelfTests::default();
        let watch = |spoil| move || Box::new(Watch { runs: &RUNS[1], spoil }) as Box<dyn KnownAnswerObserver>;
        assert_eq!(tests.require(row(1), watch(true)).unwrap_err().reason, Reason::SelfTestFailed);
        assert_eq!(tests.require(row(1), watch(false)).unwrap_err().reason, Reason::SelfTestFailed);
        assert_eq!(RUNS[1].load(Ordering::Relaxed), 1, "what failed is not tried again by a use");
        assert_eq!(tests.run(row(1), watch(false)).unwrap_err().reason, Reason::SelfTestFailed);
        assert!(tests.any_failed());
        tests.require(row(2), watch(false)).unwrap();
        assert_eq!((tests.state(row(1)), tests.state(row(2))), (State::Failed, State::Passed));
    }
}
