//! The scheme `pkcs11` of OpenSSL's store (`provider-storemgmt(7)`).
//!
//! Objects are handed over as bytes and not by reference. A reference of a type that `default` has too would lead OpenSSL 3.0 to
//! `default`'s key management alone (`try_key_ref` in its store_result.c); bytes of a structure of ours lead to our decoders.

use super::abi::*;
use super::guard::{guard, null};
use super::params::{Built, Given, described, end};
use super::{borrow, borrow_mut, lend, reclaim, share_provider};
use crate::problem::Problem;
use crate::token_file::{NamedKey, STRUCTURE};
use crate::token_store::{Expected, Object, TokenStore};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;

pub(super) static TABLE: [Dispatch; 7] = [
    dispatch!(OSSL_FUNC_STORE_OPEN, open as fn(*mut c_void, *const c_char) -> *mut c_void),
    dispatch!(OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS, settable_params as fn(*mut c_void) -> *const Param),
    dispatch!(OSSL_FUNC_STORE_SET_CTX_PARAMS, set_params as fn(*mut c_void, *const Param) -> c_int),
    dispatch!(
        OSSL_FUNC_STORE_LOAD,
        load as fn(
            *mut c_void,
            Option<Callback>,
            *mut c_void,
            Option<PassphraseCallback>,
            *mut c_void,
        ) -> c_int
    ),
    dispatch!(OSSL_FUNC_STORE_EOF, is_at_end as fn(*mut c_void) -> c_int),
    dispatch!(OSSL_FUNC_STORE_CLOSE, close as fn(*mut c_void) -> c_int),
    Dispatch::END,
];

unsafe extern "C" fn open(context: *mut c_void, uri: *const c_char) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx` and on the URI, a C string or null.
    let (provider, uri) = unsafe { (share_provider(context), (!uri.is_null()).then(|| CStr::from_ptr(uri))) };
    let Some(provider) = provider else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "store_open", null_mut(), || {
        let uri = uri.ok_or_else(|| null("URI"))?;
        let uri = uri.to_str().map_err(|_| Problem::argument("the PKCS#11 URI is not UTF-8"))?;
        Ok(lend(TokenStore::open(provider, uri)?))
    })
}

unsafe extern "C" fn settable_params(_context: *mut c_void) -> *const Param {
    static PARAMS: [Param; 3] = [
        described(OSSL_STORE_PARAM_EXPECT, OSSL_PARAM_INTEGER),
        described(OSSL_STORE_PARAM_PROPERTIES, OSSL_PARAM_UTF8_STRING),
        end(),
    ];
    PARAMS.as_ptr()
}

unsafe extern "C" fn set_params(store: *mut c_void, params: *const Param) -> c_int {
    // SAFETY: what `open` lent, used by one thread at a time (`OSSL_STORE_CTX` is not shared); libcrypto's promise on arrays of
    // parameters.
    let (Some(store), given) = (unsafe { (borrow_mut::<TokenStore>(store), Given::new(params)) }) else {
        return 0;
    };
    let provider = store.provider.clone();
    guard(Some(&provider.core), "store_set_ctx_params", 0, || {
        if let Some(number) = given.number(OSSL_STORE_PARAM_EXPECT)? {
            store.expected = match c_int::try_from(number) {
                Ok(0) => Expected::Anything,
                Ok(OSSL_STORE_INFO_PKEY) => Expected::PrivateKey,
                Ok(OSSL_STORE_INFO_PUBKEY) => Expected::PublicKey,
                Ok(OSSL_STORE_INFO_CERT) => Expected::Certificate,
                _ => Expected::Other,
            };
        }
        if given.octets(OSSL_STORE_PARAM_SUBJECT)?.is_some() || given.text(OSSL_STORE_PARAM_ALIAS)?.is_some()
        {
            return Err(Problem::argument(
                "a token is not searched by a certificate's name; name the object in the URI (object=…, id=…)",
            ));
        }
        Ok(1)
    })
}

unsafe extern "C" fn load(
    store: *mut c_void,
    callback: Option<Callback>,
    argument: *mut c_void,
    _passphrase: Option<PassphraseCallback>,
    _passphrase_argument: *mut c_void,
) -> c_int {
    // SAFETY: as for `set_params`.
    let Some(store) = (unsafe { borrow_mut::<TokenStore>(store) }) else { return 0 };
    let provider = store.provider.clone();
    guard(Some(&provider.core), "store_load", 0, || {
        let callback = callback.ok_or_else(|| null("callback"))?;
        let Some(object) = store.next()? else { return Ok(0) };
        let (kind, structure, data) = match &object {
            Object::PrivateKey(block) => {
                (&OSSL_OBJECT_PKEY, STRUCTURE, &NamedKey::hand_over(block, None)[..])
            }
            Object::PublicKey(key) => (&OSSL_OBJECT_PKEY, c"SubjectPublicKeyInfo", &key[..]),
            Object::Certificate(der) => (&OSSL_OBJECT_CERT, c"Certificate", &der[..]),
        };
        // SAFETY: the callback and its argument belong together.
        Ok(unsafe {
            Built::<4>::new()
                .signed(OSSL_OBJECT_PARAM_TYPE, kind)
                .text(OSSL_OBJECT_PARAM_DATA_STRUCTURE, structure)
                .octets(OSSL_OBJECT_PARAM_DATA, data)
                .call(callback, argument)
        })
    })
}

unsafe extern "C" fn is_at_end(store: *mut c_void) -> c_int {
    // SAFETY: as for `set_params`.
    let Some(store) = (unsafe { borrow::<TokenStore>(store) }) else { return 1 };
    guard(Some(&store.provider.core), "store_eof", 1, || Ok(store.is_at_end().into()))
}

unsafe extern "C" fn close(store: *mut c_void) -> c_int {
    // SAFETY: libcrypto closes what `open` lent, once.
    unsafe { reclaim::<TokenStore>("store_close", store) };
    1
}
