//! Forked processes in tests. The only file of these tests with unsafe code.
#![allow(unsafe_code)]

/// Does something in a forked process, as a server's worker does, and says whether it went well: it panics there otherwise.
pub(crate) fn in_child(work: impl FnOnce()) -> bool {
    wait_for(fork(work))
}

/// Starts a forked process.
pub(crate) fn fork(work: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the tests that fork run in a process of their own with two threads, of which the other one waits for this one;
    // the child ends without returning to the test.
    match unsafe { libc::fork() } {
        -1 => panic!("no fork: {}", std::io::Error::last_os_error()),
        0 => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: it ends the child, with the exit handlers that a worker has too.
            unsafe { libc::exit(i32::from(result.is_err())) }
        }
        child => child,
    }
}

/// Waits for a forked process; whether it ended well.
pub(crate) fn wait_for(child: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: a child of this process, and a place for its status.
    let ended = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(ended, child);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// What a server does to its workers.
pub(crate) fn clear_environment() {
    // SAFETY: as for `fork`: no other thread of this process reads the environment.
    unsafe { libc::clearenv() };
}
