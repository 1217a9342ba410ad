//! One loaded library in one process: initialised when first asked, finalised when nothing needs it, initialised again
//! after a fork and after its token was lost.

use crate::raw::{self, Functions, PerProcess, PushList, Rv};
use crate::timed::{Lane, NoAnswer};
use crate::{Error, ErrorKind};
use cryptoki_sys::{CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED};
use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::{Duration, Instant};

/// Environment variables that modules read, with their values.
pub(crate) type Environment = Vec<(OsString, OsString)>;

/// One library. It is shared by everybody in the process who names the same file.
pub(crate) struct Module {
    path: PathBuf,
    functions: Functions,
    life: PerProcess<Life>,
}

/// Why a call gave no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The module's own answer.
    Answer {
        /// Of which function.
        call: &'static str,
        /// What.
        rv: Rv,
    },
    /// Sessions and handles of that epoch are gone: the module was initialised again.
    Stale,
    /// The module is being initialised, or a call of another thread keeps it from being so.
    Busy,
    /// The process is about to end.
    Exiting,
    /// It takes too long.
    Late,
    /// There is no thread for the call.
    NoThread(io::Error),
    /// An error in this crate.
    Panicked,
}

/// An initialised module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    /// Sessions and handles belong to it.
    pub(crate) epoch: u64,
    /// It was initialised just now.
    pub(crate) fresh: bool,
}

impl From<NoAnswer> for Failure {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Late => Self::Late,
            NoAnswer::NoThread(error) => Self::NoThread(error),
            NoAnswer::Panicked => Self::Panicked,
        }
    }
}

/// All that were loaded, by this process or before it was forked.
static MODULES: PushList<Module> = PushList::new();

/// How long a call waits for the module to be initialised by another thread, and that for the calls of other threads to end.
const GATE_WAIT: Duration = Duration::from_secs(1);
const GATE_POLL: Duration = Duration::from_millis(1);

impl Module {
    /// The module of a file, loaded but not initialised.
    ///
    /// # Errors
    /// [`ErrorKind::Module`]: the file is not there, does not load, or is something else.
    pub(crate) fn load(file: &Path) -> Result<&'static Self, Error> {
        let refuse = |why: &str| {
            let text = format!("the PKCS#11 module '{}' cannot be loaded: {why}", file.display());
            Error::new(ErrorKind::Module, text)
        };
        // A name without a directory is looked for by the dynamic linker.
        let path = if file.components().count() > 1 {
            file.canonicalize().map_err(|error| refuse(&format!("{error}; correct pkcs11-module")))?
        } else {
            file.to_owned()
        };
        if let Some(module) = MODULES.iter().find(|module| module.path == path) {
            return Ok(module);
        }
        let functions = {
            let _inside = Inside::enter();
            Functions::load(&path).map_err(|why| refuse(&why))?
        };
        let make = || Self { path: path.clone(), functions, life: PerProcess::new() };
        Ok(MODULES.find_or_push(|module| module.path == path, make))
    }

    /// Initialises the module where it is not. `limit` is for what is done when the process exits.
    ///
    /// # Errors
    /// [`Failure::Answer`] of C_Initialize; it is busy.
    pub(crate) fn open(
        &'static self,
        environment: &Environment,
        limit: Option<Duration>,
    ) -> Result<Opened, Failure> {
        let life = self.life();
        if let Gate::Open { epoch, .. } = *life.read()? {
            return Ok(Opened { epoch, fresh: false });
        }
        life.limit_ms.store(limit.map_or(0, milliseconds), Ordering::Relaxed);
        let mut gate = life.write()?;
        if let Gate::Open { epoch, .. } = *gate {
            return Ok(Opened { epoch, fresh: false });
        }
        self.initialize(life, &mut gate, environment)
    }

    /// Finalises the module and initialises it again, unless somebody did since `epoch` or it is somebody else's.
    ///
    /// # Errors
    /// As [`Self::open`]; then it is finalised.
    pub(crate) fn reopen(&'static self, epoch: u64, environment: &Environment) -> Result<Opened, Failure> {
        let life = self.life();
        let mut gate = life.write()?;
        match *gate {
            Gate::Open { epoch: now, .. } if now != epoch => return Ok(Opened { epoch: now, fresh: true }),
            Gate::Open { ours: true, .. } => self.finalize(life, &mut gate),
            // Somebody else's is not finalised. If its owner finalised it, it is initialised now, and ours.
            Gate::Open { ours: false, .. } | Gate::Closed => {}
        }
        self.initialize(life, &mut gate, environment)
    }

    /// Calls functions of the module, initialised in that epoch.
    ///
    /// # Errors
    /// The answer of the function named; it was initialised again, or is busy.
    pub(crate) fn call<R>(
        &'static self,
        epoch: u64,
        name: &'static str,
        functions: impl FnOnce(&Functions) -> Result<R, Rv>,
    ) -> Result<R, Failure> {
        let life = self.life();
        // Its own exit handlers may have run.
        if life.exiting.load(Ordering::Acquire) {
            return Err(Failure::Exiting);
        }
        let gate = life.read()?;
        match *gate {
            Gate::Open { epoch: now, .. } if now == epoch => {}
            _ => return Err(Failure::Stale),
        }
        let _inside = Inside::enter();
        functions(&self.functions).map_err(|rv| Failure::Answer { call: name, rv })
    }

    /// Notes that a key was used in this process: from now on the module stays initialised.
    pub(crate) fn signed(&'static self) {
        let life = self.life();
        if !life.signed.load(Ordering::Relaxed) {
            life.signed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a key was used in this process.
    pub(crate) fn has_signed(&'static self) -> bool {
        self.life.peek().is_some_and(|life| life.signed.load(Ordering::Relaxed))
    }

    /// Finalises the module, if this process initialised it through us and no thread is inside. The answer is whether nothing
    /// of it is open any more.
    pub(crate) fn close(&'static self) -> bool {
        match self.life.peek() {
            None => true,
            // It was closed by our exit handler, or not; its own may have run since.
            Some(life) if life.exiting.load(Ordering::Acquire) => true,
            Some(life) => self.close_now(life),
        }
    }

    fn close_now(&'static self, life: &Life) -> bool {
        let mut gate = match life.gate.try_write() {
            Ok(gate) => gate,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        match *gate {
            Gate::Closed => true,
            Gate::Open { ours: false, .. } => false,
            Gate::Open { .. } => {
                self.finalize(life, &mut gate);
                true
            }
        }
    }

    /// Calls that were given up and have not come back.
    pub(crate) fn hanging(&'static self) -> &'static AtomicUsize {
        &self.life().hanging
    }

    fn initialize(
        &'static self,
        life: &'static Life,
        gate: &mut Gate,
        environment: &Environment,
    ) -> Result<Opened, Failure> {
        if life.exiting.load(Ordering::Acquire) {
            return Err(Failure::Exiting);
        }
        for (name, value) in environment {
            if std::env::var_os(name).is_none() {
                raw::set_environment(name, value);
            }
        }
        let _inside = Inside::enter();
        let mut answer = self.functions.initialize();
        let already = Err(Rv(CKR_CRYPTOKI_ALREADY_INITIALIZED));
        // What a fork brought along, or could not be finalised, is ours to finalise; its handles stay untouched.
        if answer == already && life.ours_lingers.load(Ordering::Relaxed) {
            let _ = self.functions.finalize();
            answer = self.functions.initialize();
        }
        let ours = match answer {
            Ok(()) => true,
            // Another component of this process did it, and will finalise it.
            Err(_) if answer == already => false,
            Err(rv) => return Err(Failure::Answer { call: "C_Initialize", rv }),
        };
        life.ours_lingers.store(false, Ordering::Relaxed);
        life.open_by_us.store(ours, Ordering::Relaxed);
        if !life.has_exit_handler.swap(true, Ordering::Relaxed) {
            // Registered after the module has registered its own, so that it runs before them.
            raw::at_exit(finalize_at_exit);
        }
        if let (Gate::Open { epoch, ours: false }, false) = (*gate, ours) {
            return Ok(Opened { epoch, fresh: true });
        }
        let epoch = life.epochs.fetch_add(1, Ordering::Relaxed) + 1;
        *gate = Gate::Open { epoch, ours };
        Ok(Opened { epoch, fresh: true })
    }

    fn finalize(&'static self, life: &Life, gate: &mut Gate) {
        let _inside = Inside::enter();
        let answer = self.functions.finalize();
        let done = matches!(answer, Ok(()) | Err(Rv(CKR_CRYPTOKI_NOT_INITIALIZED)));
        life.ours_lingers.store(!done, Ordering::Relaxed);
        life.open_by_us.store(false, Ordering::Relaxed);
        *gate = Gate::Closed;
    }

    fn life(&'static self) -> &'static Life {
        self.life.get(Life::forked_from)
    }
}

/// Whether the calling thread is inside a call of a module.
pub(crate) fn inside() -> bool {
    INSIDE.get() > 0
}

/// A module in one process.
struct Life {
    /// Held for reading by every call, for writing while the module is initialised or finalised.
    gate: RwLock<Gate>,
    epochs: AtomicU64,
    open_by_us: AtomicBool,
    /// An initialisation that is ours, and that this process did not make or could not undo.
    ours_lingers: AtomicBool,
    signed: AtomicBool,
    hanging: AtomicUsize,
    exiting: AtomicBool,
    has_exit_handler: AtomicBool,
    limit_ms: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum Gate {
    Closed,
    Open { epoch: u64, ours: bool },
}

impl Life {
    fn forked_from(parent: Option<&Self>) -> Self {
        let lingers = |parent: &Self| {
            parent.open_by_us.load(Ordering::Relaxed) || parent.ours_lingers.load(Ordering::Relaxed)
        };
        Self {
            gate: RwLock::new(Gate::Closed),
            epochs: AtomicU64::new(0),
            open_by_us: AtomicBool::new(false),
            ours_lingers: AtomicBool::new(parent.is_some_and(lingers)),
            signed: AtomicBool::new(false),
            hanging: AtomicUsize::new(0),
            exiting: AtomicBool::new(false),
            has_exit_handler: AtomicBool::new(false),
            limit_ms: AtomicU64::new(0),
        }
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, Gate>, Failure> {
        patiently(|| self.gate.try_read())
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, Gate>, Failure> {
        patiently(|| self.gate.try_write())
    }
}

/// Waits for a lock, but not for ever: a call that hangs keeps it.
fn patiently<G>(mut lock: impl FnMut() -> Result<G, TryLockError<G>>) -> Result<G, Failure> {
    let mut until = None;
    loop {
        match lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        let now = Instant::now();
        if now >= *until.get_or_insert(now + GATE_WAIT) {
            return Err(Failure::Busy);
        }
        std::thread::sleep(GATE_POLL);
    }
}

thread_local! {
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// The calling thread is inside a module while this lives.
struct Inside;

impl Inside {
    fn enter() -> Self {
        INSIDE.set(INSIDE.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(INSIDE.get() - 1);
    }
}

/// Ends what this process opened while the modules still work: their own exit handlers run later, and those of the libraries
/// they use. Nothing may be waited for without an end.
extern "C" fn finalize_at_exit() {
    let finalize_all = || {
        for module in MODULES.iter() {
            let Some(life) = module.life.peek() else { continue };
            life.exiting.store(true, Ordering::Release);
            if !life.open_by_us.load(Ordering::Relaxed) || life.hanging.load(Ordering::Acquire) > 0 {
                continue;
            }
            match life.limit_ms.load(Ordering::Relaxed) {
                0 => drop(module.close_now(life)),
                limit => {
                    let limit = Duration::from_millis(limit);
                    match Lane::start() {
                        Ok(lane) => drop(lane.run(limit, &life.hanging, move || module.close_now(life))),
                        Err(_) => drop(module.close_now(life)),
                    }
                }
            }
        }
    };
    let _ = std::panic::catch_unwind(finalize_all);
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
