//! Reading keys (`provider-decoder(7)`): DER alone, because OpenSSL's own decoders take PEM and encryption off before.

use super::abi::*;
use super::encoder::selects;
use super::guard::{guard, null};
use super::params::Built;
use super::{algorithm_at, borrow, lend, reclaim, share_provider};
use crate::key::Key;
use crate::key_file::{Decoder, HEADER_BYTES, object_bytes};
use crate::problem::Problem;
use qtls_crypto::KeyAlgorithm;
use std::ffi::{CString, c_int, c_void};
use std::ptr::null_mut;
use zeroize::Zeroizing;

/// Each algorithm's table for public keys, and for private ones. They differ in the functions that are given no decoder.
pub(super) static PUBLIC: [[Dispatch; 5]; KeyAlgorithm::COUNT] = each_algorithm!(public);
pub(super) static PRIVATE: [[Dispatch; 5]; KeyAlgorithm::COUNT] = each_algorithm!(private);

const fn public<const ALGORITHM: usize>() -> [Dispatch; 5] {
    table::<ALGORITHM, false>()
}

const fn private<const ALGORITHM: usize>() -> [Dispatch; 5] {
    table::<ALGORITHM, true>()
}

const fn table<const ALGORITHM: usize, const IS_PRIVATE: bool>() -> [Dispatch; 5] {
    [
        dispatch!(OSSL_FUNC_DECODER_NEWCTX, new::<ALGORITHM, IS_PRIVATE> as fn(*mut c_void) -> *mut c_void),
        dispatch!(OSSL_FUNC_DECODER_FREECTX, free as fn(*mut c_void)),
        dispatch!(
            OSSL_FUNC_DECODER_DOES_SELECTION,
            does_selection::<IS_PRIVATE> as fn(*mut c_void, c_int) -> c_int
        ),
        dispatch!(
            OSSL_FUNC_DECODER_DECODE,
            decode
                as fn(
                    *mut c_void,
                    *mut CoreBio,
                    c_int,
                    Option<Callback>,
                    *mut c_void,
                    Option<PassphraseCallback>,
                    *mut c_void,
                ) -> c_int
        ),
        Dispatch::END,
    ]
}

unsafe extern "C" fn new<const ALGORITHM: usize, const IS_PRIVATE: bool>(
    context: *mut c_void,
) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx`.
    let Some(provider) = (unsafe { share_provider(context) }) else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "decoder_newctx", null_mut(), || {
        Ok(lend(Decoder { provider, algorithm: algorithm_at::<ALGORITHM>(), private: IS_PRIVATE }))
    })
}

unsafe extern "C" fn free(decoder: *mut c_void) {
    // SAFETY: libcrypto frees what `new` lent, once.
    unsafe { reclaim::<Decoder>("decoder_freectx", decoder) }
}

unsafe extern "C" fn does_selection<const IS_PRIVATE: bool>(
    _context: *mut c_void,
    selection: c_int,
) -> c_int {
    selects(IS_PRIVATE, selection).into()
}

unsafe extern "C" fn decode(
    decoder: *mut c_void,
    bio: *mut CoreBio,
    selection: c_int,
    callback: Option<Callback>,
    argument: *mut c_void,
    _passphrase: Option<PassphraseCallback>,
    _passphrase_argument: *mut c_void,
) -> c_int {
    // SAFETY: what `new` lent.
    let Some(decoder) = (unsafe { borrow::<Decoder>(decoder) }) else { return 0 };
    let core = &decoder.provider.core;
    guard(Some(core), "decoder_decode", 0, || {
        let callback = callback.ok_or_else(|| null("callback"))?;
        // 1 without a call of the callback lets the next decoder try.
        const NOT_OURS: c_int = 1;
        if !selects(decoder.private, selection) {
            return Ok(NOT_OURS);
        }
        // SAFETY: the BIO of this call.
        let Some(der) = (unsafe { read_object(core, bio) })? else { return Ok(NOT_OURS) };
        let Some(key) = decoder.decode(&der)? else { return Ok(NOT_OURS) };
        let data_type = CString::new(decoder.algorithm.name()).unwrap_or_default();
        let mut place = lend(key);
        // SAFETY: the callback and its argument belong together. It hands the reference to `keymgmt_load`, which empties the
        // place; else the key is still ours.
        unsafe {
            let answer = Built::<4>::new()
                .signed(OSSL_OBJECT_PARAM_TYPE, &OSSL_OBJECT_PKEY)
                .text(OSSL_OBJECT_PARAM_DATA_TYPE, &data_type)
                .reference(OSSL_OBJECT_PARAM_REFERENCE, &mut place)
                .call(callback, argument);
            reclaim::<Key>("decoder_decode", place);
            Ok(answer)
        }
    })
}

/// The next DER object, and nothing behind it; none if there is none, or one that is no key by its length.
///
/// # Safety
/// `bio` is what libcrypto handed to a decoder that is running.
pub(super) unsafe fn read_object(
    core: &super::core::Core,
    bio: *mut CoreBio,
) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
    let mut header = [0; HEADER_BYTES];
    // SAFETY: the caller's promise.
    if unsafe { core.read(bio, &mut header) }? < HEADER_BYTES {
        return Ok(None);
    }
    let Some(size) = object_bytes(&header).filter(|size| *size >= HEADER_BYTES) else { return Ok(None) };
    let mut object = Zeroizing::new(vec![0; size]);
    object[..HEADER_BYTES].copy_from_slice(&header);
    // SAFETY: the caller's promise.
    let read = unsafe { core.read(bio, &mut object[HEADER_BYTES..]) }?;
    object.truncate(HEADER_BYTES + read);
    Ok(Some(object))
}
