//! Counters and state that other processes read: one small file for each process that has token keys, mapped by it and by all
//! that it forks.
//!
//! Everything in the file is a 64-bit word in the machine's order, so that each is written and read whole:
//!
//! | words | what |
//! |---|---|
//! | 0 | [`MAGIC`], with the version of this layout |
//! | 1 | the process |
//! | 2 | how many tokens |
//! | 3, 4 | failovers, signatures by software keys |
//! | from 8, 48 for each token | the counters in the order of [`TokenCounters`], and from the 16th on the name, ended by a zero |
//!
//! Whoever makes the file holds a lock on it (`flock`), and so do all that it forks: as long as one of them lives. A file that
//! nobody locks is one that nobody needs.

use crate::raw::{self, Lock, SharedMapping};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The first word: `QTLSHSM`, and the version of the layout.
const MAGIC: u64 = u64::from_be_bytes(*b"QTLSHSM\x01");
const PROCESS: usize = 1;
const TOKENS: usize = 2;
const FAILOVERS: usize = 3;
const SOFTWARE_SIGNATURES: usize = 4;
/// Some are left for later.
const HEADER_WORDS: usize = 8;
/// Of a token, before its name; some are left for later.
const COUNTER_WORDS: usize = 16;
const NAME_WORDS: usize = 32;
const TOKEN_WORDS: usize = COUNTER_WORDS + NAME_WORDS;
const WORD_BYTES: usize = size_of::<u64>();

/// More tokens than a configuration can have.
const MOST_TOKENS: usize = 16;
const MOST_BYTES: usize = file_bytes(MOST_TOKENS);

/// So many status files may one process have: each OpenSSL library context with token keys has its own.
const MOST_FILES: u32 = 64;
const SUFFIX: &str = ".status";

/// Values of `connected`: nothing was done yet; the last operation succeeded; it failed.
const CONNECTED: u64 = 1;
const DISCONNECTED: u64 = 2;

/// What one server (its processes together) says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The process that made the file, or the parent of those that use it: nginx's master.
    pub pid: u32,
    /// One for each configured token, in order of failover.
    pub tokens: Vec<TokenStatus>,
    /// Signatures that another than the first token made.
    pub failovers: u64,
    /// Signatures by a software key.
    pub software_signatures: u64,
}

/// One token's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenStatus {
    /// The module's file and the token, without PIN.
    pub name: String,
    /// The last operation succeeded; none before the first.
    pub connected: Option<bool>,
    /// Signatures made.
    pub signatures: u64,
    /// Signatures that failed.
    pub failures: u64,
    /// Time of all signatures made, in microseconds.
    pub latency_us: u64,
    /// Operations tried again after an error.
    pub retries: u64,
    /// Times that the module was initialised again after an error.
    pub reconnects: u64,
    /// Times that the circuit breaker opened.
    pub breaker_opened: u64,
    /// Calls that took longer than allowed.
    pub timeouts: u64,
    /// The PIN in use was refused and is not tried again.
    pub pin_refused: bool,
}

impl Status {
    /// Reads the content of one file; `None` where it is none of this layout.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let count = usize::try_from(*words.get(TOKENS)?).ok().filter(|count| *count <= MOST_TOKENS)?;
        if words[0] != MAGIC || !rest.is_empty() || bytes.len() != file_bytes(count) {
            return None;
        }
        Some(Self {
            pid: u32::try_from(words[PROCESS]).ok()?,
            tokens: words[HEADER_WORDS..].chunks_exact(TOKEN_WORDS).map(TokenStatus::from_words).collect(),
            failovers: words[FAILOVERS],
            software_signatures: words[SOFTWARE_SIGNATURES],
        })
    }
}

impl TokenStatus {
    fn from_words(words: &[u64]) -> Self {
        let counters = Counters::of(words);
        Self {
            name: read_name(&words[COUNTER_WORDS..]),
            connected: match *counters.connected {
                CONNECTED => Some(true),
                DISCONNECTED => Some(false),
                _ => None,
            },
            signatures: *counters.signatures,
            failures: *counters.failures,
            latency_us: *counters.latency_us,
            retries: *counters.retries,
            reconnects: *counters.reconnects,
            breaker_opened: *counters.breaker_opened,
            timeouts: *counters.timeouts,
            pin_refused: *counters.refused_pin != 0,
        }
    }
}

/// Reads the status of every live server in a directory, removing files of processes that are gone. Where there is no such
/// directory, there is no server.
///
/// # Errors
/// The directory cannot be read.
pub fn read_status(directory: &Path) -> io::Result<Vec<Status>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.file_name().is_some_and(|name| name.as_bytes().ends_with(SUFFIX.as_bytes())) {
            // One that is gone, or not to be read, since the directory was listed.
            found.extend(read_file(&path).ok().flatten());
        }
    }
    found.sort_by_key(|status| status.pid);
    Ok(found)
}

/// The counters of one token: those of a process and all that it forks. All are added to or stored relaxed; they hold
/// nothing together.
pub(crate) type TokenCounters<'a> = Counters<'a, AtomicU64>;

/// The words before a token's name, in this order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters<'a, Word> {
    pub(crate) signatures: &'a Word,
    pub(crate) failures: &'a Word,
    pub(crate) latency_us: &'a Word,
    pub(crate) retries: &'a Word,
    pub(crate) reconnects: &'a Word,
    pub(crate) breaker_opened: &'a Word,
    pub(crate) timeouts: &'a Word,
    /// 0 before the first operation, 1 after one that succeeded, 2 after one that failed.
    pub(crate) connected: &'a Word,
    /// [`crate::Pin::fingerprint`] of the PIN that the token refused; 0 for none.
    pub(crate) refused_pin: &'a Word,
}

impl<'a, Word> Counters<'a, Word> {
    /// Of a token's words, of which there are enough.
    fn of(words: &'a [Word]) -> Self {
        let [
            signatures,
            failures,
            latency_us,
            retries,
            reconnects,
            breaker_opened,
            timeouts,
            connected,
            refused_pin,
            ..,
        ] = words
        else {
            unreachable!("every caller has the words of a whole token");
        };
        Self {
            signatures,
            failures,
            latency_us,
            retries,
            reconnects,
            breaker_opened,
            timeouts,
            connected,
            refused_pin,
        }
    }
}

impl TokenCounters<'_> {
    /// Notes how the last operation ended.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(if connected { CONNECTED } else { DISCONNECTED }, Ordering::Relaxed);
    }
}

/// The counters of one configuration's tokens, shared by a process and all that it forks.
#[derive(Debug)]
pub(crate) struct SharedStatus {
    words: Words,
    tokens: usize,
    /// Dropped behind `words`: a mapping holds the file's lock as well.
    _file: Option<StatusFile>,
}

#[derive(Debug)]
enum Words {
    Shared(SharedMapping),
    /// The system gives no memory to share: each process then counts for itself.
    Own(Box<[AtomicU64]>),
}

impl SharedStatus {
    /// Counters for tokens of these names, in a file in this directory, which is made where it is missing. Where that cannot
    /// be done they are shared by forked processes all the same, and the error says why nobody else can read them.
    pub(crate) fn create(directory: &Path, names: &[String]) -> (Self, Option<io::Error>) {
        let names = &names[..names.len().min(MOST_TOKENS)];
        // One at least, so that a wrong index finds something to count.
        let tokens = names.len().max(1);
        let bytes = file_bytes(tokens);
        match StatusFile::create(directory, bytes, |words| fill(words, tokens, names)) {
            Ok((file, mapping)) => (Self { words: Words::Shared(mapping), tokens, _file: Some(file) }, None),
            Err(error) => {
                let own = || Words::Own((0..bytes / WORD_BYTES).map(|_| AtomicU64::new(0)).collect());
                let words = SharedMapping::anonymous(bytes).map_or_else(|_| own(), Words::Shared);
                let status = Self { words, tokens, _file: None };
                fill(status.words(), tokens, names);
                (status, Some(error))
            }
        }
    }

    /// The counters of a token; those of the last one for an index that is none.
    pub(crate) fn token(&self, index: usize) -> TokenCounters<'_> {
        let start = HEADER_WORDS + index.min(self.tokens - 1) * TOKEN_WORDS;
        Counters::of(&self.words()[start..start + COUNTER_WORDS])
    }

    /// Signatures that another than the first token made.
    pub(crate) fn failovers(&self) -> &AtomicU64 {
        &self.words()[FAILOVERS]
    }

    /// Signatures by a software key.
    pub(crate) fn software_signatures(&self) -> &AtomicU64 {
        &self.words()[SOFTWARE_SIGNATURES]
    }

    /// To be called in a process that finds itself forked: where the process that made the counters is gone, as when a server
    /// goes into the background, the parent of this one stands for them from now on.
    pub(crate) fn note_fork(&self) {
        let word = &self.words()[PROCESS];
        let known = word.load(Ordering::Relaxed);
        if !Path::new("/proc").join(known.to_string()).exists() {
            // Another worker may have done so; then it is the same parent.
            let parent = u64::from(std::os::unix::process::parent_id());
            let _ = word.compare_exchange(known, parent, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn words(&self) -> &[AtomicU64] {
        match &self.words {
            Words::Shared(mapping) => mapping.words(),
            Words::Own(words) => words,
        }
    }
}

/// The file behind the counters; the descriptor holds the lock, and is closed in programs that are started.
#[derive(Debug)]
struct StatusFile {
    path: PathBuf,
    lock: Option<File>,
}

impl Drop for StatusFile {
    /// Removes the file when no other process uses it.
    fn drop(&mut self) {
        drop(self.lock.take());
        let _ = remove_unused(&self.path, Lock::Exclusive);
    }
}

impl StatusFile {
    /// Makes a file of so many bytes, locks and fills it, and only then gives it the name that others look for.
    fn create(
        directory: &Path,
        bytes: usize,
        fill: impl FnOnce(&[AtomicU64]),
    ) -> io::Result<(Self, SharedMapping)> {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        let process = std::process::id();
        let (hidden, lock) = first_free(|number| {
            let path = directory.join(format!(".{process}-{number}.new"));
            let open = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
            open.map(|file| (path, file))
        })?;
        let made = (|| {
            let mapping = SharedMapping::of_file(&lock, bytes)?;
            if !raw::try_lock(&lock, Lock::Exclusive)? {
                return Err(io::Error::other("somebody else locked it"));
            }
            fill(mapping.words());
            lock.set_permissions(Permissions::from_mode(0o644))?;
            let path = first_free(|number| {
                let number = if number == 1 { String::new() } else { format!("-{number}") };
                let path = directory.join(format!("{process}{number}{SUFFIX}"));
                // Of an earlier process with the same number.
                let _ = remove_unused(&path, Lock::Exclusive);
                std::fs::hard_link(&hidden, &path).map(|()| path)
            })?;
            Ok((path, mapping))
        })();
        let _ = std::fs::remove_file(&hidden);
        made.map(|(path, mapping)| (Self { path, lock: Some(lock) }, mapping))
    }
}

/// Counts until a name is free.
fn first_free<T>(attempt: impl Fn(u32) -> io::Result<T>) -> io::Result<T> {
    let mut number = 1;
    loop {
        match attempt(number) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < MOST_FILES => number += 1,
            outcome => return outcome,
        }
    }
}

const fn file_bytes(tokens: usize) -> usize {
    (HEADER_WORDS + tokens * TOKEN_WORDS) * WORD_BYTES
}

fn fill(words: &[AtomicU64], tokens: usize, names: &[String]) {
    let set = |index: usize, value: u64| words[index].store(value, Ordering::Relaxed);
    set(0, MAGIC);
    set(PROCESS, std::process::id().into());
    set(TOKENS, tokens as u64);
    for (index, name) in names.iter().enumerate() {
        let start = HEADER_WORDS + index * TOKEN_WORDS + COUNTER_WORDS;
        // The last byte stays zero.
        let longest = (0..NAME_WORDS * WORD_BYTES).rev().find(|end| name.is_char_boundary(*end));
        let name = name.get(..longest.unwrap_or(0)).unwrap_or_default();
        for (position, chunk) in name.as_bytes().chunks(WORD_BYTES).enumerate() {
            let mut word = [0; WORD_BYTES];
            word[..chunk.len()].copy_from_slice(chunk);
            set(start + position, u64::from_ne_bytes(word));
        }
    }
}

/// For people: what is no text, and what steers a terminal, is replaced.
fn read_name(words: &[u64]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|character| if character.is_control() { '\u{FFFD}' } else { character }).collect()
}

/// The status in a file that somebody uses. One that nobody uses is removed.
fn read_file(path: &Path) -> io::Result<Option<Status>> {
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let Some(status) = Status::parse(&bytes) else { return Ok(None) };
    drop(file);
    Ok(if remove_unused(path, Lock::Shared)? { None } else { Some(status) })
}

/// Opens a file that is a regular one; whoever may write into the directory must not have others read elsewhere, or wait.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// Whether nobody used the file; it is then removed, where this process may do so. Readers ask with a shared lock, so that two
/// of them do not take each other for users.
fn remove_unused(path: &Path, lock: Lock) -> io::Result<bool> {
    let file = open(path)?;
    if !raw::try_lock(&file, lock)? {
        return Ok(false);
    }
    let (locked, named) = (file.metadata()?, std::fs::symlink_metadata(path)?);
    if (locked.dev(), locked.ino()) == (named.dev(), named.ino()) {
        let _ = std::fs::remove_file(path);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn files(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut files: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files
    }

    /// Tests beside this one start programs, which hold every lock from their fork to their exec.
    #[track_caller]
    fn eventually(holds: impl Fn() -> bool) {
        let started = std::time::Instant::now();
        while !holds() {
            assert!(started.elapsed() < std::time::Duration::from_secs(10), "it never holds");
        }
    }

    #[test]
    fn what_is_counted_is_what_another_reads() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("qtls");
        let (status, error) = SharedStatus::create(&place, &names(&["first", "second \u{1b}[31m"]));
        assert!(error.is_none(), "{error:?}");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        let file = place.join(format!("{}.status", std::process::id()));
        assert_eq!(mode(&file), 0o644);
        let second = status.token(1);
        let words = [
            second.signatures,
            second.failures,
            second.latency_us,
            second.retries,
            second.reconnects,
            second.breaker_opened,
            second.timeouts,
        ];
        (1..).zip(words).for_each(|(value, word)| word.store(value, Ordering::Relaxed));
        second.set_connected(false);
        second.refused_pin.store(9, Ordering::Relaxed);
        status.token(0).set_connected(true);
        status.failovers().fetch_add(8, Ordering::Relaxed);
        status.software_signatures().fetch_add(9, Ordering::Relaxed);
        let expected = Status {
            pid: std::process::id(),
            tokens: vec![
                TokenStatus { name: "first".into(), connected: Some(true), ..TokenStatus::default() },
                TokenStatus {
                    name: "second \u{FFFD}[31m".into(),
                    connected: Some(false),
                    signatures: 1,
                    failures: 2,
                    latency_us: 3,
                    retries: 4,
                    reconnects: 5,
                    breaker_opened: 6,
                    timeouts: 7,
                    pin_refused: true,
                },
            ],
            failovers: 8,
            software_signatures: 9,
        };
        assert_eq!(read_status(&place).unwrap(), [expected]);
        assert_eq!(files(&place).len(), 1, "no hidden file stays behind");
        drop(status);
        eventually(|| read_status(&place).unwrap().is_empty());
        let removed = || {
            drop(SharedStatus::create(&place, &names(&["first"])));
            files(&place).is_empty()
        };
        eventually(removed);
    }

    #[test]
    fn two_of_one_process_have_a_file_each() {
        let directory = tempfile::tempdir().unwrap();
        let (one, _) = SharedStatus::create(directory.path(), &names(&["one"]));
        let (two, _) = SharedStatus::create(directory.path(), &names(&["two"]));
        assert_eq!(read_status(directory.path()).unwrap().len(), 2);
        drop(one);
        eventually(|| {
            let left = read_status(directory.path()).unwrap();
            left.len() == 1 && left[0].tokens[0].name == "two"
        });
        drop(two);
    }

    #[test]
    fn a_file_that_nobody_locks_is_removed_by_whoever_reads_or_needs_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let stale = |name: &str| {
            let (status, _) = SharedStatus::create(directory.path(), &names(&["gone"]));
            let made = status._file.as_ref().unwrap().path.clone();
            std::fs::copy(&made, directory.path().join("copy")).unwrap();
            drop(status);
            std::fs::rename(directory.path().join("copy"), directory.path().join(name)).unwrap();
        };
        stale("4711.status");
        assert_eq!(read_status(directory.path()).unwrap(), []);
        assert!(files(directory.path()).is_empty());
        let own = format!("{}.status", std::process::id());
        stale(&own);
        let (status, _) = SharedStatus::create(directory.path(), &names(&["here"]));
        assert_eq!(files(directory.path()), [own]);
        assert_eq!(read_status(directory.path()).unwrap()[0].tokens[0].name, "here");
        drop(status);
    }

    #[test]
    fn without_a_file_it_counts_all_the_same_and_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (status, error) = SharedStatus::create(&file, &names(&["first"]));
        assert!(error.is_some());
        status.token(0).signatures.fetch_add(1, Ordering::Relaxed);
        // An index that is none counts somewhere, and does not panic.
        assert_eq!(status.token(7).signatures.load(Ordering::Relaxed), 1);
        assert_eq!(SharedStatus::create(&file, &[]).0.token(0).signatures.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_creator_that_is_gone_is_replaced_by_the_parent_of_who_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let (status, _) = SharedStatus::create(directory.path(), &names(&["first"]));
        status.note_fork();
        assert_eq!(read_status(directory.path()).unwrap()[0].pid, std::process::id());
        // More than any system has.
        status.words()[PROCESS].store(u32::MAX.into(), Ordering::Relaxed);
        status.note_fork();
        assert_eq!(read_status(directory.path()).unwrap()[0].pid, std::os::unix::process::parent_id());
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let directory = tempfile::tempdir().unwrap();
        let (status, _) = SharedStatus::create(directory.path(), &names(&[&"é".repeat(200), "next"]));
        let read = read_status(directory.path()).unwrap().remove(0);
        assert_eq!((read.tokens[0].name.as_str(), read.tokens[1].name.as_str()), (&*"é".repeat(127), "next"));
        drop(status);
    }

    #[test]
    fn what_is_no_status_file_is_neither_read_nor_removed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("1.status"), "something else").unwrap();
        std::fs::create_dir(directory.path().join("2.status")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("3.status")).unwrap();
        assert_eq!(read_status(directory.path()).unwrap(), []);
        assert_eq!(files(directory.path()), ["1.status", "2.status", "3.status"]);
        assert_eq!(read_status(&directory.path().join("none")).unwrap(), []);
    }

    #[test]
    fn a_file_of_another_layout_or_length_is_none() {
        let words = |words: &[u64], bytes: usize| {
            let mut content: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            content.resize(bytes, 0);
            Status::parse(&content)
        };
        assert!(words(&[MAGIC, 1, 1], file_bytes(1)).is_some());
        assert!(words(&[MAGIC, 1, 0], file_bytes(0)).is_some());
        assert!(words(&[MAGIC + 1, 1, 1], file_bytes(1)).is_none());
        assert!(words(&[MAGIC, u64::MAX, 1], file_bytes(1)).is_none());
        assert!(words(&[MAGIC, 1, u64::MAX], file_bytes(1)).is_none());
        assert!(words(&[MAGIC, 1, 1], file_bytes(1) + 1).is_none());
        assert!(words(&[MAGIC, 1, 2], file_bytes(1)).is_none());
        assert!(words(&[MAGIC], 8).is_none() && Status::parse(&[]).is_none());
    }
}
