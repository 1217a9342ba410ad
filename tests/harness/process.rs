//! Processes, ports and waiting.

use std::{
    collections::HashSet,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take until it answers, or a process until it ends.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A port of the loopback address that nothing listens on. It lies below Linux's range for outgoing
/// connections (32768), so that no client of ours takes it before the server does.
pub fn free_port() -> Result<u16> {
    static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut taken = TAKEN.lock().map_err(|_| anyhow!("a test panicked while it took a port"))?;
    let first = std::process::id() * 61 % 20_000;
    (0..20_000)
        .map(|step| 11_000 + ((first + step) % 20_000) as u16)
        .find(|port| !taken.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .inspect(|port| {
            taken.insert(*port);
        })
        .context("no free port between 11000 and 31000")
}

/// Asks `ready` until it has an answer.
///
/// # Errors
/// What `ready` fails with, and "not in time" after [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ready()? {
            return Ok(answer);
        }
        if Instant::now() > end {
            bail!("{what}: not within {} s", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A server process. Its output goes to a file; it is ended when this is dropped, and by the kernel when the
/// test thread dies.
pub struct Process {
    child: Child,
    name: String,
    output: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`, its output in the file `output`.
    pub fn spawn(name: &str, mut command: Command, output: PathBuf) -> Result<Process> {
        let file = fs::File::create(&output).with_context(|| format!("creating {}", output.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Process { child, name: name.to_owned(), output, status: None })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to its standard output and error.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Waits until something accepts connections on `port`.
    ///
    /// # Errors
    /// When the process ends before; the error holds its output.
    pub fn wait_for_port(&mut self, port: u16) -> Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let what = format!("{} listening on port {port}", self.name);
        let outcome = wait_for(&what, || {
            if let Some(status) = self.child.try_wait()? {
                self.status = Some(status);
                bail!("{} ended before it listened on port {port}: {status}", self.name);
            }
            Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok().map(drop))
        });
        outcome.with_context(|| format!("its output:\n{}", self.output()))
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> Result<bool> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status.is_none())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(self.pid(), signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Sends `signal` and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        if self.is_alive()? {
            self.signal(signal)?;
        }
        self.wait()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = wait_for(&format!("the end of {}", self.name), || Ok(self.child.try_wait()?))?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.stop(Signal::TERM).is_err() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Sends a signal to a process.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.try_into()?).context("process id 0")?;
    kill_process(pid, signal).with_context(|| format!("process {pid:?}"))
}

/// The process ids of the children of `parent`, lowest first.
pub fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end between the listing and here.
        if let Ok(fields) = stat(pid)
            && fields.get(1).is_some_and(|ppid| *ppid == parent.to_string())
            && fields[0] != "Z"
        {
            found.push(pid);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Kilobytes of memory that the process itself holds (proc_pid_status(5), `RssAnon`).
pub fn anonymous_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// CPU time, user and system, that the process has used.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let fields = stat(pid)?;
    // utime and stime are fields 14 and 15; the list begins at field 3 (proc_pid_stat(5)).
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// The fields of /proc/PID/stat from the third (the state) on.
fn stat(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = text.rsplit_once(')').context("no command name in /proc/PID/stat")?.1;
    Ok(after.split_whitespace().map(str::to_owned).collect())
}
