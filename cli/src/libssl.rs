//! Any libssl, loaded at run time and asked questions: the only file of this crate with `unsafe`.
//!
//! Nothing is linked. Symbols are looked up in exactly the files given, so that one binary can ask OpenSSL 3.0 to
//! 4.0. The types are OpenSSL's public C interface, which kept all of these signatures from 3.0 to 4.0.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::{null, null_mut};

/// What is behind an opaque C pointer; never looked into.
type Opaque = *mut c_void;

/// `OSSL_PARAM` (`<openssl/core.h>`).
#[repr(C)]
struct OsslParam {
    key: *const c_char,
    data_type: c_uint,
    data: *mut c_void,
    data_size: usize,
    return_size: usize,
}

/// `CONF_VALUE` (`<openssl/conf.h>`).
#[repr(C)]
struct ConfValue {
    section: *mut c_char,
    name: *mut c_char,
    value: *mut c_char,
}

/// `OSSL_ALGORITHM` (`<openssl/core.h>`).
#[repr(C)]
struct OsslAlgorithm {
    names: *const c_char,
    properties: *const c_char,
    implementation: *const c_void,
    description: *const c_char,
}

/// `OSSL_OP_KEYMGMT` (`<openssl/core_dispatch.h>`).
const OPERATION_KEY_MANAGEMENT: c_int = 10;

/// Values of `OSSL_PARAM.data_type` (`<openssl/core.h>`).
mod param_type {
    pub(super) const INTEGER: std::ffi::c_uint = 1;
    pub(super) const UTF8_STRING: std::ffi::c_uint = 4;
    pub(super) const UTF8_PTR: std::ffi::c_uint = 6;
}

/// `OPENSSL_INIT_NO_LOAD_CONFIG` and `OPENSSL_INIT_LOAD_CONFIG` (`<openssl/crypto.h>`).
const INIT_NO_LOAD_CONFIG: u64 = 0x80;
const INIT_LOAD_CONFIG: u64 = 0x40;

/// `CONF_MFLAGS_DEFAULT_SECTION` (`<openssl/conf.h>`): fall back to `openssl_conf`; no flag to ignore errors.
const CONF_DEFAULT_SECTION: c_ulong = 0x20;

/// Commands of `SSL_CTX_ctrl` (`<openssl/ssl.h>`).
mod ctrl {
    pub(super) const CHAIN_CERTIFICATE: std::ffi::c_int = 89;
    pub(super) const SET_GROUPS_LIST: std::ffi::c_int = 92;
    pub(super) const SET_SIGALGS_LIST: std::ffi::c_int = 98;
    pub(super) const SET_MIN_PROTO_VERSION: std::ffi::c_int = 123;
    pub(super) const SET_MAX_PROTO_VERSION: std::ffi::c_int = 124;
}

/// `SSL_CONF_FLAG_FILE | _CLIENT | _SERVER | _SHOW_ERRORS | _CERTIFICATE`, what nginx sets for `ssl_conf_command`.
const SSL_CONF_FLAGS: c_uint = 0x2 | 0x4 | 0x8 | 0x10 | 0x20;

/// `SSL_ERROR_WANT_READ`: the peer's turn.
const SSL_ERROR_WANT_READ: c_int = 2;

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        /// The C functions used, all present in every OpenSSL from 3.0 on.
        #[allow(non_snake_case, reason = "names as in the C headers")]
        struct Functions {
            $($(#[$doc])* $name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
        }

        impl Functions {
            /// Looks every function up in `handles`, in order.
            fn find(handles: &[Handle]) -> Result<Self, String> {
                Ok(Self {
                    $($name: {
                        let address = find_symbol(handles, stringify!($name))?;
                        // SAFETY: the address is that of the function of this name, whose signature in the public
                        // headers of OpenSSL 3.0 to 4.0 is the one declared here.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) $(-> $ret)?>(address) }
                    },)*
                })
            }
        }
    };
}

functions! {
    OPENSSL_info(c_int) -> *const c_char;
    OPENSSL_INIT_new() -> Opaque;
    OPENSSL_INIT_set_config_appname(Opaque, *const c_char) -> c_int;
    OPENSSL_init_ssl(u64, *const c_void) -> c_int;
    OPENSSL_sk_num(*const c_void) -> c_int;
    OPENSSL_sk_value(*const c_void, c_int) -> *mut c_void;
    CRYPTO_free(*mut c_void, *const c_char, c_int);
    ERR_get_error_all(*mut *const c_char, *mut c_int, *mut *const c_char, *mut *const c_char, *mut c_int) -> c_ulong;
    ERR_error_string_n(c_ulong, *mut c_char, usize);
    CONF_get1_default_config_file() -> *mut c_char;
    CONF_modules_load_file_ex(Opaque, *const c_char, *const c_char, c_ulong) -> c_int;
    NCONF_new(*const c_void) -> Opaque;
    NCONF_load(Opaque, *const c_char, *mut c_long) -> c_int;
    NCONF_get_section(Opaque, *const c_char) -> *mut c_void;
    NCONF_free(Opaque);
    OSSL_PROVIDER_do_all(Opaque, unsafe extern "C" fn(Opaque, *mut c_void) -> c_int, *mut c_void) -> c_int;
    OSSL_PROVIDER_get0_name(Opaque) -> *const c_char;
    OSSL_PROVIDER_get_params(Opaque, *mut OsslParam) -> c_int;
    OSSL_PROVIDER_self_test(Opaque) -> c_int;
    OSSL_PROVIDER_query_operation(Opaque, c_int, *mut c_int) -> *const OsslAlgorithm;
    OSSL_PROVIDER_unquery_operation(Opaque, c_int, *const OsslAlgorithm);
    OSSL_PROVIDER_get_capabilities(Opaque, *const c_char, unsafe extern "C" fn(*const OsslParam, *mut c_void) -> c_int, *mut c_void) -> c_int;
    EVP_KEYMGMT_fetch(Opaque, *const c_char, *const c_char) -> Opaque;
    EVP_KEYMGMT_get0_provider(Opaque) -> Opaque;
    EVP_KEYMGMT_free(Opaque);
    EVP_KEM_fetch(Opaque, *const c_char, *const c_char) -> Opaque;
    EVP_KEM_get0_provider(Opaque) -> Opaque;
    EVP_KEM_free(Opaque);
    BIO_new(*const c_void) -> Opaque;
    BIO_s_mem() -> *const c_void;
    BIO_new_mem_buf(*const c_void, c_int) -> Opaque;
    BIO_read(Opaque, *mut c_void, c_int) -> c_int;
    BIO_write(Opaque, *const c_void, c_int) -> c_int;
    BIO_free(Opaque) -> c_int;
    PEM_read_bio_X509(Opaque, *mut Opaque, *const c_void, *mut c_void) -> Opaque;
    PEM_read_bio_X509_AUX(Opaque, *mut Opaque, *const c_void, *mut c_void) -> Opaque;
    PEM_read_bio_PrivateKey(Opaque, *mut Opaque, unsafe extern "C" fn(*mut c_char, c_int, c_int, *mut c_void) -> c_int, *mut c_void) -> Opaque;
    X509_check_private_key(*const c_void, *const c_void) -> c_int;
    X509_free(Opaque);
    i2d_X509(*const c_void, *mut *mut u8) -> c_int;
    d2i_X509(*mut Opaque, *mut *const u8, c_long) -> Opaque;
    X509_get0_pubkey(*const c_void) -> Opaque;
    EVP_PKEY_free(Opaque);
    TLS_method() -> *const c_void;
    SSL_CTX_new(*const c_void) -> Opaque;
    SSL_CTX_free(Opaque);
    SSL_CTX_ctrl(Opaque, c_int, c_long, *mut c_void) -> c_long;
    SSL_CTX_set_options(Opaque, u64) -> u64;
    SSL_CTX_clear_options(Opaque, u64) -> u64;
    SSL_CTX_use_certificate(Opaque, Opaque) -> c_int;
    SSL_CTX_use_PrivateKey(Opaque, Opaque) -> c_int;
    SSL_CONF_CTX_new() -> Opaque;
    SSL_CONF_CTX_set_flags(Opaque, c_uint) -> c_uint;
    SSL_CONF_CTX_set_ssl_ctx(Opaque, Opaque);
    SSL_CONF_cmd(Opaque, *const c_char, *const c_char) -> c_int;
    SSL_CONF_CTX_free(Opaque);
    SSL_new(Opaque) -> Opaque;
    SSL_free(Opaque);
    SSL_set_bio(Opaque, Opaque, Opaque);
    SSL_set_connect_state(Opaque);
    SSL_set_accept_state(Opaque);
    SSL_do_handshake(Opaque) -> c_int;
    SSL_get_error(*const c_void, c_int) -> c_int;
    SSL_version(*const c_void) -> c_int;
    SSL_get1_peer_certificate(*const c_void) -> Opaque;
}

/// A library that stays loaded for the life of the process.
#[derive(Clone, Copy)]
struct Handle(*mut c_void);

/// Loads a shared library and keeps it; its symbols serve libraries loaded after it.
fn load_library(path: &Path) -> Result<Handle, String> {
    let name =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| "the path has a zero byte".to_owned())?;
    // SAFETY: `name` is a terminated string. The library's constructors run, which is what this program is for; it
    // runs them in a process of its own.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() { Err(last_loader_error()) } else { Ok(Handle(handle)) }
}

/// Tries to load the module of a provider as OpenSSL does and looks for its entry point.
///
/// # Errors
/// The dynamic loader's own words.
pub(crate) fn try_module(path: &Path) -> Result<(), String> {
    let name =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| "the path has a zero byte".to_owned())?;
    // SAFETY: `name` is a terminated string; see `load_library`.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(last_loader_error());
    }
    find_symbol(&[Handle(handle)], "OSSL_provider_init").map(drop)
}

fn find_symbol(handles: &[Handle], symbol: &str) -> Result<*mut c_void, String> {
    let name = CString::new(symbol).map_err(|_| "the symbol has a zero byte".to_owned())?;
    for handle in handles {
        // SAFETY: the handle came from `dlopen` and is never closed; `name` is a terminated string.
        let address = unsafe { libc::dlsym(handle.0, name.as_ptr()) };
        if !address.is_null() {
            return Ok(address);
        }
    }
    Err(format!("it has no symbol {symbol}"))
}

fn last_loader_error() -> String {
    // SAFETY: `dlerror` gives null or a terminated string that lives until the next call on this thread.
    let text = unsafe { text_at(libc::dlerror()) };
    text.unwrap_or_else(|| "the dynamic loader gives no reason".to_owned())
}

/// A copy of the string at a C pointer, none when it is null.
///
/// # Safety
/// `pointer` is null or points to a terminated string that is alive.
unsafe fn text_at(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null, so a terminated string by this function's contract.
    let text = unsafe { CStr::from_ptr(pointer) };
    Some(text.to_string_lossy().into_owned())
}

/// A terminated copy of `text`, cut at a zero byte if it has one.
fn c_text(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// Sections of a configuration file as OpenSSL reads it: name to keys and values in the order of the file.
pub(crate) type Sections = BTreeMap<String, Vec<(String, String)>>;

/// What a configuration file could not be read for.
pub(crate) struct SyntaxError {
    /// Line, 0 when the file could not be opened.
    pub(crate) line: i64,
    /// OpenSSL's words.
    pub(crate) errors: Vec<String>,
}

/// An active provider.
pub(crate) struct Provider {
    /// As registered: the name properties see.
    pub(crate) name: String,
    /// Its own name for people.
    pub(crate) title: String,
    /// Its version.
    pub(crate) version: String,
    /// Its build information.
    pub(crate) build: String,
    /// Whether it says of itself that it works.
    pub(crate) running: bool,
    /// Outcome of its self-test.
    pub(crate) self_test: bool,
    /// The key types it has, each by its first name.
    pub(crate) key_types: Vec<String>,
    /// The TLS signature schemes it offers.
    pub(crate) schemes: Vec<String>,
}

/// What kind of algorithm to look for.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    /// Key management, which libssl asks to decide whether a group exists.
    KeyManagement,
    /// Key encapsulation.
    Encapsulation,
}

/// A piece of information from `OPENSSL_info`.
#[derive(Clone, Copy)]
pub(crate) enum Info {
    /// Where `openssl.cnf` lies by default.
    ConfigurationDirectory = 1001,
    /// Where modules without a path are looked for.
    ModulesDirectory = 1003,
}

/// What became of a handshake in memory.
pub(crate) struct Handshake {
    /// Whether both sides finished.
    pub(crate) completed: bool,
    /// Version as on the wire.
    pub(crate) version: u16,
    /// Everything the server sent.
    pub(crate) server_bytes: Vec<u8>,
    /// The server's certificate as the client got it, DER; empty when it got none.
    pub(crate) certificate: Vec<u8>,
    /// The error queue when it failed.
    pub(crate) errors: Vec<String>,
}

/// `OSSL_LIB_CTX_get_conf_diagnostics` and `OSSL_LIB_CTX_set_conf_diagnostics`, there from 3.4 on.
struct DiagnosticsSwitch {
    get: unsafe extern "C" fn(Opaque) -> c_int,
    set: unsafe extern "C" fn(Opaque, c_int),
}

impl DiagnosticsSwitch {
    fn find(handles: &[Handle]) -> Option<Self> {
        let get = find_symbol(handles, "OSSL_LIB_CTX_get_conf_diagnostics").ok()?;
        let set = find_symbol(handles, "OSSL_LIB_CTX_set_conf_diagnostics").ok()?;
        // SAFETY: the addresses are those of the functions of these names, declared so in <openssl/crypto.h>.
        unsafe {
            Some(Self {
                get: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Opaque) -> c_int>(get),
                set: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Opaque, c_int)>(set),
            })
        }
    }
}

/// A loaded OpenSSL.
pub(crate) struct OpenSsl {
    functions: Functions,
    diagnostics: Option<DiagnosticsSwitch>,
    version: String,
    /// OpenSSL is asked from one thread only: its error queue is per thread.
    _one_thread: std::marker::PhantomData<Cell<()>>,
}

/// Reads the version of a library that may not be OpenSSL 3, before anything else is asked of it.
fn version_of(handles: &[Handle]) -> Result<String, String> {
    let address = find_symbol(handles, "OpenSSL_version")?;
    // SAFETY: `const char *OpenSSL_version(int)` in OpenSSL since 1.1.0, BoringSSL and LibreSSL.
    let version: unsafe extern "C" fn(c_int) -> *const c_char = unsafe { std::mem::transmute(address) };
    // SAFETY: argument 0, OPENSSL_VERSION, is valid everywhere; the answer is null or a static string.
    let text = unsafe { text_at(version(0)) };
    text.ok_or_else(|| "it does not tell its version".to_owned())
}

/// Why a libssl could not be used.
pub(crate) enum LoadError {
    /// The dynamic loader refused.
    Loader(String),
    /// It is no OpenSSL from 3.0 on; this is the version text.
    TooOld(String),
}

impl OpenSsl {
    /// Loads libcrypto, then libssl, by path.
    pub(crate) fn load(libcrypto: &Path, libssl: &Path) -> Result<Self, LoadError> {
        let loader = |path: &Path| {
            load_library(path).map_err(|error| LoadError::Loader(format!("{}: {error}", path.display())))
        };
        let handles = [loader(libcrypto)?, loader(libssl)?];
        let version = version_of(&handles).map_err(LoadError::Loader)?;
        match Functions::find(&handles) {
            Ok(functions) => {
                let diagnostics = DiagnosticsSwitch::find(&handles);
                Ok(Self { functions, diagnostics, version, _one_thread: std::marker::PhantomData })
            }
            Err(_) => Err(LoadError::TooOld(version)),
        }
    }

    /// For example `OpenSSL 3.0.19 27 Jan 2026`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// One of the directories built into libcrypto; without the label OpenSSL may put before it.
    pub(crate) fn info(&self, info: Info) -> String {
        // SAFETY: any number is a valid question; the answer is null or a static string.
        unsafe { text_at((self.functions.OPENSSL_info)(info as c_int)) }.unwrap_or_default()
    }

    /// The file a program reads when it names none: `OPENSSL_CONF` where that is honoured, else the built-in one.
    pub(crate) fn default_configuration_file(&self) -> String {
        // SAFETY: gives null or a string that the caller frees with CRYPTO_free, to which null may be given.
        unsafe {
            let file = (self.functions.CONF_get1_default_config_file)();
            let text = text_at(file).unwrap_or_default();
            (self.functions.CRYPTO_free)(file.cast(), null(), 0);
            text
        }
    }

    /// Initialises the library as a program does; returns whether it reports success.
    pub(crate) fn initialise(&self, application: Option<&str>, load_configuration: bool) -> bool {
        let options = if load_configuration { INIT_LOAD_CONFIG } else { INIT_NO_LOAD_CONFIG };
        let functions = &self.functions;
        // SAFETY: the settings are made by OPENSSL_INIT_new and, being small and made once, never freed; the name is
        // copied by OPENSSL_INIT_set_config_appname.
        unsafe {
            let settings = (functions.OPENSSL_INIT_new)();
            if let Some(application) = application
                && !settings.is_null()
            {
                (functions.OPENSSL_INIT_set_config_appname)(settings, c_text(application).as_ptr());
            }
            (functions.OPENSSL_init_ssl)(options, settings) == 1
        }
    }

    /// Loads a configuration file the way a start does, but with every error kept.
    pub(crate) fn load_configuration_strictly(&self, file: &str, application: Option<&str>) -> bool {
        let file = c_text(file);
        let application = application.map(c_text);
        let application = application.as_ref().map_or(null(), |text| text.as_ptr());
        // SAFETY: a null library context is the default one; the strings are terminated and outlive the call.
        let loaded = unsafe {
            (self.functions.CONF_modules_load_file_ex)(
                null_mut(),
                file.as_ptr(),
                application,
                CONF_DEFAULT_SECTION,
            )
        };
        loaded > 0
    }

    /// Takes everything off this thread's error queue, oldest first.
    pub(crate) fn take_errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        loop {
            let (mut data, mut flags) = (null(), 0);
            // SAFETY: unwanted outputs may be null; `data` and `flags` are live locals.
            let code = unsafe {
                (self.functions.ERR_get_error_all)(
                    null_mut(),
                    null_mut(),
                    null_mut(),
                    &raw mut data,
                    &raw mut flags,
                )
            };
            if code == 0 {
                return errors;
            }
            let mut text = [0; 256];
            // SAFETY: writes at most 256 bytes and terminates them. ERR_TXT_STRING, 2, marks `data` as a string of the
            // queue, alive until the next error is raised.
            let (reason, detail) = unsafe {
                (self.functions.ERR_error_string_n)(code, text.as_mut_ptr(), text.len());
                (
                    text_at(text.as_ptr()).unwrap_or_default(),
                    if flags & 2 == 0 { None } else { text_at(data) },
                )
            };
            // "error:07880025:common libcrypto routines::reason(37)": the words after the code matter.
            let reason = reason.splitn(3, ':').nth(2).unwrap_or(&reason).replace("::", ": ");
            errors.push(match detail.filter(|detail| !detail.is_empty()) {
                Some(detail) => format!("{reason} ({detail})"),
                None => reason,
            });
            if errors.len() == 64 {
                return errors;
            }
        }
    }

    /// Reads a configuration file with OpenSSL's own parser: every section reachable from the top.
    pub(crate) fn read_configuration(&self, file: &str) -> Result<Sections, SyntaxError> {
        let functions = &self.functions;
        let path = c_text(file);
        let mut line: c_long = 0;
        // SAFETY: a null method is the default one; the strings and `line` outlive the calls; sections are read
        // before the configuration is freed.
        unsafe {
            let configuration = (functions.NCONF_new)(null());
            if (functions.NCONF_load)(configuration, path.as_ptr(), &raw mut line) <= 0 {
                (functions.NCONF_free)(configuration);
                return Err(SyntaxError { line, errors: self.take_errors() });
            }
            let mut sections = Sections::new();
            let mut queue = vec!["default".to_owned()];
            while let Some(name) = queue.pop() {
                if sections.contains_key(&name) {
                    continue;
                }
                let values = (functions.NCONF_get_section)(configuration, c_text(&name).as_ptr());
                if values.is_null() {
                    continue;
                }
                let mut pairs = Vec::new();
                for index in 0..(functions.OPENSSL_sk_num)(values) {
                    let value = (functions.OPENSSL_sk_value)(values, index).cast::<ConfValue>();
                    let (Some(key), Some(value)) = (text_at((*value).name), text_at((*value).value)) else {
                        continue;
                    };
                    queue.push(value.clone());
                    pairs.push((key, value));
                }
                sections.insert(name, pairs);
            }
            (functions.NCONF_free)(configuration);
            self.take_errors();
            Ok(sections)
        }
    }

    /// Every active provider; the self-test is asked of the one named.
    pub(crate) fn providers(&self, self_test_of: &str) -> Vec<Provider> {
        unsafe extern "C" fn collect(provider: Opaque, list: *mut c_void) -> c_int {
            // SAFETY: `list` is the vector lent below for the time of the call, used by one thread.
            unsafe { (*list.cast::<Vec<Opaque>>()).push(provider) };
            1
        }
        let mut handles: Vec<Opaque> = Vec::new();
        // SAFETY: the callback only pushes to `handles`, which outlives the call. Providers activated by the
        // configuration stay until the process ends, so their handles stay valid.
        unsafe { (self.functions.OSSL_PROVIDER_do_all)(null_mut(), collect, (&raw mut handles).cast()) };
        handles.into_iter().map(|handle| self.describe_provider(handle, self_test_of)).collect()
    }

    fn describe_provider(&self, handle: Opaque, self_test_of: &str) -> Provider {
        let mut texts: [*const c_char; 3] = [null(); 3];
        let mut status: c_int = 1;
        let keys = [c"name", c"version", c"buildinfo", c"status"];
        let parameter = |key: &'static CStr, data_type, data, data_size| OsslParam {
            key: key.as_ptr(),
            data_type,
            data,
            data_size,
            return_size: usize::MAX,
        };
        let mut parameters: Vec<OsslParam> = texts
            .iter_mut()
            .zip(keys)
            .map(|(text, key)| parameter(key, param_type::UTF8_PTR, (&raw mut *text).cast(), 0))
            .collect();
        let status_data = (&raw mut status).cast();
        parameters.push(parameter(keys[3], param_type::INTEGER, status_data, size_of::<c_int>()));
        parameters.push(OsslParam {
            key: null(),
            data_type: 0,
            data: null_mut(),
            data_size: 0,
            return_size: 0,
        });
        // SAFETY: the array ends with a null key; each entry points to live storage of the type it names.
        unsafe { (self.functions.OSSL_PROVIDER_get_params)(handle, parameters.as_mut_ptr()) };
        // SAFETY: a name is a string that lives as long as the provider.
        let name = unsafe { text_at((self.functions.OSSL_PROVIDER_get0_name)(handle)) }.unwrap_or_default();
        // SAFETY: the handle is of an active provider.
        let self_test =
            name != self_test_of || unsafe { (self.functions.OSSL_PROVIDER_self_test)(handle) } == 1;
        // SAFETY: still null, or set to a string that lives as long as the provider.
        let [title, version, build] = texts.map(|text| unsafe { text_at(text) }.unwrap_or_default());
        let running = status == 1;
        let (key_types, schemes) = (self.key_types(handle), self.schemes(handle));
        Provider { name, title, version, build, running, self_test, key_types, schemes }
    }

    fn key_types(&self, provider: Opaque) -> Vec<String> {
        let mut key_types = Vec::new();
        let mut no_cache = 0;
        // SAFETY: the provider is active; its table ends with null names and lives until it is given back.
        unsafe {
            let table = (self.functions.OSSL_PROVIDER_query_operation)(
                provider,
                OPERATION_KEY_MANAGEMENT,
                &raw mut no_cache,
            );
            let mut row = table;
            while !row.is_null()
                && let Some(names) = text_at((*row).names)
            {
                key_types.extend(names.split(':').next().map(str::to_owned));
                row = row.add(1);
            }
            (self.functions.OSSL_PROVIDER_unquery_operation)(provider, OPERATION_KEY_MANAGEMENT, table);
        }
        key_types
    }

    fn schemes(&self, provider: Opaque) -> Vec<String> {
        unsafe extern "C" fn collect(parameters: *const OsslParam, list: *mut c_void) -> c_int {
            // SAFETY: an array that ends with a null key, each entry with data of the size it tells; `list` is the vector
            // lent below for the time of the call, used by one thread.
            unsafe {
                let mut parameter = parameters;
                while !(*parameter).key.is_null() {
                    let OsslParam { key, data_type, data, data_size, .. } = *parameter;
                    if CStr::from_ptr(key) == c"tls-sigalg-name" && data_type == param_type::UTF8_STRING {
                        // Some providers count the terminating zero, some do not.
                        let bytes = std::slice::from_raw_parts(data.cast::<u8>(), data_size);
                        let text = String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
                        (*list.cast::<Vec<String>>()).push(text);
                    }
                    parameter = parameter.add(1);
                }
            }
            1
        }
        let mut schemes: Vec<String> = Vec::new();
        // SAFETY: the provider is active; the callback only pushes to `schemes`, which outlives the call.
        unsafe {
            (self.functions.OSSL_PROVIDER_get_capabilities)(
                provider,
                c"TLS-SIGALG".as_ptr(),
                collect,
                (&raw mut schemes).cast(),
            );
        }
        schemes
    }

    /// The provider that serves an algorithm under the given property query, with the default properties in force.
    pub(crate) fn who_serves(
        &self,
        operation: Operation,
        algorithm: &str,
        properties: &str,
    ) -> Option<String> {
        let functions = &self.functions;
        let (algorithm, properties) = (c_text(algorithm), c_text(properties));
        let (fetch, provider, free) = match operation {
            Operation::KeyManagement => {
                (functions.EVP_KEYMGMT_fetch, functions.EVP_KEYMGMT_get0_provider, functions.EVP_KEYMGMT_free)
            }
            Operation::Encapsulation => {
                (functions.EVP_KEM_fetch, functions.EVP_KEM_get0_provider, functions.EVP_KEM_free)
            }
        };
        // SAFETY: the strings are terminated; what was fetched is freed after its provider's name was copied.
        let name = unsafe {
            let method = fetch(null_mut(), algorithm.as_ptr(), properties.as_ptr());
            if method.is_null() {
                None
            } else {
                let name = text_at((functions.OSSL_PROVIDER_get0_name)(provider(method)));
                free(method);
                name
            }
        };
        self.take_errors();
        name
    }

    /// A context as `SSL_CTX_new` makes it, with the configuration's `system_default` applied.
    pub(crate) fn context(&self) -> Option<Context<'_>> {
        // SAFETY: TLS_method gives a static object.
        let raw = unsafe { (self.functions.SSL_CTX_new)((self.functions.TLS_method)()) };
        if raw.is_null() { None } else { Some(Context { library: self, raw }) }
    }

    /// The same, but a configuration with errors does not keep it from being made. With `config_diagnostics` newer
    /// versions refuse every context then, and nothing could be tried any more.
    pub(crate) fn lenient_context(&self) -> Option<Context<'_>> {
        let Some(switch) = &self.diagnostics else { return self.context() };
        // SAFETY: a null library context is the default one.
        let before = unsafe {
            let before = (switch.get)(null_mut());
            (switch.set)(null_mut(), 0);
            before
        };
        let context = self.context();
        // SAFETY: as above.
        unsafe { (switch.set)(null_mut(), before) };
        self.take_errors();
        context
    }

    fn memory(&self) -> Opaque {
        // SAFETY: BIO_s_mem gives a static object; the new BIO is owned by the caller.
        unsafe { (self.functions.BIO_new)((self.functions.BIO_s_mem)()) }
    }

    /// Why libcrypto makes nothing of the public key of a certificate in DER; none when it does.
    pub(crate) fn public_key_problem(&self, certificate: &[u8]) -> Option<Vec<String>> {
        self.take_errors();
        let mut start = certificate.as_ptr();
        let length = c_long::try_from(certificate.len()).unwrap_or(0);
        // SAFETY: reads `length` bytes at most from `start`, which it moves; the key belongs to the certificate, which is
        // freed here.
        let understood = unsafe {
            let parsed = (self.functions.d2i_X509)(null_mut(), &raw mut start, length);
            let key = if parsed.is_null() { null_mut() } else { (self.functions.X509_get0_pubkey)(parsed) };
            (self.functions.X509_free)(parsed);
            !key.is_null()
        };
        let errors = self.take_errors();
        (!understood).then_some(errors)
    }

    /// A BIO that reads `bytes`, which have to outlive it.
    fn reader(&self, bytes: &[u8]) -> Opaque {
        let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
        // SAFETY: the BIO reads `length` bytes at most of what the caller keeps alive.
        unsafe { (self.functions.BIO_new_mem_buf)(bytes.as_ptr().cast(), length) }
    }

    /// A private key in PEM, owned by the caller; null when none of the passphrases opens it, with the last errors kept.
    fn read_key(&self, pem: &[u8], passwords: &[String]) -> Opaque {
        /// `pem_password_cb`: without one OpenSSL would ask on the terminal.
        unsafe extern "C" fn answer(
            buffer: *mut c_char,
            size: c_int,
            _: c_int,
            password: *mut c_void,
        ) -> c_int {
            // SAFETY: null, or the text lent below for the time of the call.
            let Some(password) = (unsafe { text_at(password.cast()) }) else { return -1 };
            let Some(length) = c_int::try_from(password.len()).ok().filter(|length| *length <= size) else {
                return -1;
            };
            // SAFETY: `buffer` has `size` bytes, which are enough.
            unsafe { password.as_ptr().copy_to_nonoverlapping(buffer.cast(), password.len()) };
            length
        }
        let attempts = passwords.iter().map(|password| Some(c_text(password)));
        let attempts = attempts.chain(passwords.is_empty().then_some(None));
        let mut key = null_mut();
        for password in attempts {
            self.take_errors();
            let password = password.as_ref().map_or(null(), |text| text.as_ptr());
            let bio = self.reader(pem);
            // SAFETY: the BIO and the passphrase outlive the call.
            unsafe {
                key = (self.functions.PEM_read_bio_PrivateKey)(
                    bio,
                    null_mut(),
                    answer,
                    password.cast_mut().cast(),
                );
                (self.functions.BIO_free)(bio);
            }
            if !key.is_null() {
                break;
            }
        }
        key
    }

    /// Takes everything out of a memory BIO.
    fn drain(&self, bio: Opaque) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut buffer = [0_u8; 4096];
        loop {
            // SAFETY: `bio` is live, `buffer` has the size given (4096 fits).
            let count =
                unsafe { (self.functions.BIO_read)(bio, buffer.as_mut_ptr().cast(), buffer.len() as c_int) };
            match usize::try_from(count) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
                _ => return bytes,
            }
        }
    }

    fn fill(&self, bio: Opaque, bytes: &[u8]) {
        let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
        // SAFETY: `bio` is a live memory BIO, which copies `length` bytes at most.
        unsafe { (self.functions.BIO_write)(bio, bytes.as_ptr().cast(), length) };
    }
}

/// An `SSL_CTX`.
pub(crate) struct Context<'a> {
    library: &'a OpenSsl,
    raw: Opaque,
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: owned by us; connections hold their own reference.
        unsafe { (self.library.functions.SSL_CTX_free)(self.raw) };
    }
}

impl Context<'_> {
    fn control(&self, command: c_int, number: c_long, text: Option<&str>) -> bool {
        let text = text.map(c_text);
        let pointer = text.as_ref().map_or(null_mut(), |text| text.as_ptr().cast_mut().cast());
        // SAFETY: the commands used take a number or a terminated string, which they copy.
        unsafe { (self.library.functions.SSL_CTX_ctrl)(self.raw, command, number, pointer) == 1 }
    }

    /// `SSL_CTX_set1_groups_list`.
    pub(crate) fn set_groups(&self, list: &str) -> bool {
        self.control(ctrl::SET_GROUPS_LIST, 0, Some(list))
    }

    /// `SSL_CTX_set1_sigalgs_list`.
    pub(crate) fn set_signature_schemes(&self, list: &str) -> bool {
        self.control(ctrl::SET_SIGALGS_LIST, 0, Some(list))
    }

    /// Least and greatest version, 0 for "any".
    pub(crate) fn set_versions(&self, least: u16, greatest: u16) -> bool {
        self.control(ctrl::SET_MIN_PROTO_VERSION, least.into(), None)
            && self.control(ctrl::SET_MAX_PROTO_VERSION, greatest.into(), None)
    }

    /// Sets some option bits (`SSL_OP_…`) and clears others.
    pub(crate) fn set_options(&self, clear: u64, set: u64) {
        // SAFETY: any bits are valid.
        unsafe {
            (self.library.functions.SSL_CTX_clear_options)(self.raw, clear);
            (self.library.functions.SSL_CTX_set_options)(self.raw, set);
        }
    }

    /// One `ssl_conf_command`, with the flags nginx uses.
    pub(crate) fn command(&self, name: &str, value: &str) -> bool {
        let functions = &self.library.functions;
        let (name, value) = (c_text(name), c_text(value));
        // SAFETY: the SSL_CONF_CTX is made and freed here; strings are terminated and copied.
        unsafe {
            let configuration = (functions.SSL_CONF_CTX_new)();
            (functions.SSL_CONF_CTX_set_flags)(configuration, SSL_CONF_FLAGS);
            (functions.SSL_CONF_CTX_set_ssl_ctx)(configuration, self.raw);
            let outcome = (functions.SSL_CONF_cmd)(configuration, name.as_ptr(), value.as_ptr());
            (functions.SSL_CONF_CTX_free)(configuration);
            outcome > 0
        }
    }

    /// Gives the context a certificate chain and its key, both PEM, as nginx does; a key behind a passphrase is tried with
    /// each of `passwords`. Goes on after a refusal, and returns each one with OpenSSL's words.
    pub(crate) fn use_identity(
        &self,
        chain: &[u8],
        key: &[u8],
        passwords: &[String],
    ) -> Vec<(IdentityStep, Vec<String>)> {
        let functions = &self.library.functions;
        let refusals = RefCell::new(Vec::new());
        let done = |step: IdentityStep, done: bool| {
            let errors = self.library.take_errors();
            if !done {
                refusals.borrow_mut().push((step, errors));
            }
            done
        };
        self.library.take_errors();
        // SAFETY: BIOs over live bytes, each freed after reading; certificates and key are freed here, the context takes
        // references of its own (`SSL_CTX_add1_chain_cert` is the command with the number 1).
        unsafe {
            let bio = self.library.reader(chain);
            let leaf = (functions.PEM_read_bio_X509_AUX)(bio, null_mut(), null(), null_mut());
            if done(IdentityStep::ParseCertificate, !leaf.is_null())
                && done(
                    IdentityStep::UseCertificate,
                    (functions.SSL_CTX_use_certificate)(self.raw, leaf) == 1,
                )
            {
                loop {
                    let next = (functions.PEM_read_bio_X509)(bio, null_mut(), null(), null_mut());
                    if next.is_null() {
                        break;
                    }
                    let added = (functions.SSL_CTX_ctrl)(self.raw, ctrl::CHAIN_CERTIFICATE, 1, next) == 1;
                    (functions.X509_free)(next);
                    done(IdentityStep::UseChain, added);
                }
                // The end of the file is an error like any other; nginx goes by its reason, too.
                let end = self.library.take_errors();
                if !end.iter().any(|error| error.contains("no start line")) {
                    refusals.borrow_mut().push((IdentityStep::ParseChain, end));
                }
            }
            (functions.BIO_free)(bio);

            let key = self.library.read_key(key, passwords);
            if done(IdentityStep::ParseKey, !key.is_null()) && !leaf.is_null() {
                done(IdentityStep::Match, (functions.X509_check_private_key)(leaf, key) == 1);
                done(IdentityStep::UseKey, (functions.SSL_CTX_use_PrivateKey)(self.raw, key) == 1);
            }
            (functions.X509_free)(leaf);
            (functions.EVP_PKEY_free)(key);
        }
        refusals.into_inner()
    }

    /// What a server with this context answers to the first bytes of a client.
    pub(crate) fn answer(&self, client_bytes: &[u8]) -> Vec<u8> {
        let Some(server) = Connection::new(self, Role::Server) else { return Vec::new() };
        server.receive(client_bytes);
        server.advance();
        let answer = server.send();
        self.library.take_errors();
        answer
    }

    /// The first bytes a client with this context sends.
    pub(crate) fn client_hello(&self) -> Vec<u8> {
        let Some(client) = Connection::new(self, Role::Client) else { return Vec::new() };
        client.advance();
        let hello = client.send();
        self.library.take_errors();
        hello
    }

    /// A whole handshake in memory, `self` being the server.
    pub(crate) fn handshake_with(&self, client: &Context<'_>) -> Handshake {
        let mut outcome = Handshake {
            completed: false,
            version: 0,
            server_bytes: Vec::new(),
            certificate: Vec::new(),
            errors: Vec::new(),
        };
        let connections = (Connection::new(client, Role::Client), Connection::new(self, Role::Server));
        let (Some(client), Some(server)) = connections else {
            outcome.errors = self.library.take_errors();
            return outcome;
        };
        // A full handshake with a HelloRetryRequest takes three flights a side.
        for _ in 0..8 {
            let client_step = client.advance();
            server.receive(&client.send());
            let server_step = server.advance();
            let flight = server.send();
            client.receive(&flight);
            outcome.server_bytes.extend_from_slice(&flight);
            match (client_step, server_step) {
                (Step::Done, Step::Done) => {
                    outcome.completed = true;
                    break;
                }
                (Step::Failed, _) | (_, Step::Failed) => break,
                _ => {}
            }
        }
        // SAFETY: the connection is live.
        let version = unsafe { (self.library.functions.SSL_version)(server.raw) };
        outcome.version = u16::try_from(version).unwrap_or(0);
        outcome.certificate = client.peer_certificate();
        outcome.errors = self.library.take_errors();
        outcome
    }
}

/// What can be refused of a certificate chain and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum IdentityStep {
    /// The leaf is no certificate.
    ParseCertificate,
    /// TLS can't use it.
    UseCertificate,
    /// Another of the chain is no certificate.
    ParseChain,
    /// TLS can't use another of the chain.
    UseChain,
    /// The key is none, or libcrypto has no such type.
    ParseKey,
    /// It is another certificate's.
    Match,
    /// TLS can't use the key.
    UseKey,
}

#[derive(Clone, Copy)]
enum Role {
    Client,
    Server,
}

enum Step {
    Done,
    NeedsPeer,
    Failed,
}

/// An `SSL` over two memory BIOs, which it owns.
struct Connection<'a> {
    library: &'a OpenSsl,
    raw: Opaque,
    incoming: Opaque,
    outgoing: Opaque,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        // SAFETY: owned by us; frees the BIOs as well.
        unsafe { (self.library.functions.SSL_free)(self.raw) };
    }
}

impl<'a> Connection<'a> {
    fn new(context: &Context<'a>, role: Role) -> Option<Self> {
        let library = context.library;
        let functions = &library.functions;
        // SSL_get_error takes any older error on the queue for one of the handshake.
        library.take_errors();
        // SAFETY: the context is live; SSL_set_bio takes the BIOs over.
        unsafe {
            let raw = (functions.SSL_new)(context.raw);
            if raw.is_null() {
                return None;
            }
            let (incoming, outgoing) = (library.memory(), library.memory());
            (functions.SSL_set_bio)(raw, incoming, outgoing);
            match role {
                Role::Client => (functions.SSL_set_connect_state)(raw),
                Role::Server => (functions.SSL_set_accept_state)(raw),
            }
            Some(Self { library, raw, incoming, outgoing })
        }
    }

    fn advance(&self) -> Step {
        // SAFETY: the connection is live.
        let (outcome, reason) = unsafe {
            let outcome = (self.library.functions.SSL_do_handshake)(self.raw);
            (outcome, (self.library.functions.SSL_get_error)(self.raw, outcome))
        };
        match (outcome, reason) {
            (1, _) => Step::Done,
            (_, SSL_ERROR_WANT_READ) => Step::NeedsPeer,
            _ => Step::Failed,
        }
    }

    fn peer_certificate(&self) -> Vec<u8> {
        let functions = &self.library.functions;
        // SAFETY: the certificate is ours and freed here; `i2d_X509` allocates what CRYPTO_free frees, and gives its length.
        unsafe {
            let certificate = (functions.SSL_get1_peer_certificate)(self.raw);
            if certificate.is_null() {
                return Vec::new();
            }
            let mut der = null_mut();
            let length = usize::try_from((functions.i2d_X509)(certificate, &raw mut der)).unwrap_or(0);
            let copy =
                if der.is_null() { Vec::new() } else { std::slice::from_raw_parts(der, length).to_vec() };
            (functions.CRYPTO_free)(der.cast(), null(), 0);
            (functions.X509_free)(certificate);
            copy
        }
    }

    fn receive(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.library.fill(self.incoming, bytes);
        }
    }

    fn send(&self) -> Vec<u8> {
        self.library.drain(self.outgoing)
    }
}
