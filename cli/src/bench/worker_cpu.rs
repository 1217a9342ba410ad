//! CPU time of server processes, and which core they and we may use.

use std::fs;

use anyhow::{Context, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// CPU time that these processes have spent so far, in nanoseconds: all threads, those that have ended as well.
///
/// The process's CPU clock (clock_getcpuclockid(3)) counts nanoseconds, where `/proc/PID/stat` counts ticks of 10 ms.
///
/// # Errors
/// When a process is gone.
pub(crate) fn cpu_nanoseconds(pids: &[i32]) -> anyhow::Result<u64> {
    let mut total = 0;
    for pid in pids {
        let spent = clock_getcpuclockid(Pid::from_raw(*pid))
            .and_then(|clock| clock.now())
            .with_context(|| format!("there is no process {pid}; has the server been restarted?"))?;
        total += spent.tv_sec().unsigned_abs() * 1_000_000_000 + spent.tv_nsec().unsigned_abs();
    }
    Ok(total)
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

/// The calling thread, and those it starts afterwards.
const OURSELVES: Pid = Pid::from_raw(0);

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
        let allowed = sched_getaffinity(OURSELVES).context("cannot read which cores may be used")?;
        let mut usable = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true));
        let (Some(first), rest) = (usable.next(), usable.collect::<Vec<_>>()) else {
            bail!("no core may be used");
        };
        if rest.is_empty() {
            bail!("server and clients share the only core; figures will be noisy");
        }
        let (mut server, mut clients) = (CpuSet::new(), CpuSet::new());
        server.set(first).context("cannot name the server's core")?;
        for core in rest {
            clients.set(core).context("cannot name the clients' cores")?;
        }
        Ok(Self { server, clients })
    }

    /// Keeps this thread, and those it starts from now on, off the server's core.
    pub(crate) fn pin_clients(&self) -> anyhow::Result<()> {
        sched_setaffinity(OURSELVES, &self.clients).context("cannot pin the clients to their cores")
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
