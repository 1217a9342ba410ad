//! Writing keys (`provider-encoder(7)`).

use super::abi::*;
use super::guard::{guard, null};
use super::params::{Given, described, end};
use super::{borrow, borrow_mut, lend, reclaim, share_provider};
use crate::key::Key;
use crate::key_file::{Cipher, Encoder, Form, Output, Structure};
use crate::problem::Problem;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use zeroize::Zeroizing;

/// A table for each kind of output; the key says whose it is. They differ in the functions that are given no encoder.
pub(super) static TABLES: [(Output, [Dispatch; 7]); 7] =
    [table::<0>(), table::<1>(), table::<2>(), table::<3>(), table::<4>(), table::<5>(), table::<6>()];

const OUTPUTS: [Output; 7] = [
    Output::File(Structure::Private, Form::Der),
    Output::File(Structure::Private, Form::Pem),
    Output::File(Structure::EncryptedPrivate, Form::Der),
    Output::File(Structure::EncryptedPrivate, Form::Pem),
    Output::File(Structure::Public, Form::Der),
    Output::File(Structure::Public, Form::Pem),
    Output::Text,
];

const fn table<const OUTPUT: usize>() -> (Output, [Dispatch; 7]) {
    let functions = [
        dispatch!(OSSL_FUNC_ENCODER_NEWCTX, new::<OUTPUT> as fn(*mut c_void) -> *mut c_void),
        dispatch!(OSSL_FUNC_ENCODER_FREECTX, free as fn(*mut c_void)),
        dispatch!(OSSL_FUNC_ENCODER_SET_CTX_PARAMS, set_params as fn(*mut c_void, *const Param) -> c_int),
        dispatch!(OSSL_FUNC_ENCODER_SETTABLE_CTX_PARAMS, settable_params as fn(*mut c_void) -> *const Param),
        dispatch!(
            OSSL_FUNC_ENCODER_DOES_SELECTION,
            does_selection::<OUTPUT> as fn(*mut c_void, c_int) -> c_int
        ),
        dispatch!(
            OSSL_FUNC_ENCODER_ENCODE,
            encode
                as fn(
                    *mut c_void,
                    *mut CoreBio,
                    *const c_void,
                    *const Param,
                    c_int,
                    Option<PassphraseCallback>,
                    *mut c_void,
                ) -> c_int
        ),
        Dispatch::END,
    ];
    (OUTPUTS[OUTPUT], functions)
}

unsafe extern "C" fn new<const OUTPUT: usize>(context: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx`.
    let Some(provider) = (unsafe { share_provider(context) }) else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "encoder_newctx", null_mut(), || {
        Ok(lend(Encoder { provider, output: OUTPUTS[OUTPUT], cipher: Cipher::Unset }))
    })
}

unsafe extern "C" fn free(encoder: *mut c_void) {
    // SAFETY: libcrypto frees what `new` lent, once.
    unsafe { reclaim::<Encoder>("encoder_freectx", encoder) }
}

unsafe extern "C" fn set_params(encoder: *mut c_void, params: *const Param) -> c_int {
    // SAFETY: what `new` lent, used by one thread at a time; libcrypto's promise on arrays of parameters.
    let (Some(encoder), given) = (unsafe { (borrow_mut::<Encoder>(encoder), Given::new(params)) }) else {
        return 0;
    };
    let provider = encoder.provider.clone();
    guard(Some(&provider.core), "encoder_set_ctx_params", 0, || {
        if given.is_void(OSSL_ENCODER_PARAM_CIPHER) {
            encoder.cipher = Cipher::Unset;
        } else if let Some(name) = given.text(OSSL_ENCODER_PARAM_CIPHER)? {
            encoder.choose_cipher(name);
        }
        Ok(1)
    })
}

unsafe extern "C" fn settable_params(_context: *mut c_void) -> *const Param {
    static PARAMS: [Param; 3] = [
        described(OSSL_ENCODER_PARAM_CIPHER, OSSL_PARAM_UTF8_STRING),
        described(OSSL_ENCODER_PARAM_PROPERTIES, OSSL_PARAM_UTF8_STRING),
        end(),
    ];
    PARAMS.as_ptr()
}

/// A private key is written where one is asked for, a public key where only that is: each selection includes the lesser
/// ones (OpenSSL's `key2any_check_selection`). Text is for either.
unsafe extern "C" fn does_selection<const OUTPUT: usize>(_context: *mut c_void, selection: c_int) -> c_int {
    let fits = match OUTPUTS[OUTPUT] {
        Output::Text => true,
        Output::File(structure, _) => selects(structure != Structure::Public, selection),
    };
    fits.into()
}

/// Whether a selection asks for private keys, or for public ones alone; 0 leaves it open.
pub(super) fn selects(private: bool, selection: c_int) -> bool {
    if selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY != 0 {
        private
    } else if selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY != 0 {
        !private
    } else {
        selection == 0
    }
}

unsafe extern "C" fn encode(
    encoder: *mut c_void,
    bio: *mut CoreBio,
    key: *const c_void,
    abstract_key: *const Param,
    selection: c_int,
    passphrase: Option<PassphraseCallback>,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: what `new` lent.
    let Some(encoder) = (unsafe { borrow::<Encoder>(encoder) }) else { return 0 };
    let core = &encoder.provider.core;
    guard(Some(core), "encoder_encode", 0, || {
        if !abstract_key.is_null() {
            return Err(Problem::argument(
                "a key in parts cannot be written; make a key object of it first (EVP_PKEY_fromdata)",
            ));
        }
        // SAFETY: what our key management lent.
        let key = unsafe { borrow::<Key>(key) }.ok_or_else(|| null("key"))?;
        let with_private = selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY != 0;
        // SAFETY: the callback and its argument belong together.
        let bytes = encoder.encode(key, with_private, || unsafe { ask(passphrase, argument) })?;
        // SAFETY: the BIO of this call.
        unsafe { core.write(bio, &bytes) }?;
        Ok(1)
    })
}

/// # Safety
/// `callback` may be called with `argument`.
unsafe fn ask(
    callback: Option<PassphraseCallback>,
    argument: *mut c_void,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    // PEM_BUFSIZE, which OpenSSL's own callbacks fill at most.
    const ROOM: usize = 1024;
    let mut passphrase = Zeroizing::new(vec![0; ROOM]);
    let mut size = 0;
    // SAFETY: the caller's promise; the buffer has the size that is told.
    let given = callback.is_some_and(|callback| unsafe {
        callback(passphrase.as_mut_ptr().cast(), ROOM, &mut size, std::ptr::null(), argument) == 1
    });
    if !given {
        return Err(Problem::argument(
            "the private key is to be encrypted, and no passphrase was given (-passout, or at the prompt)",
        ));
    }
    passphrase.truncate(size);
    Ok(passphrase)
}
