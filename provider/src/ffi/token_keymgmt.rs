//! Key management of RSA and EC keys in tokens (`provider-keymgmt(7)`, EVP_PKEY-RSA(7), EVP_PKEY-EC(7)).
//!
//! A public half is taken in and given out; a private half is neither. Giving out fails *without* an error where the private
//! half is asked for: libcrypto then goes on to our own signature, instead of handing `default` half a key.

use super::abi::*;
use super::guard::{guard, null};
use super::params::{Asked, Built, Given, described, end, native_natural};
use super::{borrow, lend, reclaim, share_provider};
use crate::problem::{Problem, Reason};
use crate::token_key::{ClassicalType, TokenKeyObject, coordinates, curve_by_name, group_name, strength};
use qtls_pkcs11::{EcCurve, PublicKey};
use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

/// By the number of a [`ClassicalType`]. The tables differ in the functions that are not given a key.
pub(super) static TABLES: [[Dispatch; 15]; 2] = [table::<RSA>(), table::<EC>()];

const RSA: usize = ClassicalType::Rsa as usize;
const EC: usize = ClassicalType::Ec as usize;

const fn table<const KIND: usize>() -> [Dispatch; 15] {
    [
        dispatch!(OSSL_FUNC_KEYMGMT_NEW, new::<KIND> as fn(*mut c_void) -> *mut c_void),
        dispatch!(OSSL_FUNC_KEYMGMT_FREE, free as fn(*mut c_void)),
        dispatch!(OSSL_FUNC_KEYMGMT_LOAD, load as fn(*const c_void, usize) -> *mut c_void),
        dispatch!(OSSL_FUNC_KEYMGMT_GET_PARAMS, get_params as fn(*mut c_void, *mut Param) -> c_int),
        dispatch!(
            OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS,
            gettable_params::<KIND> as fn(*mut c_void) -> *const Param
        ),
        dispatch!(
            OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME,
            operation_name::<KIND> as fn(c_int) -> *const c_char
        ),
        dispatch!(OSSL_FUNC_KEYMGMT_HAS, has as fn(*const c_void, c_int) -> c_int),
        dispatch!(OSSL_FUNC_KEYMGMT_VALIDATE, validate as fn(*const c_void, c_int, c_int) -> c_int),
        dispatch!(OSSL_FUNC_KEYMGMT_MATCH, matches as fn(*const c_void, *const c_void, c_int) -> c_int),
        dispatch!(OSSL_FUNC_KEYMGMT_IMPORT, import as fn(*mut c_void, c_int, *const Param) -> c_int),
        dispatch!(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, exchanged_params::<KIND> as fn(c_int) -> *const Param),
        dispatch!(
            OSSL_FUNC_KEYMGMT_EXPORT,
            export as fn(*mut c_void, c_int, Option<Callback>, *mut c_void) -> c_int
        ),
        dispatch!(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, exchanged_params::<KIND> as fn(c_int) -> *const Param),
        dispatch!(OSSL_FUNC_KEYMGMT_DUP, duplicate as fn(*const c_void, c_int) -> *mut c_void),
        Dispatch::END,
    ]
}

unsafe extern "C" fn new<const KIND: usize>(context: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx`.
    let Some(provider) = (unsafe { share_provider(context) }) else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "token_keymgmt_new", null_mut(), || {
        Ok(lend(TokenKeyObject::empty(provider, ClassicalType::ALL[KIND])?))
    })
}

unsafe extern "C" fn free(key: *mut c_void) {
    // SAFETY: libcrypto frees what `new`, `load` or `duplicate` lent, once.
    unsafe { reclaim::<TokenKeyObject>("token_keymgmt_free", key) }
}

/// Takes over the key that a decoder of ours made: the reference is the place of a pointer to it.
unsafe extern "C" fn load(reference: *const c_void, size: usize) -> *mut c_void {
    guard(None, "token_keymgmt_load", null_mut(), || {
        // SAFETY: libcrypto hands a decoder's reference to the key management of the same provider.
        unsafe { super::take_reference(reference, size) }
    })
}

unsafe extern "C" fn get_params(key: *mut c_void, params: *mut Param) -> c_int {
    // SAFETY: what `new` and its like lent; libcrypto's promise on arrays of parameters.
    let (Some(key), mut asked) = (unsafe { (borrow::<TokenKeyObject>(key), Asked::new(params)) }) else {
        return 0;
    };
    guard(Some(&key.provider.core), "token_keymgmt_get_params", 0, || {
        let public = key.public().ok_or_else(|| empty("the parameters of a key were asked for"))?;
        let (bits, security_bits) = strength(public.key_type());
        asked.answer_number(OSSL_PKEY_PARAM_BITS, bits)?;
        asked.answer_number(OSSL_PKEY_PARAM_SECURITY_BITS, security_bits)?;
        asked.answer_text(OSSL_PKEY_PARAM_DEFAULT_DIGEST, "SHA256")?;
        match public {
            PublicKey::Rsa { modulus, exponent } => {
                asked.answer_number(OSSL_PKEY_PARAM_MAX_SIZE, modulus.len() as u32)?;
                asked.answer_natural(OSSL_PKEY_PARAM_RSA_N, modulus)?;
                asked.answer_natural(OSSL_PKEY_PARAM_RSA_E, exponent)?;
            }
            PublicKey::Ec { curve, point } => {
                asked.answer_number(OSSL_PKEY_PARAM_MAX_SIZE, longest_ecdsa_signature(*curve))?;
                asked.answer_static_text(OSSL_PKEY_PARAM_GROUP_NAME, group_name(*curve))?;
                asked.answer_octets(OSSL_PKEY_PARAM_PUB_KEY, point)?;
                asked.answer_octets(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point)?;
                asked.answer_text(OSSL_PKEY_PARAM_EC_ENCODING, "named_curve")?;
                asked.answer_text(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, "uncompressed")?;
                asked.answer_text(OSSL_PKEY_PARAM_EC_FIELD_TYPE, "prime-field")?;
                asked.answer_number(OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, 0)?;
                if let Some((x, y)) = coordinates(*curve, point) {
                    asked.answer_natural(OSSL_PKEY_PARAM_EC_PUB_X, x)?;
                    asked.answer_natural(OSSL_PKEY_PARAM_EC_PUB_Y, y)?;
                }
            }
            PublicKey::MlDsa { .. } => {}
        }
        Ok(1)
    })
}

/// RFC 3279 section 2.2.3: a SEQUENCE of two INTEGERs, each perhaps with a zero before its first bit.
fn longest_ecdsa_signature(curve: EcCurve) -> u32 {
    match curve {
        EcCurve::P256 => 2 + 2 * (2 + 33),
        EcCurve::P384 => 2 + 2 * (2 + 49),
    }
}

unsafe extern "C" fn gettable_params<const KIND: usize>(_context: *mut c_void) -> *const Param {
    static RSA_PARAMS: [Param; 7] = [
        described(OSSL_PKEY_PARAM_BITS, OSSL_PARAM_INTEGER),
        described(OSSL_PKEY_PARAM_SECURITY_BITS, OSSL_PARAM_INTEGER),
        described(OSSL_PKEY_PARAM_MAX_SIZE, OSSL_PARAM_INTEGER),
        described(OSSL_PKEY_PARAM_DEFAULT_DIGEST, OSSL_PARAM_UTF8_STRING),
        described(OSSL_PKEY_PARAM_RSA_N, OSSL_PARAM_UNSIGNED_INTEGER),
        described(OSSL_PKEY_PARAM_RSA_E, OSSL_PARAM_UNSIGNED_INTEGER),
        end(),
    ];
    static EC_PARAMS: [Param; 14] = [
        described(OSSL_PKEY_PARAM_BITS, OSSL_PARAM_INTEGER),
        described(OSSL_PKEY_PARAM_SECURITY_BITS, OSSL_PARAM_INTEGER),
        described(OSSL_PKEY_PARAM_MAX_SIZE, OSSL_PARAM_INTEGER),
        described(OSSL_PKEY_PARAM_DEFAULT_DIGEST, OSSL_PARAM_UTF8_STRING),
        described(OSSL_PKEY_PARAM_GROUP_NAME, OSSL_PARAM_UTF8_STRING),
        described(OSSL_PKEY_PARAM_PUB_KEY, OSSL_PARAM_OCTET_STRING),
        described(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, OSSL_PARAM_OCTET_STRING),
        described(OSSL_PKEY_PARAM_EC_PUB_X, OSSL_PARAM_UNSIGNED_INTEGER),
        described(OSSL_PKEY_PARAM_EC_PUB_Y, OSSL_PARAM_UNSIGNED_INTEGER),
        described(OSSL_PKEY_PARAM_EC_ENCODING, OSSL_PARAM_UTF8_STRING),
        described(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, OSSL_PARAM_UTF8_STRING),
        described(OSSL_PKEY_PARAM_EC_FIELD_TYPE, OSSL_PARAM_UTF8_STRING),
        described(OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, OSSL_PARAM_INTEGER),
        end(),
    ];
    if KIND == RSA { RSA_PARAMS.as_ptr() } else { EC_PARAMS.as_ptr() }
}

/// What signs with keys of the type; for what else there is none of ours, the names that OpenSSL looks for it under.
unsafe extern "C" fn operation_name<const KIND: usize>(operation: c_int) -> *const c_char {
    let name = match (ClassicalType::ALL[KIND], operation) {
        (ClassicalType::Ec, OSSL_OP_SIGNATURE) => c"ECDSA",
        (ClassicalType::Ec, OSSL_OP_KEYEXCH) => c"ECDH",
        (kind, _) => kind.name(),
    };
    name.as_ptr()
}

unsafe extern "C" fn has(key: *const c_void, selection: c_int) -> c_int {
    // SAFETY: what `new` and its like lent.
    let Some(key) = (unsafe { borrow::<TokenKeyObject>(key) }) else { return 0 };
    guard(Some(&key.provider.core), "token_keymgmt_has", 0, || Ok(has_selected(key, selection).into()))
}

fn has_selected(key: &TokenKeyObject, selection: c_int) -> bool {
    const PUBLIC: c_int = OSSL_KEYMGMT_SELECT_PUBLIC_KEY | OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS;
    (selection & PUBLIC == 0 || key.public().is_some())
        && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY == 0 || key.token().is_some())
}

/// What a token made, and OpenSSL's own read, is not checked again.
unsafe extern "C" fn validate(key: *const c_void, selection: c_int, _thoroughness: c_int) -> c_int {
    // SAFETY: what `new` and its like lent.
    let Some(key) = (unsafe { borrow::<TokenKeyObject>(key) }) else { return 0 };
    guard(Some(&key.provider.core), "token_keymgmt_validate", 0, || Ok(has_selected(key, selection).into()))
}

unsafe extern "C" fn matches(one: *const c_void, other: *const c_void, selection: c_int) -> c_int {
    // SAFETY: what `new` and its like lent.
    let (Some(one), Some(other)) =
        (unsafe { (borrow::<TokenKeyObject>(one), borrow::<TokenKeyObject>(other)) })
    else {
        return 0;
    };
    guard(Some(&one.provider.core), "token_keymgmt_match", 0, || {
        Ok(one.matches(other, selection & OSSL_KEYMGMT_SELECT_KEYPAIR != 0).into())
    })
}

/// Takes in a public half, whatever is selected: OpenSSL 3.0.2 selects everything, and gives what there is.
unsafe extern "C" fn import(key: *mut c_void, _selection: c_int, params: *const Param) -> c_int {
    // SAFETY: as for `get_params`.
    let (Some(key), given) = (unsafe { (borrow::<TokenKeyObject>(key), Given::new(params)) }) else {
        return 0;
    };
    guard(Some(&key.provider.core), "token_keymgmt_import", 0, || {
        let public = match key.kind() {
            ClassicalType::Rsa => {
                let (modulus, exponent) =
                    (given.natural(OSSL_PKEY_PARAM_RSA_N)?, given.natural(OSSL_PKEY_PARAM_RSA_E)?);
                modulus.zip(exponent).map(|(modulus, exponent)| PublicKey::Rsa { modulus, exponent })
            }
            ClassicalType::Ec => {
                let curve = given.text(OSSL_PKEY_PARAM_GROUP_NAME)?.and_then(curve_by_name);
                let point = given.octets(OSSL_PKEY_PARAM_PUB_KEY)?;
                curve.zip(point).map(|(curve, point)| PublicKey::Ec { curve, point: point.to_vec() })
            }
        };
        let public = public.ok_or_else(|| {
            Problem::argument(
                "this is no public key of a type that keys in tokens have (RSA; EC on P-256 or P-384), so none of them can be its",
            )
        })?;
        key.import(public).map(|()| 1)
    })
}

unsafe extern "C" fn exchanged_params<const KIND: usize>(selection: c_int) -> *const Param {
    static RSA_PARAMS: [Param; 3] = [
        described(OSSL_PKEY_PARAM_RSA_N, OSSL_PARAM_UNSIGNED_INTEGER),
        described(OSSL_PKEY_PARAM_RSA_E, OSSL_PARAM_UNSIGNED_INTEGER),
        end(),
    ];
    static EC_PARAMS: [Param; 3] = [
        described(OSSL_PKEY_PARAM_GROUP_NAME, OSSL_PARAM_UTF8_STRING),
        described(OSSL_PKEY_PARAM_PUB_KEY, OSSL_PARAM_OCTET_STRING),
        end(),
    ];
    if selection & (OSSL_KEYMGMT_SELECT_KEYPAIR | OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS) == 0 {
        std::ptr::null()
    } else if KIND == RSA {
        RSA_PARAMS.as_ptr()
    } else {
        EC_PARAMS.as_ptr()
    }
}

unsafe extern "C" fn export(
    key: *mut c_void,
    selection: c_int,
    callback: Option<Callback>,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: what `new` and its like lent.
    let Some(key) = (unsafe { borrow::<TokenKeyObject>(key) }) else { return 0 };
    guard(Some(&key.provider.core), "token_keymgmt_export", 0, || {
        if selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY != 0 && key.token().is_some() {
            return Ok(0);
        }
        let callback = callback.ok_or_else(|| null("callback"))?;
        let public = key.public().ok_or_else(|| empty("a key was to be exported"))?;
        let with_public = selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY != 0;
        let (mut modulus_native, mut exponent_native) = (Vec::new(), Vec::new());
        let mut params = Built::<3>::new();
        match public {
            PublicKey::Rsa { modulus, exponent } if with_public => {
                modulus_native = native_natural(modulus, modulus.len());
                exponent_native = native_natural(exponent, exponent.len());
                params = params
                    .natural(OSSL_PKEY_PARAM_RSA_N, &modulus_native)
                    .natural(OSSL_PKEY_PARAM_RSA_E, &exponent_native);
            }
            PublicKey::Ec { curve, point } => {
                params = params.text(OSSL_PKEY_PARAM_GROUP_NAME, group_name(*curve));
                if with_public {
                    params = params.octets(OSSL_PKEY_PARAM_PUB_KEY, point);
                }
            }
            _ => {}
        }
        // SAFETY: libcrypto's callback and its argument belong together.
        let answer = unsafe { params.call(callback, argument) };
        drop((modulus_native, exponent_native));
        Ok(answer)
    })
}

unsafe extern "C" fn duplicate(key: *const c_void, selection: c_int) -> *mut c_void {
    // SAFETY: what `new` and its like lent.
    let Some(key) = (unsafe { borrow::<TokenKeyObject>(key) }) else { return null_mut() };
    guard(Some(&key.provider.core), "token_keymgmt_dup", null_mut(), || {
        Ok(lend(key.duplicate(selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY != 0)?))
    })
}

fn empty(what: &str) -> Problem {
    Problem::new(Reason::MissingKey, format!("{what}, and this key object is empty"))
}
