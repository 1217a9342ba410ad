//! Key management (`provider-keymgmt(7)`): one set of functions for every row of the table.

use super::abi::*;
use super::guard::{guard, null};
use super::params::{Asked, Built, Given, described, end};
use super::{algorithm_at, borrow, borrow_mut, lend, reclaim, share_provider};
use crate::key::{Generation, Key, Parts};
use crate::problem::Problem;
use qtls_crypto::{KeyAlgorithm, MlKem};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use zeroize::Zeroizing;

/// Each algorithm's dispatch table; the tables differ in the two functions that are not given a key.
pub(super) static TABLES: [[Dispatch; 21]; KeyAlgorithm::COUNT] = each_algorithm!(table);

const fn table<const ALGORITHM: usize>() -> [Dispatch; 21] {
    [
        dispatch!(OSSL_FUNC_KEYMGMT_NEW, new::<ALGORITHM> as fn(*mut c_void) -> *mut c_void),
        dispatch!(OSSL_FUNC_KEYMGMT_FREE, free as fn(*mut c_void)),
        dispatch!(
            OSSL_FUNC_KEYMGMT_GEN_INIT,
            generation_new::<ALGORITHM> as fn(*mut c_void, c_int, *const Param) -> *mut c_void
        ),
        dispatch!(
            OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS,
            generation_set_params as fn(*mut c_void, *const Param) -> c_int
        ),
        dispatch!(
            OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS,
            generation_settable_params as fn(*mut c_void, *mut c_void) -> *const Param
        ),
        dispatch!(
            OSSL_FUNC_KEYMGMT_GEN,
            generation_run as fn(*mut c_void, Option<Callback>, *mut c_void) -> *mut c_void
        ),
        dispatch!(OSSL_FUNC_KEYMGMT_GEN_CLEANUP, generation_free as fn(*mut c_void)),
        dispatch!(OSSL_FUNC_KEYMGMT_LOAD, load as fn(*const c_void, usize) -> *mut c_void),
        dispatch!(OSSL_FUNC_KEYMGMT_GET_PARAMS, get_params as fn(*mut c_void, *mut Param) -> c_int),
        dispatch!(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, gettable_params as fn(*mut c_void) -> *const Param),
        dispatch!(OSSL_FUNC_KEYMGMT_SET_PARAMS, set_params as fn(*mut c_void, *const Param) -> c_int),
        dispatch!(OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, settable_params as fn(*mut c_void) -> *const Param),
        dispatch!(OSSL_FUNC_KEYMGMT_HAS, has as fn(*const c_void, c_int) -> c_int),
        dispatch!(OSSL_FUNC_KEYMGMT_VALIDATE, validate as fn(*const c_void, c_int, c_int) -> c_int),
        dispatch!(OSSL_FUNC_KEYMGMT_MATCH, matches as fn(*const c_void, *const c_void, c_int) -> c_int),
        dispatch!(OSSL_FUNC_KEYMGMT_IMPORT, import as fn(*mut c_void, c_int, *const Param) -> c_int),
        dispatch!(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, exchanged_params as fn(c_int) -> *const Param),
        dispatch!(
            OSSL_FUNC_KEYMGMT_EXPORT,
            export as fn(*mut c_void, c_int, Option<Callback>, *mut c_void) -> c_int
        ),
        dispatch!(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, exchanged_params as fn(c_int) -> *const Param),
        dispatch!(OSSL_FUNC_KEYMGMT_DUP, duplicate as fn(*const c_void, c_int) -> *mut c_void),
        Dispatch::END,
    ]
}

unsafe extern "C" fn new<const ALGORITHM: usize>(context: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx`.
    let Some(provider) = (unsafe { share_provider(context) }) else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "keymgmt_new", null_mut(), || {
        Ok(lend(Key::empty(provider, algorithm_at::<ALGORITHM>())?))
    })
}

unsafe extern "C" fn free(key: *mut c_void) {
    // SAFETY: libcrypto frees what `new`, `generation_run` or `duplicate` lent, once.
    unsafe { reclaim::<Key>("keymgmt_free", key) }
}

unsafe extern "C" fn generation_new<const ALGORITHM: usize>(
    context: *mut c_void,
    selection: c_int,
    params: *const Param,
) -> *mut c_void {
    // SAFETY: libcrypto's promise on `provctx`.
    let Some(provider) = (unsafe { share_provider(context) }) else { return null_mut() };
    let core = provider.clone();
    guard(Some(&core.core), "keymgmt_gen_init", null_mut(), || {
        let key_pair = selection & OSSL_KEYMGMT_SELECT_KEYPAIR != 0;
        let algorithm = algorithm_at::<ALGORITHM>();
        let mut generation = Generation { provider, algorithm, key_pair, seed: None };
        // SAFETY: libcrypto's promise on arrays of parameters.
        set_generation_params(&mut generation, unsafe { Given::new(params) })?;
        Ok(lend(generation))
    })
}

unsafe extern "C" fn generation_set_params(generation: *mut c_void, params: *const Param) -> c_int {
    // SAFETY: what `generation_new` lent; one thread uses it at a time (`EVP_PKEY_CTX` is not shared).
    let Some(generation) = (unsafe { borrow_mut::<Generation>(generation) }) else { return 0 };
    let provider = generation.provider.clone();
    guard(Some(&provider.core), "keymgmt_gen_set_params", 0, || {
        // SAFETY: libcrypto's promise on arrays of parameters.
        set_generation_params(generation, unsafe { Given::new(params) })?;
        Ok(1)
    })
}

fn set_generation_params(generation: &mut Generation, params: Given<'_>) -> Result<(), Problem> {
    // libssl sets the group's internal name, which OpenSSL's own hybrids leave empty.
    if let Some(name) = params.text(OSSL_PKEY_PARAM_GROUP_NAME)?.filter(|name| !name.is_empty())
        && KeyAlgorithm::by_name(name) != Some(generation.algorithm)
    {
        return Err(Problem::argument(format!(
            "{}: the group name '{name}' was asked for, but this key type has only its own",
            generation.algorithm.name()
        )));
    }
    if let Some(seed) = params.octets(OSSL_PKEY_PARAM_ML_KEM_SEED)? {
        generation.seed = Some(Zeroizing::new(seed.to_vec()));
    }
    Ok(())
}

unsafe extern "C" fn generation_settable_params(
    _generation: *mut c_void,
    _context: *mut c_void,
) -> *const Param {
    static PARAMS: [Param; 4] = [
        described(OSSL_PKEY_PARAM_GROUP_NAME, OSSL_PARAM_UTF8_STRING),
        described(OSSL_PKEY_PARAM_ML_KEM_SEED, OSSL_PARAM_OCTET_STRING),
        described(OSSL_PKEY_PARAM_PROPERTIES, OSSL_PARAM_UTF8_STRING),
        end(),
    ];
    PARAMS.as_ptr()
}

unsafe extern "C" fn generation_run(
    generation: *mut c_void,
    _progress: Option<Callback>,
    _argument: *mut c_void,
) -> *mut c_void {
    // SAFETY: what `generation_new` lent.
    let Some(generation) = (unsafe { borrow::<Generation>(generation) }) else { return null_mut() };
    guard(Some(&generation.provider.core), "keymgmt_gen", null_mut(), || Ok(lend(generation.run()?)))
}

unsafe extern "C" fn generation_free(generation: *mut c_void) {
    // SAFETY: libcrypto frees what `generation_new` lent, once.
    unsafe { reclaim::<Generation>("keymgmt_gen_cleanup", generation) }
}

unsafe extern "C" fn get_params(key: *mut c_void, params: *mut Param) -> c_int {
    // SAFETY: what `new` and its like lent; libcrypto's promise on arrays of parameters.
    let (Some(key), mut asked) = (unsafe { (borrow::<Key>(key), Asked::new(params)) }) else { return 0 };
    guard(Some(&key.provider.core), "keymgmt_get_params", 0, || {
        if let Some(public) = key.public_bytes() {
            asked.answer_octets(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, public)?;
            asked.answer_octets(OSSL_PKEY_PARAM_PUB_KEY, public)?;
        }
        let algorithm = key.algorithm();
        asked.answer_number(OSSL_PKEY_PARAM_BITS, bits(algorithm))?;
        asked.answer_number(OSSL_PKEY_PARAM_SECURITY_BITS, algorithm.security_bits())?;
        asked.answer_number(OSSL_PKEY_PARAM_SECURITY_CATEGORY, algorithm.security_category().into())?;
        match algorithm {
            KeyAlgorithm::Kem(row) => {
                asked.answer_number(OSSL_PKEY_PARAM_MAX_SIZE, row.ciphertext_bytes() as u32)?;
            }
            KeyAlgorithm::Signature(row) => {
                asked.answer_number(OSSL_PKEY_PARAM_MAX_SIZE, row.max_signature_bytes() as u32)?;
                // Else `openssl req` and its like would sign with SHA-256, which these keys refuse.
                asked.answer_text(OSSL_PKEY_PARAM_MANDATORY_DIGEST, "")?;
            }
        }
        if let Some(seed) = key.seed() {
            asked.answer_octets(OSSL_PKEY_PARAM_ML_KEM_SEED, seed)?;
        }
        if asked.asks(OSSL_PKEY_PARAM_PRIV_KEY)
            && let Some(private) = key.private_bytes()?
        {
            asked.answer_octets(OSSL_PKEY_PARAM_PRIV_KEY, &private)?;
        }
        Ok(1)
    })
}

/// The size that OpenSSL 3.5's own implementation states: ML-KEM's parameter set, also inside a hybrid, or the bits of the
/// public key.
fn bits(algorithm: KeyAlgorithm) -> u32 {
    match algorithm {
        KeyAlgorithm::Kem(row) => match row.ml_kem {
            MlKem::MlKem512 => 512,
            MlKem::MlKem768 => 768,
            _ => 1024,
        },
        KeyAlgorithm::Signature(row) => 8 * row.public_key_bytes() as u32,
    }
}

unsafe extern "C" fn gettable_params(_context: *mut c_void) -> *const Param {
    static PARAMS: [Param; 10] = [
        described(OSSL_PKEY_PARAM_MANDATORY_DIGEST, OSSL_PARAM_UTF8_STRING),
        described(OSSL_PKEY_PARAM_BITS, OSSL_PARAM_INTEGER),
        described(OSSL_PKEY_PARAM_SECURITY_BITS, OSSL_PARAM_INTEGER),
        described(OSSL_PKEY_PARAM_SECURITY_CATEGORY, OSSL_PARAM_INTEGER),
        described(OSSL_PKEY_PARAM_MAX_SIZE, OSSL_PARAM_INTEGER),
        described(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, OSSL_PARAM_OCTET_STRING),
        described(OSSL_PKEY_PARAM_PUB_KEY, OSSL_PARAM_OCTET_STRING),
        described(OSSL_PKEY_PARAM_PRIV_KEY, OSSL_PARAM_OCTET_STRING),
        described(OSSL_PKEY_PARAM_ML_KEM_SEED, OSSL_PARAM_OCTET_STRING),
        end(),
    ];
    PARAMS.as_ptr()
}

unsafe extern "C" fn set_params(key: *mut c_void, params: *const Param) -> c_int {
    // SAFETY: as for `get_params`.
    let (Some(key), given) = (unsafe { (borrow::<Key>(key), Given::new(params)) }) else { return 0 };
    guard(Some(&key.provider.core), "keymgmt_set_params", 0, || {
        // This is where a peer's share comes in: whatever is wrong with it is found here, so that libssl answers
        // `illegal_parameter`.
        if let public @ Some(_) = given.octets(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY)? {
            key.import(&Parts { public, ..Parts::default() })?;
        }
        Ok(1)
    })
}

unsafe extern "C" fn settable_params(_context: *mut c_void) -> *const Param {
    static PARAMS: [Param; 2] =
        [described(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, OSSL_PARAM_OCTET_STRING), end()];
    PARAMS.as_ptr()
}

unsafe extern "C" fn has(key: *const c_void, selection: c_int) -> c_int {
    // SAFETY: what `new` and its like lent.
    let Some(key) = (unsafe { borrow::<Key>(key) }) else { return 0 };
    guard(Some(&key.provider.core), "keymgmt_has", 0, || Ok(has_selected(key, selection).into()))
}

fn has_selected(key: &Key, selection: c_int) -> bool {
    (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY == 0 || key.has_public())
        && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY == 0 || key.has_private())
}

unsafe extern "C" fn validate(key: *const c_void, selection: c_int, _thoroughness: c_int) -> c_int {
    // SAFETY: what `new` and its like lent.
    let Some(key) = (unsafe { borrow::<Key>(key) }) else { return 0 };
    guard(Some(&key.provider.core), "keymgmt_validate", 0, || {
        // Keys are checked when they are made; what is left is whether the halves belong together.
        if selection & OSSL_KEYMGMT_SELECT_KEYPAIR == OSSL_KEYMGMT_SELECT_KEYPAIR {
            key.check_pair()?;
        }
        Ok(has_selected(key, selection).into())
    })
}

unsafe extern "C" fn matches(one: *const c_void, other: *const c_void, selection: c_int) -> c_int {
    // SAFETY: what `new` and its like lent.
    let (Some(one), Some(other)) = (unsafe { (borrow::<Key>(one), borrow::<Key>(other)) }) else { return 0 };
    guard(Some(&one.provider.core), "keymgmt_match", 0, || {
        Ok(one.matches(other, selection & OSSL_KEYMGMT_SELECT_KEYPAIR != 0).into())
    })
}

unsafe extern "C" fn import(key: *mut c_void, selection: c_int, params: *const Param) -> c_int {
    // SAFETY: as for `get_params`.
    let (Some(key), given) = (unsafe { (borrow::<Key>(key), Given::new(params)) }) else { return 0 };
    guard(Some(&key.provider.core), "keymgmt_import", 0, || {
        let private = selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY != 0;
        key.import(&Parts {
            public: given.octets(OSSL_PKEY_PARAM_PUB_KEY)?,
            private: if private { given.octets(OSSL_PKEY_PARAM_PRIV_KEY)? } else { None },
            seed: if private { given.octets(OSSL_PKEY_PARAM_ML_KEM_SEED)? } else { None },
        })?;
        Ok(1)
    })
}

unsafe extern "C" fn exchanged_params(selection: c_int) -> *const Param {
    static PARAMS: [Param; 4] = [
        described(OSSL_PKEY_PARAM_PUB_KEY, OSSL_PARAM_OCTET_STRING),
        described(OSSL_PKEY_PARAM_PRIV_KEY, OSSL_PARAM_OCTET_STRING),
        described(OSSL_PKEY_PARAM_ML_KEM_SEED, OSSL_PARAM_OCTET_STRING),
        end(),
    ];
    if selection & OSSL_KEYMGMT_SELECT_KEYPAIR == 0 { std::ptr::null() } else { PARAMS.as_ptr() }
}

unsafe extern "C" fn export(
    key: *mut c_void,
    selection: c_int,
    callback: Option<Callback>,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: what `new` and its like lent.
    let Some(key) = (unsafe { borrow::<Key>(key) }) else { return 0 };
    guard(Some(&key.provider.core), "keymgmt_export", 0, || {
        let callback = callback.ok_or_else(|| null("callback"))?;
        let public = key
            .public_bytes()
            .filter(|_| selection & OSSL_KEYMGMT_SELECT_KEYPAIR != 0)
            .ok_or_else(|| null("key to export"))?;
        let with_private = selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY != 0;
        if with_private && key.token().is_some() {
            // Without an error: libcrypto tries another provider's signature with an exported key before ours.
            return Ok(0);
        }
        let private = if with_private { key.private_bytes()? } else { None };
        let mut params = Built::<4>::new();
        if selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY != 0 {
            params = params.octets(OSSL_PKEY_PARAM_PUB_KEY, public);
        }
        if let Some(private) = &private {
            params = params.octets(OSSL_PKEY_PARAM_PRIV_KEY, private);
        }
        if let Some(seed) = key.seed().filter(|_| with_private) {
            params = params.octets(OSSL_PKEY_PARAM_ML_KEM_SEED, seed);
        }
        // SAFETY: libcrypto's callback and its argument belong together.
        Ok(unsafe { params.call(callback, argument) })
    })
}

/// Takes over the key that a decoder of ours made: the reference is the place of a pointer to it.
unsafe extern "C" fn load(reference: *const c_void, size: usize) -> *mut c_void {
    guard(None, "keymgmt_load", null_mut(), || {
        // SAFETY: libcrypto hands a decoder's reference to the key management of the same provider.
        unsafe { super::take_reference(reference, size) }
    })
}

unsafe extern "C" fn duplicate(key: *const c_void, selection: c_int) -> *mut c_void {
    // SAFETY: what `new` and its like lent.
    let Some(key) = (unsafe { borrow::<Key>(key) }) else { return null_mut() };
    guard(Some(&key.provider.core), "keymgmt_dup", null_mut(), || {
        Ok(lend(key.duplicate(selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY != 0)?))
    })
}
