//! `OSSL_provider_init` and the provider's base functions (`provider-base(7)`).

use super::abi::*;
use super::core::Core;
use super::guard::{guard, null};
use super::params::{Asked, Built, described, end};
use super::share_provider;
use crate::log::{self, Level};
use crate::problem::{Problem, Reason};
use crate::provider::Provider;
use crate::signature_schemes::SignatureScheme;
use qtls_crypto::KemAlgorithm;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

/// What libcrypto calls once it has loaded the module: reads the options and answers with the base functions.
///
/// Answers 1 even where the section of `openssl.cnf` is wrong (see `Provider::new`); 0 only where OpenSSL lacks a function
/// that is needed, with the reason on stderr.
///
/// # Safety
/// Only libcrypto calls this, with arguments as `provider-base(7)` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OSSL_provider_init(
    handle: *const CoreHandle,
    core_functions: *const Dispatch,
    provider_functions: *mut *const Dispatch,
    context: *mut *mut c_void,
) -> c_int {
    // The way to OpenSSL's error queue is among what is handed over here, so only the log is there for certain.
    guard(None, "OSSL_provider_init", 0, || {
        if provider_functions.is_null() || context.is_null() {
            return Err(null("place for the provider's functions"));
        }
        // SAFETY: this function's own promise.
        let Some(core) =
            unsafe { Core::new(handle, core_functions) }.map_err(|problem| log_load(&problem)).ok()
        else {
            return Ok(0);
        };
        // SAFETY: as above; both places were just checked.
        Ok(unsafe { initialise(core, provider_functions, context) })
    })
}

unsafe fn initialise(core: Core, functions: *mut *const Dispatch, context: *mut *mut c_void) -> c_int {
    let provider = Arc::new(Provider::new(core));
    let registered = provider.register_objects();
    // SAFETY: teardown ends the watch before it gives up the provider.
    let watched = unsafe { provider.core.watch_providers(Arc::as_ptr(&provider)) };
    provider.predecessors_are_known();
    if let Err(problem) = registered.and(watched) {
        log_load(&problem);
        provider.core.raise("OSSL_provider_init", &problem);
        return 0;
    }
    // SAFETY: the caller checked both places.
    unsafe {
        *functions = BASE.as_ptr();
        *context = Arc::into_raw(provider).cast_mut().cast();
    }
    1
}

fn log_load(problem: &crate::problem::Problem) {
    log::write(Level::Error, Level::Error, &format!("the provider was not loaded: {}", problem.text));
}

pub(super) static BASE: [Dispatch; 8] = [
    dispatch!(OSSL_FUNC_PROVIDER_TEARDOWN, teardown as fn(*mut c_void)),
    dispatch!(OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, gettable_params as fn(*mut c_void) -> *const Param),
    dispatch!(OSSL_FUNC_PROVIDER_GET_PARAMS, get_params as fn(*mut c_void, *mut Param) -> c_int),
    dispatch!(
        OSSL_FUNC_PROVIDER_QUERY_OPERATION,
        query_operation as fn(*mut c_void, c_int, *mut c_int) -> *const Algorithm
    ),
    dispatch!(OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, get_reason_strings as fn(*mut c_void) -> *const Item),
    dispatch!(
        OSSL_FUNC_PROVIDER_GET_CAPABILITIES,
        get_capabilities as fn(*mut c_void, *const c_char, Option<Callback>, *mut c_void) -> c_int
    ),
    dispatch!(OSSL_FUNC_PROVIDER_SELF_TEST, self_test as fn(*mut c_void) -> c_int),
    Dispatch::END,
];

unsafe extern "C" fn teardown(context: *mut c_void) {
    guard(None, "provider_teardown", (), || {
        if !context.is_null() {
            // SAFETY: the share that `initialise` gave to libcrypto, which calls teardown once and last.
            let provider = unsafe { Arc::from_raw(context.cast::<Provider>().cast_const()) };
            provider.core.forget_providers();
            provider.end();
        }
        Ok(())
    });
}

/// Parameters of our own, beside those that every provider has.
const PARAM_NATIVE: &CStr = c"qtls-native";
const PARAM_GROUPS: &CStr = c"qtls-groups";
const PARAM_SIGNATURES: &CStr = c"qtls-signatures";
const PARAM_SELF_TESTS: &CStr = c"qtls-self-tests";
const PARAM_TOKENS: &CStr = c"qtls-pkcs11";

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version has no null byte"),
};

const BUILD_INFO: &CStr = match CStr::from_bytes_with_nul(
    concat!(
        "Q-TLS ",
        env!("CARGO_PKG_VERSION"),
        ", backend ",
        env!("QTLS_BACKEND"),
        ", ",
        env!("QTLS_TARGET"),
        "\0"
    )
    .as_bytes(),
) {
    Ok(build) => build,
    Err(_) => panic!("build information has no null byte"),
};

unsafe extern "C" fn gettable_params(_context: *mut c_void) -> *const Param {
    static PARAMS: [Param; 10] = [
        described(OSSL_PROV_PARAM_NAME, OSSL_PARAM_UTF8_PTR),
        described(OSSL_PROV_PARAM_VERSION, OSSL_PARAM_UTF8_PTR),
        described(OSSL_PROV_PARAM_BUILDINFO, OSSL_PARAM_UTF8_PTR),
        described(OSSL_PROV_PARAM_STATUS, OSSL_PARAM_INTEGER),
        described(PARAM_NATIVE, OSSL_PARAM_UTF8_STRING),
        described(PARAM_GROUPS, OSSL_PARAM_UTF8_STRING),
        described(PARAM_SIGNATURES, OSSL_PARAM_UTF8_STRING),
        described(PARAM_SELF_TESTS, OSSL_PARAM_UTF8_STRING),
        described(PARAM_TOKENS, OSSL_PARAM_UTF8_STRING),
        end(),
    ];
    PARAMS.as_ptr()
}

unsafe extern "C" fn get_params(context: *mut c_void, params: *mut Param) -> c_int {
    // SAFETY: libcrypto's promises on `provctx` and on arrays of parameters.
    let (provider, mut asked) = unsafe { (share_provider(context), Asked::new(params)) };
    guard(provider.as_deref().map(|provider| &provider.core), "provider_get_params", 0, || {
        let provider = provider.as_deref().ok_or_else(|| null("provider"))?;
        asked.answer_static_text(OSSL_PROV_PARAM_NAME, c"Q-TLS post-quantum provider")?;
        asked.answer_static_text(OSSL_PROV_PARAM_VERSION, VERSION)?;
        asked.answer_static_text(OSSL_PROV_PARAM_BUILDINFO, BUILD_INFO)?;
        asked.answer_number(OSSL_PROV_PARAM_STATUS, provider.is_running().into())?;
        asked.answer_text(PARAM_NATIVE, provider.describe_native())?;
        if asked.asks(PARAM_GROUPS) {
            asked.answer_text(PARAM_GROUPS, &provider.describe_groups())?;
        }
        if asked.asks(PARAM_SIGNATURES) {
            asked.answer_text(PARAM_SIGNATURES, &provider.describe_signatures())?;
        }
        asked.answer_text(PARAM_SELF_TESTS, &provider.describe_self_tests())?;
        if asked.asks(PARAM_TOKENS) {
            asked.answer_text(PARAM_TOKENS, &provider.describe_tokens())?;
        }
        Ok(1)
    })
}

unsafe extern "C" fn query_operation(
    context: *mut c_void,
    operation: c_int,
    no_cache: *mut c_int,
) -> *const Algorithm {
    // SAFETY: libcrypto's promises on `provctx` and on the place for the flag.
    let provider = unsafe {
        if let Some(no_cache) = no_cache.as_mut() {
            *no_cache = 0;
        }
        share_provider(context)
    };
    guard(
        provider.as_deref().map(|provider| &provider.core),
        "provider_query_operation",
        std::ptr::null(),
        || {
            let provider = provider.as_deref().ok_or_else(|| null("provider"))?;
            Ok(provider.offer().algorithms.of_operation(operation))
        },
    )
}

unsafe extern "C" fn get_reason_strings(_context: *mut c_void) -> *const Item {
    static ITEMS: [Item; Reason::ALL.len() + 1] = {
        let mut items = [const { Item { id: 0, ptr: std::ptr::null() } }; Reason::ALL.len() + 1];
        let mut next = 0;
        while next < Reason::ALL.len() {
            let (reason, text) = Reason::ALL[next];
            items[next] = Item { id: reason as c_uint, ptr: text.as_ptr().cast() };
            next += 1;
        }
        items
    };
    ITEMS.as_ptr()
}

unsafe extern "C" fn get_capabilities(
    context: *mut c_void,
    capability: *const c_char,
    callback: Option<Callback>,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: libcrypto's promises on `provctx` and on the name, a C string or null.
    let (provider, capability) =
        unsafe { (share_provider(context), (!capability.is_null()).then(|| CStr::from_ptr(capability))) };
    guard(provider.as_deref().map(|provider| &provider.core), "provider_get_capabilities", 0, || {
        let provider = provider.as_deref().ok_or_else(|| null("provider"))?;
        let callback = callback.ok_or_else(|| null("callback"))?;
        // SAFETY: the callback and its argument belong together.
        unsafe {
            match capability.map(CStr::to_bytes).map(<[u8]>::to_ascii_uppercase).as_deref() {
                Some(b"TLS-GROUP") => announce_groups(provider, callback, argument),
                Some(b"TLS-SIGALG") => announce_signature_schemes(provider, callback, argument),
                // An unknown capability is no error: 0 would make `SSL_CTX_new` fail.
                _ => Ok(1),
            }
        }
    })
}

/// # Safety
/// `callback` may be called with `argument`.
unsafe fn announce_groups(
    provider: &Provider,
    callback: Callback,
    argument: *mut c_void,
) -> Result<c_int, Problem> {
    provider.tls_begins();
    // An error makes `SSL_CTX_new` fail, and so stops every TLS server and client: what a mistake in the section has to do.
    provider.require_valid_section()?;
    for group in &provider.offer().groups {
        // SAFETY: the caller's promise.
        if unsafe { announce_group(group, callback, argument) } != 1 {
            return Ok(0);
        }
    }
    Ok(1)
}

/// # Safety
/// `callback` may be called with `argument`.
unsafe fn announce_signature_schemes(
    provider: &Provider,
    callback: Callback,
    argument: *mut c_void,
) -> Result<c_int, Problem> {
    let schemes = provider.signature_schemes().unwrap_or_else(|withheld| {
        provider.tell_of_withheld_schemes(&withheld.because_of);
        Vec::new()
    });
    for scheme in &schemes {
        // SAFETY: the caller's promise.
        if unsafe { announce_signature_scheme(scheme, callback, argument) } != 1 {
            return Ok(0);
        }
    }
    Ok(1)
}

/// Tells libssl of one signature scheme (`provider-base(7)`, "TLS-SIGALG").
///
/// # Safety
/// `callback` may be called with `argument`.
unsafe fn announce_signature_scheme(
    scheme: &SignatureScheme,
    callback: Callback,
    argument: *mut c_void,
) -> c_int {
    const NO_MAXIMUM: c_int = 0;
    let c_string = |text: &str| CString::new(text).unwrap_or_default();
    let (iana_name, name) = (c_string(&scheme.iana_name), c_string(scheme.name));
    let (oid, key_type) = (scheme.oid.map(c_string), scheme.key_type.map(c_string));
    let code_point = c_uint::from(scheme.code_point);
    let mut params = Built::<9>::new()
        .text(OSSL_CAPABILITY_TLS_SIGALG_IANA_NAME, &iana_name)
        .text(OSSL_CAPABILITY_TLS_SIGALG_NAME, &name)
        .unsigned(OSSL_CAPABILITY_TLS_SIGALG_CODE_POINT, &code_point)
        .unsigned(OSSL_CAPABILITY_TLS_SIGALG_SECURITY_BITS, &scheme.security_bits)
        .signed(OSSL_CAPABILITY_TLS_SIGALG_MIN_TLS, &TLS1_3_VERSION)
        .signed(OSSL_CAPABILITY_TLS_SIGALG_MAX_TLS, &NO_MAXIMUM);
    if let Some(oid) = &oid {
        params = params.text(OSSL_CAPABILITY_TLS_SIGALG_OID, oid);
    }
    if let Some(key_type) = &key_type {
        params = params.text(OSSL_CAPABILITY_TLS_SIGALG_KEYTYPE, key_type);
    }
    // SAFETY: the caller's promise.
    unsafe { params.call(callback, argument) }
}

/// Tells libssl of one group; all these parameters are mandatory but the last (`provider-base(7)`, "TLS-GROUP").
///
/// # Safety
/// `callback` may be called with `argument`.
unsafe fn announce_group(algorithm: &KemAlgorithm, callback: Callback, argument: *mut c_void) -> c_int {
    const NO_DTLS: c_int = -1;
    const NO_MAXIMUM: c_int = 0;
    let group_name = CString::new(algorithm.group_name).unwrap_or_default();
    let name = CString::new(algorithm.name).unwrap_or_default();
    let params = Built::<11>::new()
        .text(OSSL_CAPABILITY_TLS_GROUP_NAME, &group_name)
        .text(OSSL_CAPABILITY_TLS_GROUP_NAME_INTERNAL, &name)
        .text(OSSL_CAPABILITY_TLS_GROUP_ALG, &name);
    let id = c_uint::from(algorithm.group_id);
    let params = params
        .unsigned(OSSL_CAPABILITY_TLS_GROUP_ID, &id)
        .unsigned(OSSL_CAPABILITY_TLS_GROUP_SECURITY_BITS, &algorithm.security_bits)
        .signed(OSSL_CAPABILITY_TLS_GROUP_MIN_TLS, &TLS1_3_VERSION)
        .signed(OSSL_CAPABILITY_TLS_GROUP_MAX_TLS, &NO_MAXIMUM)
        .signed(OSSL_CAPABILITY_TLS_GROUP_MIN_DTLS, &NO_DTLS)
        .signed(OSSL_CAPABILITY_TLS_GROUP_MAX_DTLS, &NO_DTLS)
        .unsigned(OSSL_CAPABILITY_TLS_GROUP_IS_KEM, &1);
    // SAFETY: the caller's promise.
    unsafe { params.call(callback, argument) }
}

unsafe extern "C" fn self_test(context: *mut c_void) -> c_int {
    // SAFETY: libcrypto's promise on `provctx`.
    let provider = unsafe { share_provider(context) };
    guard(provider.as_deref().map(|provider| &provider.core), "provider_self_test", 0, || {
        let provider = provider.as_deref().ok_or_else(|| null("provider"))?;
        provider.run_self_tests()?;
        Ok(provider.is_running().into())
    })
}
