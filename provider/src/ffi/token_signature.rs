//! Signatures with RSA and EC keys in tokens (`provider-signature(7)`).

use super::abi::*;
use super::guard::guard;
use super::params::{Asked, Given, described, end};
use super::signature::{bytes, text, write_signature};
use super::{borrow, borrow_mut, lend, reclaim, share_provider};
use crate::problem::{Problem, Reason};
use crate::token_key::TokenKeyObject;
use crate::token_signature::{Padding, Salt, TokenSignature, digest_by_name, name_of};
use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

/// One table for both types of keys: the key says which it is.
pub(super) static TABLE: [Dispatch; 20] = [
    dispatch!(OSSL_FUNC_SIGNATURE_NEWCTX, new as fn(*mut c_void, *const c_char) -> *mut c_void),
    dispatch!(OSSL_FUNC_SIGNATURE_FREECTX, free as fn(*mut c_void)),
    dispatch!(OSSL_FUNC_SIGNATURE_DUPCTX, duplicate as fn(*mut c_void) -> *mut c_void),
    dispatch!(
        OSSL_FUNC_SIGNATURE_SIGN_INIT,
        sign_init as fn(*mut c_void, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_SIGN,
        sign as fn(*mut c_void, *mut u8, *mut usize, usize, *const u8, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT,
        digest_sign_init as fn(*mut c_void, *const c_char, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, update as fn(*mut c_void, *const u8, usize) -> c_int),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL,
        digest_sign_final as fn(*mut c_void, *mut u8, *mut usize, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN,
        digest_sign as fn(*mut c_void, *mut u8, *mut usize, usize, *const u8, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_VERIFY_INIT,
        verify_init as fn(*mut c_void, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_VERIFY,
        verify as fn(*mut c_void, *const u8, usize, *const u8, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT,
        digest_verify_init as fn(*mut c_void, *const c_char, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, update as fn(*mut c_void, *const u8, usize) -> c_int),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL,
        digest_verify_final as fn(*mut c_void, *const u8, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY,
        digest_verify as fn(*mut c_void, *const u8, usize, *const u8, usize) -> c_int
    ),
    dispatch!(OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, get_params as fn(*mut c_void, *mut Param) -> c_int),
    dispatch!(
        OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS,
        gettable_params as fn(*mut c_void, *mut c_void) -> *const Param
    ),
    dispatch!(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, set_params as fn(*mut c_void, *const Param) -> c_int),
    dispatch!(
        OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS,
        settable_params as fn(*mut c_void, *mut c_void) -> *const Param
    ),
    Dispatch::END,
];

unsafe extern "C" fn new(context: *mut c_void, _properties: *const c_char) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx`.
    let Some(provider) = (unsafe { share_provider(context) }) else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "token_signature_newctx", null_mut(), || Ok(lend(TokenSignature::new(provider)?)))
}

unsafe extern "C" fn free(operation: *mut c_void) {
    // SAFETY: libcrypto frees what `new` or `duplicate` lent, once.
    unsafe { reclaim::<TokenSignature>("token_signature_freectx", operation) }
}

unsafe extern "C" fn duplicate(operation: *mut c_void) -> *mut c_void {
    // SAFETY: what `new` lent.
    let Some(operation) = (unsafe { borrow::<TokenSignature>(operation) }) else { return null_mut() };
    guard(Some(&operation.provider.core), "token_signature_dupctx", null_mut(), || {
        Ok(lend(operation.duplicate()?))
    })
}

unsafe extern "C" fn sign_init(operation: *mut c_void, key: *mut c_void, params: *const Param) -> c_int {
    // SAFETY: as for `on`; the key is null or what our key management lent; libcrypto's promise on arrays of parameters.
    unsafe {
        on("token_signature_sign_init", operation, |operation| {
            operation.begin_signing(borrow::<TokenKeyObject>(key))?;
            apply(Given::new(params), operation)
        })
    }
}

unsafe extern "C" fn digest_sign_init(
    operation: *mut c_void,
    digest: *const c_char,
    key: *mut c_void,
    params: *const Param,
) -> c_int {
    // SAFETY: as for `sign_init`; the digest is null or a C string.
    unsafe {
        on("token_signature_digest_sign_init", operation, |operation| {
            operation.begin_signing(borrow::<TokenKeyObject>(key))?;
            operation.set_digest(text(digest)?)?;
            apply(Given::new(params), operation)?;
            operation.default_digest();
            Ok(())
        })
    }
}

unsafe extern "C" fn sign(
    operation: *mut c_void,
    signature: *mut u8,
    signature_size: *mut usize,
    room: usize,
    digest: *const u8,
    digest_size: usize,
) -> c_int {
    // SAFETY: as for `on` and `write_signature`; libcrypto's promise on the digest.
    unsafe {
        on("token_signature_sign", operation, |operation| {
            write_signature(operation.max_bytes()?, signature, signature_size, room, || {
                operation.sign_digest(bytes("digest", digest, digest_size)?)
            })
        })
    }
}

unsafe extern "C" fn update(operation: *mut c_void, piece: *const u8, size: usize) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on the piece.
    unsafe {
        on("token_signature_update", operation, |operation| operation.update(bytes("message", piece, size)?))
    }
}

unsafe extern "C" fn digest_sign_final(
    operation: *mut c_void,
    signature: *mut u8,
    signature_size: *mut usize,
    room: usize,
) -> c_int {
    // SAFETY: as for `on` and `write_signature`.
    unsafe {
        on("token_signature_digest_sign_final", operation, |operation| {
            write_signature(operation.max_bytes()?, signature, signature_size, room, || operation.finish())
        })
    }
}

unsafe extern "C" fn digest_sign(
    operation: *mut c_void,
    signature: *mut u8,
    signature_size: *mut usize,
    room: usize,
    message: *const u8,
    message_size: usize,
) -> c_int {
    // SAFETY: as for `on` and `write_signature`; libcrypto's promise on the message.
    unsafe {
        on("token_signature_digest_sign", operation, |operation| {
            write_signature(operation.max_bytes()?, signature, signature_size, room, || {
                operation.sign_message(bytes("message", message, message_size)?)
            })
        })
    }
}

unsafe extern "C" fn verify_init(operation: *mut c_void, key: *mut c_void, params: *const Param) -> c_int {
    // SAFETY: as for `sign_init`.
    unsafe {
        on("token_signature_verify_init", operation, |operation| {
            operation.begin_verifying(borrow::<TokenKeyObject>(key))?;
            apply(Given::new(params), operation)
        })
    }
}

unsafe extern "C" fn digest_verify_init(
    operation: *mut c_void,
    digest: *const c_char,
    key: *mut c_void,
    params: *const Param,
) -> c_int {
    // SAFETY: as for `digest_sign_init`.
    unsafe {
        on("token_signature_digest_verify_init", operation, |operation| {
            operation.begin_verifying(borrow::<TokenKeyObject>(key))?;
            operation.set_digest(text(digest)?)?;
            apply(Given::new(params), operation)?;
            operation.default_digest();
            Ok(())
        })
    }
}

unsafe extern "C" fn verify(
    operation: *mut c_void,
    signature: *const u8,
    signature_size: usize,
    digest: *const u8,
    digest_size: usize,
) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on both buffers.
    unsafe {
        on("token_signature_verify", operation, |operation| {
            let signature = bytes("signature", signature, signature_size)?;
            operation.verify_digest(bytes("digest", digest, digest_size)?, signature)
        })
    }
}

unsafe extern "C" fn digest_verify(
    operation: *mut c_void,
    signature: *const u8,
    signature_size: usize,
    message: *const u8,
    message_size: usize,
) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on both buffers.
    unsafe {
        on("token_signature_digest_verify", operation, |operation| {
            let signature = bytes("signature", signature, signature_size)?;
            operation.verify_message(bytes("message", message, message_size)?, signature)
        })
    }
}

unsafe extern "C" fn digest_verify_final(
    operation: *mut c_void,
    signature: *const u8,
    signature_size: usize,
) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on the signature.
    unsafe {
        on("token_signature_digest_verify_final", operation, |operation| {
            operation.finish_verifying(bytes("signature", signature, signature_size)?)
        })
    }
}

unsafe extern "C" fn get_params(operation: *mut c_void, params: *mut Param) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on arrays of parameters.
    unsafe {
        let mut asked = Asked::new(params);
        on("token_signature_get_ctx_params", operation, |operation| {
            if asked.asks(OSSL_SIGNATURE_PARAM_ALGORITHM_ID) {
                asked.answer_octets(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, &operation.algorithm_identifier()?)?;
            }
            let settings = *operation.settings();
            if let Some(digest) = settings.digest {
                asked.answer_text(OSSL_SIGNATURE_PARAM_DIGEST, name_of(digest))?;
            }
            if let Some(mgf1) = settings.mgf1.or(settings.digest) {
                asked.answer_text(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, name_of(mgf1))?;
            }
            let (number, name) = match settings.padding {
                Padding::Pkcs1 => (RSA_PKCS1_PADDING, "pkcs1"),
                Padding::Pss => (RSA_PKCS1_PSS_PADDING, "pss"),
            };
            if asked.asks_for_text(OSSL_SIGNATURE_PARAM_PAD_MODE) {
                asked.answer_text(OSSL_SIGNATURE_PARAM_PAD_MODE, name)?;
            } else {
                asked.answer_number(OSSL_SIGNATURE_PARAM_PAD_MODE, number.unsigned_abs())?;
            }
            if asked.asks(OSSL_SIGNATURE_PARAM_PSS_SALTLEN) {
                let salt = operation.salt_bytes()?;
                if asked.asks_for_text(OSSL_SIGNATURE_PARAM_PSS_SALTLEN) {
                    asked.answer_text(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, &salt.to_string())?;
                } else {
                    asked.answer_number(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, salt as u32)?;
                }
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn gettable_params(_operation: *mut c_void, _context: *mut c_void) -> *const Param {
    static PARAMS: [Param; 6] = [
        described(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, OSSL_PARAM_OCTET_STRING),
        described(OSSL_SIGNATURE_PARAM_PAD_MODE, OSSL_PARAM_UTF8_STRING),
        described(OSSL_SIGNATURE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
        described(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, OSSL_PARAM_UTF8_STRING),
        described(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, OSSL_PARAM_UTF8_STRING),
        end(),
    ];
    PARAMS.as_ptr()
}

unsafe extern "C" fn set_params(operation: *mut c_void, params: *const Param) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on arrays of parameters.
    unsafe {
        on("token_signature_set_ctx_params", operation, |operation| apply(Given::new(params), operation))
    }
}

unsafe extern "C" fn settable_params(_operation: *mut c_void, _context: *mut c_void) -> *const Param {
    static PARAMS: [Param; 7] = [
        described(OSSL_SIGNATURE_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING),
        described(OSSL_SIGNATURE_PARAM_PROPERTIES, OSSL_PARAM_UTF8_STRING),
        described(OSSL_SIGNATURE_PARAM_PAD_MODE, OSSL_PARAM_UTF8_STRING),
        described(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, OSSL_PARAM_UTF8_STRING),
        described(OSSL_SIGNATURE_PARAM_MGF1_PROPERTIES, OSSL_PARAM_UTF8_STRING),
        described(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, OSSL_PARAM_UTF8_STRING),
        end(),
    ];
    PARAMS.as_ptr()
}

/// Sets what the parameters set. A property query says where to fetch a digest from: ours is always our own.
fn apply(given: Given<'_>, operation: &mut TokenSignature) -> Result<(), Problem> {
    operation.set_digest(given.text(OSSL_SIGNATURE_PARAM_DIGEST)?)?;
    if let Some(padding) = padding(given)? {
        operation.settings_mut().padding = padding;
    }
    if let Some(salt) = salt(given)? {
        operation.settings_mut().salt = salt;
    }
    if let Some(name) = given.text(OSSL_SIGNATURE_PARAM_MGF1_DIGEST)?.filter(|name| !name.is_empty()) {
        operation.settings_mut().mgf1 = Some(digest_by_name(name)?);
    }
    if given.number(OSSL_SIGNATURE_PARAM_NONCE_TYPE)?.is_some_and(|kind| kind != 0) {
        return Err(Problem::argument(
            "a deterministic signature was asked for ('nonce-type'), and a token makes its nonces itself; leave that out",
        ));
    }
    Ok(())
}

fn padding(given: Given<'_>) -> Result<Option<Padding>, Problem> {
    let name = OSSL_SIGNATURE_PARAM_PAD_MODE;
    let (padding, said) = if given.is_text(name) {
        let said = given.text(name)?.unwrap_or_default();
        let known = [("pkcs1", Padding::Pkcs1), ("pss", Padding::Pss)];
        (known.into_iter().find(|(name, _)| *name == said).map(|(_, padding)| padding), said.to_owned())
    } else {
        let Some(number) = given.number(name)? else { return Ok(None) };
        let padding = match c_int::try_from(number) {
            Ok(RSA_PKCS1_PADDING) => Some(Padding::Pkcs1),
            Ok(RSA_PKCS1_PSS_PADDING) => Some(Padding::Pss),
            _ => None,
        };
        (padding, format!("number {number}"))
    };
    padding.map(Some).ok_or_else(|| {
        Problem::argument(format!(
            "the padding '{said}' was asked for, and keys in tokens sign with pkcs1 or pss (oaep is for encryption, x931 and none \
             are not offered)"
        ))
    })
}

fn salt(given: Given<'_>) -> Result<Option<Salt>, Problem> {
    let name = OSSL_SIGNATURE_PARAM_PSS_SALTLEN;
    let number = if given.is_text(name) {
        let said = given.text(name)?.unwrap_or_default();
        match said {
            "auto" | "auto-digestmax" => return Ok(Some(Salt::Auto)),
            "digest" => return Ok(Some(Salt::Digest)),
            "max" => return Ok(Some(Salt::Max)),
            _ => said.parse().map_err(|_| no_salt(said))?,
        }
    } else {
        let Some(number) = given.number(name)? else { return Ok(None) };
        number
    };
    match c_int::try_from(number) {
        Ok(RSA_PSS_SALTLEN_AUTO | RSA_PSS_SALTLEN_AUTO_DIGEST_MAX) => Ok(Some(Salt::Auto)),
        Ok(RSA_PSS_SALTLEN_DIGEST) => Ok(Some(Salt::Digest)),
        Ok(RSA_PSS_SALTLEN_MAX) => Ok(Some(Salt::Max)),
        Ok(bytes) => {
            usize::try_from(bytes).map(Salt::Bytes).map(Some).map_err(|_| no_salt(&bytes.to_string()))
        }
        Err(_) => Err(no_salt(&number.to_string())),
    }
}

fn no_salt(said: &str) -> Problem {
    Problem::new(
        Reason::InvalidArgument,
        format!("the PSS salt length '{said}' is none; use digest, max, auto or a number of bytes"),
    )
}

/// Runs an entry point on an operation; 1 for success.
///
/// # Safety
/// `operation` is null or what `new` or `duplicate` lent, used by one thread at a time (`EVP_PKEY_CTX` is not shared).
unsafe fn on(
    entry: &'static str,
    operation: *mut c_void,
    body: impl FnOnce(&mut TokenSignature) -> Result<(), Problem>,
) -> c_int {
    // SAFETY: the caller's promise.
    let Some(operation) = (unsafe { borrow_mut::<TokenSignature>(operation) }) else { return 0 };
    let provider = operation.provider.clone();
    guard(Some(&provider.core), entry, 0, || body(operation).map(|()| 1))
}
