//! Calls that are given up when they take too long. A call into a module cannot be ended from outside, so it runs on a
//! thread of its own, which is left behind with whatever it used.

use crate::raw;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that runs one call after the other.
pub(crate) struct Lane {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

type Job = Box<dyn FnOnce() -> Afterwards + Send>;

/// What the thread does after a job.
enum Afterwards {
    Next,
    /// Nobody waits for it any more.
    End,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// Not in time. The lane is of no use any more.
    Late,
    /// The thread could not be started.
    NoThread(io::Error),
    /// The job panicked. The lane is of no use any more.
    Panicked,
}

// States of a job.
const RUNNING: u8 = 0;
const DONE: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Lane {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`NoAnswer::NoThread`]
    pub(crate) fn start() -> Result<Self, NoAnswer> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let body = move || {
            while let Ok(job) = queue.recv() {
                if matches!(job(), Afterwards::End) {
                    break;
                }
            }
        };
        let thread = raw::spawn_without_signals("qtls-token", body).map_err(NoAnswer::NoThread)?;
        Ok(Self { jobs, thread })
    }

    /// Runs a job and waits for it, not longer than `limit`. One that is late counts in `hanging` until it comes back.
    ///
    /// # Errors
    /// [`NoAnswer::Late`], [`NoAnswer::Panicked`]
    pub(crate) fn run<R: Send + 'static>(
        &self,
        limit: Duration,
        hanging: &'static AtomicUsize,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        let (reply, answer) = mpsc::sync_channel(1);
        let state = Arc::new(AtomicU8::new(RUNNING));
        let state_there = Arc::clone(&state);
        let work = move || {
            let result = job();
            // The answer is sent before the state changes: who finds it done finds the answer.
            let _ = reply.send(result);
            if state_there.swap(DONE, Ordering::AcqRel) == GIVEN_UP {
                hanging.fetch_sub(1, Ordering::AcqRel);
                return Afterwards::End;
            }
            Afterwards::Next
        };
        self.jobs.send(Box::new(work)).map_err(|_| NoAnswer::Panicked)?;
        match answer.recv_timeout(limit) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Disconnected) => Err(NoAnswer::Panicked),
            Err(RecvTimeoutError::Timeout) => {
                // Counted before it is given up, so that the thread never takes away what is not there yet.
                hanging.fetch_add(1, Ordering::AcqRel);
                let given_up = state.compare_exchange(RUNNING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire);
                if given_up.is_ok() {
                    return Err(NoAnswer::Late);
                }
                hanging.fetch_sub(1, Ordering::AcqRel);
                answer.recv().map_err(|_| NoAnswer::Panicked)
            }
        }
    }

    /// Ends the thread and waits until it has gone. Only for a lane that answered its last job.
    pub(crate) fn end(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    static HANGING: AtomicUsize = AtomicUsize::new(0);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn jobs_run_one_after_the_other_on_one_thread() {
        let lane = Lane::start().unwrap();
        let first = lane.run(LONG, &HANGING, || std::thread::current().id()).unwrap();
        let second = lane.run(LONG, &HANGING, || std::thread::current().id()).unwrap();
        assert_eq!(first, second);
        assert_ne!(first, std::thread::current().id());
        lane.end();
    }

    #[test]
    fn a_late_job_is_given_up_and_counted_until_it_comes_back() {
        static LATE: AtomicUsize = AtomicUsize::new(0);
        let lane = Lane::start().unwrap();
        let (release, released) = channel::<()>();
        let (ended, has_ended) = channel();
        let began = Instant::now();
        let answer = lane.run(Duration::from_millis(20), &LATE, move || {
            let _ = released.recv();
            let _ = ended.send(());
        });
        assert!(matches!(answer, Err(NoAnswer::Late)), "{answer:?}");
        assert!(began.elapsed() < LONG);
        assert_eq!(LATE.load(Ordering::Acquire), 1);
        release.send(()).unwrap();
        has_ended.recv().unwrap();
        lane.end();
        assert_eq!(LATE.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_panic_in_a_job_is_an_answer() {
        let lane = Lane::start().unwrap();
        let answer = lane.run(LONG, &HANGING, || panic!("this panic belongs to the test"));
        assert!(matches!(answer, Err::<(), _>(NoAnswer::Panicked)));
        assert!(matches!(lane.run(LONG, &HANGING, || ()), Err(NoAnswer::Panicked)));
    }
}
