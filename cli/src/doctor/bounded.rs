//! Running a small foreign program without ever waiting for it in vain.

use std::io::{self, Read};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// `nginx -V`, `ld.so --list` and `systemctl` answer at once or never.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// More than any of them prints.
const MOST_BYTES: u64 = 1 << 20;

/// Runs a command to its end, like [`Command::output`], but for ten seconds and a mebibyte a stream at most.
///
/// # Errors
/// When it can't be started; [`io::ErrorKind::TimedOut`] when it does not end, after it was killed.
pub(super) fn output(command: &mut Command) -> io::Result<Output> {
    output_within(command, TIME_LIMIT)
}

fn output_within(command: &mut Command, limit: Duration) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let deadline = Instant::now() + limit;
    let mut wait = |stream: mpsc::Receiver<Vec<u8>>| {
        stream.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|_| {
            // It may have ended in this moment, which is as good.
            let _ = child.kill();
            let _ = child.wait();
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it does not end within {} seconds", limit.as_secs()),
            )
        })
    };
    let (stdout, stderr) = (wait(stdout)?, wait(stderr)?);
    Ok(Output { status: child.wait()?, stdout, stderr })
}

fn collect(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            // What was read before an error is all there is.
            let _ = stream.take(MOST_BYTES).read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_heard_and_what_does_not_is_stopped() {
        let heard = output(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap();
        assert_eq!(
            (heard.status.code(), &*heard.stdout, &*heard.stderr),
            (Some(3), &b"out\n"[..], &b"err\n"[..])
        );
        let start = Instant::now();
        let endless = output_within(Command::new("sleep").arg("1000"), Duration::from_millis(50));
        assert_eq!(endless.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
