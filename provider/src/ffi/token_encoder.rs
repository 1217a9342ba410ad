//! Writing RSA and EC keys of tokens (`provider-encoder(7)`): OpenSSL's own encoders would need the private half, and say nothing
//! of why they do not get it.

use super::abi::*;
use super::encoder::selects;
use super::guard::{guard, null};
use super::params::{described, end};
use super::{borrow, lend, reclaim, share_provider};
use crate::key_file::{Form, Output, Structure};
use crate::problem::Problem;
use crate::token_key::TokenKeyObject;
use crate::token_text::TokenEncoder;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

/// A table for each kind of output; the key says whose it is. They differ in the functions that are given no encoder.
pub(super) static TABLES: [(Output, [Dispatch; 7]); 9] = [
    table::<0>(),
    table::<1>(),
    table::<2>(),
    table::<3>(),
    table::<4>(),
    table::<5>(),
    table::<6>(),
    table::<7>(),
    table::<8>(),
];

const OUTPUTS: [Output; 9] = [
    Output::File(Structure::TypeSpecific, Form::Der),
    Output::File(Structure::TypeSpecific, Form::Pem),
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
    guard(Some(&core.core), "token_encoder_newctx", null_mut(), || {
        Ok(lend(TokenEncoder { provider, output: OUTPUTS[OUTPUT] }))
    })
}

unsafe extern "C" fn free(encoder: *mut c_void) {
    // SAFETY: libcrypto frees what `new` lent, once.
    unsafe { reclaim::<TokenEncoder>("token_encoder_freectx", encoder) }
}

/// A cipher is for private keys, which are not written.
unsafe extern "C" fn set_params(_encoder: *mut c_void, _params: *const Param) -> c_int {
    1
}

unsafe extern "C" fn settable_params(_context: *mut c_void) -> *const Param {
    static PARAMS: [Param; 3] = [
        described(OSSL_ENCODER_PARAM_CIPHER, OSSL_PARAM_UTF8_STRING),
        described(OSSL_ENCODER_PARAM_PROPERTIES, OSSL_PARAM_UTF8_STRING),
        end(),
    ];
    PARAMS.as_ptr()
}

/// As our other encoders (`encoder::does_selection`).
unsafe extern "C" fn does_selection<const OUTPUT: usize>(_context: *mut c_void, selection: c_int) -> c_int {
    let fits = match OUTPUTS[OUTPUT] {
        Output::Text => true,
        Output::File(structure, _) => selects(structure != Structure::Public, selection),
    };
    fits.into()
}

unsafe extern "C" fn encode(
    encoder: *mut c_void,
    bio: *mut CoreBio,
    key: *const c_void,
    abstract_key: *const Param,
    selection: c_int,
    _passphrase: Option<PassphraseCallback>,
    _argument: *mut c_void,
) -> c_int {
    // SAFETY: what `new` lent.
    let Some(encoder) = (unsafe { borrow::<TokenEncoder>(encoder) }) else { return 0 };
    let core = &encoder.provider.core;
    guard(Some(core), "token_encoder_encode", 0, || {
        if !abstract_key.is_null() {
            return Err(Problem::argument(
                "a key in parts cannot be written; make a key object of it first (EVP_PKEY_fromdata)",
            ));
        }
        // SAFETY: what our key management lent.
        let key = unsafe { borrow::<TokenKeyObject>(key) }.ok_or_else(|| null("key"))?;
        let bytes = encoder.encode(key, selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY != 0)?;
        // SAFETY: the BIO of this call.
        unsafe { core.write(bio, &bytes) }?;
        Ok(1)
    })
}
