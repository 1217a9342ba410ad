//! The functions that the core hands to the provider ("upcalls", `provider-base(7)`).

use super::abi::*;
use super::params::{Built, end};
use crate::problem::{Problem, Reason};
use crate::provider::Provider;
use qtls_crypto::{KeyAlgorithm, KnownAnswerObserver, KnownAnswerStep};
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::ptr::null_mut;

type GetParams = unsafe extern "C" fn(*const CoreHandle, *mut Param) -> c_int;
type GetLibctx = unsafe extern "C" fn(*const CoreHandle) -> *mut CoreContext;
type NewError = unsafe extern "C" fn(*const CoreHandle);
type SetErrorDebug = unsafe extern "C" fn(*const CoreHandle, *const c_char, c_int, *const c_char);
type VsetError = unsafe extern "C" fn(*const CoreHandle, u32, *const c_char, *mut VaList);
type SetErrorMark = unsafe extern "C" fn(*const CoreHandle) -> c_int;
type PopErrorToMark = SetErrorMark;
type ObjCreate =
    unsafe extern "C" fn(*const CoreHandle, *const c_char, *const c_char, *const c_char) -> c_int;
type ObjAddSigid = ObjCreate;
type BioReadEx = unsafe extern "C" fn(*mut CoreBio, *mut c_void, usize, *mut usize) -> c_int;
type BioGets = unsafe extern "C" fn(*mut CoreBio, *mut c_char, c_int) -> c_int;
type BioCtrl = unsafe extern "C" fn(*mut CoreBio, c_int, c_long, *mut c_void) -> c_int;
type BioWriteEx = unsafe extern "C" fn(*mut CoreBio, *const c_void, usize, *mut usize) -> c_int;
type SelfTestCb = unsafe extern "C" fn(*mut CoreContext, *mut Option<Callback>, *mut *mut c_void);
type ChildCb = unsafe extern "C" fn(*const CoreHandle, *mut c_void) -> c_int;
type PropertiesCb = unsafe extern "C" fn(*const c_char, *mut c_void) -> c_int;
type RegisterChildCb =
    unsafe extern "C" fn(*const CoreHandle, ChildCb, ChildCb, PropertiesCb, *mut c_void) -> c_int;
type DeregisterChildCb = unsafe extern "C" fn(*const CoreHandle);
type ProviderName = unsafe extern "C" fn(*const CoreHandle) -> *const c_char;
type ProviderContext = unsafe extern "C" fn(*const CoreHandle) -> *mut c_void;
type ProviderDispatch = unsafe extern "C" fn(*const CoreHandle) -> *const Dispatch;
type QueryOperation = unsafe extern "C" fn(*mut c_void, c_int, *mut c_int) -> *const Algorithm;

/// Room for a C `va_list`. None is ever read from: the texts handed over have no conversions. On x86-64 and AArch64 a
/// `va_list` is passed as a pointer to at most 32 bytes (System V ABI section 3.5.7, AAPCS64 section B.4).
#[repr(C, align(16))]
struct VaList([u64; 4]);

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the layout of va_list was checked for x86-64 and AArch64 only (see VaList)");

/// The core, as this provider may call it.
pub(crate) struct Core {
    handle: *const CoreHandle,
    openssl_version: String,
    get_params: GetParams,
    get_libctx: Option<GetLibctx>,
    new_error: Option<NewError>,
    set_error_debug: Option<SetErrorDebug>,
    vset_error: Option<VsetError>,
    set_error_mark: Option<SetErrorMark>,
    pop_error_to_mark: Option<PopErrorToMark>,
    obj_create: Option<ObjCreate>,
    obj_add_sigid: Option<ObjAddSigid>,
    bio_read_ex: Option<BioReadEx>,
    bio_write_ex: Option<BioWriteEx>,
    bio_gets: Option<BioGets>,
    bio_ctrl: Option<BioCtrl>,
    self_test_cb: Option<SelfTestCb>,
    register_child_cb: Option<RegisterChildCb>,
    deregister_child_cb: Option<DeregisterChildCb>,
    provider_name: Option<ProviderName>,
    provider_context: Option<ProviderContext>,
    provider_dispatch: Option<ProviderDispatch>,
}

// SAFETY: the core's functions may be called from any thread; the handle is only ever passed back to them.
unsafe impl Send for Core {}
// SAFETY: as above; nothing in here changes after it was made.
unsafe impl Sync for Core {}

impl Core {
    /// # Safety
    /// `handle` and `table` are what libcrypto handed to `OSSL_provider_init`.
    pub(super) unsafe fn new(handle: *const CoreHandle, table: *const Dispatch) -> Result<Self, Problem> {
        // SAFETY: `table` is ended by a zero id; each number has the type that `core_dispatch.h` gives it.
        unsafe {
            let get_params: GetParams = function(table, OSSL_FUNC_CORE_GET_PARAMS)
                .ok_or_else(|| Problem::new(Reason::NoUpcall, "OpenSSL's core offers no core_get_params: this libcrypto is not a whole OpenSSL 3; use the distribution's"))?;
            let mut core = Self {
                handle,
                openssl_version: String::new(),
                get_params,
                get_libctx: function(table, OSSL_FUNC_CORE_GET_LIBCTX),
                new_error: function(table, OSSL_FUNC_CORE_NEW_ERROR),
                set_error_debug: function(table, OSSL_FUNC_CORE_SET_ERROR_DEBUG),
                vset_error: function(table, OSSL_FUNC_CORE_VSET_ERROR),
                set_error_mark: function(table, OSSL_FUNC_CORE_SET_ERROR_MARK),
                pop_error_to_mark: function(table, OSSL_FUNC_CORE_POP_ERROR_TO_MARK),
                obj_create: function(table, OSSL_FUNC_CORE_OBJ_CREATE),
                obj_add_sigid: function(table, OSSL_FUNC_CORE_OBJ_ADD_SIGID),
                bio_read_ex: function(table, OSSL_FUNC_BIO_READ_EX),
                bio_write_ex: function(table, OSSL_FUNC_BIO_WRITE_EX),
                bio_gets: function(table, OSSL_FUNC_BIO_GETS),
                bio_ctrl: function(table, OSSL_FUNC_BIO_CTRL),
                self_test_cb: function(table, OSSL_FUNC_SELF_TEST_CB),
                register_child_cb: function(table, OSSL_FUNC_PROVIDER_REGISTER_CHILD_CB),
                deregister_child_cb: function(table, OSSL_FUNC_PROVIDER_DEREGISTER_CHILD_CB),
                provider_name: function(table, OSSL_FUNC_PROVIDER_NAME),
                provider_context: function(table, OSSL_FUNC_PROVIDER_GET0_PROVIDER_CTX),
                provider_dispatch: function(table, OSSL_FUNC_PROVIDER_GET0_DISPATCH),
            };
            core.openssl_version = core.parameter(OSSL_PROV_PARAM_CORE_VERSION).unwrap_or("?").to_owned();
            Ok(core)
        }
    }

    /// The version of the libcrypto that loaded us.
    pub(crate) fn openssl_version(&self) -> &str {
        &self.openssl_version
    }

    /// Major and minor of that version; of a text that is none, that of a newer OpenSSL than any there is.
    pub(crate) fn openssl_release(&self) -> (u32, u32) {
        let mut numbers = self.openssl_version.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            _ => (u32::MAX, 0),
        }
    }

    /// What openssl.cnf or the program calls this provider.
    pub(crate) fn own_name(&self) -> &str {
        self.parameter(OSSL_PROV_PARAM_CORE_PROV_NAME).unwrap_or_default()
    }

    /// Makes an object identifier known to libcrypto under these names, where it is not yet.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub(crate) fn register_object(
        &self,
        oid: &str,
        short_name: &str,
        long_name: &str,
    ) -> Result<(), Problem> {
        let [oid_text, short, long] = [oid, short_name, long_name].map(c_string);
        // SAFETY: C strings that libcrypto copies.
        let made = self.obj_create.is_some_and(|create| unsafe {
            create(self.handle, oid_text.as_ptr(), short.as_ptr(), long.as_ptr()) == 1
        });
        if made {
            Ok(())
        } else {
            Err(refused(&format!("make the object identifier {oid} ({long_name}) known")))
        }
    }

    /// Tells libcrypto that an object identifier means a signature, by a key of the same identifier.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub(crate) fn register_signature(&self, oid: &str, digest: &str) -> Result<(), Problem> {
        let [oid_text, digest] = [oid, digest].map(c_string);
        // SAFETY: C strings that libcrypto only reads.
        let made = self.obj_add_sigid.is_some_and(|add| unsafe {
            add(self.handle, oid_text.as_ptr(), digest.as_ptr(), oid_text.as_ptr()) == 1
        });
        if made { Ok(()) } else { Err(refused(&format!("take {oid} for a signature"))) }
    }

    /// Reads the next bytes of a BIO; fewer only at its end.
    ///
    /// # Safety
    /// `bio` is what libcrypto handed to a decoder that is running.
    pub(super) unsafe fn read(&self, bio: *mut CoreBio, bytes: &mut [u8]) -> Result<usize, Problem> {
        let read_ex = self.bio_read_ex.ok_or_else(|| refused("offer a BIO to read from"))?;
        let mut filled = 0;
        while filled < bytes.len() {
            let rest = &mut bytes[filled..];
            let mut count = 0;
            // SAFETY: the caller's promise; the place has room for what is asked.
            let answer = unsafe { read_ex(bio, rest.as_mut_ptr().cast(), rest.len(), &mut count) };
            if answer != 1 || count == 0 {
                break;
            }
            filled += count.min(rest.len());
        }
        Ok(filled)
    }

    /// Reads the next line of a BIO, with its end, or its first bytes where the room is less; nothing at the BIO's end.
    ///
    /// # Safety
    /// As for [`Self::read`].
    pub(super) unsafe fn read_line<'a>(
        &self,
        bio: *mut CoreBio,
        room: &'a mut [u8],
    ) -> Result<&'a [u8], Problem> {
        let gets = self.bio_gets.ok_or_else(|| refused("offer lines of a BIO"))?;
        let size = c_int::try_from(room.len()).unwrap_or(c_int::MAX);
        // SAFETY: the caller's promise; the place has room for what is asked, its last byte for a null.
        let count = unsafe { gets(bio, room.as_mut_ptr().cast(), size) };
        let count = usize::try_from(count).unwrap_or(0).min(room.len());
        Ok(&room[..count])
    }

    /// Where a BIO stands.
    ///
    /// # Safety
    /// As for [`Self::read`].
    pub(super) unsafe fn position(&self, bio: *mut CoreBio) -> Option<c_int> {
        // SAFETY: the caller's promise; this control takes no argument.
        let position = unsafe { self.bio_ctrl?(bio, BIO_C_FILE_TELL, 0, null_mut()) };
        (position >= 0).then_some(position)
    }

    /// Goes back to where a BIO stood. libcrypto does the same between two decoders, also where the BIO is no file.
    ///
    /// # Safety
    /// As for [`Self::read`].
    pub(super) unsafe fn go_back(&self, bio: *mut CoreBio, position: c_int) {
        if let Some(ctrl) = self.bio_ctrl {
            // SAFETY: the caller's promise; this control takes a number alone.
            unsafe { ctrl(bio, BIO_C_FILE_SEEK, c_long::from(position), null_mut()) };
        }
    }

    /// Writes all bytes to a BIO.
    ///
    /// # Safety
    /// `bio` is what libcrypto handed to an encoder that is running.
    pub(super) unsafe fn write(&self, bio: *mut CoreBio, bytes: &[u8]) -> Result<(), Problem> {
        let write_ex = self.bio_write_ex.ok_or_else(|| refused("offer a BIO to write to"))?;
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let mut count = 0;
            // SAFETY: the caller's promise; `rest` has that many bytes.
            let answer = unsafe { write_ex(bio, rest.as_ptr().cast(), rest.len(), &mut count) };
            if answer != 1 || count == 0 {
                return Err(Problem::argument(
                    "the key could not be written to where the program wants it; the system's error stands beside this one",
                ));
            }
            written += count;
        }
        Ok(())
    }

    /// A value from the provider's section in `openssl.cnf`.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.parameter(&CString::new(name).ok()?)
    }

    fn parameter(&self, name: &CStr) -> Option<&str> {
        let mut value: *const c_char = std::ptr::null();
        let mut params = [
            Param {
                key: name.as_ptr(),
                data_type: OSSL_PARAM_UTF8_PTR as u32,
                data: (&raw mut value).cast(),
                data_size: 0,
                return_size: usize::MAX,
            },
            end(),
        ];
        // SAFETY: an ended array with a place for one pointer. The strings belong to the core's provider object and
        // live as long as it, hence as long as `self`.
        unsafe {
            if (self.get_params)(self.handle, params.as_mut_ptr()) != 1 || value.is_null() {
                return None;
            }
            CStr::from_ptr(value).to_str().ok()
        }
    }

    /// Puts a problem into OpenSSL's error queue.
    pub(super) fn raise(&self, entry: &'static str, problem: &Problem) {
        // The text is a format string to the core: a percent sign is written twice.
        let text = CString::new(problem.text.replace('\0', " ").replace('%', "%%")).unwrap_or_default();
        let entry = CString::new(entry).unwrap_or_default();
        // SAFETY: C strings; a format without conversions reads nothing from the argument list.
        unsafe {
            if let Some(new_error) = self.new_error {
                new_error(self.handle);
            }
            if let Some(set_error_debug) = self.set_error_debug {
                set_error_debug(self.handle, c"qtls".as_ptr(), 0, entry.as_ptr());
            }
            if let Some(vset_error) = self.vset_error {
                vset_error(self.handle, problem.reason as u32, text.as_ptr(), &mut VaList([0; 4]));
            }
        }
    }

    /// Runs something that may use this very libcrypto, and takes what that leaves in the error queue out of it.
    pub(crate) fn with_clean_errors<T>(&self, call: impl FnOnce() -> T) -> T {
        struct Mark<'a>(&'a Core);
        impl Drop for Mark<'_> {
            fn drop(&mut self) {
                if let (Some(_), Some(pop)) = (self.0.set_error_mark, self.0.pop_error_to_mark) {
                    // SAFETY: our own handle; the mark was set on this thread, which `Mark` does not leave.
                    unsafe { pop(self.0.handle) };
                }
            }
        }
        if let (Some(set), Some(_)) = (self.set_error_mark, self.pop_error_to_mark) {
            // SAFETY: our own handle.
            unsafe { set(self.handle) };
        }
        let _mark = Mark(self);
        call()
    }

    /// What watches a self-test: the application's callback (`OSSL_SELF_TEST_set_callback(3)`), or nothing.
    pub(crate) fn self_test_observer(&self, algorithm: KeyAlgorithm) -> Box<dyn KnownAnswerObserver> {
        let (Some(self_test_cb), Some(get_libctx)) = (self.self_test_cb, self.get_libctx) else {
            return Box::new(());
        };
        let (mut callback, mut argument) = (None, null_mut());
        // SAFETY: two places to write to.
        unsafe { self_test_cb(get_libctx(self.handle), &mut callback, &mut argument) };
        match callback {
            Some(callback) => Box::new(SelfTestObserver { algorithm, callback, argument }),
            None => Box::new(()),
        }
    }

    /// Asks the core to tell of every provider beside us, those that are active now first.
    ///
    /// # Safety
    /// `provider` stays alive until [`Self::forget_providers`].
    pub(super) unsafe fn watch_providers(&self, provider: *const Provider) -> Result<(), Problem> {
        let registered = match self.register_child_cb {
            // SAFETY: the caller's promise; the functions have the types that the core expects.
            Some(register) => unsafe {
                register(
                    self.handle,
                    provider_appeared,
                    provider_vanishes,
                    default_properties_changed,
                    provider.cast_mut().cast(),
                )
            },
            None => 0,
        };
        // The core answers with the length of its list of callbacks, which other providers are on as well.
        if registered > 0 {
            Ok(())
        } else {
            Err(Problem::new(
                Reason::NoUpcall,
                "OpenSSL's core refused to tell which other providers are active: it is out of memory, or not a whole OpenSSL 3",
            ))
        }
    }

    /// Whether it is we who were announced: the core tells every watcher of every provider.
    pub(crate) fn is_self(&self, announced: &AnnouncedProvider) -> bool {
        std::ptr::eq(self.handle, announced.handle)
    }

    /// Ends what [`Self::watch_providers`] began.
    pub(super) fn forget_providers(&self) {
        if let Some(deregister) = self.deregister_child_cb {
            // SAFETY: our own handle.
            unsafe { deregister(self.handle) }
        }
    }

    /// The names of the key types that another provider has.
    pub(crate) fn key_types_of(&self, other: &AnnouncedProvider) -> Vec<String> {
        let (Some(context), Some(dispatch)) = (self.provider_context, self.provider_dispatch) else {
            return Vec::new();
        };
        let mut names = Vec::new();
        // SAFETY: the handle is that of an active provider: `provider_vanishes` removes it before it goes. Arrays of
        // algorithms are ended by a null name.
        unsafe {
            let query: Option<QueryOperation> =
                function(dispatch(other.handle), OSSL_FUNC_PROVIDER_QUERY_OPERATION);
            let Some(query) = query else { return names };
            let mut no_cache = 0;
            let mut algorithm = query(context(other.handle), OSSL_OP_KEYMGMT, &mut no_cache);
            while !algorithm.is_null() && !(*algorithm).algorithm_names.is_null() {
                let all = CStr::from_ptr((*algorithm).algorithm_names).to_string_lossy();
                names.extend(all.split(':').map(str::to_owned));
                algorithm = algorithm.add(1);
            }
        }
        names
    }
}

/// Another provider, as the core announced it.
pub(crate) struct AnnouncedProvider {
    handle: *const CoreHandle,
    name: String,
}

// SAFETY: the handle is only ever passed back to the core, whose functions may be called from any thread.
unsafe impl Send for AnnouncedProvider {}

impl AnnouncedProvider {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl PartialEq for AnnouncedProvider {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.handle, other.handle)
    }
}

unsafe extern "C" fn provider_appeared(handle: *const CoreHandle, provider: *mut c_void) -> c_int {
    // SAFETY: `watch_providers`' promise.
    unsafe { told(provider, "provider_appeared", |us| us.provider_appeared(announced(us, handle))) }
}

unsafe extern "C" fn provider_vanishes(handle: *const CoreHandle, provider: *mut c_void) -> c_int {
    // SAFETY: `watch_providers`' promise.
    unsafe { told(provider, "provider_vanishes", |us| us.provider_vanishes(&announced(us, handle))) }
}

unsafe extern "C" fn default_properties_changed(properties: *const c_char, provider: *mut c_void) -> c_int {
    // SAFETY: `watch_providers`' promise; the properties are a C string.
    unsafe {
        told(provider, "default_properties_changed", |us| {
            if !properties.is_null() {
                us.default_properties_changed(&CStr::from_ptr(properties).to_string_lossy());
            }
        })
    }
}

/// Runs `note` and answers 1 whatever happens: any other answer would keep the *other* provider from loading.
///
/// # Safety
/// `provider` is null or a live provider.
unsafe fn told(provider: *mut c_void, entry: &'static str, note: impl FnOnce(&Provider)) -> c_int {
    // SAFETY: the caller's promise.
    if let Some(provider) = unsafe { provider.cast::<Provider>().as_ref() } {
        super::guard::guard(Some(&provider.core), entry, (), || {
            note(provider);
            Ok(())
        });
    }
    1
}

fn announced(us: &Provider, handle: *const CoreHandle) -> AnnouncedProvider {
    let name = us.core.provider_name.map_or_else(String::new, |provider_name| {
        // SAFETY: a provider that the core just announced; its name is a C string or null.
        unsafe {
            let name = provider_name(handle);
            if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
        }
    });
    AnnouncedProvider { handle, name }
}

/// Tells an application's self-test callback what happens, as OpenSSL's own `OSSL_SELF_TEST` does.
struct SelfTestObserver {
    algorithm: KeyAlgorithm,
    callback: Callback,
    argument: *mut c_void,
}

impl SelfTestObserver {
    fn tell(&self, phase: &CStr, step: KnownAnswerStep) -> c_int {
        let description = c_string(&format!("{} {step}", self.algorithm.name()));
        // OSSL_SELF_TEST_TYPE_KAT_KEM and _KAT_SIGNATURE; 3.0 has no name for the first.
        let kind = match self.algorithm {
            KeyAlgorithm::Kem(_) => c"KAT_KEM",
            KeyAlgorithm::Signature(_) => c"KAT_Signature",
        };
        let params = Built::<4>::new()
            .text(OSSL_PROV_PARAM_SELF_TEST_PHASE, phase)
            .text(OSSL_PROV_PARAM_SELF_TEST_TYPE, kind)
            .text(OSSL_PROV_PARAM_SELF_TEST_DESC, &description);
        // SAFETY: the callback and its argument as the application registered them.
        unsafe { params.call(self.callback, self.argument) }
    }
}

impl KnownAnswerObserver for SelfTestObserver {
    fn begin(&mut self, step: KnownAnswerStep) {
        self.tell(OSSL_SELF_TEST_PHASE_START, step);
    }

    fn corrupt(&mut self, step: KnownAnswerStep, output: &mut [u8]) {
        if self.tell(OSSL_SELF_TEST_PHASE_CORRUPT, step) == 0
            && let Some(first) = output.first_mut()
        {
            *first ^= 1;
        }
    }

    fn end(&mut self, step: KnownAnswerStep, passed: bool) {
        self.tell(if passed { OSSL_SELF_TEST_PHASE_PASS } else { OSSL_SELF_TEST_PHASE_FAIL }, step);
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn refused(what: &str) -> Problem {
    Problem::new(
        Reason::NoUpcall,
        format!("OpenSSL's core refused to {what}: it is out of memory, or not a whole OpenSSL 3"),
    )
}

/// The function of a dispatch table with this number.
///
/// # Safety
/// `table` is null or ended by a zero id, and `F` is the function pointer type that belongs to `number`.
unsafe fn function<F: Copy>(mut table: *const Dispatch, number: c_int) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<super::abi::Function>()) };
    if table.is_null() {
        return None;
    }
    // SAFETY: the caller's promises.
    unsafe {
        while (*table).function_id != 0 {
            if (*table).function_id == number {
                return (*table).function.map(|found| std::mem::transmute_copy(&found));
            }
            table = table.add(1);
        }
    }
    None
}
