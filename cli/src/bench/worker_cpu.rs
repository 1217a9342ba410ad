//! CPU time of server processes, and which core they and we may use.

use std::fs;

use anyhow::{Context, bail};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPU time of all threads of these processes so far, in nanoseconds.
///
/// `schedstat` counts nanoseconds where `stat` counts ticks of 10 ms (proc(5)); a thread that has ended is no longer
/// in it, so servers that start a thread for each connection come out too cheap.
///
/// # Errors
/// When a process is gone, or may not be looked at.
pub(crate) fn cpu_nanoseconds(pids: &[i32]) -> anyhow::Result<u64> {
    let mut total = 0;
    for pid in pids {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .with_context(|| format!("there is no process {pid}; has the server been restarted?"))?;
        for task in tasks {
            let path = task.context("cannot list a process's threads")?.path().join("schedstat");
            // A thread may end between the listing and this line.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            total += first_number(&text).with_context(|| {
                format!(
                    "{} is not as proc(5) describes it; was the kernel built without CONFIG_SCHED_INFO?",
                    path.display()
                )
            })?;
        }
    }
    Ok(total)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Processes whose parent is `parent`.
pub(crate) fn children_of(parent: i32) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold spaces and parentheses itself.
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The cores this process may use, split into one for the server under measure and the rest for the clients.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    server: CpuSet,
    clients: CpuSet,
}

impl Cores {
    /// # Errors
    /// When there is but one core.
    pub(crate) fn split() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot read which cores may be used")?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let (Some(first), rest) = (usable.next(), usable.collect::<Vec<_>>()) else {
            bail!("no core may be used");
        };
        if rest.is_empty() {
            bail!("server and clients share the only core; figures will be noisy");
        }
        let (mut server, mut clients) = (CpuSet::new(), CpuSet::new());
        server.set(first);
        for core in rest {
            clients.set(core);
        }
        Ok(Self { server, clients })
    }

    /// Keeps this thread, and those it starts from now on, off the server's core.
    pub(crate) fn pin_clients(&self) -> anyhow::Result<()> {
        sched_setaffinity(None, &self.clients).context("cannot pin the clients to their cores")
    }

    /// Keeps a server process on its core.
    pub(crate) fn pin_server(&self, pid: i32) -> anyhow::Result<()> {
        sched_setaffinity(Pid::from_raw(pid), &self.server)
            .with_context(|| format!("cannot pin process {pid} to its core"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn work_shows_as_cpu_time() {
        let own = [std::process::id().cast_signed()];
        let before = cpu_nanoseconds(&own).unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        // Other programs may take the core away meanwhile; a third of the time is ours in any case.
        assert!(cpu_nanoseconds(&own).unwrap() - before > 20_000_000);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error_and_children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(children_of(std::process::id().cast_signed()).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        let error = cpu_nanoseconds(&[pid]).unwrap_err().to_string();
        assert!(error.contains(&pid.to_string()), "{error}");
    }
}
