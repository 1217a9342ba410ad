//! Everything unsafe: OpenSSL's C types, the functions that the core gives us and those that we give it.
//!
//! The functions of a dispatch table get raw pointers from libcrypto. What libcrypto promises (`provider-keymgmt(7)`
//! and its siblings) is the reason behind each `SAFETY` note here: a context or key that we returned comes back
//! unchanged and alive until its `free`, lengths belong to their buffers, arrays are ended by their null entry.

/// A line of a dispatch table. The function's type is written out and checked by the compiler before it is erased.
macro_rules! dispatch {
    ($number:expr, $function:path as fn($($argument:ty),* $(,)?) $(-> $result:ty)?) => {{
        let typed: unsafe extern "C" fn($($argument),*) $(-> $result)? = $function;
        // SAFETY: libcrypto casts it back to the type that belongs to the number before it calls it.
        let function = unsafe {
            std::mem::transmute::<unsafe extern "C" fn($($argument),*) $(-> $result)?, $crate::ffi::abi::Function>(typed)
        };
        $crate::ffi::abi::Dispatch { function_id: $number, function: Some(function) }
    }};
}

/// An array with what `$table::<N>()` gives for each place of `KeyAlgorithm::all`; the compiler tells where a number is
/// missing.
macro_rules! each_algorithm {
    ($table:ident) => {
        [
            $table::<0>(),
            $table::<1>(),
            $table::<2>(),
            $table::<3>(),
            $table::<4>(),
            $table::<5>(),
            $table::<6>(),
            $table::<7>(),
            $table::<8>(),
            $table::<9>(),
            $table::<10>(),
            $table::<11>(),
            $table::<12>(),
            $table::<13>(),
        ]
    };
}

pub mod abi;
pub(crate) mod algorithms;
pub(crate) mod core;
mod decoder;
mod encoder;
mod entry;
mod guard;
mod kem;
mod keymgmt;
mod params;
mod signature;
mod store;
#[cfg(test)]
mod tests;
mod token_cipher;
mod token_decoder;
mod token_encoder;
mod token_keymgmt;
mod token_signature;

pub use entry::OSSL_provider_init;

use crate::problem::Problem;
use qtls_crypto::{KEM_ALGORITHMS, KeyAlgorithm, SIGNATURE_ALGORITHMS};
use std::sync::Arc;

/// The algorithm at a place of [`KeyAlgorithm::all`], known when this is compiled.
fn algorithm_at<const ALGORITHM: usize>() -> KeyAlgorithm {
    const { assert!(ALGORITHM < KeyAlgorithm::COUNT) };
    if ALGORITHM < KEM_ALGORITHMS.len() {
        KeyAlgorithm::Kem(&KEM_ALGORITHMS[ALGORITHM])
    } else {
        KeyAlgorithm::Signature(&SIGNATURE_ALGORITHMS[ALGORITHM - KEM_ALGORITHMS.len()])
    }
}

/// Hands an object to libcrypto; it comes back through [`borrow`] and, at last, [`reclaim`].
fn lend<T>(object: T) -> *mut std::ffi::c_void {
    Box::into_raw(Box::new(object)).cast()
}

/// # Safety
/// `object` is null or came from [`lend`] with the same `T` and was not reclaimed.
unsafe fn borrow<'a, T>(object: *const std::ffi::c_void) -> Option<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { object.cast::<T>().as_ref() }
}

/// # Safety
/// As for [`borrow`], and nothing else uses the object now.
unsafe fn borrow_mut<'a, T>(object: *mut std::ffi::c_void) -> Option<&'a mut T> {
    // SAFETY: the caller's promise.
    unsafe { object.cast::<T>().as_mut() }
}

/// Takes an object back and drops it.
///
/// # Safety
/// `object` is null or came from [`lend`] with the same `T`; it is never used again.
unsafe fn reclaim<T>(entry: &'static str, object: *mut std::ffi::c_void) {
    guard::guard(None, entry, (), || {
        if !object.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { Box::from_raw(object.cast::<T>()) });
        }
        Ok(())
    });
}

/// Takes over the object that a decoder lent: the reference is the place of a pointer to it, which is emptied so that the decoder
/// does not free it.
///
/// # Safety
/// `reference` is null or what a decoder of ours handed to its callback, with its size, while that runs.
unsafe fn take_reference(
    reference: *const std::ffi::c_void,
    size: usize,
) -> Result<*mut std::ffi::c_void, Problem> {
    if reference.is_null() || size != size_of::<*mut std::ffi::c_void>() {
        return Err(Problem::argument(
            "a key can only be loaded by a reference that a decoder of this provider made",
        ));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::mem::replace(&mut *reference.cast_mut().cast(), std::ptr::null_mut()) })
}

/// A share of the provider that a context handed to libcrypto as `provctx`.
///
/// # Safety
/// `context` is null or the `provctx` that `OSSL_provider_init` returned, before its teardown.
unsafe fn share_provider(context: *mut std::ffi::c_void) -> Option<Arc<crate::provider::Provider>> {
    let context = context.cast::<crate::provider::Provider>().cast_const();
    if context.is_null() {
        return None;
    }
    // SAFETY: `provctx` is an `Arc::into_raw` that is given back only at teardown.
    unsafe {
        Arc::increment_strong_count(context);
        Some(Arc::from_raw(context))
    }
}

/// Writes a size where libcrypto asked for it.
///
/// # Safety
/// `place` is null or may be written.
unsafe fn write_size(place: *mut usize, size: usize) {
    // SAFETY: the caller's promise.
    if let Some(place) = unsafe { place.as_mut() } {
        *place = size;
    }
}

/// A buffer of libcrypto's caller, cut to what will be written.
///
/// # Safety
/// `buffer` may be written for `*size` bytes, or for `needed` bytes where `size` is null.
unsafe fn output<'a>(
    what: &str,
    buffer: *mut u8,
    size: *mut usize,
    needed: usize,
) -> Result<&'a mut [u8], Problem> {
    // SAFETY: the caller's promise.
    let available = unsafe { size.as_ref() }.copied().unwrap_or(needed);
    if buffer.is_null() || available < needed {
        return Err(Problem::argument(format!(
            "the buffer for the {what} has {available} bytes, {needed} are needed; ask for the sizes first, with a null \
             buffer"
        )));
    }
    // SAFETY: not null, and at least `needed` bytes, as just seen.
    Ok(unsafe { std::slice::from_raw_parts_mut(buffer, needed) })
}
