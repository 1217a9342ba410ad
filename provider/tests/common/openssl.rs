//! libcrypto and libssl of this host, as far as the tests need them: the tests' only file with unsafe code.
//!
//! `openssl-sys` declares most functions and links the libraries; what it lacks is declared at the end.
//!
//! What every `SAFETY` note here rests on: the wrappers hold what libcrypto gave them until they are dropped, and the
//! lifetimes keep a context alive for as long as anything that was made in it. Null is an answer that is looked at.
#![allow(unsafe_code)]
// Each test program uses a part of this.
#![allow(dead_code)]

use openssl_sys as sys;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::{null, null_mut};

/// `EVP_PKEY_PUBLIC_KEY` and `EVP_PKEY_KEYPAIR` of `openssl/evp.h`: what is imported or exported.
pub(crate) const PUBLIC: c_int = 0x86;
pub(crate) const KEY_PAIR: c_int = 0x87;

/// What libcrypto's error queue held after a call failed; taken out of the queue.
#[derive(Debug)]
pub(crate) struct Errors(pub(crate) Vec<QueuedError>);

#[derive(Debug)]
pub(crate) struct QueuedError {
    pub(crate) function: String,
    pub(crate) reason: String,
    pub(crate) data: String,
}

impl Errors {
    /// Takes what is in this thread's queue.
    pub(crate) fn take() -> Self {
        let mut errors = Vec::new();
        loop {
            let (mut file, mut function, mut data) = (null(), null(), null());
            let (mut line, mut flags) = (0, 0);
            // SAFETY: places to write to; the strings live until the queue's next change, and are copied before.
            unsafe {
                let code = sys::ERR_get_error_all(&mut file, &mut line, &mut function, &mut data, &mut flags);
                if code == 0 {
                    return Self(errors);
                }
                errors.push(QueuedError {
                    function: owned(function),
                    reason: owned(sys::ERR_reason_error_string(code)),
                    data: owned(data),
                });
            }
        }
    }

    /// Whether one entry has this reason and holds every part in its text.
    pub(crate) fn says(&self, reason: &str, parts: &[&str]) -> bool {
        self.0
            .iter()
            .any(|error| error.reason == reason && parts.iter().all(|part| error.data.contains(part)))
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.0 {
            writeln!(f, "{}: {}: {}", error.function, error.reason, error.data)?;
        }
        Ok(())
    }
}

/// # Safety
/// `text` is null or a C string.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("texts of the tests hold no null byte")
}

/// 1 is success; anything else leaves its reasons in the queue.
fn answered(result: c_int) -> Result<(), Errors> {
    if result == 1 { Ok(()) } else { Err(Errors::take()) }
}

fn some<T>(pointer: *mut T) -> Result<*mut T, Errors> {
    if pointer.is_null() { Err(Errors::take()) } else { Ok(pointer) }
}

/// A library context of its own, as separate from others as a process is.
pub(crate) struct Context {
    raw: *mut sys::OSSL_LIB_CTX,
    active: RefCell<Vec<*mut sys::OSSL_PROVIDER>>,
    watcher: RefCell<Option<Box<Watcher>>>,
}

type Watcher = Box<dyn FnMut(&SelfTestEvent) -> bool>;

/// What a self-test callback is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelfTestEvent {
    pub(crate) phase: String,
    pub(crate) kind: String,
    pub(crate) description: String,
}

/// A provider's entry point.
pub(crate) type Init =
    unsafe extern "C" fn(*const c_void, *const c_void, *mut *const c_void, *mut *mut c_void) -> c_int;

/// `OSSL_CALLBACK`.
type Callback = unsafe extern "C" fn(*const sys::OSSL_PARAM, *mut c_void) -> c_int;

impl Context {
    pub(crate) fn new() -> Self {
        Errors::take();
        // SAFETY: no arguments.
        let raw = unsafe { sys::OSSL_LIB_CTX_new() };
        assert!(!raw.is_null(), "no library context: {}", Errors::take());
        Self { raw, active: RefCell::default(), watcher: RefCell::default() }
    }

    /// Makes a provider known that is part of this program.
    ///
    /// # Safety
    /// `init` is an `OSSL_provider_init`.
    pub(crate) unsafe fn add_builtin(&self, name: &str, init: Init) -> Result<(), Errors> {
        // SAFETY: the caller's promise; the name is copied.
        answered(unsafe { OSSL_PROVIDER_add_builtin(self.raw, c_string(name).as_ptr(), init) })
    }

    /// Reads a configuration file.
    pub(crate) fn configure(&self, file: &Path) -> Result<(), Errors> {
        let file = c_string(file.to_str().expect("temporary paths are UTF-8"));
        // SAFETY: a C string.
        answered(unsafe { OSSL_LIB_CTX_load_config(self.raw, file.as_ptr()) })
    }

    /// Looks for modules in this folder.
    pub(crate) fn search(&self, folder: &Path) -> Result<(), Errors> {
        let folder = c_string(folder.to_str().expect("paths of the tests are UTF-8"));
        // SAFETY: a C string.
        answered(unsafe { sys::OSSL_PROVIDER_set_default_search_path(self.raw, folder.as_ptr()) })
    }

    /// Loads a provider for as long as the context lives.
    pub(crate) fn activate(&self, provider: &str) -> Result<(), Errors> {
        let provider = self.load(provider)?;
        self.active.borrow_mut().push(provider.raw);
        std::mem::forget(provider);
        Ok(())
    }

    pub(crate) fn load(&self, provider: &str) -> Result<Provider<'_>, Errors> {
        // SAFETY: a C string.
        let raw = some(unsafe { sys::OSSL_PROVIDER_load(self.raw, c_string(provider).as_ptr()) })?;
        Ok(Provider { raw, _context: PhantomData })
    }

    pub(crate) fn is_available(&self, provider: &str) -> bool {
        // SAFETY: a C string.
        unsafe { OSSL_PROVIDER_available(self.raw, c_string(provider).as_ptr()) == 1 }
    }

    pub(crate) fn set_default_properties(&self, properties: &str) -> Result<(), Errors> {
        // SAFETY: a C string.
        answered(unsafe { EVP_set_default_properties(self.raw, c_string(properties).as_ptr()) })
    }

    /// Calls `watcher` at each step of a self-test; its answer `false` in the phase `Corrupt` spoils the step.
    pub(crate) fn watch_self_tests(&self, watcher: impl FnMut(&SelfTestEvent) -> bool + 'static) {
        let mut watcher: Box<Watcher> = Box::new(Box::new(watcher));
        // SAFETY: the watcher lives as long as the context, whose drop comes first; it is called by one thread, because
        // the contexts of the tests are.
        unsafe {
            OSSL_SELF_TEST_set_callback(self.raw, Some(tell), (&raw mut *watcher).cast());
        }
        self.watcher.replace(Some(watcher));
    }

    /// A context for making keys of an algorithm.
    pub(crate) fn keys_of(&self, algorithm: &str, properties: &str) -> Result<Operation<'_>, Errors> {
        // SAFETY: C strings.
        let raw = some(unsafe {
            sys::EVP_PKEY_CTX_new_from_name(
                self.raw,
                c_string(algorithm).as_ptr(),
                c_string(properties).as_ptr(),
            )
        })?;
        Ok(Operation { raw, context: self })
    }

    /// A new key pair.
    pub(crate) fn generate(&self, algorithm: &str) -> Result<Key<'_>, Errors> {
        self.generate_with(algorithm, &[])
    }

    pub(crate) fn generate_with(&self, algorithm: &str, params: &[Param<'_>]) -> Result<Key<'_>, Errors> {
        let operation = self.keys_of(algorithm, "provider=qtls")?;
        operation.keygen_init()?;
        operation.set(params)?;
        operation.generate()
    }

    /// An empty key, as libssl makes it to put a peer's share into.
    pub(crate) fn empty(&self, algorithm: &str) -> Result<Key<'_>, Errors> {
        let operation = self.keys_of(algorithm, "provider=qtls")?;
        let mut key = null_mut();
        // SAFETY: a live context and a place for the key.
        unsafe {
            answered(sys::EVP_PKEY_paramgen_init(operation.raw))?;
            answered(sys::EVP_PKEY_paramgen(operation.raw, &mut key))?;
        }
        Ok(Key { raw: key, context: self })
    }

    /// `EVP_PKEY_fromdata`.
    pub(crate) fn import(
        &self,
        algorithm: &str,
        selection: c_int,
        params: &[Param<'_>],
    ) -> Result<Key<'_>, Errors> {
        let operation = self.keys_of(algorithm, "provider=qtls")?;
        let mut key = null_mut();
        let mut params = Param::array(params);
        // SAFETY: a live context, a place for the key, an ended array.
        unsafe {
            answered(sys::EVP_PKEY_fromdata_init(operation.raw))?;
            answered(sys::EVP_PKEY_fromdata(operation.raw, &mut key, selection, params.as_mut_ptr()))?;
        }
        Ok(Key { raw: key, context: self })
    }

    /// What a TLS server or client does first.
    pub(crate) fn make_tls_context(&self) -> Result<(), Errors> {
        // SAFETY: a context of libssl's own, freed here; SSL_CTX_free takes null.
        let made = unsafe {
            let tls = SSL_CTX_new_ex(self.raw, null(), sys::TLS_method());
            sys::SSL_CTX_free(tls);
            !tls.is_null()
        };
        if made { Ok(()) } else { Err(Errors::take()) }
    }

    /// Whether libssl takes a list of TLS groups.
    pub(crate) fn accepts_groups(&self, list: &str) -> bool {
        let list = c_string(list);
        // SAFETY: a context of libssl's own, freed here; SSL_CTX_free takes null.
        unsafe {
            let tls = SSL_CTX_new_ex(self.raw, null(), sys::TLS_method());
            assert!(!tls.is_null(), "no TLS context: {}", Errors::take());
            let accepted = sys::SSL_CTX_ctrl(
                tls,
                sys::SSL_CTRL_SET_GROUPS_LIST,
                0,
                list.as_ptr().cast_mut().cast::<c_void>(),
            );
            sys::SSL_CTX_free(tls);
            Errors::take();
            accepted == 1
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: nothing made in it is alive but these providers, each given up once.
        unsafe {
            for provider in self.active.get_mut().drain(..) {
                sys::OSSL_PROVIDER_unload(provider);
            }
            sys::OSSL_LIB_CTX_free(self.raw);
        }
    }
}

unsafe extern "C" fn tell(params: *const sys::OSSL_PARAM, watcher: *mut c_void) -> c_int {
    let text = |name: &CStr| {
        let mut value = null();
        // SAFETY: libcrypto's array of parameters, and a place for a pointer.
        unsafe {
            let param = sys::OSSL_PARAM_locate_const(params, name.as_ptr());
            assert_eq!(OSSL_PARAM_get_utf8_string_ptr(param, &mut value), 1, "{name:?} is missing");
            owned(value)
        }
    };
    let event =
        SelfTestEvent { phase: text(c"st-phase"), kind: text(c"st-type"), description: text(c"st-desc") };
    // SAFETY: what `watch_self_tests` registered.
    let watcher = unsafe { &mut *watcher.cast::<Watcher>() };
    watcher(&event).into()
}

/// An active provider.
pub(crate) struct Provider<'a> {
    raw: *mut sys::OSSL_PROVIDER,
    _context: PhantomData<&'a Context>,
}

impl Provider<'_> {
    pub(crate) fn unload(self) -> Result<(), Errors> {
        let raw = self.raw;
        std::mem::forget(self);
        // SAFETY: given up once.
        answered(unsafe { sys::OSSL_PROVIDER_unload(raw) })
    }

    /// A parameter that the provider answers by pointer.
    pub(crate) fn static_text(&self, name: &CStr) -> Result<String, Errors> {
        let mut value: *const c_char = null();
        // SAFETY: a place for a pointer; the provider's text lives as long as the process.
        unsafe {
            self.ask(name, OSSL_PARAM_UTF8_PTR, (&raw mut value).cast(), 0)?;
            Ok(owned(value))
        }
    }

    /// A parameter that the provider copies.
    pub(crate) fn text(&self, name: &CStr) -> Result<String, Errors> {
        let mut buffer = vec![0xff_u8; 512];
        let size = buffer.len();
        // SAFETY: a buffer of that size.
        unsafe { self.ask(name, OSSL_PARAM_UTF8_STRING, buffer.as_mut_ptr().cast(), size)? };
        let text = CStr::from_bytes_until_nul(&buffer).expect("the text is ended");
        Ok(text.to_str().expect("the text is UTF-8").to_owned())
    }

    pub(crate) fn integer(&self, name: &CStr) -> Result<c_int, Errors> {
        let mut value: c_int = -1;
        // SAFETY: a place for an int.
        unsafe { self.ask(name, OSSL_PARAM_INTEGER, (&raw mut value).cast(), size_of::<c_int>())? };
        Ok(value)
    }

    /// # Safety
    /// `data` is what `data_type` and `size` say.
    unsafe fn ask(
        &self,
        name: &CStr,
        data_type: c_uint,
        data: *mut c_void,
        size: usize,
    ) -> Result<(), Errors> {
        let asked =
            sys::OSSL_PARAM { key: name.as_ptr(), data_type, data, data_size: size, return_size: usize::MAX };
        let mut params = [asked, end()];
        // SAFETY: an ended array; the caller's promise.
        answered(unsafe { OSSL_PROVIDER_get_params(self.raw, params.as_mut_ptr()) })?;
        assert_ne!(params[0].return_size, usize::MAX, "{name:?} was not answered");
        Ok(())
    }

    pub(crate) fn self_test(&self) -> Result<(), Errors> {
        // SAFETY: an active provider.
        answered(unsafe { OSSL_PROVIDER_self_test(self.raw) })
    }

    /// How often the provider calls back for a capability, or that it refuses. `answer` is what the callback answers.
    pub(crate) fn capabilities(&self, name: &str, answer: bool) -> Result<usize, Errors> {
        let mut state = (0_usize, answer);
        // SAFETY: `count` and its argument belong together.
        unsafe {
            answered(OSSL_PROVIDER_get_capabilities(
                self.raw,
                c_string(name).as_ptr(),
                Some(count),
                (&raw mut state).cast(),
            ))?;
        }
        Ok(state.0)
    }
}

unsafe extern "C" fn count(_params: *const sys::OSSL_PARAM, state: *mut c_void) -> c_int {
    // SAFETY: the argument that `capabilities` gave.
    let (calls, answer) = unsafe { &mut *state.cast::<(usize, bool)>() };
    *calls += 1;
    (*answer).into()
}

impl Drop for Provider<'_> {
    fn drop(&mut self) {
        // SAFETY: given up once.
        unsafe { sys::OSSL_PROVIDER_unload(self.raw) };
    }
}

/// A parameter of a call.
pub(crate) enum Param<'a> {
    Octets(&'a CStr, &'a [u8]),
    Text(&'a CStr, &'a CStr),
    Integer(&'a CStr, &'a c_int),
}

impl Param<'_> {
    fn array(params: &[Param<'_>]) -> Vec<sys::OSSL_PARAM> {
        let one = |param: &Param<'_>| {
            let (key, data_type, data, data_size) = match param {
                Param::Octets(key, bytes) => {
                    (key, OSSL_PARAM_OCTET_STRING, bytes.as_ptr().cast(), bytes.len())
                }
                Param::Text(key, text) => {
                    (key, OSSL_PARAM_UTF8_STRING, text.as_ptr().cast(), text.count_bytes())
                }
                Param::Integer(key, value) => {
                    (key, OSSL_PARAM_INTEGER, std::ptr::from_ref(*value).cast::<c_void>(), size_of::<c_int>())
                }
            };
            sys::OSSL_PARAM {
                key: key.as_ptr(),
                data_type,
                data: data.cast_mut(),
                data_size,
                return_size: usize::MAX,
            }
        };
        params.iter().map(one).chain([end()]).collect()
    }
}

fn end() -> sys::OSSL_PARAM {
    sys::OSSL_PARAM { key: null(), data_type: 0, data: null_mut(), data_size: 0, return_size: 0 }
}

/// An `EVP_PKEY_CTX`.
pub(crate) struct Operation<'a> {
    raw: *mut sys::EVP_PKEY_CTX,
    context: &'a Context,
}

impl<'a> Operation<'a> {
    pub(crate) fn keygen_init(&self) -> Result<(), Errors> {
        // SAFETY: a live operation.
        answered(unsafe { sys::EVP_PKEY_keygen_init(self.raw) })
    }

    pub(crate) fn set(&self, params: &[Param<'_>]) -> Result<(), Errors> {
        if params.is_empty() {
            return Ok(());
        }
        let params = Param::array(params);
        // SAFETY: an ended array.
        answered(unsafe { EVP_PKEY_CTX_set_params(self.raw, params.as_ptr()) })
    }

    pub(crate) fn generate(&self) -> Result<Key<'a>, Errors> {
        let mut key = null_mut();
        // SAFETY: a live operation and a place for the key.
        answered(unsafe { sys::EVP_PKEY_generate(self.raw, &mut key) })?;
        Ok(Key { raw: key, context: self.context })
    }

    pub(crate) fn encapsulate_init(&self) -> Result<(), Errors> {
        // SAFETY: a live operation.
        answered(unsafe { sys::EVP_PKEY_encapsulate_init(self.raw, null()) })
    }

    /// The sizes of ciphertext and secret.
    pub(crate) fn encapsulated_sizes(&self) -> Result<(usize, usize), Errors> {
        let (mut ciphertext, mut secret) = (0, 0);
        // SAFETY: places for the sizes.
        answered(unsafe {
            sys::EVP_PKEY_encapsulate(self.raw, null_mut(), &mut ciphertext, null_mut(), &mut secret)
        })?;
        Ok((ciphertext, secret))
    }

    /// Encapsulates into buffers of these sizes; answers how much of them was filled.
    pub(crate) fn encapsulate_into(
        &self,
        ciphertext: &mut [u8],
        secret: &mut [u8],
    ) -> Result<(usize, usize), Errors> {
        let (mut ciphertext_size, mut secret_size) = (ciphertext.len(), secret.len());
        // SAFETY: buffers of these sizes.
        answered(unsafe {
            sys::EVP_PKEY_encapsulate(
                self.raw,
                ciphertext.as_mut_ptr(),
                &mut ciphertext_size,
                secret.as_mut_ptr(),
                &mut secret_size,
            )
        })?;
        Ok((ciphertext_size, secret_size))
    }

    pub(crate) fn decapsulate_init(&self) -> Result<(), Errors> {
        // SAFETY: a live operation.
        answered(unsafe { sys::EVP_PKEY_decapsulate_init(self.raw, null()) })
    }

    /// The size of the secret.
    pub(crate) fn decapsulated_size(&self, ciphertext: &[u8]) -> Result<usize, Errors> {
        let mut secret = 0;
        // SAFETY: a place for the size, a buffer of that size.
        answered(unsafe {
            sys::EVP_PKEY_decapsulate(
                self.raw,
                null_mut(),
                &mut secret,
                ciphertext.as_ptr(),
                ciphertext.len(),
            )
        })?;
        Ok(secret)
    }

    pub(crate) fn decapsulate_into(&self, ciphertext: &[u8], secret: &mut [u8]) -> Result<usize, Errors> {
        let mut secret_size = secret.len();
        // SAFETY: buffers of these sizes.
        answered(unsafe {
            sys::EVP_PKEY_decapsulate(
                self.raw,
                secret.as_mut_ptr(),
                &mut secret_size,
                ciphertext.as_ptr(),
                ciphertext.len(),
            )
        })?;
        Ok(secret_size)
    }

    /// `EVP_PKEY_CTX_dup`.
    pub(crate) fn duplicate(&self) -> Result<Operation<'a>, Errors> {
        // SAFETY: a live operation.
        let raw = some(unsafe { EVP_PKEY_CTX_dup(self.raw) })?;
        Ok(Operation { raw, context: self.context })
    }

    fn judge(&self, check: unsafe extern "C" fn(*mut sys::EVP_PKEY_CTX) -> c_int) -> Result<(), Errors> {
        // SAFETY: a live operation with a key.
        answered(unsafe { check(self.raw) })
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        // SAFETY: given up once.
        unsafe { sys::EVP_PKEY_CTX_free(self.raw) }
    }
}

/// An `EVP_PKEY`.
pub(crate) struct Key<'a> {
    raw: *mut sys::EVP_PKEY,
    context: &'a Context,
}

impl<'a> Key<'a> {
    pub(crate) fn operation(&self) -> Result<Operation<'a>, Errors> {
        // SAFETY: a live key; the operation holds a share of it.
        let raw = some(unsafe {
            EVP_PKEY_CTX_new_from_pkey(self.context.raw, self.raw, c"provider=qtls".as_ptr())
        })?;
        Ok(Operation { raw, context: self.context })
    }

    /// A fresh ciphertext and its secret.
    pub(crate) fn encapsulate(&self) -> Result<(Vec<u8>, Vec<u8>), Errors> {
        let operation = self.operation()?;
        operation.encapsulate_init()?;
        let (ciphertext, secret) = operation.encapsulated_sizes()?;
        let (mut ciphertext, mut secret) = (vec![0; ciphertext], vec![0; secret]);
        let filled = operation.encapsulate_into(&mut ciphertext, &mut secret)?;
        assert_eq!(filled, (ciphertext.len(), secret.len()));
        Ok((ciphertext, secret))
    }

    pub(crate) fn decapsulate(&self, ciphertext: &[u8]) -> Result<Vec<u8>, Errors> {
        let operation = self.operation()?;
        operation.decapsulate_init()?;
        let mut secret = vec![0; operation.decapsulated_size(ciphertext)?];
        let filled = operation.decapsulate_into(ciphertext, &mut secret)?;
        assert_eq!(filled, secret.len());
        Ok(secret)
    }

    /// `EVP_PKEY_set1_encoded_public_key`.
    pub(crate) fn set_encoded(&self, share: &[u8]) -> Result<(), Errors> {
        // SAFETY: a buffer of that size.
        answered(unsafe { EVP_PKEY_set1_encoded_public_key(self.raw, share.as_ptr(), share.len()) })
    }

    /// `EVP_PKEY_get1_encoded_public_key`.
    pub(crate) fn encoded(&self) -> Result<Vec<u8>, Errors> {
        let mut share = null_mut();
        // SAFETY: a place for a buffer that libcrypto allocates and we free.
        unsafe {
            let size = EVP_PKEY_get1_encoded_public_key(self.raw, &mut share);
            if size == 0 {
                return Err(Errors::take());
            }
            let copy = std::slice::from_raw_parts(share, size).to_vec();
            sys::CRYPTO_free(share.cast(), c"".as_ptr(), 0);
            Ok(copy)
        }
    }

    /// `EVP_PKEY_todata`: names and bytes.
    pub(crate) fn export(&self, selection: c_int) -> Result<Vec<(String, Vec<u8>)>, Errors> {
        let mut params = null_mut();
        let mut exported = Vec::new();
        // SAFETY: a place for an array that libcrypto allocates and we free; it is ended, and holds octet strings.
        unsafe {
            answered(sys::EVP_PKEY_todata(self.raw, selection, &mut params))?;
            let mut param = params;
            while !(*param).key.is_null() {
                assert_eq!((*param).data_type, OSSL_PARAM_OCTET_STRING);
                let bytes = std::slice::from_raw_parts((*param).data.cast::<u8>(), (*param).data_size);
                exported.push((owned((*param).key), bytes.to_vec()));
                param = param.add(1);
            }
            sys::OSSL_PARAM_free(params);
        }
        Ok(exported)
    }

    pub(crate) fn duplicate(&self) -> Result<Key<'a>, Errors> {
        // SAFETY: a live key.
        let raw = some(unsafe { EVP_PKEY_dup(self.raw) })?;
        Ok(Key { raw, context: self.context })
    }

    /// `EVP_PKEY_eq`: 1 for equal, 0 for different, -1 for different types.
    pub(crate) fn equals(&self, other: &Key<'_>) -> c_int {
        // SAFETY: live keys.
        unsafe { sys::EVP_PKEY_eq(self.raw, other.raw) }
    }

    pub(crate) fn lacks_parameters(&self) -> bool {
        // SAFETY: a live key.
        unsafe { EVP_PKEY_missing_parameters(self.raw) == 1 }
    }

    pub(crate) fn check(&self) -> Result<(), Errors> {
        self.operation()?.judge(sys::EVP_PKEY_check)
    }

    pub(crate) fn pairwise_check(&self) -> Result<(), Errors> {
        self.operation()?.judge(EVP_PKEY_pairwise_check)
    }

    pub(crate) fn public_check(&self) -> Result<(), Errors> {
        self.operation()?.judge(sys::EVP_PKEY_public_check)
    }

    pub(crate) fn bits(&self) -> c_int {
        // SAFETY: a live key.
        unsafe { sys::EVP_PKEY_get_bits(self.raw) }
    }

    pub(crate) fn security_bits(&self) -> c_int {
        // SAFETY: a live key.
        unsafe { sys::EVP_PKEY_get_security_bits(self.raw) }
    }

    pub(crate) fn size(&self) -> c_int {
        // SAFETY: a live key.
        unsafe { sys::EVP_PKEY_get_size(self.raw) }
    }

    pub(crate) fn integer(&self, name: &CStr) -> Result<c_int, Errors> {
        let mut value = 0;
        // SAFETY: a place for an int.
        answered(unsafe { sys::EVP_PKEY_get_int_param(self.raw, name.as_ptr(), &mut value) })?;
        Ok(value)
    }

    /// An octet string, asked for with a buffer of this size.
    pub(crate) fn octets(&self, name: &CStr, room: usize) -> Result<Vec<u8>, Errors> {
        let (mut buffer, mut size) = (vec![0; room], 0);
        // SAFETY: a buffer of that size and a place for the size.
        answered(unsafe {
            sys::EVP_PKEY_get_octet_string_param(
                self.raw,
                name.as_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &mut size,
            )
        })?;
        buffer.truncate(size);
        Ok(buffer)
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        // SAFETY: given up once.
        unsafe { sys::EVP_PKEY_free(self.raw) }
    }
}

/// `OSSL_PARAM_*` of `openssl/core.h`.
const OSSL_PARAM_INTEGER: c_uint = 1;
const OSSL_PARAM_UTF8_STRING: c_uint = 4;
const OSSL_PARAM_OCTET_STRING: c_uint = 5;
const OSSL_PARAM_UTF8_PTR: c_uint = 6;

// Declared as in OpenSSL 3.0's headers.
unsafe extern "C" {
    fn OSSL_PROVIDER_add_builtin(context: *mut sys::OSSL_LIB_CTX, name: *const c_char, init: Init) -> c_int;
    fn OSSL_LIB_CTX_load_config(context: *mut sys::OSSL_LIB_CTX, file: *const c_char) -> c_int;
    fn OSSL_PROVIDER_available(context: *mut sys::OSSL_LIB_CTX, name: *const c_char) -> c_int;
    fn OSSL_PROVIDER_get_params(provider: *const sys::OSSL_PROVIDER, params: *mut sys::OSSL_PARAM) -> c_int;
    fn OSSL_PROVIDER_self_test(provider: *const sys::OSSL_PROVIDER) -> c_int;
    fn OSSL_PROVIDER_get_capabilities(
        provider: *const sys::OSSL_PROVIDER,
        capability: *const c_char,
        callback: Option<Callback>,
        argument: *mut c_void,
    ) -> c_int;
    fn OSSL_SELF_TEST_set_callback(
        context: *mut sys::OSSL_LIB_CTX,
        callback: Option<Callback>,
        argument: *mut c_void,
    );
    fn OSSL_PARAM_get_utf8_string_ptr(param: *const sys::OSSL_PARAM, value: *mut *const c_char) -> c_int;
    fn EVP_set_default_properties(context: *mut sys::OSSL_LIB_CTX, properties: *const c_char) -> c_int;
    fn EVP_PKEY_CTX_new_from_pkey(
        context: *mut sys::OSSL_LIB_CTX,
        key: *mut sys::EVP_PKEY,
        properties: *const c_char,
    ) -> *mut sys::EVP_PKEY_CTX;
    fn EVP_PKEY_CTX_set_params(operation: *mut sys::EVP_PKEY_CTX, params: *const sys::OSSL_PARAM) -> c_int;
    fn EVP_PKEY_CTX_dup(operation: *const sys::EVP_PKEY_CTX) -> *mut sys::EVP_PKEY_CTX;
    fn EVP_PKEY_missing_parameters(key: *const sys::EVP_PKEY) -> c_int;
    fn EVP_PKEY_dup(key: *mut sys::EVP_PKEY) -> *mut sys::EVP_PKEY;
    fn EVP_PKEY_pairwise_check(operation: *mut sys::EVP_PKEY_CTX) -> c_int;
    fn EVP_PKEY_set1_encoded_public_key(key: *mut sys::EVP_PKEY, share: *const u8, size: usize) -> c_int;
    fn EVP_PKEY_get1_encoded_public_key(key: *mut sys::EVP_PKEY, share: *mut *mut u8) -> usize;
    fn SSL_CTX_new_ex(
        context: *mut sys::OSSL_LIB_CTX,
        properties: *const c_char,
        method: *const sys::SSL_METHOD,
    ) -> *mut sys::SSL_CTX;
}
