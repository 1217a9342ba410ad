//! The C calls of this crate: PKCS#11 modules, shared and locked memory, the environment. Everything that is unsafe is in
//! this file, behind safe functions.
#![allow(unsafe_code)]

use cryptoki_sys::*;
use std::ffi::{CString, OsStr};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::{fmt, io};
use zeroize::Zeroize;

/// A module's answer that is not CKR_OK.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rv(pub(crate) CK_RV);

impl fmt::Display for Rv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match answer_name(self.0) {
            Some(name) => f.write_str(name),
            None if self.0 >= CKR_VENDOR_DEFINED => write!(f, "the vendor's error {:#010x}", self.0),
            None => write!(f, "the unknown error {:#x}", self.0),
        }
    }
}

impl fmt::Debug for Rv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Attributes to look for or to make an object with: types and values.
pub(crate) type Template = Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>;

/// A CK_ULONG as a value of an attribute.
pub(crate) fn ulong(value: CK_ULONG) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

/// What a module says of itself, a slot and a token, without the blanks that fill the fields.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) id: CK_SLOT_ID,
    pub(crate) description: String,
    pub(crate) slot_manufacturer: String,
    pub(crate) label: String,
    pub(crate) manufacturer: String,
    pub(crate) model: String,
    pub(crate) serial: String,
    pub(crate) flags: CK_FLAGS,
}

/// How a key is to sign.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SignMechanism<'a> {
    /// CKM_RSA_PKCS
    RsaPkcs1,
    /// CKM_RSA_PKCS_PSS
    RsaPss { hash: CK_MECHANISM_TYPE, mgf: CK_RSA_PKCS_MGF_TYPE, salt: usize },
    /// CKM_ECDSA
    Ecdsa,
    /// CKM_ML_DSA
    MlDsa { context: &'a [u8], deterministic: bool },
}

/// The functions of a module that stays loaded until the process ends: libraries that are unloaded while their threads and
/// exit handlers are about are the commonest crash of PKCS#11.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    list: &'static CK_FUNCTION_LIST,
}

// SAFETY: a table of functions that nobody writes after the module has handed it out; the functions may be called by any
// thread once the module is initialised with CKF_OS_LOCKING_OK, and its callers do so only then.
unsafe impl Send for Functions {}
// SAFETY: as above.
unsafe impl Sync for Functions {}

/// Calls a function of the list; one that a module leaves out counts as CKR_FUNCTION_NOT_SUPPORTED.
macro_rules! call {
    ($functions:expr, $name:ident $(, $argument:expr)* $(,)?) => {
        match $functions.list.$name {
            // SAFETY: the signature is that of the standard, which the module claims to implement; every pointer handed
            // over is made from a reference or a slice in the same expression or above it, is valid for the length that
            // goes with it, and is not kept by the module after the call (PKCS#11 3.2 section 5.1).
            Some(function) => done(unsafe { function($($argument),*) }),
            None => Err(Rv(CKR_FUNCTION_NOT_SUPPORTED)),
        }
    };
}

impl Functions {
    /// Loads a module and asks it for its functions.
    ///
    /// # Errors
    /// In words for people: the file does not load, or is no PKCS#11 module.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
        // SAFETY: loading runs the library's initialisers. That they are sound cannot be checked; the file is one that the
        // administrator named in the configuration.
        let library =
            unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| error.to_string())?;
        let library = ManuallyDrop::new(library);
        let mut list: *mut CK_FUNCTION_LIST = std::ptr::null_mut();
        // SAFETY: the symbol has this type by the standard.
        let get_list = unsafe { library.get::<GetFunctionList>(b"C_GetFunctionList\0") };
        let get_list =
            get_list.map_err(|_| "it has no C_GetFunctionList: it is no PKCS#11 module".to_owned())?;
        // SAFETY: the argument is a valid place for the pointer.
        done(unsafe { get_list(&mut list) }).map_err(|rv| format!("C_GetFunctionList answered {rv}"))?;
        // SAFETY: the standard says that the pointer is to a list that stays valid while the library is loaded, which is for
        // ever; a null pointer is looked for.
        match unsafe { list.as_ref() } {
            Some(list) if list.version.major >= OLDEST_MAJOR_VERSION => Ok(Self { list }),
            Some(list) => Err(format!("it is of PKCS#11 {}: 2.x or 3.x is needed", list.version.major)),
            None => Err("C_GetFunctionList gave no list".to_owned()),
        }
    }

    pub(crate) fn initialize(&self) -> Result<(), Rv> {
        let mut arguments = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: CKF_OS_LOCKING_OK,
            pReserved: std::ptr::null_mut(),
        };
        call!(self, C_Initialize, (&raw mut arguments).cast())
    }

    pub(crate) fn finalize(&self) -> Result<(), Rv> {
        call!(self, C_Finalize, std::ptr::null_mut())
    }

    /// The slots that hold a token, with what their tokens say; a token that vanishes while being asked is left out.
    pub(crate) fn slots(&self) -> Result<Vec<Slot>, Rv> {
        let mut ids: Vec<CK_SLOT_ID> = Vec::new();
        // Slots may be added between the two calls.
        for _ in 0..SLOT_LIST_ATTEMPTS {
            let mut count: CK_ULONG = 0;
            call!(self, C_GetSlotList, CK_TRUE, std::ptr::null_mut(), &mut count)?;
            ids = vec![0; to_usize(count)];
            let mut filled = count;
            match call!(self, C_GetSlotList, CK_TRUE, ids.as_mut_ptr(), &mut filled) {
                Err(Rv(CKR_BUFFER_TOO_SMALL)) => continue,
                answer => answer?,
            }
            ids.truncate(to_usize(filled));
            break;
        }
        let mut slots = Vec::with_capacity(ids.len());
        for id in ids {
            match self.slot(id) {
                Ok(slot) => slots.push(slot),
                Err(Rv(CKR_TOKEN_NOT_PRESENT | CKR_TOKEN_NOT_RECOGNIZED | CKR_SLOT_ID_INVALID)) => {}
                Err(rv) => return Err(rv),
            }
        }
        Ok(slots)
    }

    fn slot(&self, id: CK_SLOT_ID) -> Result<Slot, Rv> {
        let mut slot = CK_SLOT_INFO::default();
        call!(self, C_GetSlotInfo, id, &mut slot)?;
        let mut token = CK_TOKEN_INFO::default();
        call!(self, C_GetTokenInfo, id, &mut token)?;
        Ok(Slot {
            id,
            description: text(&slot.slotDescription),
            slot_manufacturer: text(&slot.manufacturerID),
            label: text(&token.label),
            manufacturer: text(&token.manufacturerID),
            model: text(&token.model),
            serial: text(&token.serialNumber),
            flags: token.flags,
        })
    }

    pub(crate) fn open_session(&self, slot: CK_SLOT_ID, writable: bool) -> Result<CK_SESSION_HANDLE, Rv> {
        let flags = if writable { CKF_SERIAL_SESSION | CKF_RW_SESSION } else { CKF_SERIAL_SESSION };
        let mut session = 0;
        call!(self, C_OpenSession, slot, flags, std::ptr::null_mut(), None, &mut session)?;
        Ok(session)
    }

    pub(crate) fn close_session(&self, session: CK_SESSION_HANDLE) -> Result<(), Rv> {
        call!(self, C_CloseSession, session)
    }

    pub(crate) fn login(&self, session: CK_SESSION_HANDLE, pin: &[u8]) -> Result<(), Rv> {
        // The standard's functions take what they only read through pointers to mutable bytes.
        call!(self, C_Login, session, CKU_USER, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG)
    }

    /// Every object that has these attributes.
    pub(crate) fn find(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<Vec<CK_OBJECT_HANDLE>, Rv> {
        let mut attributes = attributes_of(template);
        call!(self, C_FindObjectsInit, session, attributes.as_mut_ptr(), attributes.len() as CK_ULONG)?;
        let mut found = Vec::new();
        let answer = loop {
            let mut batch = [0; OBJECTS_AT_ONCE];
            let mut count: CK_ULONG = 0;
            let answer = call!(
                self,
                C_FindObjects,
                session,
                batch.as_mut_ptr(),
                OBJECTS_AT_ONCE as CK_ULONG,
                &mut count
            );
            if answer.is_err() || count == 0 {
                break answer;
            }
            found.extend_from_slice(&batch[..to_usize(count).min(OBJECTS_AT_ONCE)]);
        };
        let ended = call!(self, C_FindObjectsFinal, session);
        answer.and(ended)?;
        Ok(found)
    }

    /// The values of attributes, none where the object has no such attribute or does not show it.
    pub(crate) fn attributes(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        types: &[CK_ATTRIBUTE_TYPE],
    ) -> Result<Vec<Option<Vec<u8>>>, Rv> {
        // One by one: modules differ in what they do with the rest when one attribute is not there.
        types.iter().map(|kind| self.attribute(session, object, *kind)).collect()
    }

    fn attribute(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        kind: CK_ATTRIBUTE_TYPE,
    ) -> Result<Option<Vec<u8>>, Rv> {
        let mut attribute = CK_ATTRIBUTE { type_: kind, pValue: std::ptr::null_mut(), ulValueLen: 0 };
        match call!(self, C_GetAttributeValue, session, object, &mut attribute, 1) {
            Ok(()) => {}
            Err(Rv(CKR_ATTRIBUTE_TYPE_INVALID | CKR_ATTRIBUTE_SENSITIVE | CKR_ATTRIBUTE_VALUE_INVALID)) => {
                return Ok(None);
            }
            Err(rv) => return Err(rv),
        }
        if attribute.ulValueLen == CK_UNAVAILABLE_INFORMATION {
            return Ok(None);
        }
        let mut value = vec![0_u8; to_usize(attribute.ulValueLen).min(LONGEST_ATTRIBUTE)];
        attribute.pValue = value.as_mut_ptr().cast();
        attribute.ulValueLen = value.len() as CK_ULONG;
        match call!(self, C_GetAttributeValue, session, object, &mut attribute, 1) {
            Ok(()) => {}
            Err(Rv(CKR_ATTRIBUTE_TYPE_INVALID | CKR_ATTRIBUTE_SENSITIVE)) => return Ok(None),
            Err(rv) => return Err(rv),
        }
        value.truncate(to_usize(attribute.ulValueLen));
        Ok(Some(value))
    }

    pub(crate) fn sign_init(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: SignMechanism<'_>,
        key: CK_OBJECT_HANDLE,
    ) -> Result<(), Rv> {
        let mut pss;
        let mut additional;
        let mut parameters =
            CK_MECHANISM { mechanism: CKM_ECDSA, pParameter: std::ptr::null_mut(), ulParameterLen: 0 };
        match mechanism {
            SignMechanism::Ecdsa => {}
            SignMechanism::RsaPkcs1 => parameters.mechanism = CKM_RSA_PKCS,
            SignMechanism::RsaPss { hash, mgf, salt } => {
                pss = CK_RSA_PKCS_PSS_PARAMS { hashAlg: hash, mgf, sLen: salt as CK_ULONG };
                parameters.mechanism = CKM_RSA_PKCS_PSS;
                parameters.pParameter = (&raw mut pss).cast();
                parameters.ulParameterLen = size_of::<CK_RSA_PKCS_PSS_PARAMS>() as CK_ULONG;
            }
            SignMechanism::MlDsa { context, deterministic } => {
                parameters.mechanism = CKM_ML_DSA;
                let hedge = if deterministic { CKH_DETERMINISTIC_REQUIRED } else { CKH_HEDGE_PREFERRED };
                additional = CK_SIGN_ADDITIONAL_CONTEXT {
                    hedgeVariant: hedge,
                    pContext: std::ptr::null_mut(),
                    ulContextLen: context.len() as CK_ULONG,
                };
                if !context.is_empty() {
                    additional.pContext = context.as_ptr().cast_mut();
                }
                // Without parameters a token hedges where it can and takes no context (PKCS#11 3.2 section 6.67.5), which
                // every token understands.
                if deterministic || !context.is_empty() {
                    parameters.pParameter = (&raw mut additional).cast();
                    parameters.ulParameterLen = size_of::<CK_SIGN_ADDITIONAL_CONTEXT>() as CK_ULONG;
                }
            }
        }
        call!(self, C_SignInit, session, &mut parameters, key)
    }

    /// The answer is how many bytes of `out` the signature has.
    pub(crate) fn sign(&self, session: CK_SESSION_HANDLE, input: &[u8], out: &mut [u8]) -> Result<usize, Rv> {
        let mut length = out.len() as CK_ULONG;
        let bytes = input.as_ptr().cast_mut();
        call!(self, C_Sign, session, bytes, input.len() as CK_ULONG, out.as_mut_ptr(), &mut length)?;
        Ok(to_usize(length).min(out.len()))
    }

    /// The handles of a new key pair: public, private.
    pub(crate) fn generate_key_pair(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        public: &Template,
        private: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE), Rv> {
        let mut mechanism = CK_MECHANISM { mechanism, pParameter: std::ptr::null_mut(), ulParameterLen: 0 };
        let (mut public_attributes, mut private_attributes) = (attributes_of(public), attributes_of(private));
        let (mut public_key, mut private_key) = (0, 0);
        call!(
            self,
            C_GenerateKeyPair,
            session,
            &mut mechanism,
            public_attributes.as_mut_ptr(),
            public_attributes.len() as CK_ULONG,
            private_attributes.as_mut_ptr(),
            private_attributes.len() as CK_ULONG,
            &mut public_key,
            &mut private_key,
        )?;
        Ok((public_key, private_key))
    }
}

/// A value of which every process has its own: one that was forked makes a new one and leaves its parent's alone, which is
/// neither used nor dropped, since its locks may be held by threads that the fork did not copy.
pub(crate) struct PerProcess<T> {
    current: AtomicPtr<OwnedBy<T>>,
}

struct OwnedBy<T> {
    pid: u32,
    value: T,
}

// SAFETY: it hands out shared references alone, and may drop the value in another thread.
unsafe impl<T: Send + Sync> Send for PerProcess<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self { current: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// This process's value, made where there is none; `make` is handed the parent's, of which it must not touch locks.
    pub(crate) fn get(&self, make: impl FnOnce(Option<&T>) -> T) -> &T {
        let pid = std::process::id();
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: the pointer is null or came from `Box::into_raw` below, and what it points to is dropped with `self` alone.
        let inherited = unsafe { current.as_ref() };
        match inherited {
            Some(owned) if owned.pid == pid => return &owned.value,
            _ => {}
        }
        let made = Box::into_raw(Box::new(OwnedBy { pid, value: make(inherited.map(|owned| &owned.value)) }));
        let exchanged = self.current.compare_exchange(current, made, Ordering::AcqRel, Ordering::Acquire);
        let current = match exchanged {
            Ok(_) => made,
            Err(other) => {
                // SAFETY: it was made above and shown to nobody.
                drop(unsafe { Box::from_raw(made) });
                other
            }
        };
        // SAFETY: as for `inherited`; it is not null, since nobody stores null.
        unsafe { &(*current).value }
    }

    /// This process's value, where there is one.
    pub(crate) fn peek(&self) -> Option<&T> {
        // SAFETY: as in `get`.
        let owned = unsafe { self.current.load(Ordering::Acquire).as_ref() }?;
        (owned.pid == std::process::id()).then_some(&owned.value)
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let current = *self.current.get_mut();
        if self.peek().is_some() {
            // SAFETY: the pointer came from `Box::into_raw`, and `self` is borrowed mutably: no reference is left.
            drop(unsafe { Box::from_raw(current) });
        }
    }
}

/// A list that only grows, without a lock: a process forked at any moment can read and extend it.
pub(crate) struct PushList<T> {
    newest: AtomicPtr<Node<T>>,
}

struct Node<T> {
    value: T,
    older: *mut Node<T>,
}

// SAFETY: it hands out shared references alone, and may drop the values in another thread.
unsafe impl<T: Send + Sync> Send for PushList<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for PushList<T> {}

impl<T> PushList<T> {
    pub(crate) const fn new() -> Self {
        Self { newest: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let mut next = self.newest.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: null, or from `Box::into_raw` below; nodes are dropped with the list alone.
            let node = unsafe { next.as_ref() }?;
            next = node.older;
            Some(&node.value)
        })
    }

    /// The newest that `wanted` says yes to; where there is none, `make`'s, which is put in.
    pub(crate) fn find_or_push(&self, wanted: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &T {
        if let Some(found) = self.iter().find(|value| wanted(value)) {
            return found;
        }
        let node = Box::into_raw(Box::new(Node { value: make(), older: std::ptr::null_mut() }));
        loop {
            let newest = self.newest.load(Ordering::Acquire);
            // What another thread put in since is there to be found.
            if let Some(found) = self.iter().find(|value| wanted(value)) {
                // SAFETY: it was made above and shown to nobody.
                drop(unsafe { Box::from_raw(node) });
                return found;
            }
            // SAFETY: as above: nobody else has the pointer yet.
            unsafe { (*node).older = newest };
            if self.newest.compare_exchange(newest, node, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                // SAFETY: nodes are dropped with the list alone.
                return unsafe { &(*node).value };
            }
        }
    }
}

impl<T> Drop for PushList<T> {
    fn drop(&mut self) {
        let mut next = *self.newest.get_mut();
        while !next.is_null() {
            // SAFETY: the pointer came from `Box::into_raw`, and `self` is borrowed mutably: no reference is left.
            let node = unsafe { Box::from_raw(next) };
            next = node.older;
        }
    }
}

/// Starts a thread that no signal is delivered to: a server's own threads are to be woken by them. The library that this
/// code is in stays loaded from now on, because a thread that hangs in a module comes back to it.
///
/// # Errors
/// The system has no room for a thread.
pub(crate) fn spawn_without_signals(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<std::thread::JoinHandle<()>> {
    stay_loaded();
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both are places for a set of signals; the first is filled by the first call and read by the second. A new
    // thread inherits the mask (pthread_sigmask(3)), so there is no moment in which it could be interrupted.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    // SAFETY: the set was filled by the call above, which cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    thread
}

/// Has `handler` called when the process exits, before what was registered earlier.
pub(crate) fn at_exit(handler: extern "C" fn()) {
    // SAFETY: a function of this library, which the C library calls at most once for each registration: at exit, or when
    // this library is unloaded.
    unsafe { libc::atexit(handler) };
}

/// Whether a process of this number lives.
pub(crate) fn process_lives(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 is not sent; it only asks.
    let answer = unsafe { libc::kill(pid, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Random bytes of the operating system.
///
/// # Errors
/// What the system answers.
pub(crate) fn random_bytes(out: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < out.len() {
        let rest = &mut out[filled..];
        // SAFETY: the pointer and length are those of the slice.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => filled += count,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

fn stay_loaded() {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if ONCE.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is that of a function in this library, and `found` a place for the answer; its name is a C string
    // that lives as long as the library. Opening a library that is loaded already only raises its count.
    unsafe {
        let here = stay_loaded as fn() as *const libc::c_void;
        if libc::dladdr(here, found.as_mut_ptr()) != 0 {
            let name = found.assume_init().dli_fname;
            libc::dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
}

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

type GetFunctionList = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;

/// What has changed since 2.x in the functions that are called here is nothing.
const OLDEST_MAJOR_VERSION: u8 = 2;
const SLOT_LIST_ATTEMPTS: usize = 4;
const OBJECTS_AT_ONCE: usize = 64;
/// No attribute that is asked for comes near: it guards against a module that answers nonsense.
const LONGEST_ATTRIBUTE: usize = 1 << 20;

fn done(rv: CK_RV) -> Result<(), Rv> {
    if rv == CKR_OK { Ok(()) } else { Err(Rv(rv)) }
}

fn to_usize(length: CK_ULONG) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// The pointers live as long as the template.
fn attributes_of(template: &Template) -> Vec<CK_ATTRIBUTE> {
    let attribute = |(kind, value): &(CK_ATTRIBUTE_TYPE, Vec<u8>)| CK_ATTRIBUTE {
        type_: *kind,
        pValue: value.as_ptr().cast_mut().cast(),
        ulValueLen: value.len() as CK_ULONG,
    };
    template.iter().map(attribute).collect()
}

/// A field of fixed length, filled with blanks (PKCS#11 3.2 section 3.2); some modules end it with a zero.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).trim_end().to_owned()
}

macro_rules! names {
    ($($name:ident)*) => {
        fn answer_name(rv: CK_RV) -> Option<&'static str> {
            match rv {
                $($name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

names! {
    CKR_CANCEL CKR_HOST_MEMORY CKR_SLOT_ID_INVALID CKR_GENERAL_ERROR CKR_FUNCTION_FAILED CKR_ARGUMENTS_BAD CKR_NO_EVENT CKR_NEED_TO_CREATE_THREADS CKR_CANT_LOCK CKR_ATTRIBUTE_READ_ONLY CKR_ATTRIBUTE_SENSITIVE CKR_ATTRIBUTE_TYPE_INVALID CKR_ATTRIBUTE_VALUE_INVALID CKR_ACTION_PROHIBITED CKR_DATA_INVALID CKR_DATA_LEN_RANGE CKR_DEVICE_ERROR CKR_DEVICE_MEMORY CKR_DEVICE_REMOVED CKR_ENCRYPTED_DATA_INVALID CKR_ENCRYPTED_DATA_LEN_RANGE CKR_AEAD_DECRYPT_FAILED CKR_FUNCTION_CANCELED CKR_FUNCTION_NOT_PARALLEL CKR_FUNCTION_NOT_SUPPORTED CKR_KEY_HANDLE_INVALID CKR_KEY_SIZE_RANGE CKR_KEY_TYPE_INCONSISTENT CKR_KEY_NOT_NEEDED CKR_KEY_CHANGED CKR_KEY_NEEDED CKR_KEY_INDIGESTIBLE CKR_KEY_FUNCTION_NOT_PERMITTED CKR_KEY_NOT_WRAPPABLE CKR_KEY_UNEXTRACTABLE CKR_MECHANISM_INVALID CKR_MECHANISM_PARAM_INVALID CKR_OBJECT_HANDLE_INVALID CKR_OPERATION_ACTIVE CKR_OPERATION_NOT_INITIALIZED CKR_PIN_INCORRECT CKR_PIN_INVALID CKR_PIN_LEN_RANGE CKR_PIN_EXPIRED CKR_PIN_LOCKED CKR_SESSION_CLOSED CKR_SESSION_COUNT CKR_SESSION_HANDLE_INVALID CKR_SESSION_PARALLEL_NOT_SUPPORTED CKR_SESSION_READ_ONLY CKR_SESSION_EXISTS CKR_SESSION_READ_ONLY_EXISTS CKR_SESSION_READ_WRITE_SO_EXISTS CKR_SIGNATURE_INVALID CKR_SIGNATURE_LEN_RANGE CKR_TEMPLATE_INCOMPLETE CKR_TEMPLATE_INCONSISTENT CKR_TOKEN_NOT_PRESENT CKR_TOKEN_NOT_RECOGNIZED CKR_TOKEN_WRITE_PROTECTED CKR_UNWRAPPING_KEY_HANDLE_INVALID CKR_UNWRAPPING_KEY_SIZE_RANGE CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT CKR_USER_ALREADY_LOGGED_IN CKR_USER_NOT_LOGGED_IN CKR_USER_PIN_NOT_INITIALIZED CKR_USER_TYPE_INVALID CKR_USER_ANOTHER_ALREADY_LOGGED_IN CKR_USER_TOO_MANY_TYPES CKR_WRAPPED_KEY_INVALID CKR_WRAPPED_KEY_LEN_RANGE CKR_WRAPPING_KEY_HANDLE_INVALID CKR_WRAPPING_KEY_SIZE_RANGE CKR_WRAPPING_KEY_TYPE_INCONSISTENT CKR_RANDOM_SEED_NOT_SUPPORTED CKR_RANDOM_NO_RNG CKR_DOMAIN_PARAMS_INVALID CKR_CURVE_NOT_SUPPORTED CKR_BUFFER_TOO_SMALL CKR_SAVED_STATE_INVALID CKR_INFORMATION_SENSITIVE CKR_STATE_UNSAVEABLE CKR_CRYPTOKI_NOT_INITIALIZED CKR_CRYPTOKI_ALREADY_INITIALIZED CKR_MUTEX_BAD CKR_MUTEX_NOT_LOCKED CKR_NEW_PIN_MODE CKR_NEXT_OTP CKR_EXCEEDED_MAX_ITERATIONS CKR_FIPS_SELF_TEST_FAILED CKR_LIBRARY_LOAD_FAILED CKR_PIN_TOO_WEAK CKR_PUBLIC_KEY_INVALID CKR_FUNCTION_REJECTED CKR_TOKEN_RESOURCE_EXCEEDED CKR_OPERATION_CANCEL_FAILED CKR_KEY_EXHAUSTED CKR_PENDING CKR_SESSION_ASYNC_NOT_SUPPORTED CKR_SEED_RANDOM_REQUIRED CKR_OPERATION_NOT_VALIDATED CKR_TOKEN_NOT_INITIALIZED CKR_PARAMETER_SET_NOT_SUPPORTED
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
    fn a_process_makes_its_value_once() {
        let value = PerProcess::new();
        assert!(value.peek().is_none());
        let first: *const u32 = value.get(|parent| {
            assert!(parent.is_none());
            7
        });
        assert!(std::ptr::eq(first, value.get(|_| unreachable!())));
        assert_eq!(value.peek(), Some(&7));
    }

    #[test]
    fn a_list_that_threads_extend_holds_each_value_once() {
        let list = PushList::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for value in 0..100 {
                        assert_eq!(*list.find_or_push(|there| *there == value, || value), value);
                    }
                });
            }
        });
        let mut values: Vec<i32> = list.iter().copied().collect();
        assert_eq!(list.iter().next(), Some(&99), "the newest first");
        values.sort_unstable();
        assert_eq!(values, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn threads_for_modules_take_no_signals() {
        let blocked = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let mask =
                status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim().to_owned();
            u64::from_str_radix(&mask, 16).unwrap()
        };
        let before = blocked();
        let (send, received) = std::sync::mpsc::channel();
        spawn_without_signals("test", move || send.send(blocked()).unwrap()).unwrap().join().unwrap();
        let there = received.recv().unwrap();
        for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGCHLD, libc::SIGUSR1, libc::SIGALRM] {
            assert_ne!(there & 1 << (signal - 1), 0, "signal {signal}");
        }
        assert_eq!(blocked(), before);
    }

    #[test]
    fn answers_are_called_by_their_names() {
        assert_eq!(Rv(CKR_DEVICE_REMOVED).to_string(), "CKR_DEVICE_REMOVED");
        assert_eq!(Rv(0x8000_0005).to_string(), "the vendor's error 0x80000005");
        assert_eq!(Rv(0x7777).to_string(), "the unknown error 0x7777");
    }

    #[test]
    fn texts_end_before_their_blanks() {
        assert_eq!(text(b"label   "), "label");
        assert_eq!(text(b"label\0rest"), "label");
        assert_eq!(text(b"two words "), "two words");
        assert_eq!(text(b"    "), "");
    }

    #[test]
    fn locked_bytes_hold_what_is_written() {
        let mut bytes = LockedBytes::new(5).unwrap();
        bytes.as_mut_slice().copy_from_slice(b"12345");
        assert_eq!(bytes.as_slice(), b"12345");
        assert!(LockedBytes::new(0).unwrap().as_slice().is_empty());
    }
}
