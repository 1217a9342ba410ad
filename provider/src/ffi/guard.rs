//! The one way in: every function that OpenSSL calls runs inside [`guard`].

use super::core::Core;
use crate::log;
use crate::problem::{Problem, Reason};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of an entry point. An error or a panic becomes an entry in OpenSSL's error queue and the entry point's
/// failure value; nothing unwinds into C, which would be undefined.
///
/// `core` may be missing where OpenSSL handed us a null pointer: then there is no queue to write to, only the log.
pub(super) fn guard<T>(
    core: Option<&Core>,
    entry: &'static str,
    failure: T,
    body: impl FnOnce() -> Result<T, Problem>,
) -> T {
    // A body holds no lock across a panic that it would leave inconsistent: keys and contexts are filled in one step.
    let problem = match catch_unwind(AssertUnwindSafe(|| {
        #[cfg(test)]
        injection::panic_if_asked(entry);
        body()
    })) {
        Ok(Ok(value)) => return value,
        Ok(Err(problem)) => problem,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            Problem::new(
                Reason::Panic,
                format!(
                    "a bug in the Q-TLS provider was stopped in {entry}: {text}; please report it with this line"
                ),
            )
        }
    };
    if problem.is_ours() {
        log::write_error(&problem.text);
    }
    if let Some(core) = core {
        core.raise(entry, &problem);
    }
    failure
}

/// The problem of a null pointer where OpenSSL promises an object.
pub(super) fn null(what: &'static str) -> Problem {
    Problem::argument(format!("the calling program passed no {what} (a null pointer)"))
}

/// Panics on demand, once, at a named entry point, for the test that holds the rule above.
#[cfg(test)]
pub(super) mod injection {
    use std::cell::Cell;

    thread_local! {
        pub(in crate::ffi) static PANIC_AT: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    pub(super) fn panic_if_asked(entry: &'static str) {
        if PANIC_AT.get() == Some(entry) {
            PANIC_AT.set(None);
            panic!("injected into {entry}");
        }
    }
}
