//! One token: how it is found, its PIN, and in each process its sessions, login, handles, back-off and circuit breaker.

use crate::breaker::{Backoff, Breaker};
use crate::ledger::{Ledger, Permit, Turn};
use crate::module::{Environment, Failure, Module, Opened};
use crate::raw::{Functions, PerProcess, PushList, Rv, SignMechanism, Slot, Template};
use crate::status::{SharedStatus, TokenCounters};
use crate::timed::{Lane, NoAnswer};
use crate::{Config, Error, ErrorKind, Pin, PinSource, Uri};
use cryptoki_sys::*;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

/// What the tokens of one configuration share.
pub(crate) struct Common {
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    pub(crate) status: OnceLock<SharedStatus>,
    pub(crate) ledger: Ledger,
}

impl Common {
    fn counters(&self, index: usize) -> Option<TokenCounters<'_>> {
        Some(self.status.get()?.token(index))
    }
}

/// A token as a configuration and a key's URI name it. Forked processes inherit it, with its PIN; what is open in the token is
/// each process's own.
pub(crate) struct Token {
    common: Arc<Common>,
    /// Which of the configuration's.
    index: usize,
    /// Unlike any other of this configuration.
    number: u64,
    /// Attributes of tokens and slots alone.
    selection: Uri,
    pin_source: Option<PinSource>,
    /// The newest is in use.
    pins: PushList<Pin>,
    module: PushList<&'static Module>,
    process: PerProcess<Process>,
    keys: AtomicUsize,
}

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A signature: it obeys the back-off and the circuit breaker, and is counted.
    Sign,
    /// To look at what the token shows without a login.
    LookAtPublic,
    /// To look at everything.
    Look,
    /// To make objects.
    Write,
}

/// Why an operation did not succeed, and what may help.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) error: Error,
    remedy: Remedy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    None,
    /// What was known of the token is outdated.
    LookAgain,
    /// A new session, login and handles; `dead`: the session is gone already.
    NewSession {
        dead: bool,
    },
    /// The object was there before.
    ObjectLost,
    /// The module is to be initialised again.
    Reopen,
    /// Another's session has to become free.
    Crowded,
    /// The call did not come back.
    Late,
}

impl Trouble {
    /// One that trying again does not help.
    pub(crate) fn last(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { error: Error::new(kind, text), remedy: Remedy::None }
    }
}

/// How long a key that was not found is not looked for again.
const MISSING_FOR: Duration = Duration::from_secs(1);
/// How long a token that refused another session is not asked for one.
const CROWDED_FOR: Duration = Duration::from_secs(30);
/// How often an operation begins anew because another changed the module's state under it.
const LOOKS: u32 = 3;

impl Token {
    pub(crate) fn new(
        common: &Arc<Common>,
        index: usize,
        selection: Uri,
        pin_source: Option<PinSource>,
    ) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Self {
            common: Arc::clone(common),
            index,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            selection,
            pin_source,
            pins: PushList::new(),
            module: PushList::new(),
            process: PerProcess::new(),
            keys: AtomicUsize::new(0),
        }
    }

    /// Whether this is the token that these name.
    pub(crate) fn is(&self, index: usize, selection: &Uri, pin_source: Option<&PinSource>) -> bool {
        self.index == index && self.selection == *selection && self.pin_source.as_ref() == pin_source
    }

    /// The next number for a key in this token.
    pub(crate) fn number_for_key(&self) -> usize {
        self.keys.fetch_add(1, Ordering::Relaxed)
    }

    /// Gets the PIN where there is none yet, and reads a file again, in which it may have changed.
    ///
    /// # Errors
    /// [`ErrorKind::Pin`], where there is none yet.
    pub(crate) fn resolve_pin(&self) -> Result<(), Error> {
        let Some(source) = &self.pin_source else { return Ok(()) };
        let Some(known) = self.pins.iter().next() else {
            let pin = source.resolve()?;
            self.pins.find_or_push(|_| false, || pin);
            return Ok(());
        };
        if matches!(source, PinSource::File(_)) {
            match source.resolve() {
                Ok(pin) if pin != *known => drop(self.pins.find_or_push(|_| false, || pin)),
                // Unreadable to this process, which inherited it from one that could read it.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn has_pin(&self) -> bool {
        self.pin_source.is_some()
    }

    /// Loads the library now, if that can be done, for processes that are forked: they may be confined.
    pub(crate) fn preload(&self) {
        let _ = self.module();
    }

    /// Its name in errors.
    pub(crate) fn name(&self) -> String {
        let module = self.module_path().display();
        if self.selection.names_token() {
            format!("the token '{}' of {module}", self.selection)
        } else {
            format!("the token of {module}")
        }
    }

    /// The slots with tokens that the module shows.
    ///
    /// # Errors
    /// The module does not load, start or answer.
    pub(crate) fn slots(&self) -> Result<Vec<Slot>, Error> {
        let process = self.process();
        let mut taken = self.take(process, Purpose::LookAtPublic, None)?;
        let seat = taken.seat();
        let slots = self.open_module(seat).and_then(|opened| self.ask_slots(seat, opened.epoch));
        self.give_back(process, taken, Purpose::LookAtPublic, None, slots.as_ref().err());
        slots.map_err(|trouble| trouble.error)
    }

    /// Does something in a session of the token, again after a remedy for what may be remedied. `key` is the number of the
    /// key that is going to be used.
    ///
    /// # Errors
    /// Of the last attempt.
    pub(crate) fn operate<R>(
        &self,
        purpose: Purpose,
        key: Option<usize>,
        mut job: impl FnMut(&mut Session<'_>) -> Result<R, Trouble>,
    ) -> Result<R, Error> {
        let began = Instant::now();
        let process = self.process();
        let mut taken = self.take(process, purpose, key).inspect_err(|error| {
            // A token that is not asked has failed before, and was counted then.
            if let (ErrorKind::Sessions, Some(counters)) = (error.kind(), self.counters()) {
                counters.failures.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        let mut tried = Tried::default();
        let result = loop {
            let trouble = match self.attempt(process, taken.seat(), purpose, &mut job) {
                Ok(result) => break Ok(result),
                Err(trouble) => trouble,
            };
            if trouble.remedy == Remedy::Crowded && !tried.crowded {
                tried.crowded = true;
                match self.wait_for_other(process, taken, purpose, key, trouble) {
                    Ok(other) => taken = other,
                    Err(trouble) => return Err(trouble.error),
                }
                continue;
            }
            if let Err(trouble) = self.remedy(process, taken.seat(), &mut tried, trouble) {
                break Err(trouble);
            }
            if let Some(counters) = self.counters() {
                counters.retries.fetch_add(1, Ordering::Relaxed);
            }
        };
        self.give_back(process, taken, purpose, Some(began), result.as_ref().err());
        result.map_err(|trouble| trouble.error)
    }

    /// Closes what is open in the token, and finalises its module, unless a key was used in this process: a server that reads
    /// its keys is about to fork.
    pub(crate) fn release(&self) {
        if self.loaded().is_none_or(|module| !module.has_signed()) {
            self.close();
        }
    }

    /// Closes what this process has open in the token, and finalises its module.
    pub(crate) fn close(&self) {
        let (Some(process), Some(module)) = (self.process.peek(), self.loaded()) else { return };
        let mut seats = {
            let mut pool = process.pool();
            pool.connection = None;
            pool.open = 0;
            pool.forget_handles();
            std::mem::take(&mut pool.idle)
        };
        if seats.is_empty() {
            module.close();
        }
        let mut closed = false;
        for seat in &mut seats {
            closed = closed || self.run(seat, move || Ok(module.close())).unwrap_or(false);
            // It is another component's, or used by another thread.
            if !closed {
                self.close_session(seat);
            }
        }
        for lane in seats.into_iter().filter_map(|seat| seat.lane) {
            lane.end();
        }
    }

    fn attempt<R>(
        &self,
        process: &Process,
        seat: &mut Seat,
        purpose: Purpose,
        job: &mut impl FnMut(&mut Session<'_>) -> Result<R, Trouble>,
    ) -> Result<R, Trouble> {
        seat.reached = false;
        let connection = self.connection(process, seat, purpose)?;
        let handle =
            self.session(process, seat, connection.epoch, connection.slot, purpose == Purpose::Write)?;
        seat.reached = true;
        job(&mut Session { token: self, process, seat, connection, handle })
    }

    /// Whether there is something left to try after a failed attempt, and does it.
    fn remedy(
        &self,
        process: &Process,
        seat: &mut Seat,
        tried: &mut Tried,
        trouble: Trouble,
    ) -> Result<(), Trouble> {
        let used = seat.connection.take();
        seat.key = None;
        let remedy = match trouble.remedy {
            Remedy::None | Remedy::Crowded | Remedy::Late => return Err(trouble),
            Remedy::LookAgain if tried.looks < LOOKS => {
                tried.looks += 1;
                self.disconnect(process, used);
                return Ok(());
            }
            Remedy::NewSession { .. } | Remedy::ObjectLost if tried.session => Remedy::Reopen,
            remedy => remedy,
        };
        self.disconnect(process, used);
        match remedy {
            Remedy::NewSession { dead } => {
                tried.session = true;
                self.discard_session(process, seat, dead);
                Ok(())
            }
            Remedy::ObjectLost => {
                tried.session = true;
                self.discard_session(process, seat, false);
                Ok(())
            }
            _ if tried.reopened || seat.opened.is_none() => Err(trouble),
            // It was initialised just now, and well enough for a session: doing so again helps no more than asking again.
            _ if seat.reached && seat.opened.is_some_and(|opened| opened.fresh) => {
                tried.reopened = true;
                self.discard_session(process, seat, false);
                Ok(())
            }
            _ => {
                tried.reopened = true;
                self.reopen(process, seat)
            }
        }
    }

    fn reopen(&self, process: &Process, seat: &mut Seat) -> Result<(), Trouble> {
        let module = self.module().map_err(|error| Trouble { error, remedy: Remedy::None })?;
        let Some(opened) = seat.opened else { return Ok(()) };
        let _turn = self.turn();
        let common = Arc::clone(&self.common);
        let reopened = self.run(seat, move || module.reopen(opened.epoch, &common.environment));
        match reopened {
            Ok(reopened) => {
                seat.opened = Some(Opened { fresh: true, ..reopened });
                if reopened.epoch == opened.epoch {
                    // Another component's module: only the session can be new.
                    self.discard_session(process, seat, false);
                } else if let Some(counters) = self.counters() {
                    counters.reconnects.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(failure) => {
                seat.opened = None;
                Err(self.trouble(failure))
            }
        }
    }

    /// The connection there is, or a new one; one thread makes it, the others wait.
    fn connection(
        &self,
        process: &Process,
        seat: &mut Seat,
        purpose: Purpose,
    ) -> Result<Connection, Trouble> {
        let login = purpose != Purpose::LookAtPublic;
        let good = |connection: &Connection| connection.logged_in || !login;
        if let Some(connection) = seat.connection.filter(good) {
            return Ok(connection);
        }
        let until = Instant::now() + self.common.config.wait;
        let mut pool = process.pool();
        loop {
            if let Some(connection) = pool.connection.filter(good) {
                seat.connection = Some(connection);
                seat.opened = Some(Opened { epoch: connection.epoch, fresh: false });
                return Ok(connection);
            }
            if !pool.connecting {
                break;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("{} is being connected to, which takes long", self.name());
                return Err(Trouble::last(ErrorKind::Unavailable, text));
            }
            pool = process.wait(pool, left);
        }
        pool.connecting = true;
        let known = pool.connection;
        drop(pool);
        let connecting = Connecting(Some(process));
        let made = self.connect(process, seat, known, purpose);
        let mut pool = process.pool();
        connecting.end(&mut pool);
        let mut connection = made?;
        pool.enter(connection.epoch);
        if known.is_none_or(|known| known.epoch != connection.epoch || known.slot != connection.slot) {
            pool.generation += 1;
            pool.forget_handles();
            pool.limit = self.common.config.sessions;
        }
        connection.generation = pool.generation;
        pool.connection = Some(connection);
        seat.connection = Some(connection);
        Ok(connection)
    }

    fn turn(&self) -> Turn<'_> {
        let config = &self.common.config;
        self.common.ledger.turn(self.index, config.timeout.unwrap_or(config.wait))
    }

    fn connect(
        &self,
        process: &Process,
        seat: &mut Seat,
        known: Option<Connection>,
        purpose: Purpose,
    ) -> Result<Connection, Trouble> {
        let login = purpose != Purpose::LookAtPublic;
        if login && self.pins.iter().next().is_some_and(|pin| self.refused(process, pin)) {
            return Err(self.refused_before());
        }
        let _turn = self.turn();
        let opened = self.open_module(seat)?;
        let slots = self.ask_slots(seat, opened.epoch)?;
        let slot = self.choose(slots)?;
        let known = known.filter(|known| known.epoch == opened.epoch && known.slot == slot.id);
        let mut connection = known.unwrap_or(Connection {
            epoch: opened.epoch,
            generation: 0,
            slot: slot.id,
            logged_in: false,
        });
        if login {
            self.login(process, seat, opened.epoch, &slot, purpose)?;
            connection.logged_in = true;
        }
        Ok(connection)
    }

    fn open_module(&self, seat: &mut Seat) -> Result<Opened, Trouble> {
        let module = self.module().map_err(|error| Trouble { error, remedy: Remedy::None })?;
        let common = Arc::clone(&self.common);
        let limit = common.config.timeout;
        let opened = self.run(seat, move || module.open(&common.environment, limit));
        let opened = opened.map_err(|failure| self.trouble(failure))?;
        // What this operation initialised stays fresh to it.
        let fresh =
            opened.fresh || seat.opened.is_some_and(|before| before.epoch == opened.epoch && before.fresh);
        let opened = Opened { fresh, ..opened };
        seat.opened = Some(opened);
        Ok(opened)
    }

    fn ask_slots(&self, seat: &mut Seat, epoch: u64) -> Result<Vec<Slot>, Trouble> {
        self.call(seat, epoch, "C_GetSlotList", Functions::slots)
    }

    /// The slot with the token that is meant.
    fn choose(&self, slots: Vec<Slot>) -> Result<Slot, Trouble> {
        let shown = describe(&slots);
        let is_initialized = |slot: &Slot| slot.flags & CKF_TOKEN_INITIALIZED != 0;
        let mut fitting =
            slots.into_iter().filter(|slot| is_initialized(slot) && fits(slot, &self.selection));
        match (fitting.next(), fitting.next()) {
            (Some(slot), None) => Ok(slot),
            (None, _) => {
                let text = format!(
                    "{} is not there: the module shows {shown}; look whether the token is connected and its service runs, \
                     and compare the names",
                    self.name()
                );
                Err(Trouble { error: Error::new(ErrorKind::TokenAbsent, text), remedy: Remedy::Reopen })
            }
            (Some(_), Some(_)) => {
                let text = format!(
                    "several tokens are meant by {}: the module shows {shown}; name one by 'token' or 'serial' in the URI, or \
                     in pkcs11-token",
                    self.name()
                );
                Err(Trouble::last(ErrorKind::Configuration, text))
            }
        }
    }

    /// Logs in where the token asks for it and a PIN is configured.
    fn login(
        &self,
        process: &Process,
        seat: &mut Seat,
        epoch: u64,
        slot: &Slot,
        purpose: Purpose,
    ) -> Result<(), Trouble> {
        let Some(pin) = self.pins.iter().next() else { return Ok(()) };
        if slot.flags & CKF_LOGIN_REQUIRED == 0 {
            return Ok(());
        }
        let refuse = |why: &str| {
            let text = format!("no login to {}: {why}", self.name());
            Err(Trouble::last(ErrorKind::Pin, text))
        };
        if slot.flags & CKF_USER_PIN_LOCKED != 0 {
            return refuse("it says that its PIN is locked; unlock it with the security officer's PIN");
        }
        if slot.flags & CKF_USER_PIN_FINAL_TRY != 0 {
            return refuse(
                "it says that one more wrong PIN locks it, so none is tried; log in once by its own tool with the right PIN, \
                 and correct pkcs11-pin-source if it differs",
            );
        }
        // Of the kind that is needed afterwards: closing the only session logs out (PKCS#11 v2.40 section 5.6).
        let handle = self.session(process, seat, epoch, slot.id, purpose == Purpose::Write)?;
        let patience = self.common.config.timeout.unwrap_or(self.common.config.wait);
        let permit = self.common.ledger.permit(self.index, self.fingerprint(pin), patience);
        let claim = match permit {
            Permit::Refused => return Err(self.refused_before()),
            Permit::Busy => {
                let text = format!("another process is logging in to {}, which takes long", self.name());
                return Err(Trouble::last(ErrorKind::Unavailable, text));
            }
            Permit::Granted(claim) => claim,
        };
        let secret = pin.clone();
        let answer = self.run(seat, {
            let module = self.module().map_err(|error| Trouble { error, remedy: Remedy::None })?;
            move || module.call(epoch, "C_Login", |functions| functions.login(handle, secret.expose()))
        });
        match answer {
            Ok(()) => {
                claim.accepted();
                if let Some(counters) = self.counters() {
                    counters.refused_pin.store(0, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(Failure::Answer { rv: Rv(CKR_USER_ALREADY_LOGGED_IN), .. }) => Ok(()),
            Err(Failure::Answer { rv: rv @ Rv(code), .. }) if is_about_the_pin(code) => {
                claim.refused();
                process.refused_pin.store(self.fingerprint(pin), Ordering::Relaxed);
                if let Some(counters) = self.counters() {
                    counters.refused_pin.store(pin.fingerprint().get(), Ordering::Relaxed);
                }
                let text = format!("C_Login answered {rv}; the PIN is not tried again: {}", pin_advice(code));
                refuse(&text)
            }
            Err(failure) => Err(self.trouble(failure)),
        }
    }

    fn refused(&self, process: &Process, pin: &Pin) -> bool {
        let fingerprint = self.fingerprint(pin);
        process.refused_pin.load(Ordering::Relaxed) == fingerprint
            || self.common.ledger.is_refused(self.index, fingerprint)
    }

    fn refused_before(&self) -> Trouble {
        let text = format!(
            "no login to {}: it refused this PIN before, which is not tried again; correct what pkcs11-pin-source or \
             pin-source names and reload, or restart if it was the token's PIN that was wrong",
            self.name()
        );
        Trouble::last(ErrorKind::Pin, text)
    }

    /// Stands for the PIN in this token, never 0.
    fn fingerprint(&self, pin: &Pin) -> u64 {
        // An odd factor: different tokens make different numbers of one PIN.
        let mixed = pin.fingerprint().get() ^ self.number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed.max(1)
    }

    /// The seat's session, or a new one.
    fn session(
        &self,
        process: &Process,
        seat: &mut Seat,
        epoch: u64,
        slot: CK_SLOT_ID,
        writable: bool,
    ) -> Result<CK_SESSION_HANDLE, Trouble> {
        let before = seat.session.filter(|open| open.epoch == epoch);
        if before.is_none() {
            self.discard_session(process, seat, true);
        }
        if let Some(open) = before.filter(|open| open.slot == slot && (open.writable || !writable)) {
            return Ok(open.handle);
        }
        let opened =
            self.call(seat, epoch, "C_OpenSession", move |functions| functions.open_session(slot, writable));
        let handle = opened.map_err(|trouble| self.none_left(process, epoch, trouble))?;
        process.pool().opened(epoch, handle);
        // Closed behind the new one: the last session takes the login with it (PKCS#11 3.2 section 5.6.3).
        self.discard_session(process, seat, false);
        seat.session = Some(OpenSession { handle, epoch, slot, writable });
        Ok(handle)
    }

    /// Tells a token that has no session for us at all from one whose sessions we have ourselves.
    fn none_left(&self, process: &Process, epoch: u64, trouble: Trouble) -> Trouble {
        if trouble.remedy != Remedy::Crowded {
            return trouble;
        }
        let mut pool = process.pool();
        let open = if pool.epoch == epoch { pool.open } else { 0 };
        if open > 0 {
            pool.limit = open;
            pool.limit_until = Some(Instant::now() + CROWDED_FOR);
            return trouble;
        }
        Trouble { remedy: Remedy::None, ..trouble }
    }

    /// Gives the seat up that got no session, and waits for one that has.
    fn wait_for_other<'p>(
        &self,
        process: &'p Process,
        taken: Taken<'p>,
        purpose: Purpose,
        key: Option<usize>,
        trouble: Trouble,
    ) -> Result<Taken<'p>, Trouble> {
        taken.give_up();
        self.take(process, purpose, key).map_err(|error| Trouble {
            error: if error.kind() == ErrorKind::Sessions { trouble.error } else { error },
            remedy: Remedy::None,
        })
    }

    fn discard_session(&self, process: &Process, seat: &mut Seat, dead: bool) {
        let Some(open) = seat.session else { return };
        process.pool().closed(open.epoch);
        if dead {
            seat.session = None;
        } else {
            self.close_session(seat);
        }
    }

    /// As well as can be: a session that cannot be closed is left.
    fn close_session(&self, seat: &mut Seat) {
        let Some(open) = seat.session.take() else { return };
        let handle = open.handle;
        let _ =
            self.call(seat, open.epoch, "C_CloseSession", move |functions| functions.close_session(handle));
    }

    /// Forgets a connection that did not work, unless somebody made a new one since.
    fn disconnect(&self, process: &Process, used: Option<Connection>) {
        let Some(used) = used else { return };
        let mut pool = process.pool();
        if pool.connection.is_some_and(|connection| connection.generation == used.generation) {
            pool.connection = None;
            pool.forget_handles();
        }
    }

    /// A seat, as soon as there is one.
    fn take<'p>(
        &self,
        process: &'p Process,
        purpose: Purpose,
        key: Option<usize>,
    ) -> Result<Taken<'p>, Error> {
        let hanging = self.loaded().filter(|_| self.common.config.timeout.is_some());
        let hanging = hanging.map_or(0, |module| module.hanging().load(Ordering::Acquire));
        let mut until = None;
        let mut pool = process.pool();
        loop {
            let now = Instant::now();
            if purpose == Purpose::Sign {
                self.permits(&mut pool, now)?;
            }
            // A module that hangs is tried by one thread at a time, which may be left behind as well.
            if hanging > 0 && (pool.out > 0 || hanging >= MOST_HANGING) {
                return Err(self.hangs(hanging));
            }
            if let Some(seat) = pool.take(now, self.common.config.sessions) {
                let key = key.and_then(|key| pool.handle(key));
                let connection = pool.connection;
                let opened = connection.map(|connection| Opened { epoch: connection.epoch, fresh: false });
                let seat = Seat { connection, opened, key, lost: false, ..seat };
                return Ok(Taken { process, seat: Some(seat) });
            }
            let until = *until.get_or_insert(now + self.common.config.wait);
            if now >= until {
                return Err(self.no_session(&pool));
            }
            pool = process.wait(pool, until - now);
        }
    }

    /// Whether the token is to be asked for a signature now.
    fn permits(&self, pool: &mut Pool, now: Instant) -> Result<(), Error> {
        let why = if !pool.breaker.permits(now) {
            "failed so often that its circuit breaker (pkcs11-breaker-ms) is open"
        } else if pool.connection.is_none() && (!pool.backoff.due(now) || (pool.failing && pool.connecting)) {
            "failed just now, and the next attempt is not due yet (pkcs11-retry-ms)"
        } else {
            return Ok(());
        };
        let last = pool
            .last_error
            .as_ref()
            .map(|error| format!("; the last error was: {error}"))
            .unwrap_or_default();
        Err(Error::new(ErrorKind::Unavailable, format!("{} {why}{last}", self.name())))
    }

    fn hangs(&self, hanging: usize) -> Error {
        let advice =
            if hanging >= MOST_HANGING { "restart this process" } else { "look at the token's service" };
        let text = format!("{} has {hanging} calls that do not come back: {advice}", self.name());
        Error::new(ErrorKind::Unavailable, text)
    }

    fn no_session(&self, pool: &Pool) -> Error {
        let Config { sessions, wait, .. } = &self.common.config;
        let text = if pool.limit < *sessions {
            format!(
                "{} gives this process {} sessions at a time, and none became free within {} ms: raise the token's limit, or \
                 lower pkcs11-sessions in each process ({sessions})",
                self.name(),
                pool.limit,
                wait.as_millis()
            )
        } else {
            format!(
                "all {sessions} sessions in {} are in use, and none became free within {} ms: raise pkcs11-sessions as far as \
                 the token allows, or pkcs11-wait-ms",
                self.name(),
                wait.as_millis()
            )
        };
        Error::new(ErrorKind::Sessions, text)
    }

    /// Puts a seat back, and notes how the operation ended.
    fn give_back(
        &self,
        process: &Process,
        mut taken: Taken<'_>,
        purpose: Purpose,
        began: Option<Instant>,
        trouble: Option<&Trouble>,
    ) {
        let reached = taken.seat().reached;
        // A session that can write is not for signatures.
        if taken.seat().session.is_some_and(|open| open.writable) {
            self.discard_session(process, taken.seat(), false);
        }
        let counters = self.counters();
        let Some(trouble) = trouble else {
            let mut pool = process.pool();
            if purpose == Purpose::Sign {
                pool.breaker.succeeded(Instant::now());
            }
            if pool.failing {
                pool.backoff.succeeded();
                pool.failing = false;
                pool.last_error = None;
            }
            taken.put_back(&mut pool);
            drop(pool);
            if let Some(counters) = counters {
                counters.set_connected(true);
                if let (Purpose::Sign, Some(began)) = (purpose, began) {
                    counters.signatures.fetch_add(1, Ordering::Relaxed);
                    let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    counters.latency_us.fetch_add(took, Ordering::Relaxed);
                }
            }
            return;
        };
        let now = Instant::now();
        let kind = trouble.error.kind();
        let late = trouble.remedy == Remedy::Late;
        let is_down = late || matches!(kind, ErrorKind::Token | ErrorKind::TokenAbsent | ErrorKind::Module);
        let mut pool = process.pool();
        let mut opened = false;
        if late {
            opened = pool.breaker.trip(now);
        } else if purpose == Purpose::Sign && is_down {
            opened = if reached { pool.breaker.failed(now) } else { pool.breaker.unreachable(now) };
        }
        if purpose == Purpose::Sign && (is_down || kind == ErrorKind::Pin) {
            // Those who failed together count as one attempt.
            if pool.backoff.due(now) {
                pool.backoff.failed(now);
            }
            pool.failing = true;
            pool.connection = None;
            pool.forget_handles();
        }
        if is_down || kind == ErrorKind::Pin {
            pool.last_error = Some(trouble.error.clone());
        }
        taken.put_back(&mut pool);
        drop(pool);
        if let Some(counters) = counters {
            if is_down || kind == ErrorKind::Pin {
                counters.set_connected(false);
            }
            counters.timeouts.fetch_add(u64::from(late), Ordering::Relaxed);
            counters.breaker_opened.fetch_add(u64::from(opened), Ordering::Relaxed);
            counters.failures.fetch_add(u64::from(purpose == Purpose::Sign), Ordering::Relaxed);
        }
    }

    /// Calls functions of the module, on the seat's thread where there is a time limit.
    fn call<R: Send + 'static>(
        &self,
        seat: &mut Seat,
        epoch: u64,
        name: &'static str,
        functions: impl FnOnce(&Functions) -> Result<R, Rv> + Send + 'static,
    ) -> Result<R, Trouble> {
        let module = self.module().map_err(|error| Trouble { error, remedy: Remedy::None })?;
        self.run(seat, move || module.call(epoch, name, functions)).map_err(|failure| self.trouble(failure))
    }

    fn run<R: Send + 'static>(
        &self,
        seat: &mut Seat,
        job: impl FnOnce() -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        let Some(limit) = self.common.config.timeout else { return job() };
        let Some(module) = self.loaded() else { return job() };
        let lane = match seat.lane.take() {
            Some(lane) => lane,
            None => match Lane::start() {
                Ok(lane) => lane,
                // HAProxy forbids itself threads once it has started: a call without a limit is better than none.
                Err(NoAnswer::NoThread(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return job();
                }
                Err(none) => return Err(none.into()),
            },
        };
        let answer = lane.run(limit, module.hanging(), job);
        match answer {
            Ok(answer) => {
                seat.lane = Some(lane);
                answer
            }
            Err(none) => {
                // Thread and session are left to each other.
                seat.session = None;
                Err(none.into())
            }
        }
    }

    fn trouble(&self, failure: Failure) -> Trouble {
        let token = self.name();
        let (kind, remedy, text) = match failure {
            Failure::Answer { call: call @ "C_Initialize", rv } => {
                let text = format!(
                    "the module of {token} does not start: {call} answered {rv}; look at its configuration and environment, and \
                     that this user may read them"
                );
                (ErrorKind::Module, Remedy::None, text)
            }
            Failure::Answer { call, rv } => {
                let (kind, remedy, advice) = judge(rv);
                (kind, remedy, format!("{call} of {token} answered {rv}: {advice}"))
            }
            Failure::Stale => {
                let text = format!("the module of {token} was initialised again by others, over and over");
                (ErrorKind::Token, Remedy::LookAgain, text)
            }
            Failure::Busy => {
                let text = format!(
                    "the module of {token} is being initialised, or waits for a call that does not end"
                );
                (ErrorKind::Token, Remedy::None, text)
            }
            Failure::Exiting => {
                (ErrorKind::Unavailable, Remedy::None, format!("the process ends, and {token} is closed"))
            }
            Failure::Late => {
                let limit = self.common.config.timeout.unwrap_or_default().as_millis();
                let text = format!(
                    "{token} did not answer within {limit} ms (pkcs11-timeout-ms): look at the token's service and the way to it"
                );
                (ErrorKind::Timeout, Remedy::Late, text)
            }
            Failure::NoThread(error) => {
                let text = format!(
                    "there is no thread to call {token} with: {error}; raise the limit of tasks, or set pkcs11-timeout-ms = 0"
                );
                (ErrorKind::Token, Remedy::None, text)
            }
            Failure::Panicked => (
                ErrorKind::Token,
                Remedy::None,
                format!("an internal error while {token} was called, please report it"),
            ),
        };
        Trouble { error: Error::new(kind, text), remedy }
    }

    fn module(&self) -> Result<&'static Module, Error> {
        if let Some(module) = self.loaded() {
            return Ok(module);
        }
        let module = Module::load(self.module_path())?;
        Ok(self.module.find_or_push(|_| true, || module))
    }

    fn loaded(&self) -> Option<&'static Module> {
        self.module.iter().next().copied()
    }

    fn module_path(&self) -> &Path {
        &self.common.config.tokens[self.index].module
    }

    fn counters(&self) -> Option<TokenCounters<'_>> {
        self.common.counters(self.index)
    }

    fn process(&self) -> &Process {
        self.process.get(|parent| {
            self.pins.iter().for_each(Pin::lock);
            if let (Some(_), Some(status)) = (parent, self.common.status.get()) {
                status.note_fork();
            }
            Process::new(&self.common.config)
        })
    }
}

/// A session while an operation uses it.
pub(crate) struct Session<'a> {
    token: &'a Token,
    process: &'a Process,
    seat: &'a mut Seat,
    connection: Connection,
    handle: CK_SESSION_HANDLE,
}

impl Session<'_> {
    pub(crate) fn token(&self) -> &Token {
        self.token
    }

    /// What the token says of itself.
    pub(crate) fn slot(&mut self) -> Result<Slot, Trouble> {
        let slots = self.token.ask_slots(self.seat, self.connection.epoch)?;
        let id = self.connection.slot;
        slots.into_iter().find(|slot| slot.id == id).ok_or_else(|| Trouble {
            error: Error::new(ErrorKind::TokenAbsent, format!("{} went away", self.token.name())),
            remedy: Remedy::Reopen,
        })
    }

    pub(crate) fn find(&mut self, template: Template) -> Result<Vec<CK_OBJECT_HANDLE>, Trouble> {
        let session = self.handle;
        self.call("C_FindObjects", move |functions| functions.find(session, &template))
    }

    pub(crate) fn attributes(
        &mut self,
        object: CK_OBJECT_HANDLE,
        types: &'static [CK_ATTRIBUTE_TYPE],
    ) -> Result<Vec<Option<Vec<u8>>>, Trouble> {
        let session = self.handle;
        self.call("C_GetAttributeValue", move |functions| functions.attributes(session, object, types))
    }

    pub(crate) fn generate_key_pair(
        &mut self,
        mechanism: CK_MECHANISM_TYPE,
        public: Template,
        private: Template,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE), Trouble> {
        let session = self.handle;
        self.call("C_GenerateKeyPair", move |functions| {
            functions.generate_key_pair(session, mechanism, &public, &private)
        })
    }

    /// The handle of a key by its number; where it is not known in this process, `find` looks for it.
    pub(crate) fn key(
        &mut self,
        number: usize,
        find: impl FnOnce(&mut Self) -> Result<CK_OBJECT_HANDLE, Trouble>,
    ) -> Result<CK_OBJECT_HANDLE, Trouble> {
        if let Some(handle) = self.seat.key {
            return Ok(handle);
        }
        {
            let mut pool = self.process.pool();
            let generation = pool.generation;
            let known = pool.known(number);
            match &known.state {
                KeyState::Found(handle) if generation == self.connection.generation => return Ok(*handle),
                KeyState::Missing { until, error } if Instant::now() < *until => {
                    return Err(Trouble { error: error.clone(), remedy: Remedy::None });
                }
                _ => {}
            }
        }
        let found = find(self);
        let mut pool = self.process.pool();
        let is_current = pool.generation == self.connection.generation;
        let known = pool.known(number);
        match found {
            Ok(handle) => {
                if is_current {
                    known.state = KeyState::Found(handle);
                }
                known.was_there = true;
                Ok(handle)
            }
            Err(trouble) if trouble.error.kind() == ErrorKind::Object => {
                if known.was_there || self.seat.lost {
                    known.was_there = false;
                    self.seat.lost = true;
                    return Err(Trouble { remedy: Remedy::ObjectLost, ..trouble });
                }
                let until = Instant::now() + MISSING_FOR;
                known.state = KeyState::Missing { until, error: trouble.error.clone() };
                Err(trouble)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Two calls; the answer is how many bytes of `out` the signature has.
    pub(crate) fn sign(
        &mut self,
        key: CK_OBJECT_HANDLE,
        mechanism: SignMechanism<'_>,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Trouble> {
        let module = self.token.module().map_err(|error| Trouble { error, remedy: Remedy::None })?;
        let (epoch, session) = (self.connection.epoch, self.handle);
        let two_calls = move |mechanism: SignMechanism<'_>, input: &[u8], out: &mut [u8]| {
            module.call(epoch, "C_SignInit", |functions| functions.sign_init(session, mechanism, key))?;
            module.call(epoch, "C_Sign", |functions| functions.sign(session, input, out))
        };
        let answer = if self.token.common.config.timeout.is_none() {
            two_calls(mechanism, input, out)
        } else {
            // What the thread works on is its own: it may outlive this call.
            let (input, longest) = (input.to_vec(), out.len());
            let mechanism = OwnedMechanism::of(mechanism);
            let signature = self.token.run(self.seat, move || {
                let mut out = vec![0; longest];
                let length = two_calls(mechanism.borrow(), &input, &mut out)?;
                out.truncate(length);
                Ok(out)
            });
            signature.map(|signature| {
                out[..signature.len()].copy_from_slice(&signature);
                signature.len()
            })
        };
        let length = answer.map_err(|failure| self.token.trouble(failure))?;
        module.signed();
        Ok(length)
    }

    fn call<R: Send + 'static>(
        &mut self,
        name: &'static str,
        functions: impl FnOnce(&Functions) -> Result<R, Rv> + Send + 'static,
    ) -> Result<R, Trouble> {
        self.token.call(self.seat, self.connection.epoch, name, functions)
    }
}

/// So many threads may be left behind in a process.
const MOST_HANGING: usize = 16;

/// What one process has open in a token.
struct Process {
    pool: Mutex<Pool>,
    changed: Condvar,
    refused_pin: AtomicU64,
}

struct Pool {
    /// Those with a session last.
    idle: Vec<Seat>,
    out: usize,
    waiting: usize,
    limit: usize,
    /// When a lowered limit ends.
    limit_until: Option<Instant>,
    /// Sessions open in `epoch`.
    open: usize,
    epoch: u64,
    connection: Option<Connection>,
    /// Of the connection; handles belong to it.
    generation: u64,
    connecting: bool,
    keys: Vec<KnownKey>,
    breaker: Breaker,
    backoff: Backoff,
    failing: bool,
    last_error: Option<Error>,
}

/// The token found, in a slot of the module.
#[derive(Clone, Copy, Debug)]
struct Connection {
    epoch: u64,
    generation: u64,
    slot: CK_SLOT_ID,
    logged_in: bool,
}

/// The right to use a session, with the session once it is open.
#[derive(Default)]
struct Seat {
    lane: Option<Lane>,
    session: Option<OpenSession>,
    /// For the operation that has the seat: the connection that it uses, the module's state that it found, the key's handle.
    connection: Option<Connection>,
    opened: Option<Opened>,
    key: Option<CK_OBJECT_HANDLE>,
    /// The key was there before this operation.
    lost: bool,
    /// The last attempt came as far as a session.
    reached: bool,
}

#[derive(Clone, Copy)]
struct OpenSession {
    handle: CK_SESSION_HANDLE,
    epoch: u64,
    slot: CK_SLOT_ID,
    writable: bool,
}

#[derive(Default)]
struct KnownKey {
    state: KeyState,
    was_there: bool,
}

#[derive(Default)]
enum KeyState {
    #[default]
    Unknown,
    Found(CK_OBJECT_HANDLE),
    Missing {
        until: Instant,
        error: Error,
    },
}

/// Remedies that an operation had.
#[derive(Default)]
struct Tried {
    looks: u32,
    session: bool,
    reopened: bool,
    crowded: bool,
}

impl Process {
    fn new(config: &Config) -> Self {
        let pool = Pool {
            idle: Vec::with_capacity(config.sessions),
            out: 0,
            waiting: 0,
            limit: config.sessions,
            limit_until: None,
            open: 0,
            epoch: 0,
            connection: None,
            generation: 0,
            connecting: false,
            keys: Vec::new(),
            breaker: Breaker::new(config.breaker),
            backoff: Backoff::new(config.retry),
            failing: false,
            last_error: None,
        };
        Self { pool: Mutex::new(pool), changed: Condvar::new(), refused_pin: AtomicU64::new(0) }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wait<'p>(&self, mut pool: MutexGuard<'p, Pool>, time: Duration) -> MutexGuard<'p, Pool> {
        pool.waiting += 1;
        let mut pool =
            self.changed.wait_timeout(pool, time).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        pool.waiting -= 1;
        pool
    }

    /// Wakes those that wait for a change. Nobody waiting, as in every single-threaded server, costs no system call.
    fn notify(&self, pool: &Pool) {
        if pool.waiting > 0 {
            self.changed.notify_all();
        }
    }
}

impl Pool {
    fn take(&mut self, now: Instant, configured: usize) -> Option<Seat> {
        if self.limit_until.is_some_and(|until| now >= until) {
            self.limit_until = None;
            self.limit = configured;
        }
        let has_session = self.idle.last().is_some_and(|seat| seat.session.is_some());
        if !has_session && self.out >= self.limit {
            return None;
        }
        let seat = self.idle.pop().unwrap_or_default();
        self.out += 1;
        Some(seat)
    }

    fn known(&mut self, key: usize) -> &mut KnownKey {
        if self.keys.len() <= key {
            self.keys.resize_with(key + 1, KnownKey::default);
        }
        &mut self.keys[key]
    }

    fn handle(&self, key: usize) -> Option<CK_OBJECT_HANDLE> {
        match self.keys.get(key)?.state {
            KeyState::Found(handle) => Some(handle),
            _ => None,
        }
    }

    fn forget_handles(&mut self) {
        for key in &mut self.keys {
            if matches!(key.state, KeyState::Found(_)) {
                key.state = KeyState::Unknown;
            }
        }
    }

    /// Notes a new session. One that had its handle before is gone: the token began to count anew.
    fn opened(&mut self, epoch: u64, handle: CK_SESSION_HANDLE) {
        self.enter(epoch);
        self.open += 1;
        for seat in &mut self.idle {
            if seat.session.is_some_and(|open| open.epoch == epoch && open.handle == handle) {
                seat.session = None;
                self.open -= 1;
            }
        }
    }

    /// Sessions of other epochs are gone.
    fn enter(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.open = 0;
        }
    }

    fn closed(&mut self, epoch: u64) {
        if self.epoch != epoch {
            return;
        }
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            // The last session took the login with it.
            self.connection = None;
            self.forget_handles();
        }
    }
}

/// A seat that is in use.
struct Taken<'p> {
    process: &'p Process,
    seat: Option<Seat>,
}

impl Taken<'_> {
    fn seat(&mut self) -> &mut Seat {
        self.seat.get_or_insert_default()
    }

    fn put_back(mut self, pool: &mut Pool) {
        let seat = self.seat.take().unwrap_or_default();
        pool.out -= 1;
        if seat.session.is_some() {
            pool.idle.push(seat);
        } else {
            pool.idle.insert(0, seat);
        }
        self.process.notify(pool);
    }

    fn give_up(mut self) {
        let lane = self.seat.take().and_then(|seat| seat.lane);
        self.leave();
        if let Some(lane) = lane {
            lane.end();
        }
    }

    fn leave(&self) {
        let mut pool = self.process.pool();
        pool.out -= 1;
        self.process.notify(&pool);
    }
}

impl Drop for Taken<'_> {
    /// Only where a panic left it.
    fn drop(&mut self) {
        if self.seat.take().is_some() {
            self.leave();
        }
    }
}

/// This thread connects; the others wait for it.
struct Connecting<'p>(Option<&'p Process>);

impl Connecting<'_> {
    fn end(mut self, pool: &mut Pool) {
        if let Some(process) = self.0.take() {
            pool.connecting = false;
            process.notify(pool);
        }
    }
}

impl Drop for Connecting<'_> {
    /// Only where a panic left it.
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            let mut pool = process.pool();
            pool.connecting = false;
            process.notify(&pool);
        }
    }
}

enum OwnedMechanism {
    Simple(SignMechanism<'static>),
    MlDsa { context: Vec<u8>, deterministic: bool },
}

impl OwnedMechanism {
    fn of(mechanism: SignMechanism<'_>) -> Self {
        match mechanism {
            SignMechanism::RsaPkcs1 => Self::Simple(SignMechanism::RsaPkcs1),
            SignMechanism::RsaPss { hash, mgf, salt } => {
                Self::Simple(SignMechanism::RsaPss { hash, mgf, salt })
            }
            SignMechanism::Ecdsa => Self::Simple(SignMechanism::Ecdsa),
            SignMechanism::MlDsa { context, deterministic } => {
                Self::MlDsa { context: context.to_vec(), deterministic }
            }
        }
    }

    fn borrow(&self) -> SignMechanism<'_> {
        match self {
            Self::Simple(mechanism) => *mechanism,
            Self::MlDsa { context, deterministic } => {
                SignMechanism::MlDsa { context, deterministic: *deterministic }
            }
        }
    }
}

fn fits(slot: &Slot, wanted: &Uri) -> bool {
    let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    wanted.slot_id.is_none_or(|id| id == slot.id)
        && same(&wanted.token, &slot.label)
        && same(&wanted.manufacturer, &slot.manufacturer)
        && same(&wanted.model, &slot.model)
        && same(&wanted.serial, &slot.serial)
        && same(&wanted.slot_description, &slot.description)
        && same(&wanted.slot_manufacturer, &slot.slot_manufacturer)
}

fn describe(slots: &[Slot]) -> String {
    let tokens: Vec<String> = slots
        .iter()
        .filter(|slot| slot.flags & CKF_TOKEN_INITIALIZED != 0)
        .map(|slot| format!("'{}' (serial {}, slot {})", slot.label, slot.serial, slot.id))
        .collect();
    if tokens.is_empty() { "no token".to_owned() } else { tokens.join(", ") }
}

fn is_about_the_pin(answer: CK_RV) -> bool {
    matches!(
        answer,
        CKR_PIN_INCORRECT | CKR_PIN_INVALID | CKR_PIN_LEN_RANGE | CKR_PIN_EXPIRED | CKR_PIN_LOCKED
    )
}

fn pin_advice(answer: CK_RV) -> &'static str {
    match answer {
        CKR_PIN_LOCKED => "unlock it with the security officer's PIN, then restart",
        CKR_PIN_EXPIRED => {
            "set a new one by the token's own tool, and in what pkcs11-pin-source or pin-source names; then reload"
        }
        _ => "correct what pkcs11-pin-source or pin-source names, then reload",
    }
}

/// What an answer means, and what to do about it: at once by ourselves, then by people.
fn judge(Rv(answer): Rv) -> (ErrorKind, Remedy, &'static str) {
    match answer {
        CKR_SESSION_HANDLE_INVALID | CKR_SESSION_CLOSED => (
            ErrorKind::Token,
            Remedy::NewSession { dead: true },
            "the session was lost, and a new one did not help",
        ),
        CKR_OBJECT_HANDLE_INVALID | CKR_KEY_HANDLE_INVALID => {
            let remedy = Remedy::NewSession { dead: false };
            (ErrorKind::Token, remedy, "the key was lost, and looking for it again did not help")
        }
        CKR_USER_NOT_LOGGED_IN => {
            let remedy = Remedy::NewSession { dead: false };
            (ErrorKind::Token, remedy, "the login was lost, or no PIN is configured (pkcs11-pin-source)")
        }
        CKR_OPERATION_ACTIVE | CKR_OPERATION_NOT_INITIALIZED => {
            let remedy = Remedy::NewSession { dead: false };
            (ErrorKind::Token, remedy, "the session was used by somebody else, and a new one did not help")
        }
        CKR_SESSION_COUNT => (
            ErrorKind::Sessions,
            Remedy::Crowded,
            "the token has no session left: close sessions of other programs, raise its limit, or lower pkcs11-sessions, which \
             holds for each process",
        ),
        CKR_DEVICE_MEMORY | CKR_TOKEN_RESOURCE_EXCEEDED => {
            (ErrorKind::Full, Remedy::None, "the token is full: delete what is not needed, or enlarge it")
        }
        CKR_PIN_INCORRECT | CKR_PIN_INVALID | CKR_PIN_LEN_RANGE | CKR_PIN_EXPIRED | CKR_PIN_LOCKED => {
            (ErrorKind::Pin, Remedy::None, pin_advice(answer))
        }
        CKR_USER_PIN_NOT_INITIALIZED => {
            (ErrorKind::Pin, Remedy::None, "the token has no user PIN yet: set it by the token's own tool")
        }
        CKR_USER_ANOTHER_ALREADY_LOGGED_IN | CKR_USER_TOO_MANY_TYPES => {
            (ErrorKind::Pin, Remedy::None, "another user is logged in from this process")
        }
        CKR_MECHANISM_INVALID | CKR_MECHANISM_PARAM_INVALID | CKR_FUNCTION_NOT_SUPPORTED => (
            ErrorKind::Unsupported,
            Remedy::None,
            "the token cannot do this; `pkcs11-tool --list-mechanisms` shows what it can",
        ),
        CKR_KEY_FUNCTION_NOT_PERMITTED => (
            ErrorKind::Unsupported,
            Remedy::None,
            "the key is not allowed to sign (CKA_SIGN, CKA_ALLOWED_MECHANISMS)",
        ),
        CKR_KEY_TYPE_INCONSISTENT
        | CKR_KEY_SIZE_RANGE
        | CKR_CURVE_NOT_SUPPORTED
        | CKR_PARAMETER_SET_NOT_SUPPORTED => {
            (ErrorKind::Unsupported, Remedy::None, "the token cannot do this with a key of this type or size")
        }
        CKR_TOKEN_WRITE_PROTECTED | CKR_SESSION_READ_ONLY | CKR_ACTION_PROHIBITED => {
            (ErrorKind::Unsupported, Remedy::None, "the token does not let this user write")
        }
        CKR_DATA_INVALID
        | CKR_DATA_LEN_RANGE
        | CKR_ARGUMENTS_BAD
        | CKR_ATTRIBUTE_TYPE_INVALID
        | CKR_ATTRIBUTE_VALUE_INVALID
        | CKR_TEMPLATE_INCOMPLETE
        | CKR_TEMPLATE_INCONSISTENT
        | CKR_BUFFER_TOO_SMALL => {
            (ErrorKind::Unsupported, Remedy::None, "the token does not take what it was given")
        }
        CKR_TOKEN_NOT_PRESENT | CKR_TOKEN_NOT_RECOGNIZED | CKR_SLOT_ID_INVALID | CKR_DEVICE_REMOVED => (
            ErrorKind::TokenAbsent,
            Remedy::Reopen,
            "the token is away: look at the device and at its service",
        ),
        CKR_DEVICE_ERROR | CKR_GENERAL_ERROR | CKR_FUNCTION_FAILED | CKR_CRYPTOKI_NOT_INITIALIZED => (
            ErrorKind::Token,
            Remedy::Reopen,
            "the token fails: look at its log and its service, and that this user may use it",
        ),
        CKR_VENDOR_DEFINED.. => {
            (ErrorKind::Token, Remedy::Reopen, "the token fails: its vendor's manual explains the number")
        }
        _ => (ErrorKind::Token, Remedy::None, "the token fails: look at its log and its service"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot {
            id: 7,
            description: "a slot".to_owned(),
            slot_manufacturer: "slots".to_owned(),
            label: "gateway".to_owned(),
            manufacturer: "tokens".to_owned(),
            model: "v2".to_owned(),
            serial: "0123".to_owned(),
            flags: CKF_TOKEN_INITIALIZED,
        }
    }

    fn pool() -> Pool {
        let get = |name: &str| (name == "pkcs11-module").then_some("/module.so");
        let config = Config::parse(get).unwrap().unwrap();
        Process::new(&Config { sessions: 2, ..config }).pool.into_inner().unwrap()
    }

    #[test]
    fn every_attribute_of_a_uri_has_to_fit() {
        let fits_uri = |uri: &str| fits(&slot(), &Uri::parse(uri).unwrap());
        for attribute in [
            "token=gateway",
            "manufacturer=tokens",
            "model=v2",
            "serial=0123",
            "slot-id=7",
            "slot-description=a%20slot",
            "slot-manufacturer=slots",
        ] {
            assert!(fits_uri(&format!("pkcs11:{attribute}")));
            let (name, _) = attribute.split_once('=').unwrap();
            assert!(!fits_uri(&format!("pkcs11:{name}=8")), "{name}");
        }
        assert!(fits_uri("pkcs11:"));
        assert!(!fits_uri("pkcs11:token=gateway;serial=0124"));
    }

    #[test]
    fn a_pool_gives_sessions_before_new_seats_and_no_more_than_its_limit() {
        let (mut pool, now) = (pool(), Instant::now());
        assert!(pool.take(now, 2).is_some() && pool.take(now, 2).is_some());
        assert!(pool.take(now, 2).is_none());
        pool.out -= 1;
        pool.idle.push(Seat::default());
        let session = OpenSession { handle: 5, epoch: 1, slot: 0, writable: false };
        pool.idle.push(Seat { session: Some(session), ..Seat::default() });
        assert!(pool.take(now, 2).unwrap().session.is_some());
        assert!(pool.take(now, 2).is_none(), "the idle one has no session, and there is none left");
    }

    #[test]
    fn a_lowered_limit_ends_after_a_time() {
        let (mut pool, now) = (pool(), Instant::now());
        pool.out = 1;
        pool.limit = 1;
        pool.limit_until = Some(now + CROWDED_FOR);
        assert!(pool.take(now, 2).is_none());
        assert!(pool.take(now + CROWDED_FOR, 2).is_some());
    }

    #[test]
    fn a_session_handle_that_comes_again_is_not_used_twice() {
        let mut pool = pool();
        pool.opened(1, 5);
        let session = OpenSession { handle: 5, epoch: 1, slot: 0, writable: false };
        pool.idle.push(Seat { session: Some(session), ..Seat::default() });
        pool.opened(1, 5);
        assert!(pool.idle[0].session.is_none());
        assert_eq!(pool.open, 1);
        pool.opened(2, 5);
        assert_eq!((pool.epoch, pool.open), (2, 1));
    }

    #[test]
    fn the_last_session_takes_login_and_handles_with_it() {
        let mut pool = pool();
        pool.connection = Some(Connection { epoch: 1, generation: 1, slot: 0, logged_in: true });
        pool.known(3).state = KeyState::Found(9);
        pool.opened(1, 5);
        pool.opened(1, 6);
        pool.closed(1);
        assert!(pool.connection.is_some() && pool.handle(3) == Some(9));
        pool.closed(1);
        assert!(pool.connection.is_none() && pool.handle(3).is_none());
    }
}
