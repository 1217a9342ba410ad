//! The C calls of this crate: PKCS#11 modules, shared and locked memory, the environment. Everything that is unsafe is in
//! this file, behind safe functions.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use zeroize::Zeroize;

/// Memory that this process shares with those it forks (and, of a file, with whoever maps it): words that are read and
/// written as atomics alone.
#[derive(Debug)]
pub(crate) struct SharedMapping {
    words: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the memory belongs to the mapping until it is dropped, and is reached as atomics alone.
unsafe impl Send for SharedMapping {}
// SAFETY: as above.
unsafe impl Sync for SharedMapping {}

impl SharedMapping {
    /// Maps the first `bytes` of a file, which is made as long as that where it is shorter: memory behind a file's end kills
    /// whoever touches it.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn of_file(file: &std::fs::File, bytes: usize) -> io::Result<Self> {
        if file.metadata()?.len() < bytes as u64 {
            file.set_len(bytes as u64)?;
        }
        Self::map(bytes, libc::MAP_SHARED, file.as_raw_fd())
    }

    /// Memory without a file: the processes forked from now on share it.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        Self::map(bytes, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
    }

    /// The whole words of it.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has `count` words, is aligned to a page, lives as long as `self`, and nothing in Rust holds
        // it but as atomics.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.count) }
    }

    fn map(bytes: usize, flags: libc::c_int, descriptor: libc::c_int) -> io::Result<Self> {
        let count = bytes / size_of::<AtomicU64>();
        Ok(Self { words: map_pages(bytes, flags, descriptor)?, count })
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: the address and length of the mapping made in `map`; `words` borrows from `self`, so none is left.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.count * size_of::<AtomicU64>()) };
    }
}

/// Secret bytes in pages of their own: kept out of swap where the limit of locked memory allows it, out of core dumps, and
/// wiped before they are given back. A process that is forked inherits them, but not that they are locked: see
/// [`LockedBytes::lock`].
pub(crate) struct LockedBytes {
    bytes: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the value alone, which hands it out by the rules of borrowing.
unsafe impl Send for LockedBytes {}
// SAFETY: as above.
unsafe impl Sync for LockedBytes {}

impl LockedBytes {
    /// So many bytes of zero.
    ///
    /// # Errors
    /// The system has no memory. That it cannot be locked is no error: the limit is often small.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let bytes = map_pages::<u8>(length.max(1), private, -1)?;
        let locked = Self { bytes, length };
        // SAFETY: the mapping made above; the advice changes what a core dump holds and nothing else.
        unsafe { libc::madvise(bytes.as_ptr().cast(), locked.mapped_bytes(), libc::MADV_DONTDUMP) };
        locked.lock();
        Ok(locked)
    }

    /// Keeps the pages out of swap, as far as the limit allows: `fork` does not inherit that (mlock(2)), so a child asks
    /// again.
    pub(crate) fn lock(&self) {
        // SAFETY: our own mapping; locking it changes none of its contents.
        unsafe { libc::mlock(self.bytes.as_ptr().cast(), self.mapped_bytes()) };
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping has `length` initialised bytes (the system gives zeros) and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.length) }
    }

    /// The bytes, to fill.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably, so nobody else reads.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr(), self.length) }
    }

    /// A mapping of no bytes does not exist.
    fn mapped_bytes(&self) -> usize {
        self.length.max(1)
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.as_mut_slice().zeroize();
        // SAFETY: the address and length of the mapping made in `new`, which nothing borrows any more.
        unsafe { libc::munmap(self.bytes.as_ptr().cast(), self.mapped_bytes()) };
    }
}

/// Sets an environment variable, which is what C code reads with `getenv`. Nothing happens for a name or value that C
/// cannot hold.
pub(crate) fn set_environment(name: &OsStr, value: &OsStr) {
    let (Ok(name), Ok(value)) = (CString::new(name.as_bytes()), CString::new(value.as_bytes())) else {
        return;
    };
    // SAFETY: both are C strings that live until the call returns, and `setenv` copies them. The C library's rule is that
    // no other thread reads the environment meanwhile; the callers set variables that are missing, before a module is
    // initialised for the first time in a process, which is before anybody has a reason to read them.
    unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) };
}

/// How a file is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Beside others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

/// Locks a file (`flock`) without waiting; whether nobody else has. The lock belongs to the open file: processes forked from
/// now on hold it too, until the last of them has closed it.
///
/// # Errors
/// What the system answers.
pub(crate) fn try_lock(file: &std::fs::File, lock: Lock) -> io::Result<bool> {
    let operation = match lock {
        Lock::Shared => libc::LOCK_SH,
        Lock::Exclusive => libc::LOCK_EX,
    };
    // SAFETY: the descriptor is open as long as `file` is borrowed; the call touches no memory.
    if unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

fn map_pages<T>(bytes: usize, flags: libc::c_int, descriptor: libc::c_int) -> io::Result<NonNull<T>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address that the system chooses touches no memory of ours.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, descriptor, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::other("the system mapped memory at address 0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_one_mapping_of_a_file_writes_another_reads() {
        let path = std::env::temp_dir().join(format!("qtls-mapping-{}", std::process::id()));
        let file =
            std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        let written = SharedMapping::of_file(&file, 64).unwrap();
        let read = SharedMapping::of_file(&file, 64).unwrap();
        std::fs::remove_file(&path).unwrap();
        written.words()[7].store(42, Ordering::Relaxed);
        assert_eq!((read.words().len(), read.words()[7].load(Ordering::Relaxed)), (8, 42));
    }

    #[test]
    fn anonymous_memory_begins_as_zeros() {
        let mapping = SharedMapping::anonymous(4096).unwrap();
        assert_eq!(mapping.words().len(), 512);
        assert!(mapping.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn locked_bytes_hold_what_is_written() {
        let mut bytes = LockedBytes::new(5).unwrap();
        bytes.as_mut_slice().copy_from_slice(b"12345");
        assert_eq!(bytes.as_slice(), b"12345");
        assert!(LockedBytes::new(0).unwrap().as_slice().is_empty());
    }
}
