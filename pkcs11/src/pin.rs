//! PINs: where they come from, and the memory they lie in.

use crate::raw::LockedBytes;
use crate::{Error, ErrorKind};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The longest PIN, in bytes. Tokens in use stop at 64 and below.
const MAX_BYTES: usize = 255;
/// How long the command of a `cmd:` source may take: a server does not start meanwhile.
const COMMAND_TIME: Duration = Duration::from_secs(10);
/// How often it is looked whether the command has ended.
const COMMAND_POLL: Duration = Duration::from_millis(2);
/// Where systemd puts the credentials of a service (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// What a source begins with.
const PREFIXES: [&str; 5] = ["file", "env", "cmd", "cred", "value"];

/// A PIN in locked memory that is left out of core dumps, survives a fork, and is wiped. `Debug` shows nothing of it;
/// comparison takes constant time.
#[derive(Clone)]
pub struct Pin {
    bytes: Arc<LockedBytes>,
    fingerprint: NonZeroU64,
}

impl Pin {
    /// Takes the bytes over and wipes where they were.
    ///
    /// # Errors
    /// [`ErrorKind::Pin`]: it is empty, longer than 255 bytes, or has a zero byte; or there is no memory.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::Pin, format!("the PIN {why}")));
        if bytes.is_empty() {
            return refuse("is empty");
        }
        if bytes.len() > MAX_BYTES {
            return refuse(&format!("is longer than {MAX_BYTES} bytes"));
        }
        if bytes.contains(&0) {
            return refuse("has a zero byte in it: it has to be text");
        }
        let mut locked = LockedBytes::new(bytes.len()).map_err(|error| {
            Error::new(ErrorKind::Pin, format!("there is no memory to keep the PIN in: {error}"))
        })?;
        locked.as_mut_slice().copy_from_slice(&bytes);
        let fingerprint = fingerprint(locked.as_slice());
        Ok(Self { bytes: Arc::new(locked), fingerprint })
    }

    /// The bytes, for `C_Login` alone.
    pub(crate) fn expose(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Locks its memory in this process too: a fork does not inherit the lock.
    pub(crate) fn lock(&self) {
        self.bytes.lock();
    }

    /// A number that stands for this PIN in the counters that processes share. It comes from a keyed hash, whose key is
    /// random and never leaves the memory of this process and of those it forks: nobody else can try PINs against it.
    pub(crate) fn fingerprint(&self) -> NonZeroU64 {
        self.fingerprint
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(…)")
    }
}

impl PartialEq for Pin {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Pin {}

/// Where a PIN comes from: `file:PATH` (or a path alone), `env:NAME`, `cmd:COMMAND LINE`, `cred:NAME` (systemd credential),
/// `value:PIN` (openssl.cnf itself). `Display` writes it so, and `value:…` for a PIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    /// A file, whose first line is the PIN.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// What a command line, given to `/bin/sh -c`, writes first.
    Command(String),
    /// A systemd credential (`$CREDENTIALS_DIRECTORY/NAME`).
    Credential(String),
    /// The PIN itself.
    Value(Pin),
}

impl PinSource {
    /// Reads the text of an option or of `pin-source`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`]: an unknown prefix, nothing behind it, a relative path. The text is not shown: whoever
    /// forgets the prefix writes a PIN.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse =
            |why: &str| Err(Error::new(ErrorKind::Configuration, format!("the source of the PIN {why}")));
        let text = text.trim();
        if text.contains('\0') {
            return refuse("has a zero byte in it");
        }
        if text.starts_with('/') {
            return Ok(Self::File(one_slash(text)));
        }
        let Some((prefix, rest)) = text.split_once(':').filter(|(prefix, _)| PREFIXES.contains(prefix))
        else {
            return refuse(
                "begins with no prefix that there is: write file:PATH, env:NAME, cmd:COMMAND, cred:NAME or value:PIN",
            );
        };
        if rest.is_empty() {
            return refuse(&format!("has nothing behind '{prefix}:'"));
        }
        match prefix {
            // RFC 8089: file:/path, file:///path.
            "file" => match rest.strip_prefix("//").unwrap_or(rest) {
                path if path.starts_with('/') => Ok(Self::File(one_slash(path))),
                _ => refuse("'file:' needs an absolute path, since servers change their working directory"),
            },
            "env" if rest.contains('=') => refuse("'env:' needs the name of a variable, which has no '='"),
            "env" => Ok(Self::Environment(rest.to_owned())),
            "cmd" => Ok(Self::Command(rest.to_owned())),
            "cred" if rest.contains('/') || rest == "." || rest == ".." => {
                refuse("'cred:' needs the name of a credential, which is no path")
            }
            "cred" => Ok(Self::Credential(rest.to_owned())),
            _ => Pin::new(Zeroizing::new(rest.as_bytes().to_vec()))
                .map(Self::Value)
                .map_err(|error| Error::new(ErrorKind::Configuration, format!("'value:': {error}"))),
        }
    }

    /// Gets the PIN now: of a file, a credential and what a command writes the first line, without its end.
    ///
    /// # Errors
    /// [`ErrorKind::Pin`]: the file, variable, credential is not there or not readable, the command fails or takes too long.
    pub fn resolve(&self) -> Result<Pin, Error> {
        let line = match self {
            Self::Value(pin) => return Ok(pin.clone()),
            Self::File(path) => read_file(path).map_err(|why| self.failed(&why, &let_it_be_read(path))),
            Self::Environment(name) => match std::env::var_os(name) {
                Some(value) => Ok(Zeroizing::new(value.as_bytes().to_vec())),
                None => Err(self.failed(
                    "the variable is not set",
                    "set it for the service; nginx's workers need it too only where they read keys themselves",
                )),
            },
            Self::Credential(name) => match std::env::var_os(CREDENTIALS_DIRECTORY) {
                Some(directory) => {
                    let path = Path::new(&directory).join(name);
                    read_file(&path).map_err(|why| self.failed(&why, &let_it_be_read(&path)))
                }
                None => Err(self.failed(
                    "CREDENTIALS_DIRECTORY is not set, so that systemd gave this service no credentials",
                    &format!("add LoadCredential={name}:PATH to the [Service] section of its unit"),
                )),
            },
            Self::Command(line) => run(line, COMMAND_TIME).map_err(|why| {
                self.failed(&why, "run the command line by hand, as the user that starts the server")
            }),
        };
        line.and_then(|line| {
            Pin::new(line).map_err(|error| self.failed(&error.to_string(), "correct it there"))
        })
    }

    fn failed(&self, why: &str, what_to_do: &str) -> Error {
        Error::new(ErrorKind::Pin, format!("no PIN from {self}: {why}; {what_to_do}"))
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::Command(line) => write!(f, "cmd:{line}"),
            Self::Credential(name) => write!(f, "cred:{name}"),
            Self::Value(_) => f.write_str("value:…"),
        }
    }
}

/// An absolute path with one slash at its beginning: two would be read as those of a URI when `file:` stands before them.
fn one_slash(path: &str) -> PathBuf {
    Path::new("/").join(path.trim_start_matches('/'))
}

fn let_it_be_read(path: &Path) -> String {
    format!("let the user that starts the server, and nobody else, read {}", path.display())
}

fn fingerprint(pin: &[u8]) -> NonZeroU64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let hash = KEY.get_or_init(RandomState::new).hash_one(pin);
    NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN)
}

/// The first line of a file.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    // Without O_NONBLOCK a FIFO stops the server at its open.
    let options = &mut File::options();
    let open = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut file = open.map_err(|error| error.to_string())?;
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    first_line(&mut file).map_err(|error| error.to_string())
}

/// The first line, without its end; at most one byte more than a PIN may have.
fn first_line(from: &mut impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // The end of the line, two bytes at most, comes on top.
    const ENOUGH: usize = MAX_BYTES + 3;
    let mut bytes = Zeroizing::new(vec![0; ENOUGH]);
    let mut filled = 0;
    while filled < ENOUGH && !bytes[..filled].contains(&b'\n') {
        match from.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let line = bytes[..filled].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let length = line.strip_suffix(b"\r").unwrap_or(line).len();
    bytes[length..].zeroize();
    bytes.truncate(length);
    Ok(bytes)
}

/// The first line that a command line writes. What it says of errors goes where this process says its own.
fn run(line: &str, time: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    let deadline = Instant::now() + time;
    let too_long = || format!("the command takes longer than {} s", time.as_secs_f32());
    let mut child = Command::new("/bin/sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("/bin/sh does not start: {error}"))?;
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stdout) = child.stdout.take() {
        thread::spawn(move || {
            // Nobody waits any more when that fails.
            let _ = sender.send(first_line(&mut stdout));
            // A command that writes more must not die of a closed pipe.
            let mut rest = Zeroizing::new([0; 4096]);
            while stdout.read(&mut *rest).is_ok_and(|count| count > 0) {}
        });
    }
    let Some(status) = wait(&mut child, deadline).map_err(|error| error.to_string())? else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(too_long());
    };
    if let Some(status) = status.filter(|status| !status.success()) {
        return Err(format!("the command failed ({status})"));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    receiver.recv_timeout(left).map_err(|_| too_long())?.map_err(|error| error.to_string())
}

/// Waits for a child until then: `None` when it has not ended, `Some(None)` when it has and somebody else was told how. A
/// server's own SIGCHLD handler, as nginx's, may have taken the status.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<Option<ExitStatus>>> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(Some(status))),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Some(None)),
            Err(error) => return Err(error),
            Ok(None) if Instant::now() >= deadline => return Ok(None),
            Ok(None) => thread::sleep(COMMAND_POLL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    fn pin(text: &str) -> Pin {
        Pin::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
    }

    #[track_caller]
    fn resolved(source: &str) -> Pin {
        PinSource::parse(source).unwrap().resolve().unwrap()
    }

    #[track_caller]
    fn unresolved(source: &PinSource) -> String {
        let error = source.resolve().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Pin);
        error.to_string()
    }

    #[test]
    fn each_prefix_is_a_source_and_a_path_alone_is_a_file() {
        for (text, source) in [
            ("/etc/pin", PinSource::File("/etc/pin".into())),
            (" file:/etc/pin ", PinSource::File("/etc/pin".into())),
            ("file:///etc/pin", PinSource::File("/etc/pin".into())),
            ("file:////etc//pin", PinSource::File("/etc//pin".into())),
            ("//etc/pin", PinSource::File("/etc/pin".into())),
            ("env:HSM_PIN", PinSource::Environment("HSM_PIN".into())),
            ("cmd:pass show hsm: pin", PinSource::Command("pass show hsm: pin".into())),
            ("cred:hsm-pin", PinSource::Credential("hsm-pin".into())),
            ("value:12:34", PinSource::Value(pin("12:34"))),
        ] {
            assert_eq!(PinSource::parse(text).unwrap(), source);
        }
    }

    #[test]
    fn a_wrong_source_is_refused_and_never_shown() {
        for text in [
            "4711-secret",
            "4711:",
            "secret4711:x",
            "file:4711",
            "file://4711/x",
            "file:",
            "env:",
            "env:4711=1",
            "cred:4711/../x",
            "cred:..",
            "cmd:",
            "value:",
            "",
            "pin:4711",
            "file:/4711\0",
        ] {
            let error = PinSource::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{text:?}");
            assert!(!error.to_string().contains("4711"), "{error}");
        }
    }

    #[test]
    fn the_first_line_of_a_file_is_the_pin_without_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        let longest = "7".repeat(MAX_BYTES);
        for content in ["1234\nrest", "1234", "1234\r\n", "1234\n\n", &format!("{longest}\r\nmore")] {
            std::fs::write(&path, content).unwrap();
            let expected = content.split(['\r', '\n']).next().unwrap();
            assert_eq!(resolved(path.to_str().unwrap()), pin(expected), "{content:?}");
        }
    }

    #[test]
    fn a_file_without_a_pin_is_an_error_that_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        let source = PinSource::File(path.clone());
        assert!(unresolved(&source).contains("No such file"));
        for (content, why) in [
            ("", "is empty"),
            ("\n1234", "is empty"),
            (&"7".repeat(MAX_BYTES + 1), "longer than 255"),
            (&"7".repeat(10_000), "longer than 255"),
            ("12\x0034", "zero byte"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert!(unresolved(&source).contains(why), "{why}");
        }
        assert!(unresolved(&PinSource::File(directory.path().into())).contains("no regular file"));
    }

    #[test]
    fn a_variable_and_a_credential_that_are_not_there_are_told_apart() {
        assert!(unresolved(&PinSource::Environment("QTLS_NO_SUCH_PIN".into())).contains("is not set"));
        assert!(unresolved(&PinSource::Credential("pin".into())).contains("LoadCredential=pin:PATH"));
        // A variable that is set everywhere stands for one with a PIN.
        let path = std::env::var("PATH").unwrap();
        assert_eq!(resolved("env:PATH"), pin(&path));
    }

    #[test]
    fn what_a_command_writes_first_is_the_pin() {
        assert_eq!(resolved("cmd:echo 1234"), pin("1234"));
        assert_eq!(resolved("cmd:printf '%s\\nmore' 1234"), pin("1234"));
        assert_eq!(
            resolved("cmd:echo 1234; head -c 200000 /dev/zero"),
            pin("1234"),
            "it may write more than a pipe holds"
        );
        // A process that it leaves behind keeps the pipe open.
        assert_eq!(resolved("cmd:echo 1234; sleep 3 2>/dev/null &"), pin("1234"));
    }

    #[test]
    fn a_command_that_fails_or_writes_nothing_is_an_error_without_what_it_wrote() {
        let failed = unresolved(&PinSource::Command("echo 1234; exit 3".into()));
        assert!(failed.contains("exit status: 3"), "{failed}");
        assert!(unresolved(&PinSource::Command("true".into())).contains("is empty"));
        assert!(unresolved(&PinSource::Command("kill -9 $$".into())).contains("signal: 9"));
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended() {
        let started = Instant::now();
        let error = run("exec sleep 30", Duration::from_millis(100)).unwrap_err();
        assert!(error.contains("takes longer than"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn no_pin_is_in_debug_or_display() {
        let source = PinSource::Value(pin("4711"));
        assert_eq!(format!("{source:?} {source}"), "Value(Pin(…)) value:…");
    }

    #[test]
    fn the_fingerprint_is_the_pins_own() {
        assert_eq!(pin("1234").fingerprint(), pin("1234").fingerprint());
        assert_ne!(pin("1234").fingerprint(), pin("1235").fingerprint());
        assert!(pin("1234") == pin("1234") && pin("1234") != pin("12345"));
    }

    #[test]
    fn a_fifo_is_refused_and_does_not_stop_whoever_opens_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(unresolved(&PinSource::File(path)).contains("no regular file"));
    }

    #[test]
    fn a_file_that_others_can_read_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"1234\n").unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(resolved(path.to_str().unwrap()), pin("1234"));
    }
}
