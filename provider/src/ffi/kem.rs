//! Encapsulation and decapsulation (`provider-kem(7)`).

use super::abi::*;
use super::guard::{guard, null};
use super::{borrow, borrow_mut, lend, output, reclaim, share_provider, write_size};
use crate::key::{KemOperation, KemRole, Key};
use crate::problem::Problem;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

/// One table for every row: the key says which it is.
pub(super) static TABLE: [Dispatch; 8] = [
    dispatch!(OSSL_FUNC_KEM_NEWCTX, new as fn(*mut c_void) -> *mut c_void),
    dispatch!(OSSL_FUNC_KEM_FREECTX, free as fn(*mut c_void)),
    dispatch!(OSSL_FUNC_KEM_DUPCTX, duplicate as fn(*mut c_void) -> *mut c_void),
    dispatch!(
        OSSL_FUNC_KEM_ENCAPSULATE_INIT,
        encapsulate_init as fn(*mut c_void, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_KEM_ENCAPSULATE,
        encapsulate as fn(*mut c_void, *mut u8, *mut usize, *mut u8, *mut usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_KEM_DECAPSULATE_INIT,
        decapsulate_init as fn(*mut c_void, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_KEM_DECAPSULATE,
        decapsulate as fn(*mut c_void, *mut u8, *mut usize, *const u8, usize) -> c_int
    ),
    Dispatch::END,
];

unsafe extern "C" fn new(context: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx`.
    let Some(provider) = (unsafe { share_provider(context) }) else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "kem_newctx", null_mut(), || Ok(lend(KemOperation { provider, role: None })))
}

unsafe extern "C" fn free(operation: *mut c_void) {
    // SAFETY: libcrypto frees what `new` or `duplicate` lent, once.
    unsafe { reclaim::<KemOperation>("kem_freectx", operation) }
}

unsafe extern "C" fn duplicate(operation: *mut c_void) -> *mut c_void {
    // SAFETY: what `new` lent.
    let Some(operation) = (unsafe { borrow::<KemOperation>(operation) }) else { return null_mut() };
    guard(Some(&operation.provider.core), "kem_dupctx", null_mut(), || Ok(lend(operation.clone())))
}

unsafe extern "C" fn encapsulate_init(
    operation: *mut c_void,
    key: *mut c_void,
    _params: *const Param,
) -> c_int {
    // SAFETY: as for `initialise`.
    unsafe {
        initialise("kem_encapsulate_init", operation, key, |key| {
            Ok(KemRole::Encapsulate(key.to_kem_public()?))
        })
    }
}

unsafe extern "C" fn decapsulate_init(
    operation: *mut c_void,
    key: *mut c_void,
    _params: *const Param,
) -> c_int {
    // SAFETY: as for `initialise`.
    unsafe {
        initialise("kem_decapsulate_init", operation, key, |key| {
            Ok(KemRole::Decapsulate(key.to_kem_private()?))
        })
    }
}

/// # Safety
/// `operation` is what `new` lent, used by one thread at a time (`EVP_PKEY_CTX` is not shared), and `key` what our key
/// management lent.
unsafe fn initialise(
    entry: &'static str,
    operation: *mut c_void,
    key: *mut c_void,
    role: impl FnOnce(&Key) -> Result<KemRole, Problem>,
) -> c_int {
    // SAFETY: the caller's promise.
    let Some(operation) = (unsafe { borrow_mut::<KemOperation>(operation) }) else { return 0 };
    let provider = operation.provider.clone();
    guard(Some(&provider.core), entry, 0, || {
        // SAFETY: the caller's promise.
        let key = unsafe { borrow::<Key>(key) }.ok_or_else(|| null("key"))?;
        operation.role = Some(role(key)?);
        Ok(1)
    })
}

unsafe extern "C" fn encapsulate(
    operation: *mut c_void,
    ciphertext: *mut u8,
    ciphertext_size: *mut usize,
    secret: *mut u8,
    secret_size: *mut usize,
) -> c_int {
    // SAFETY: what `new` lent.
    let Some(operation) = (unsafe { borrow::<KemOperation>(operation) }) else { return 0 };
    guard(Some(&operation.provider.core), "kem_encapsulate", 0, || {
        let Some(KemRole::Encapsulate(key)) = &operation.role else {
            return Err(Problem::argument("encapsulation was not initialised (EVP_PKEY_encapsulate_init)"));
        };
        let algorithm = key.algorithm();
        let (ciphertext_needed, secret_needed) =
            (algorithm.ciphertext_bytes(), algorithm.shared_secret_bytes());
        // SAFETY: `EVP_PKEY_encapsulate(3)`: a null ciphertext asks for the sizes; else the buffers have the sizes
        // that the two places say.
        unsafe {
            if !ciphertext.is_null() {
                let ciphertext = output("ciphertext", ciphertext, ciphertext_size, ciphertext_needed)?;
                let secret = output("shared secret", secret, secret_size, secret_needed)?;
                key.encapsulate(ciphertext, secret)?;
            }
            write_size(ciphertext_size, ciphertext_needed);
            write_size(secret_size, secret_needed);
        }
        Ok(1)
    })
}

unsafe extern "C" fn decapsulate(
    operation: *mut c_void,
    secret: *mut u8,
    secret_size: *mut usize,
    ciphertext: *const u8,
    ciphertext_size: usize,
) -> c_int {
    // SAFETY: what `new` lent.
    let Some(operation) = (unsafe { borrow::<KemOperation>(operation) }) else { return 0 };
    guard(Some(&operation.provider.core), "kem_decapsulate", 0, || {
        let Some(KemRole::Decapsulate(key)) = &operation.role else {
            return Err(Problem::argument("decapsulation was not initialised (EVP_PKEY_decapsulate_init)"));
        };
        let needed = key.algorithm().shared_secret_bytes();
        // SAFETY: `EVP_PKEY_decapsulate(3)`: a null secret asks for the size; else the buffers have the sizes given.
        unsafe {
            if !secret.is_null() {
                if ciphertext.is_null() {
                    return Err(null("ciphertext"));
                }
                let ciphertext = std::slice::from_raw_parts(ciphertext, ciphertext_size);
                let secret = output("shared secret", secret, secret_size, needed)?;
                key.decapsulate(ciphertext, secret)?;
            }
            write_size(secret_size, needed);
        }
        Ok(1)
    })
}
