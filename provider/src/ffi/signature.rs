//! Signatures (`provider-signature(7)`): at once, in pieces, and by the message calls of OpenSSL 3.4.

use super::abi::*;
use super::guard::{guard, null as null_pointer};
use super::params::{Asked, Given, described, end};
use super::{borrow, borrow_mut, lend, output, reclaim, share_provider, write_size};
use crate::key::Key;
use crate::problem::{Problem, Reason};
use crate::signature::{Settings, SignatureOperation, algorithm_identifier};
use qtls_crypto::MlDsa;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use zeroize::Zeroizing;

/// One table for every algorithm: the key says which it is.
pub(super) static TABLE: [Dispatch; 26] = [
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
        OSSL_FUNC_SIGNATURE_VERIFY_INIT,
        verify_init as fn(*mut c_void, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_VERIFY,
        verify as fn(*mut c_void, *const u8, usize, *const u8, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT,
        digest_sign_init as fn(*mut c_void, *const c_char, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, update as fn(*mut c_void, *const u8, usize) -> c_int),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL,
        sign_final as fn(*mut c_void, *mut u8, *mut usize, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN,
        sign as fn(*mut c_void, *mut u8, *mut usize, usize, *const u8, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT,
        digest_verify_init as fn(*mut c_void, *const c_char, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, update as fn(*mut c_void, *const u8, usize) -> c_int),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL,
        verify_final as fn(*mut c_void, *const u8, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY,
        verify as fn(*mut c_void, *const u8, usize, *const u8, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT,
        sign_init as fn(*mut c_void, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_UPDATE, update as fn(*mut c_void, *const u8, usize) -> c_int),
    dispatch!(
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_FINAL,
        sign_final as fn(*mut c_void, *mut u8, *mut usize, usize) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT,
        verify_init as fn(*mut c_void, *mut c_void, *const Param) -> c_int
    ),
    dispatch!(
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_UPDATE,
        update as fn(*mut c_void, *const u8, usize) -> c_int
    ),
    dispatch!(OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_FINAL, verify_message_final as fn(*mut c_void) -> c_int),
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
    guard(Some(&core.core), "signature_newctx", null_mut(), || Ok(lend(SignatureOperation::new(provider))))
}

unsafe extern "C" fn free(operation: *mut c_void) {
    // SAFETY: libcrypto frees what `new` or `duplicate` lent, once.
    unsafe { reclaim::<SignatureOperation>("signature_freectx", operation) }
}

unsafe extern "C" fn duplicate(operation: *mut c_void) -> *mut c_void {
    // SAFETY: what `new` lent.
    let Some(operation) = (unsafe { borrow::<SignatureOperation>(operation) }) else { return null_mut() };
    guard(Some(&operation.provider.core), "signature_dupctx", null_mut(), || Ok(lend(operation.duplicate()?)))
}

unsafe extern "C" fn sign_init(operation: *mut c_void, key: *mut c_void, params: *const Param) -> c_int {
    // SAFETY: as for `begin`.
    unsafe { begin("signature_sign_init", operation, null(), key, params, SignatureOperation::begin_signing) }
}

unsafe extern "C" fn verify_init(operation: *mut c_void, key: *mut c_void, params: *const Param) -> c_int {
    // SAFETY: as for `begin`.
    unsafe {
        begin("signature_verify_init", operation, null(), key, params, SignatureOperation::begin_verifying)
    }
}

unsafe extern "C" fn digest_sign_init(
    operation: *mut c_void,
    digest: *const c_char,
    key: *mut c_void,
    params: *const Param,
) -> c_int {
    // SAFETY: as for `begin`.
    unsafe {
        begin("signature_digest_sign_init", operation, digest, key, params, SignatureOperation::begin_signing)
    }
}

unsafe extern "C" fn digest_verify_init(
    operation: *mut c_void,
    digest: *const c_char,
    key: *mut c_void,
    params: *const Param,
) -> c_int {
    // SAFETY: as for `begin`.
    unsafe {
        begin(
            "signature_digest_verify_init",
            operation,
            digest,
            key,
            params,
            SignatureOperation::begin_verifying,
        )
    }
}

/// # Safety
/// As for [`on`]; `digest` is null or a C string, `key` null or what our key management lent, `params` as libcrypto promises.
unsafe fn begin(
    entry: &'static str,
    operation: *mut c_void,
    digest: *const c_char,
    key: *mut c_void,
    params: *const Param,
    in_role: fn(&mut SignatureOperation, Option<&Key>) -> Result<(), Problem>,
) -> c_int {
    // SAFETY: the caller's promises.
    unsafe {
        on(entry, operation, |operation| {
            in_role(operation, borrow(key))?;
            operation.accept_digest(text(digest)?)?;
            apply(Given::new(params), operation)
        })
    }
}

unsafe extern "C" fn update(operation: *mut c_void, piece: *const u8, size: usize) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on the piece.
    unsafe { on("signature_update", operation, |operation| operation.update(bytes("message", piece, size)?)) }
}

unsafe extern "C" fn sign(
    operation: *mut c_void,
    signature: *mut u8,
    signature_size: *mut usize,
    room: usize,
    message: *const u8,
    message_size: usize,
) -> c_int {
    // SAFETY: as for `on` and `write_signature`; libcrypto's promise on the message.
    unsafe {
        on("signature_sign", operation, |operation| {
            let longest = operation.algorithm()?.max_signature_bytes();
            write_signature(longest, signature, signature_size, room, || {
                operation.sign(bytes("message", message, message_size)?)
            })
        })
    }
}

unsafe extern "C" fn sign_final(
    operation: *mut c_void,
    signature: *mut u8,
    signature_size: *mut usize,
    room: usize,
) -> c_int {
    // SAFETY: as for `on` and `write_signature`.
    unsafe {
        on("signature_sign_final", operation, |operation| {
            let longest = operation.algorithm()?.max_signature_bytes();
            write_signature(longest, signature, signature_size, room, || operation.finish_signing())
        })
    }
}

/// Answers the question for the size, or writes a signature, of which the longest has so many bytes.
///
/// # Safety
/// `signature` is null, which asks for the size, or may be written for `room` bytes; `signature_size` may be written.
pub(super) unsafe fn write_signature(
    longest: usize,
    signature: *mut u8,
    signature_size: *mut usize,
    room: usize,
    make: impl FnOnce() -> Result<Vec<u8>, Problem>,
) -> Result<(), Problem> {
    if signature.is_null() {
        // SAFETY: the caller's promise. libssl asks for the size at each handshake: nothing is computed for it.
        unsafe { write_size(signature_size, longest) };
        return Ok(());
    }
    // Refused before a signature is made for nothing.
    if room < longest {
        return Err(Problem::argument(format!(
            "the buffer for the signature has {room} bytes, {longest} are needed; ask for the size first, with a null buffer"
        )));
    }
    let made = make()?;
    let mut room = room;
    // SAFETY: the caller's promise.
    unsafe {
        output("signature", signature, &raw mut room, made.len())?.copy_from_slice(&made);
        write_size(signature_size, made.len());
    }
    Ok(())
}

unsafe extern "C" fn verify(
    operation: *mut c_void,
    signature: *const u8,
    signature_size: usize,
    message: *const u8,
    message_size: usize,
) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on both buffers.
    unsafe {
        on("signature_verify", operation, |operation| {
            let signature = bytes("signature", signature, signature_size)?;
            operation.verify(bytes("message", message, message_size)?, signature)
        })
    }
}

unsafe extern "C" fn verify_final(
    operation: *mut c_void,
    signature: *const u8,
    signature_size: usize,
) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on the signature.
    unsafe {
        on("signature_verify_final", operation, |operation| {
            operation.finish_verifying(Some(bytes("signature", signature, signature_size)?))
        })
    }
}

unsafe extern "C" fn verify_message_final(operation: *mut c_void) -> c_int {
    // SAFETY: as for `on`.
    unsafe { on("signature_verify_message_final", operation, |operation| operation.finish_verifying(None)) }
}

unsafe extern "C" fn get_params(operation: *mut c_void, params: *mut Param) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on arrays of parameters.
    unsafe {
        let mut asked = Asked::new(params);
        on("signature_get_ctx_params", operation, |operation| {
            if asked.asks(OSSL_SIGNATURE_PARAM_ALGORITHM_ID)
                && let Some(identifier) = algorithm_identifier(operation.algorithm()?)
            {
                asked.answer_octets(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, &identifier)?;
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn gettable_params(_operation: *mut c_void, _context: *mut c_void) -> *const Param {
    static PARAMS: [Param; 2] =
        [described(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, OSSL_PARAM_OCTET_STRING), end()];
    PARAMS.as_ptr()
}

unsafe extern "C" fn set_params(operation: *mut c_void, params: *const Param) -> c_int {
    // SAFETY: as for `on`; libcrypto's promise on arrays of parameters.
    unsafe { on("signature_set_ctx_params", operation, |operation| apply(Given::new(params), operation)) }
}

unsafe extern "C" fn settable_params(_operation: *mut c_void, _context: *mut c_void) -> *const Param {
    static PARAMS: [Param; 7] = [
        described(OSSL_SIGNATURE_PARAM_CONTEXT_STRING, OSSL_PARAM_OCTET_STRING),
        described(OSSL_SIGNATURE_PARAM_TEST_ENTROPY, OSSL_PARAM_OCTET_STRING),
        described(OSSL_SIGNATURE_PARAM_DETERMINISTIC, OSSL_PARAM_INTEGER),
        described(OSSL_SIGNATURE_PARAM_MESSAGE_ENCODING, OSSL_PARAM_INTEGER),
        described(OSSL_SIGNATURE_PARAM_MU, OSSL_PARAM_INTEGER),
        described(OSSL_SIGNATURE_PARAM_SIGNATURE, OSSL_PARAM_OCTET_STRING),
        end(),
    ];
    PARAMS.as_ptr()
}

/// Takes over what the parameters set.
fn apply(given: Given<'_>, operation: &mut SignatureOperation) -> Result<(), Problem> {
    // Who sets it will hand over a hash where the message belongs: `EVP_SignFinal`, and by it CMS without signed attributes.
    if let Some(digest) = given.text(OSSL_SIGNATURE_PARAM_DIGEST)?.filter(|name| !name.is_empty()) {
        return Err(Problem::argument(format!(
            "the {digest} hash of a message was to be signed or verified, but ML-DSA and composite keys take the message \
             itself (`openssl cms -sign`: without -noattr)"
        )));
    }
    if let Some(signature) = given.octets(OSSL_SIGNATURE_PARAM_SIGNATURE)? {
        operation.set_signature(signature);
    }
    let Settings { context, raw, mu, deterministic, test_entropy } = operation.settings_mut();
    if let Some(string) = given.octets(OSSL_SIGNATURE_PARAM_CONTEXT_STRING)? {
        if string.len() > MlDsa::MAX_CONTEXT_BYTES {
            return Err(Problem::argument(format!(
                "the context string has {} bytes, it may have at most {}",
                string.len(),
                MlDsa::MAX_CONTEXT_BYTES
            )));
        }
        string.clone_into(context);
    }
    if let Some(entropy) = given.octets(OSSL_SIGNATURE_PARAM_TEST_ENTROPY)? {
        let entropy = entropy.try_into().map_err(|_| {
            Problem::argument(format!(
                "the test entropy has {} bytes, it must have {}",
                entropy.len(),
                MlDsa::RANDOMNESS_BYTES
            ))
        })?;
        *test_entropy = Some(Zeroizing::new(entropy));
    }
    if let Some(flag) = given.flag(OSSL_SIGNATURE_PARAM_DETERMINISTIC)? {
        *deterministic = flag;
    }
    // 0 is raw, 1 is pure.
    if let Some(pure) = given.flag(OSSL_SIGNATURE_PARAM_MESSAGE_ENCODING)? {
        *raw = !pure;
    }
    if let Some(flag) = given.flag(OSSL_SIGNATURE_PARAM_MU)? {
        *mu = flag;
    }
    Ok(())
}

/// Runs an entry point on an operation; 1 for success.
///
/// # Safety
/// `operation` is null or what `new` or `duplicate` lent, used by one thread at a time (`EVP_PKEY_CTX` is not shared).
unsafe fn on(
    entry: &'static str,
    operation: *mut c_void,
    body: impl FnOnce(&mut SignatureOperation) -> Result<(), Problem>,
) -> c_int {
    // SAFETY: the caller's promise.
    let Some(operation) = (unsafe { borrow_mut::<SignatureOperation>(operation) }) else { return 0 };
    let provider = operation.provider.clone();
    guard(Some(&provider.core), entry, 0, || body(operation).map(|()| 1))
}

/// # Safety
/// `data` is null or has `size` bytes that live long enough.
pub(super) unsafe fn bytes<'a>(
    what: &'static str,
    data: *const u8,
    size: usize,
) -> Result<&'a [u8], Problem> {
    match (data.is_null(), size) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(null_pointer(what)),
        // SAFETY: the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(data, size) }),
    }
}

/// # Safety
/// `name` is null or a C string that lives long enough.
pub(super) unsafe fn text<'a>(name: *const c_char) -> Result<Option<&'a str>, Problem> {
    if name.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_str();
    name.map(Some).map_err(|_| Problem::new(Reason::InvalidArgument, "the digest's name is not UTF-8"))
}
