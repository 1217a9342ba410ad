//! Decryption with RSA keys in tokens (`provider-asym_cipher(7)`): it is not offered, and this says so. Without it a TLS 1.2 client
//! that has the server decrypt would end in OpenSSL's "operation not supported for this keytype".

use super::abi::*;
use super::guard::guard;
use super::{borrow, lend, reclaim, share_provider};
use crate::problem::{Problem, Reason};
use crate::provider::Provider;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

pub(super) static TABLE: [Dispatch; 5] = [
    dispatch!(OSSL_FUNC_ASYM_CIPHER_NEWCTX, new as fn(*mut c_void) -> *mut c_void),
    dispatch!(OSSL_FUNC_ASYM_CIPHER_FREECTX, free as fn(*mut c_void)),
    dispatch!(
        OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT,
        decrypt_init as fn(*mut c_void, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_ASYM_CIPHER_DECRYPT,
        decrypt as fn(*mut c_void, *mut u8, *mut usize, usize, *const u8, usize) -> c_int
    ),
    Dispatch::END,
];

/// All that such an operation ever knows.
struct Refusal(Arc<Provider>);

unsafe extern "C" fn new(context: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx`.
    let Some(provider) = (unsafe { share_provider(context) }) else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "token_cipher_newctx", null_mut(), || Ok(lend(Refusal(provider))))
}

unsafe extern "C" fn free(operation: *mut c_void) {
    // SAFETY: libcrypto frees what `new` lent, once.
    unsafe { reclaim::<Refusal>("token_cipher_freectx", operation) }
}

unsafe extern "C" fn decrypt_init(operation: *mut c_void, _key: *mut c_void, _params: *const Param) -> c_int {
    // SAFETY: what `new` lent.
    unsafe { refuse("token_cipher_decrypt_init", operation) }
}

unsafe extern "C" fn decrypt(
    operation: *mut c_void,
    _out: *mut u8,
    _out_size: *mut usize,
    _room: usize,
    _input: *const u8,
    _input_size: usize,
) -> c_int {
    // SAFETY: what `new` lent.
    unsafe { refuse("token_cipher_decrypt", operation) }
}

/// # Safety
/// `operation` is null or what [`new`] lent.
unsafe fn refuse(entry: &'static str, operation: *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    let Some(Refusal(provider)) = (unsafe { borrow::<Refusal>(operation) }) else { return 0 };
    guard(Some(&provider.core), entry, 0, || {
        Err(Problem::new(
            Reason::TokenUnsupported,
            "a key in a token was to decrypt, as the RSA key exchange of TLS 1.2 does, and it only signs; take ciphers with ECDHE \
             (ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20), which every client of the last ten years has",
        ))
    })
}
