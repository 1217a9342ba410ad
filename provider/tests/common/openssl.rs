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
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_void};
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
    pub(crate) file: String,
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
                    file: owned(file),
                    function: owned(function),
                    reason: owned(sys::ERR_reason_error_string(code)),
                    data: owned(data),
                });
            }
        }
    }

    /// The entries that the provider made: it calls itself the file.
    pub(crate) fn ours(&self) -> Vec<&QueuedError> {
        self.0.iter().filter(|error| error.file == "qtls").collect()
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

/// The label and the content of the first PEM block.
pub(crate) fn from_pem(pem: &[u8]) -> (String, Vec<u8>) {
    let (mut name, mut header, mut data, mut size) = (null_mut(), null_mut(), null_mut(), 0);
    // SAFETY: a BIO over a live buffer, freed here; places for what libcrypto allocates and we free.
    unsafe {
        let bio = memory(pem);
        let answer = PEM_read_bio(bio, &mut name, &mut header, &mut data, &mut size);
        sys::BIO_free_all(bio);
        answered(answer).expect("a PEM block");
        let content = std::slice::from_raw_parts(data, usize::try_from(size).unwrap()).to_vec();
        let label = owned(name);
        for place in [name.cast(), header.cast(), data.cast::<c_void>()] {
            sys::CRYPTO_free(place, c"".as_ptr(), 0);
        }
        (label, content)
    }
}

/// A library context of its own, as separate from others as a process is.
pub(crate) struct Context {
    raw: *mut sys::OSSL_LIB_CTX,
    active: RefCell<Vec<*mut sys::OSSL_PROVIDER>>,
    watcher: RefCell<Option<Box<Watcher>>>,
    /// Of every operation with a key; null for none.
    properties: Cell<*const c_char>,
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
        let properties = Cell::new(c"provider=qtls".as_ptr());
        Self { raw, active: RefCell::default(), watcher: RefCell::default(), properties }
    }

    /// Lets libcrypto choose who operates with a key, as programs do.
    pub(crate) fn with_any_provider(self) -> Self {
        self.properties.set(null());
        self
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

    /// The key in a file, whatever kind and form it turns out to have.
    pub(crate) fn decode(&self, file: &[u8], passphrase: Option<&[u8]>) -> Result<Key<'_>, Errors> {
        self.decode_as(file, None, 0, passphrase)
    }

    /// The key in a file of which the form ("DER", "PEM") and the selection are known, if they are.
    pub(crate) fn decode_as(
        &self,
        file: &[u8],
        form: Option<&CStr>,
        selection: c_int,
        passphrase: Option<&[u8]>,
    ) -> Result<Key<'_>, Errors> {
        let mut key = null_mut();
        let (mut next, mut left) = (file.as_ptr(), file.len());
        // SAFETY: a place for the key that outlives the decoder, which is freed here; a buffer of that size.
        let answer = unsafe {
            let decoder = some(OSSL_DECODER_CTX_new_for_pkey(
                &mut key,
                form.map_or(null(), CStr::as_ptr),
                null(),
                null(),
                selection,
                self.raw,
                null(),
            ))?;
            if let Some(passphrase) = passphrase {
                assert_eq!(
                    OSSL_DECODER_CTX_set_passphrase(decoder, passphrase.as_ptr(), passphrase.len()),
                    1
                );
            }
            let answer = OSSL_DECODER_from_data(decoder, &mut next, &mut left);
            OSSL_DECODER_CTX_free(decoder);
            answer
        };
        answered(answer)?;
        Ok(Key { raw: some(key)?, context: self })
    }

    /// `PEM_read_bio_PrivateKey_ex`, as servers read their keys; without a passphrase.
    pub(crate) fn read_private_pem(&self, pem: &[u8]) -> Result<Key<'_>, Errors> {
        self.read(pem, |bio| {
            // SAFETY: a live BIO; the callback gives no passphrase.
            unsafe {
                PEM_read_bio_PrivateKey_ex(bio, null_mut(), Some(no_passphrase), null_mut(), self.raw, null())
            }
        })
    }

    /// Every key that `PEM_read_bio_PrivateKey_ex` finds in a file, one call after another.
    pub(crate) fn read_all_private_pem(&self, pem: &[u8]) -> Vec<Key<'_>> {
        let mut keys = Vec::new();
        // SAFETY: a BIO over a live buffer, freed here; the callback gives no passphrase.
        unsafe {
            let bio = memory(pem);
            loop {
                let key = PEM_read_bio_PrivateKey_ex(
                    bio,
                    null_mut(),
                    Some(no_passphrase),
                    null_mut(),
                    self.raw,
                    null(),
                );
                if key.is_null() {
                    break;
                }
                keys.push(Key { raw: key, context: self });
            }
            sys::BIO_free_all(bio);
        }
        Errors::take();
        keys
    }

    /// Everything of one kind (0: of every kind) that `OSSL_STORE` finds, as OpenSSL's programs read keys and certificates.
    pub(crate) fn stored(&self, uri: &str, kind: c_int) -> Result<Vec<Stored<'_>>, Errors> {
        let mut found = Vec::new();
        // SAFETY: a store that is closed here; a C string or null; what it gave is freed, and the keys are shares of their own.
        unsafe {
            let uri = c_string(uri);
            let store = some(OSSL_STORE_open_ex(
                uri.as_ptr(),
                self.raw,
                null(),
                null(),
                null_mut(),
                null(),
                null(),
                null_mut(),
            ))?;
            answered(OSSL_STORE_expect(store, kind))?;
            while OSSL_STORE_eof(store) == 0 {
                let info = OSSL_STORE_load(store);
                if info.is_null() {
                    continue;
                }
                let key = |raw| Key { raw, context: self };
                match OSSL_STORE_INFO_get_type(info) {
                    PUBLIC_KEYS => found.push(Stored::Public(key(OSSL_STORE_INFO_get1_PUBKEY(info)))),
                    PRIVATE_KEYS => found.push(Stored::Private(key(OSSL_STORE_INFO_get1_PKEY(info)))),
                    CERTIFICATES => {
                        let certificate = OSSL_STORE_INFO_get1_CERT(info);
                        found.push(Stored::Certificate(key(sys::X509_get_pubkey(certificate))));
                        sys::X509_free(certificate);
                    }
                    other => panic!("a store's object of type {other}"),
                }
                OSSL_STORE_INFO_free(info);
            }
            OSSL_STORE_close(store);
        }
        let errors = Errors::take();
        // What stands before the thing sought leaves errors of OpenSSL's own: it is none.
        if found.is_empty() || !errors.ours().is_empty() { Err(errors) } else { Ok(found) }
    }

    /// `PEM_read_bio_PUBKEY_ex`.
    pub(crate) fn read_public_pem(&self, pem: &[u8]) -> Result<Key<'_>, Errors> {
        // SAFETY: a live BIO.
        self.read(pem, |bio| unsafe {
            PEM_read_bio_PUBKEY_ex(bio, null_mut(), None, null_mut(), self.raw, null())
        })
    }

    /// `d2i_AutoPrivateKey_ex`.
    pub(crate) fn read_private_der(&self, der: &[u8]) -> Result<Key<'_>, Errors> {
        let mut next = der.as_ptr();
        // SAFETY: a buffer of that size.
        let key = unsafe {
            d2i_AutoPrivateKey_ex(
                null_mut(),
                &mut next,
                c_long::try_from(der.len()).unwrap(),
                self.raw,
                null(),
            )
        };
        Ok(Key { raw: some(key)?, context: self })
    }

    /// `d2i_PUBKEY_ex`, as certificates are read.
    pub(crate) fn read_public_der(&self, der: &[u8]) -> Result<Key<'_>, Errors> {
        let mut next = der.as_ptr();
        // SAFETY: a buffer of that size.
        let key = unsafe {
            d2i_PUBKEY_ex(null_mut(), &mut next, c_long::try_from(der.len()).unwrap(), self.raw, null())
        };
        Ok(Key { raw: some(key)?, context: self })
    }

    /// The key of a certificate in PEM, whose signature is verified with the key of its issuer.
    pub(crate) fn certified(&self, pem: &[u8], issuer: &Key<'_>) -> Result<Key<'_>, Errors> {
        // SAFETY: a BIO over a live buffer and a certificate, both freed here; the key is a share of its own.
        unsafe {
            let bio = memory(pem);
            let mut certificate = some(X509_new_ex(self.raw, null()))?;
            let read = sys::PEM_read_bio_X509(bio, &mut certificate, None, null_mut());
            sys::BIO_free_all(bio);
            some(read)?;
            let key = some(sys::X509_get_pubkey(certificate)).map(|raw| Key { raw, context: self });
            let verified = key.and_then(|key| {
                answered(sys::X509_verify(certificate, issuer.raw))?;
                Ok(key)
            });
            sys::X509_free(certificate);
            verified
        }
    }

    fn read(
        &self,
        pem: &[u8],
        reader: impl FnOnce(*mut sys::BIO) -> *mut sys::EVP_PKEY,
    ) -> Result<Key<'_>, Errors> {
        // SAFETY: a BIO over a live buffer, freed here.
        let key = unsafe {
            let bio = memory(pem);
            let key = reader(bio);
            sys::BIO_free_all(bio);
            key
        };
        Ok(Key { raw: some(key)?, context: self })
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

/// # Safety
/// `bytes` outlive the BIO.
unsafe fn memory(bytes: &[u8]) -> *mut sys::BIO {
    // SAFETY: the caller's promise.
    let bio = unsafe { sys::BIO_new_mem_buf(bytes.as_ptr().cast(), bytes.len().try_into().unwrap()) };
    assert!(!bio.is_null());
    bio
}

unsafe extern "C" fn no_passphrase(_: *mut c_char, _: c_int, _: c_int, _: *mut c_void) -> c_int {
    -1
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

    /// What the provider gets back as `provctx`.
    pub(crate) fn inner_context(&self) -> *mut c_void {
        // SAFETY: an active provider.
        unsafe { OSSL_PROVIDER_get0_provider_ctx(self.raw) }
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

/// `OSSL_STORE_INFO_PUBKEY` and its siblings.
pub(crate) const PUBLIC_KEYS: c_int = 3;
pub(crate) const PRIVATE_KEYS: c_int = 4;
pub(crate) const CERTIFICATES: c_int = 5;

/// What a store had.
pub(crate) enum Stored<'a> {
    Public(Key<'a>),
    Private(Key<'a>),
    /// Its key.
    Certificate(Key<'a>),
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

    pub(crate) fn sign_init(&self) -> Result<(), Errors> {
        // SAFETY: a live operation.
        answered(unsafe { sys::EVP_PKEY_sign_init(self.raw) })
    }

    /// The signature, in a buffer of the size that is asked for first.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Errors> {
        let mut size = 0;
        // SAFETY: a place for the size, a buffer of that size, a message of its own.
        unsafe {
            answered(sys::EVP_PKEY_sign(self.raw, null_mut(), &mut size, message.as_ptr(), message.len()))?;
            let mut signature = vec![0; size];
            answered(sys::EVP_PKEY_sign(
                self.raw,
                signature.as_mut_ptr(),
                &mut size,
                message.as_ptr(),
                message.len(),
            ))?;
            signature.truncate(size);
            Ok(signature)
        }
    }

    pub(crate) fn decrypt_init(&self) -> Result<(), Errors> {
        // SAFETY: a live operation.
        answered(unsafe { sys::EVP_PKEY_decrypt_init(self.raw) })
    }

    pub(crate) fn verify_init(&self) -> Result<(), Errors> {
        // SAFETY: a live operation.
        answered(unsafe { sys::EVP_PKEY_verify_init(self.raw) })
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Errors> {
        // SAFETY: buffers of these sizes.
        answered(unsafe {
            sys::EVP_PKEY_verify(
                self.raw,
                signature.as_ptr(),
                signature.len(),
                message.as_ptr(),
                message.len(),
            )
        })
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

/// How a key is written.
#[derive(Clone, Copy)]
pub(crate) struct File<'a> {
    pub(crate) selection: c_int,
    /// "DER", "PEM" or "TEXT".
    pub(crate) form: &'a CStr,
    pub(crate) structure: Option<&'a CStr>,
    pub(crate) cipher: Option<&'a CStr>,
    pub(crate) passphrase: Option<&'a [u8]>,
}

impl<'a> File<'a> {
    /// A public key.
    pub(crate) fn public(form: &'a CStr) -> Self {
        let structure = Some(c"SubjectPublicKeyInfo");
        Self { selection: PUBLIC, form, structure, cipher: None, passphrase: None }
    }

    /// A private key, not encrypted.
    pub(crate) fn private(form: &'a CStr) -> Self {
        let structure = Some(c"PrivateKeyInfo");
        Self { selection: KEY_PAIR, form, structure, cipher: None, passphrase: None }
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
            EVP_PKEY_CTX_new_from_pkey(self.context.raw, self.raw, self.context.properties.get())
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

    /// `EVP_DigestSignInit_ex` with the name of a digest, if any.
    pub(crate) fn signer(&self, digest: Option<&CStr>, params: &[Param<'_>]) -> Result<Message<'a>, Errors> {
        self.message(EVP_DigestSignInit_ex, digest, params)
    }

    /// `EVP_DigestVerifyInit_ex` with the name of a digest, if any.
    pub(crate) fn verifier(
        &self,
        digest: Option<&CStr>,
        params: &[Param<'_>],
    ) -> Result<Message<'a>, Errors> {
        self.message(EVP_DigestVerifyInit_ex, digest, params)
    }

    fn message(
        &self,
        init: InitMessage,
        digest: Option<&CStr>,
        params: &[Param<'_>],
    ) -> Result<Message<'a>, Errors> {
        let params = Param::array(params);
        // SAFETY: a context of libcrypto's own, a live key of which it takes a share, an ended array, C strings or null.
        unsafe {
            let message = Message { raw: some(sys::EVP_MD_CTX_new())?, _context: PhantomData };
            answered(init(
                message.raw,
                null_mut(),
                digest.map_or(null(), CStr::as_ptr),
                self.context.raw,
                self.context.properties.get(),
                self.raw,
                params.as_ptr(),
            ))?;
            Ok(message)
        }
    }

    /// The name of the provider that holds the key.
    pub(crate) fn provider(&self) -> String {
        // SAFETY: a live key; the name lives as long as its provider.
        unsafe { owned(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(self.raw))) }
    }

    /// `EVP_PKEY_is_a`.
    pub(crate) fn is_a(&self, name: &str) -> bool {
        // SAFETY: a live key, a C string.
        unsafe { EVP_PKEY_is_a(self.raw, c_string(name).as_ptr()) == 1 }
    }

    /// `EVP_PKEY_get_default_digest_name`: 2 and the name where it is the only one, 1 where others may be used.
    pub(crate) fn default_digest(&self) -> (c_int, String) {
        let mut name = [0_u8; 64];
        // SAFETY: a live key, a buffer of that size.
        let answer =
            unsafe { EVP_PKEY_get_default_digest_name(self.raw, name.as_mut_ptr().cast(), name.len()) };
        let name = CStr::from_bytes_until_nul(&name).expect("the name is ended");
        (answer, name.to_string_lossy().into_owned())
    }

    /// What an encoder of libcrypto's choice writes.
    pub(crate) fn encode(&self, file: File<'_>) -> Result<Vec<u8>, Errors> {
        let File { selection, form, structure, cipher, passphrase } = file;
        let (mut bytes, mut size) = (null_mut(), 0);
        // SAFETY: an encoder that is freed here; C strings or null; a place for a buffer that libcrypto allocates and we
        // free.
        unsafe {
            let encoder = some(OSSL_ENCODER_CTX_new_for_pkey(
                self.raw,
                selection,
                form.as_ptr(),
                structure.map_or(null(), CStr::as_ptr),
                null(),
            ))?;
            let set = cipher
                .is_none_or(|cipher| OSSL_ENCODER_CTX_set_cipher(encoder, cipher.as_ptr(), null()) == 1)
                && passphrase.is_none_or(|passphrase| {
                    OSSL_ENCODER_CTX_set_passphrase(encoder, passphrase.as_ptr(), passphrase.len()) == 1
                });
            let answer = if set { OSSL_ENCODER_to_data(encoder, &mut bytes, &mut size) } else { 0 };
            OSSL_ENCODER_CTX_free(encoder);
            answered(answer)?;
            let copy = std::slice::from_raw_parts(bytes, size).to_vec();
            sys::CRYPTO_free(bytes.cast(), c"".as_ptr(), 0);
            Ok(copy)
        }
    }

    /// A signature in one call.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Errors> {
        self.signer(None, &[])?.sign(message)
    }

    /// A verification in one call.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Errors> {
        self.verifier(None, &[])?.verify(message, signature)
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

    /// A text.
    pub(crate) fn text(&self, name: &CStr) -> Result<String, Errors> {
        let (mut buffer, mut size) = ([0_u8; 64], 0);
        // SAFETY: a buffer of that size and a place for the size.
        answered(unsafe {
            EVP_PKEY_get_utf8_string_param(
                self.raw,
                name.as_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut size,
            )
        })?;
        Ok(String::from_utf8_lossy(&buffer[..size]).into_owned())
    }

    /// A number of any size, big-endian.
    pub(crate) fn natural(&self, name: &CStr) -> Result<Vec<u8>, Errors> {
        let mut number = null_mut();
        // SAFETY: a place for a number that libcrypto makes and we free; a buffer of the size that it says.
        unsafe {
            answered(EVP_PKEY_get_bn_param(self.raw, name.as_ptr(), &mut number))?;
            let mut bytes = vec![0; usize::try_from(sys::BN_num_bits(number)).unwrap().div_ceil(8)];
            sys::BN_bn2bin(number, bytes.as_mut_ptr());
            sys::BN_free(number);
            Ok(bytes)
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
                assert_ne!((*param).data_type, OSSL_PARAM_UTF8_PTR, "data of its own");
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

type InitMessage = unsafe extern "C" fn(
    *mut sys::EVP_MD_CTX,
    *mut *mut sys::EVP_PKEY_CTX,
    *const c_char,
    *mut sys::OSSL_LIB_CTX,
    *const c_char,
    *mut sys::EVP_PKEY,
    *const sys::OSSL_PARAM,
) -> c_int;

/// An `EVP_MD_CTX` that signs or verifies.
pub(crate) struct Message<'a> {
    raw: *mut sys::EVP_MD_CTX,
    _context: PhantomData<&'a Context>,
}

impl<'a> Message<'a> {
    /// `EVP_PKEY_CTX_set_params` on the operation inside.
    pub(crate) fn set(&self, params: &[Param<'_>]) -> Result<(), Errors> {
        let params = Param::array(params);
        // SAFETY: an operation that belongs to the live context; an ended array.
        answered(unsafe { EVP_PKEY_CTX_set_params(EVP_MD_CTX_get_pkey_ctx(self.raw), params.as_ptr()) })
    }

    /// An octet string of the operation inside.
    pub(crate) fn octets(&self, name: &CStr) -> Result<Vec<u8>, Errors> {
        let mut buffer = vec![0_u8; 256];
        let asked = sys::OSSL_PARAM {
            key: name.as_ptr(),
            data_type: OSSL_PARAM_OCTET_STRING,
            data: buffer.as_mut_ptr().cast(),
            data_size: buffer.len(),
            return_size: usize::MAX,
        };
        let mut params = [asked, end()];
        // SAFETY: an operation that belongs to the live context; an ended array with a buffer of that size.
        answered(unsafe { EVP_PKEY_CTX_get_params(EVP_MD_CTX_get_pkey_ctx(self.raw), params.as_mut_ptr()) })?;
        assert_ne!(params[0].return_size, usize::MAX, "{name:?} was not answered");
        buffer.truncate(params[0].return_size);
        Ok(buffer)
    }

    /// `EVP_DigestSignUpdate` and `EVP_DigestVerifyUpdate`, which `EVP_DigestUpdate` is in either case.
    pub(crate) fn update(&self, piece: &[u8]) -> Result<(), Errors> {
        // SAFETY: a live context, a buffer of that size.
        answered(unsafe { sys::EVP_DigestUpdate(self.raw, piece.as_ptr().cast(), piece.len()) })
    }

    /// The size of the signature of what was taken in.
    pub(crate) fn signature_size(&self) -> Result<usize, Errors> {
        let mut size = 0;
        // SAFETY: a place for the size.
        answered(unsafe { sys::EVP_DigestSignFinal(self.raw, null_mut(), &mut size) })?;
        Ok(size)
    }

    /// The signature of what was taken in, in a buffer of this size.
    pub(crate) fn finish_in(&self, room: usize) -> Result<Vec<u8>, Errors> {
        let (mut signature, mut size) = (vec![0; room], room);
        // SAFETY: a buffer of that size.
        answered(unsafe { sys::EVP_DigestSignFinal(self.raw, signature.as_mut_ptr(), &mut size) })?;
        signature.truncate(size);
        Ok(signature)
    }

    /// The signature of what was taken in.
    pub(crate) fn finish(&self) -> Result<Vec<u8>, Errors> {
        self.finish_in(self.signature_size()?)
    }

    /// `EVP_DigestSign`, after it was asked for the size.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Errors> {
        let mut size = 0;
        // SAFETY: a place for the size, a message of its own size.
        answered(unsafe {
            sys::EVP_DigestSign(self.raw, null_mut(), &mut size, message.as_ptr(), message.len())
        })?;
        self.sign_in(size, message)
    }

    /// `EVP_DigestSign` with a buffer of this size.
    pub(crate) fn sign_in(&self, room: usize, message: &[u8]) -> Result<Vec<u8>, Errors> {
        let (mut signature, mut size) = (vec![0; room], room);
        // SAFETY: buffers of these sizes.
        answered(unsafe {
            sys::EVP_DigestSign(self.raw, signature.as_mut_ptr(), &mut size, message.as_ptr(), message.len())
        })?;
        signature.truncate(size);
        Ok(signature)
    }

    /// `EVP_DigestVerify`.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Errors> {
        // SAFETY: buffers of these sizes.
        answered(unsafe {
            sys::EVP_DigestVerify(
                self.raw,
                signature.as_ptr(),
                signature.len(),
                message.as_ptr(),
                message.len(),
            )
        })
    }

    /// `EVP_DigestVerifyFinal`.
    pub(crate) fn finish_verifying(&self, signature: &[u8]) -> Result<(), Errors> {
        // SAFETY: a buffer of that size.
        answered(unsafe { sys::EVP_DigestVerifyFinal(self.raw, signature.as_ptr(), signature.len()) })
    }

    /// `EVP_MD_CTX_copy_ex`.
    pub(crate) fn duplicate(&self) -> Result<Message<'a>, Errors> {
        // SAFETY: two live contexts.
        unsafe {
            let copy = Message { raw: some(sys::EVP_MD_CTX_new())?, _context: PhantomData };
            answered(sys::EVP_MD_CTX_copy_ex(copy.raw, self.raw))?;
            Ok(copy)
        }
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        // SAFETY: given up once.
        unsafe { sys::EVP_MD_CTX_free(self.raw) }
    }
}

/// `OSSL_PARAM_*` of `openssl/core.h`.
const OSSL_PARAM_INTEGER: c_uint = 1;
const OSSL_PARAM_UTF8_STRING: c_uint = 4;
const OSSL_PARAM_OCTET_STRING: c_uint = 5;
const OSSL_PARAM_UTF8_PTR: c_uint = 6;

/// `pem_password_cb`.
type PemPassword = Option<unsafe extern "C" fn(*mut c_char, c_int, c_int, *mut c_void) -> c_int>;

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
    fn OSSL_PROVIDER_get0_name(provider: *const sys::OSSL_PROVIDER) -> *const c_char;
    fn OSSL_PROVIDER_get0_provider_ctx(provider: *const sys::OSSL_PROVIDER) -> *mut c_void;
    fn EVP_PKEY_get0_provider(key: *const sys::EVP_PKEY) -> *const sys::OSSL_PROVIDER;
    fn EVP_PKEY_get_default_digest_name(key: *mut sys::EVP_PKEY, name: *mut c_char, size: usize) -> c_int;
    fn EVP_PKEY_is_a(key: *const sys::EVP_PKEY, name: *const c_char) -> c_int;
    fn OSSL_DECODER_CTX_new_for_pkey(
        key: *mut *mut sys::EVP_PKEY,
        form: *const c_char,
        structure: *const c_char,
        key_type: *const c_char,
        selection: c_int,
        context: *mut sys::OSSL_LIB_CTX,
        properties: *const c_char,
    ) -> *mut c_void;
    fn OSSL_DECODER_CTX_set_passphrase(decoder: *mut c_void, passphrase: *const u8, size: usize) -> c_int;
    fn OSSL_DECODER_from_data(decoder: *mut c_void, data: *mut *const u8, size: *mut usize) -> c_int;
    fn OSSL_DECODER_CTX_free(decoder: *mut c_void);
    fn OSSL_ENCODER_CTX_new_for_pkey(
        key: *const sys::EVP_PKEY,
        selection: c_int,
        form: *const c_char,
        structure: *const c_char,
        properties: *const c_char,
    ) -> *mut c_void;
    fn OSSL_ENCODER_CTX_set_cipher(
        encoder: *mut c_void,
        cipher: *const c_char,
        properties: *const c_char,
    ) -> c_int;
    fn OSSL_ENCODER_CTX_set_passphrase(encoder: *mut c_void, passphrase: *const u8, size: usize) -> c_int;
    fn OSSL_ENCODER_to_data(encoder: *mut c_void, data: *mut *mut u8, size: *mut usize) -> c_int;
    fn OSSL_ENCODER_CTX_free(encoder: *mut c_void);
    fn PEM_read_bio(
        bio: *mut sys::BIO,
        name: *mut *mut c_char,
        header: *mut *mut c_char,
        data: *mut *mut u8,
        size: *mut c_long,
    ) -> c_int;
    fn PEM_read_bio_PrivateKey_ex(
        bio: *mut sys::BIO,
        key: *mut *mut sys::EVP_PKEY,
        passphrase: PemPassword,
        argument: *mut c_void,
        context: *mut sys::OSSL_LIB_CTX,
        properties: *const c_char,
    ) -> *mut sys::EVP_PKEY;
    fn PEM_read_bio_PUBKEY_ex(
        bio: *mut sys::BIO,
        key: *mut *mut sys::EVP_PKEY,
        passphrase: PemPassword,
        argument: *mut c_void,
        context: *mut sys::OSSL_LIB_CTX,
        properties: *const c_char,
    ) -> *mut sys::EVP_PKEY;
    fn d2i_AutoPrivateKey_ex(
        key: *mut *mut sys::EVP_PKEY,
        data: *mut *const u8,
        size: c_long,
        context: *mut sys::OSSL_LIB_CTX,
        properties: *const c_char,
    ) -> *mut sys::EVP_PKEY;
    fn d2i_PUBKEY_ex(
        key: *mut *mut sys::EVP_PKEY,
        data: *mut *const u8,
        size: c_long,
        context: *mut sys::OSSL_LIB_CTX,
        properties: *const c_char,
    ) -> *mut sys::EVP_PKEY;
    fn X509_new_ex(context: *mut sys::OSSL_LIB_CTX, properties: *const c_char) -> *mut sys::X509;
    fn EVP_DigestSignInit_ex(
        message: *mut sys::EVP_MD_CTX,
        operation: *mut *mut sys::EVP_PKEY_CTX,
        digest: *const c_char,
        context: *mut sys::OSSL_LIB_CTX,
        properties: *const c_char,
        key: *mut sys::EVP_PKEY,
        params: *const sys::OSSL_PARAM,
    ) -> c_int;
    fn EVP_DigestVerifyInit_ex(
        message: *mut sys::EVP_MD_CTX,
        operation: *mut *mut sys::EVP_PKEY_CTX,
        digest: *const c_char,
        context: *mut sys::OSSL_LIB_CTX,
        properties: *const c_char,
        key: *mut sys::EVP_PKEY,
        params: *const sys::OSSL_PARAM,
    ) -> c_int;
    fn EVP_MD_CTX_get_pkey_ctx(message: *const sys::EVP_MD_CTX) -> *mut sys::EVP_PKEY_CTX;
    fn EVP_PKEY_CTX_get_params(operation: *mut sys::EVP_PKEY_CTX, params: *mut sys::OSSL_PARAM) -> c_int;
    fn EVP_PKEY_CTX_set_params(operation: *mut sys::EVP_PKEY_CTX, params: *const sys::OSSL_PARAM) -> c_int;
    fn EVP_PKEY_get_bn_param(
        key: *const sys::EVP_PKEY,
        name: *const c_char,
        number: *mut *mut sys::BIGNUM,
    ) -> c_int;
    fn EVP_PKEY_get_utf8_string_param(
        key: *const sys::EVP_PKEY,
        name: *const c_char,
        text: *mut c_char,
        room: usize,
        size: *mut usize,
    ) -> c_int;
    fn OSSL_STORE_open_ex(
        uri: *const c_char,
        context: *mut sys::OSSL_LIB_CTX,
        properties: *const c_char,
        prompter: *const c_void,
        prompter_data: *mut c_void,
        params: *const sys::OSSL_PARAM,
        after: *const c_void,
        after_data: *mut c_void,
    ) -> *mut c_void;
    fn OSSL_STORE_expect(store: *mut c_void, kind: c_int) -> c_int;
    fn OSSL_STORE_load(store: *mut c_void) -> *mut c_void;
    fn OSSL_STORE_eof(store: *mut c_void) -> c_int;
    fn OSSL_STORE_close(store: *mut c_void) -> c_int;
    fn OSSL_STORE_INFO_get_type(info: *const c_void) -> c_int;
    fn OSSL_STORE_INFO_get1_PUBKEY(info: *const c_void) -> *mut sys::EVP_PKEY;
    fn OSSL_STORE_INFO_get1_PKEY(info: *const c_void) -> *mut sys::EVP_PKEY;
    fn OSSL_STORE_INFO_get1_CERT(info: *const c_void) -> *mut sys::X509;
    fn OSSL_STORE_INFO_free(info: *mut c_void);
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
