//! What must hold at every entry point: a panic becomes an error, a null pointer is refused.

#[path = "../../tests/common/openssl.rs"]
mod openssl;

use super::abi::{self, *};
use super::guard::injection::PANIC_AT;
use super::{
    OSSL_provider_init, decoder, encoder, entry, kem, keymgmt, signature, store, token_cipher, token_decoder,
    token_encoder, token_keymgmt, token_signature,
};
use openssl::{Context, Errors, File, Init, KEY_PAIR, Key, Operation, PUBLIC, Provider};
use std::collections::BTreeSet;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::{null, null_mut};

/// A context with the provider of this very program in it.
fn with_provider() -> Context {
    with_provider_named(&["qtls"])
}

fn with_provider_named(names: &[&str]) -> Context {
    // The first load adds to libcrypto's table of objects, which OpenSSL 3.0 reads without a lock.
    static FIRST: std::sync::Once = std::sync::Once::new();
    FIRST.call_once(|| drop(with_these(&["qtls"]).load("qtls").unwrap().self_test()));
    with_these(names)
}

fn with_these(names: &[&str]) -> Context {
    let context = Context::new();
    // SAFETY: the same function, its pointers named otherwise.
    unsafe {
        let init = std::mem::transmute::<*const (), Init>(OSSL_provider_init as *const ());
        for name in names {
            context.add_builtin(name, init).unwrap();
        }
    }
    context
}

/// What an entry point is tried on: everything is made before the panic is armed.
struct Scene<'a> {
    context: &'a Context,
    provider: Provider<'a>,
    key: Key<'a>,
    share: Vec<u8>,
    ciphertext: Vec<u8>,
    signing_key: Key<'a>,
    signature: Vec<u8>,
    file: Vec<u8>,
}

impl<'a> Scene<'a> {
    fn new(context: &'a Context) -> Self {
        let provider = context.load("qtls").unwrap();
        let key = context.generate(ALGORITHM).unwrap();
        let (share, (ciphertext, _)) = (key.encoded().unwrap(), key.encapsulate().unwrap());
        let signing_key = context.generate(SIGNING).unwrap();
        let signature = signing_key.sign(MESSAGE).unwrap();
        let file = signing_key.encode(File::private(c"DER")).unwrap();
        Self { context, provider, key, share, ciphertext, signing_key, signature, file }
    }

    fn ready(&self, init: impl FnOnce(&Operation<'a>) -> Result<(), Errors>) -> Operation<'a> {
        let operation = self.key.operation().unwrap();
        init(&operation).unwrap();
        operation
    }

    fn keygen(&self) -> Operation<'a> {
        let operation = self.context.keys_of(ALGORITHM, "").unwrap();
        operation.keygen_init().unwrap();
        operation
    }
}

const ALGORITHM: &str = "X25519MLKEM768";
const SIGNING: &str = "ML-DSA-44";
const MESSAGE: &[u8] = b"message";

/// Where a panic shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// In the answer and in the error queue.
    AsFailure,
    /// In the queue alone: another provider, or another encoder or decoder, does what was asked for.
    InQueue,
    /// In the log alone: the function has no answer, and the queue belongs to whatever is being cleaned up after.
    InLog,
}

/// Calls the function with this number in a table.
macro_rules! call {
    ($table:expr, $number:expr, fn($($argument:ty: $value:expr),*) -> $result:ty) => {{
        let line = $table.iter().find(|line| line.function_id == $number).expect(stringify!($number));
        // SAFETY: the type is the one that belongs to the number (core_dispatch.h); null pointers are among what is tried.
        unsafe {
            let function = std::mem::transmute::<Function, unsafe extern "C" fn($($argument),*) -> $result>(
                line.function.expect(stringify!($number)),
            );
            function($($value),*)
        }
    }};
}

/// Arms the panic for what follows in this thread, and makes sure that it happened.
fn armed<T>(entry: &'static str, call: impl FnOnce() -> T) -> T {
    PANIC_AT.set(Some(entry));
    let answer = call();
    assert_eq!(PANIC_AT.take(), None, "{entry} was not called");
    answer
}

/// What an entry point of tokens did, called by itself: libcrypto calls them for keys in tokens, and there is none here.
fn answered(failed: bool) -> Result<(), Errors> {
    if failed { Err(Errors::take()) } else { Ok(()) }
}

/// An empty RSA key of a token's.
fn token_key(scene: &Scene<'_>) -> Pointer {
    call!(
        token_keymgmt::TABLES[0],
        OSSL_FUNC_KEYMGMT_NEW,
        fn(Pointer: scene.provider.inner_context()) -> Pointer
    )
}

fn free_token_key(key: Pointer) {
    call!(token_keymgmt::TABLES[0], OSSL_FUNC_KEYMGMT_FREE, fn(Pointer: key) -> ());
}

/// Makes an object of a table whose functions to make and to free have these numbers, hands it over, and frees it.
macro_rules! with_object {
    ($scene:expr, $table:expr, $new:expr, $free:expr, |$object:ident| $body:expr) => {{
        let $object = call!($table, $new, fn(Pointer: $scene.provider.inner_context()) -> Pointer);
        assert!(!$object.is_null(), "{}", Errors::take());
        let answer = $body;
        call!($table, $free, fn(Pointer: $object) -> ());
        answer
    }};
}

/// An operation of a token's signatures.
macro_rules! with_token_signature {
    ($scene:expr, |$operation:ident| $body:expr) => {{
        let $operation = call!(
            token_signature::TABLE,
            OSSL_FUNC_SIGNATURE_NEWCTX,
            fn(Pointer: $scene.provider.inner_context(), *const c_char: null()) -> Pointer
        );
        let answer = $body;
        call!(token_signature::TABLE, OSSL_FUNC_SIGNATURE_FREECTX, fn(Pointer: $operation) -> ());
        answer
    }};
}

/// An open store.
macro_rules! with_store {
    ($scene:expr, |$store:ident| $body:expr) => {{
        let $store = call!(
            store::TABLE,
            OSSL_FUNC_STORE_OPEN,
            fn(Pointer: $scene.provider.inner_context(), *const c_char: c"pkcs11:object=key".as_ptr()) -> Pointer
        );
        assert!(!$store.is_null(), "{}", Errors::take());
        let answer = $body;
        call!(store::TABLE, OSSL_FUNC_STORE_CLOSE, fn(Pointer: $store) -> c_int);
        answer
    }};
}

type Pointer = *mut c_void;
type Provoke = fn(&'static str, Scene<'_>) -> Result<(), Errors>;

/// Every entry point that is called between the first and the last, and what makes libcrypto call it.
const ENTRIES: &[(&str, Shows, Provoke)] = &[
    ("provider_get_params", Shows::AsFailure, |at, scene| {
        armed(at, || scene.provider.integer(c"status").map(drop))
    }),
    ("provider_query_operation", Shows::AsFailure, |at, scene| {
        // libcrypto asks once for each operation; this provider was not asked yet.
        let fresh = with_provider();
        fresh.activate("qtls").unwrap();
        drop(scene);
        armed(at, || fresh.generate(ALGORITHM).map(drop))
    }),
    ("provider_get_capabilities", Shows::AsFailure, |at, scene| {
        armed(at, || scene.provider.capabilities("TLS-GROUP", true).map(drop))
    }),
    ("provider_self_test", Shows::AsFailure, |at, scene| armed(at, || scene.provider.self_test())),
    ("provider_appeared", Shows::InQueue, |at, scene| armed(at, || scene.context.activate("default"))),
    ("provider_vanishes", Shows::InQueue, |at, scene| {
        let neighbour = scene.context.load("default").unwrap();
        armed(at, || neighbour.unload())
    }),
    ("default_properties_changed", Shows::InQueue, |at, scene| {
        armed(at, || scene.context.set_default_properties("?provider=qtls"))
    }),
    ("keymgmt_new", Shows::AsFailure, |at, scene| {
        let parts = [openssl::Param::Octets(c"pub", &scene.share)];
        armed(at, || scene.context.import(ALGORITHM, PUBLIC, &parts).map(drop))
    }),
    ("keymgmt_free", Shows::InLog, |at, scene| {
        armed(at, || drop(scene.key));
        Ok(())
    }),
    ("keymgmt_gen_init", Shows::AsFailure, |at, scene| {
        armed(at, || scene.context.generate(ALGORITHM).map(drop))
    }),
    ("keymgmt_gen_set_params", Shows::AsFailure, |at, scene| {
        let operation = scene.keygen();
        armed(at, || operation.set(&[openssl::Param::Text(c"group", c"")]))
    }),
    ("keymgmt_gen", Shows::AsFailure, |at, scene| {
        let operation = scene.keygen();
        armed(at, || operation.generate().map(drop))
    }),
    ("keymgmt_gen_cleanup", Shows::InLog, |at, scene| {
        let operation = scene.keygen();
        armed(at, || drop(operation));
        Ok(())
    }),
    ("keymgmt_get_params", Shows::AsFailure, |at, scene| {
        armed(at, || scene.key.integer(c"security-category").map(drop))
    }),
    ("keymgmt_set_params", Shows::AsFailure, |at, scene| {
        let peer = scene.context.empty(ALGORITHM).unwrap();
        armed(at, || peer.set_encoded(&scene.share))
    }),
    ("keymgmt_has", Shows::AsFailure, |at, scene| {
        assert!(!scene.key.lacks_parameters());
        if armed(at, || scene.key.lacks_parameters()) { Err(Errors::take()) } else { Ok(()) }
    }),
    ("keymgmt_validate", Shows::AsFailure, |at, scene| armed(at, || scene.key.check())),
    ("keymgmt_match", Shows::AsFailure, |at, scene| {
        let copy = scene.key.duplicate().unwrap();
        if armed(at, || scene.key.equals(&copy)) == 1 { Ok(()) } else { Err(Errors::take()) }
    }),
    ("keymgmt_import", Shows::AsFailure, |at, scene| {
        let parts = [openssl::Param::Octets(c"pub", &scene.share)];
        armed(at, || scene.context.import(ALGORITHM, PUBLIC, &parts).map(drop))
    }),
    ("keymgmt_export", Shows::AsFailure, |at, scene| armed(at, || scene.key.export(KEY_PAIR).map(drop))),
    ("keymgmt_dup", Shows::AsFailure, |at, scene| armed(at, || scene.key.duplicate().map(drop))),
    ("kem_newctx", Shows::AsFailure, |at, scene| armed(at, || scene.key.encapsulate().map(drop))),
    ("kem_freectx", Shows::InLog, |at, scene| {
        let operation = scene.ready(Operation::encapsulate_init);
        armed(at, || drop(operation));
        Ok(())
    }),
    ("kem_dupctx", Shows::AsFailure, |at, scene| {
        let operation = scene.ready(Operation::encapsulate_init);
        armed(at, || operation.duplicate().map(drop))
    }),
    ("kem_encapsulate_init", Shows::AsFailure, |at, scene| {
        let operation = scene.key.operation().unwrap();
        armed(at, || operation.encapsulate_init())
    }),
    ("kem_encapsulate", Shows::AsFailure, |at, scene| {
        let operation = scene.ready(Operation::encapsulate_init);
        armed(at, || operation.encapsulated_sizes().map(drop))
    }),
    ("kem_decapsulate_init", Shows::AsFailure, |at, scene| {
        let operation = scene.key.operation().unwrap();
        armed(at, || operation.decapsulate_init())
    }),
    ("kem_decapsulate", Shows::AsFailure, |at, scene| {
        let operation = scene.ready(Operation::decapsulate_init);
        armed(at, || operation.decapsulated_size(&scene.ciphertext).map(drop))
    }),
    ("keymgmt_load", Shows::InLog, |at, scene| {
        let read = armed(at, || scene.context.decode(&scene.file, None));
        assert!(read.is_err(), "there is no key, but also no queue that the function knows of");
        Ok(())
    }),
    ("signature_newctx", Shows::AsFailure, |at, scene| {
        armed(at, || scene.signing_key.signer(None, &[]).map(drop))
    }),
    ("signature_freectx", Shows::InLog, |at, scene| {
        let signer = scene.signing_key.signer(None, &[]).unwrap();
        armed(at, || drop(signer));
        Ok(())
    }),
    ("signature_dupctx", Shows::AsFailure, |at, scene| {
        let signer = scene.signing_key.signer(None, &[]).unwrap();
        armed(at, || signer.duplicate().map(drop))
    }),
    ("signature_sign_init", Shows::AsFailure, |at, scene| {
        let operation = scene.signing_key.operation().unwrap();
        armed(at, || operation.sign_init())
    }),
    ("signature_verify_init", Shows::AsFailure, |at, scene| {
        let operation = scene.signing_key.operation().unwrap();
        armed(at, || operation.verify_init())
    }),
    ("signature_digest_sign_init", Shows::AsFailure, |at, scene| {
        armed(at, || scene.signing_key.signer(None, &[]).map(drop))
    }),
    ("signature_digest_verify_init", Shows::AsFailure, |at, scene| {
        armed(at, || scene.signing_key.verifier(None, &[]).map(drop))
    }),
    ("signature_update", Shows::AsFailure, |at, scene| {
        let signer = scene.signing_key.signer(None, &[]).unwrap();
        armed(at, || signer.update(MESSAGE))
    }),
    ("signature_sign", Shows::AsFailure, |at, scene| {
        let signer = scene.signing_key.signer(None, &[]).unwrap();
        armed(at, || signer.sign(MESSAGE).map(drop))
    }),
    ("signature_sign_final", Shows::AsFailure, |at, scene| {
        let signer = scene.signing_key.signer(None, &[]).unwrap();
        armed(at, || signer.finish().map(drop))
    }),
    ("signature_verify", Shows::AsFailure, |at, scene| {
        let verifier = scene.signing_key.verifier(None, &[]).unwrap();
        armed(at, || verifier.verify(MESSAGE, &scene.signature))
    }),
    ("signature_verify_final", Shows::AsFailure, |at, scene| {
        let verifier = scene.signing_key.verifier(None, &[]).unwrap();
        verifier.update(MESSAGE).unwrap();
        armed(at, || verifier.finish_verifying(&scene.signature))
    }),
    ("signature_verify_message_final", Shows::AsFailure, |at, scene| {
        // This host's libcrypto, 3.0, has no call that leads here.
        let operation = call!(
            signature::TABLE,
            OSSL_FUNC_SIGNATURE_NEWCTX,
            fn(Pointer: scene.provider.inner_context(), *const c_char: null()) -> Pointer
        );
        let answer = armed(at, || {
            call!(signature::TABLE, OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_FINAL, fn(Pointer: operation) -> c_int)
        });
        call!(signature::TABLE, OSSL_FUNC_SIGNATURE_FREECTX, fn(Pointer: operation) -> ());
        if answer == 1 { Ok(()) } else { Err(Errors::take()) }
    }),
    ("signature_get_ctx_params", Shows::AsFailure, |at, scene| {
        let signer = scene.signing_key.signer(None, &[]).unwrap();
        armed(at, || signer.octets(c"algorithm-id").map(drop))
    }),
    ("signature_set_ctx_params", Shows::AsFailure, |at, scene| {
        let signer = scene.signing_key.signer(None, &[]).unwrap();
        armed(at, || signer.set(&[openssl::Param::Integer(c"deterministic", &1)]))
    }),
    ("encoder_newctx", Shows::InQueue, |at, scene| {
        armed(at, || scene.signing_key.encode(File::public(c"DER")).map(drop))
    }),
    ("encoder_freectx", Shows::InLog, |at, scene| {
        armed(at, || scene.signing_key.encode(File::public(c"DER")).map(drop))
    }),
    ("encoder_set_ctx_params", Shows::AsFailure, |at, scene| {
        let file = File { cipher: Some(c"AES-128-CBC"), ..File::private(c"DER") };
        armed(at, || scene.signing_key.encode(file).map(drop))
    }),
    ("encoder_encode", Shows::AsFailure, |at, scene| {
        armed(at, || scene.signing_key.encode(File::public(c"DER")).map(drop))
    }),
    ("decoder_newctx", Shows::AsFailure, |at, scene| {
        armed(at, || scene.context.decode(&scene.file, None).map(drop))
    }),
    ("decoder_freectx", Shows::InLog, |at, scene| {
        armed(at, || scene.context.decode(&scene.file, None).map(drop))
    }),
    ("decoder_decode", Shows::AsFailure, |at, scene| {
        armed(at, || scene.context.decode(&scene.file, None).map(drop))
    }),
    ("token_keymgmt_new", Shows::AsFailure, |at, scene| answered(armed(at, || token_key(&scene)).is_null())),
    ("token_keymgmt_free", Shows::InLog, |at, scene| {
        let key = token_key(&scene);
        armed(at, || free_token_key(key));
        Ok(())
    }),
    ("token_keymgmt_load", Shows::InLog, |at, scene| {
        drop(scene);
        let loaded = armed(at, || {
            call!(
                token_keymgmt::TABLES[0],
                OSSL_FUNC_KEYMGMT_LOAD,
                fn(*const c_void: null(), usize: 0) -> Pointer
            )
        });
        assert!(loaded.is_null());
        Ok(())
    }),
    ("token_keymgmt_get_params", Shows::AsFailure, |at, scene| {
        let key = token_key(&scene);
        let answer = armed(
            at,
            || call!(token_keymgmt::TABLES[0], OSSL_FUNC_KEYMGMT_GET_PARAMS, fn(Pointer: key, *mut abi::Param: null_mut()) -> c_int),
        );
        free_token_key(key);
        answered(answer == 0)
    }),
    ("token_keymgmt_has", Shows::AsFailure, |at, scene| {
        let key = token_key(&scene);
        let answer = armed(
            at,
            || call!(token_keymgmt::TABLES[0], OSSL_FUNC_KEYMGMT_HAS, fn(Pointer: key, c_int: 0) -> c_int),
        );
        free_token_key(key);
        answered(answer == 0)
    }),
    ("token_keymgmt_validate", Shows::AsFailure, |at, scene| {
        let key = token_key(&scene);
        let answer = armed(
            at,
            || call!(token_keymgmt::TABLES[0], OSSL_FUNC_KEYMGMT_VALIDATE, fn(Pointer: key, c_int: 0, c_int: 0) -> c_int),
        );
        free_token_key(key);
        answered(answer == 0)
    }),
    ("token_keymgmt_match", Shows::AsFailure, |at, scene| {
        let key = token_key(&scene);
        let answer = armed(
            at,
            || call!(token_keymgmt::TABLES[0], OSSL_FUNC_KEYMGMT_MATCH, fn(Pointer: key, Pointer: key, c_int: 0) -> c_int),
        );
        free_token_key(key);
        answered(answer == 0)
    }),
    ("token_keymgmt_import", Shows::AsFailure, |at, scene| {
        let key = token_key(&scene);
        let answer = armed(
            at,
            || call!(token_keymgmt::TABLES[0], OSSL_FUNC_KEYMGMT_IMPORT, fn(Pointer: key, c_int: 0, *const abi::Param: null()) -> c_int),
        );
        free_token_key(key);
        answered(answer == 0)
    }),
    ("token_keymgmt_export", Shows::AsFailure, |at, scene| {
        let key = token_key(&scene);
        let answer = armed(
            at,
            || call!(token_keymgmt::TABLES[0], OSSL_FUNC_KEYMGMT_EXPORT, fn(Pointer: key, c_int: 0, Option<Callback>: None, Pointer: null_mut()) -> c_int),
        );
        free_token_key(key);
        answered(answer == 0)
    }),
    ("token_keymgmt_dup", Shows::AsFailure, |at, scene| {
        let key = token_key(&scene);
        let answer = armed(
            at,
            || call!(token_keymgmt::TABLES[0], OSSL_FUNC_KEYMGMT_DUP, fn(Pointer: key, c_int: 0) -> Pointer),
        );
        free_token_key(key);
        answered(answer.is_null())
    }),
    ("token_signature_newctx", Shows::AsFailure, |at, scene| {
        answered(
            armed(at, || {
                call!(
                    token_signature::TABLE,
                    OSSL_FUNC_SIGNATURE_NEWCTX,
                    fn(Pointer: scene.provider.inner_context(), *const c_char: null()) -> Pointer
                )
            })
            .is_null(),
        )
    }),
    ("token_signature_freectx", Shows::InLog, |at, scene| {
        armed(at, || with_token_signature!(scene, |_operation| Ok(())))
    }),
    ("token_signature_dupctx", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_DUPCTX,
                fn(Pointer: operation) -> Pointer
            ))
            .is_null()
        ))
    }),
    ("token_signature_sign_init", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_SIGN_INIT,
                fn(Pointer: operation, Pointer: null_mut(), *const abi::Param: null()) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_verify_init", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_VERIFY_INIT,
                fn(Pointer: operation, Pointer: null_mut(), *const abi::Param: null()) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_digest_sign_init", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT,
                fn(Pointer: operation, *const c_char: null(), Pointer: null_mut(), *const abi::Param: null()) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_digest_verify_init", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT,
                fn(Pointer: operation, *const c_char: null(), Pointer: null_mut(), *const abi::Param: null()) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_sign", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_SIGN,
                fn(
                    Pointer: operation,
                    *mut u8: null_mut(),
                    *mut usize: null_mut(),
                    usize: 0,
                    *const u8: null(),
                    usize: 0
                ) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_digest_sign", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_DIGEST_SIGN,
                fn(
                    Pointer: operation,
                    *mut u8: null_mut(),
                    *mut usize: null_mut(),
                    usize: 0,
                    *const u8: null(),
                    usize: 0
                ) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_update", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE,
                fn(Pointer: operation, *const u8: null(), usize: 0) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_digest_verify_final", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL,
                fn(Pointer: operation, *const u8: null(), usize: 0) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_verify", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_VERIFY,
                fn(Pointer: operation, *const u8: null(), usize: 0, *const u8: null(), usize: 0) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_digest_verify", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_DIGEST_VERIFY,
                fn(Pointer: operation, *const u8: null(), usize: 0, *const u8: null(), usize: 0) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_digest_sign_final", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL,
                fn(Pointer: operation, *mut u8: null_mut(), *mut usize: null_mut(), usize: 0) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_get_ctx_params", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS,
                fn(Pointer: operation, *mut abi::Param: null_mut()) -> c_int
            )) == 0
        ))
    }),
    ("token_signature_set_ctx_params", Shows::AsFailure, |at, scene| {
        with_token_signature!(scene, |operation| answered(
            armed(at, || call!(
                token_signature::TABLE,
                OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS,
                fn(Pointer: operation, *mut abi::Param: null_mut()) -> c_int
            )) == 0
        ))
    }),
    ("token_cipher_newctx", Shows::AsFailure, |at, scene| {
        answered(
            armed(at, || {
                call!(
                    token_cipher::TABLE,
                    OSSL_FUNC_ASYM_CIPHER_NEWCTX,
                    fn(Pointer: scene.provider.inner_context()) -> Pointer
                )
            })
            .is_null(),
        )
    }),
    ("token_cipher_freectx", Shows::InLog, |at, scene| {
        armed(at, || {
            with_object!(
                scene,
                token_cipher::TABLE,
                OSSL_FUNC_ASYM_CIPHER_NEWCTX,
                OSSL_FUNC_ASYM_CIPHER_FREECTX,
                |_cipher| Ok(())
            )
        })
    }),
    ("token_cipher_decrypt_init", Shows::AsFailure, |at, scene| {
        with_object!(
            scene,
            token_cipher::TABLE,
            OSSL_FUNC_ASYM_CIPHER_NEWCTX,
            OSSL_FUNC_ASYM_CIPHER_FREECTX,
            |cipher| answered(
                armed(at, || call!(
                    token_cipher::TABLE,
                    OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT,
                    fn(Pointer: cipher, Pointer: null_mut(), *const abi::Param: null()) -> c_int
                )) == 0
            )
        )
    }),
    ("token_cipher_decrypt", Shows::AsFailure, |at, scene| {
        with_object!(
            scene,
            token_cipher::TABLE,
            OSSL_FUNC_ASYM_CIPHER_NEWCTX,
            OSSL_FUNC_ASYM_CIPHER_FREECTX,
            |cipher| answered(
                armed(at, || call!(
                    token_cipher::TABLE,
                    OSSL_FUNC_ASYM_CIPHER_DECRYPT,
                    fn(
                        Pointer: cipher,
                        *mut u8: null_mut(),
                        *mut usize: null_mut(),
                        usize: 0,
                        *const u8: null(),
                        usize: 0
                    ) -> c_int
                )) == 0
            )
        )
    }),
    ("token_encoder_newctx", Shows::AsFailure, |at, scene| {
        answered(
            armed(at, || {
                call!(
                    token_encoder::TABLES[0].1,
                    OSSL_FUNC_ENCODER_NEWCTX,
                    fn(Pointer: scene.provider.inner_context()) -> Pointer
                )
            })
            .is_null(),
        )
    }),
    ("token_encoder_freectx", Shows::InLog, |at, scene| {
        armed(at, || {
            with_object!(
                scene,
                token_encoder::TABLES[0].1,
                OSSL_FUNC_ENCODER_NEWCTX,
                OSSL_FUNC_ENCODER_FREECTX,
                |_encoder| Ok(())
            )
        })
    }),
    ("token_encoder_encode", Shows::AsFailure, |at, scene| {
        with_object!(
            scene,
            token_encoder::TABLES[0].1,
            OSSL_FUNC_ENCODER_NEWCTX,
            OSSL_FUNC_ENCODER_FREECTX,
            |encoder| answered(
                armed(at, || call!(
                    token_encoder::TABLES[0].1,
                    OSSL_FUNC_ENCODER_ENCODE,
                    fn(
                        Pointer: encoder,
                        *mut CoreBio: null_mut(),
                        *const c_void: null(),
                        *const abi::Param: null(),
                        c_int: 0,
                        Option<PassphraseCallback>: None,
                        Pointer: null_mut()
                    ) -> c_int
                )) == 0
            )
        )
    }),
    ("token_decoder_pem_newctx", Shows::AsFailure, |at, scene| {
        answered(
            armed(at, || {
                call!(
                    token_decoder::PEM,
                    OSSL_FUNC_DECODER_NEWCTX,
                    fn(Pointer: scene.provider.inner_context()) -> Pointer
                )
            })
            .is_null(),
        )
    }),
    ("token_decoder_pem_freectx", Shows::InLog, |at, scene| {
        armed(at, || {
            with_object!(
                scene,
                token_decoder::PEM,
                OSSL_FUNC_DECODER_NEWCTX,
                OSSL_FUNC_DECODER_FREECTX,
                |_decoder| Ok(())
            )
        })
    }),
    ("token_decoder_pem_decode", Shows::AsFailure, |at, scene| {
        with_object!(
            scene,
            token_decoder::PEM,
            OSSL_FUNC_DECODER_NEWCTX,
            OSSL_FUNC_DECODER_FREECTX,
            |decoder| answered(
                armed(at, || call!(
                    token_decoder::PEM,
                    OSSL_FUNC_DECODER_DECODE,
                    fn(
                        Pointer: decoder,
                        *mut CoreBio: null_mut(),
                        c_int: 0,
                        Option<Callback>: None,
                        Pointer: null_mut(),
                        Option<PassphraseCallback>: None,
                        Pointer: null_mut()
                    ) -> c_int
                )) == 0
            )
        )
    }),
    ("token_decoder_newctx", Shows::AsFailure, |at, scene| {
        answered(
            armed(at, || {
                call!(
                    token_decoder::CLASSICAL[0],
                    OSSL_FUNC_DECODER_NEWCTX,
                    fn(Pointer: scene.provider.inner_context()) -> Pointer
                )
            })
            .is_null(),
        )
    }),
    ("token_decoder_freectx", Shows::InLog, |at, scene| {
        armed(at, || {
            with_object!(
                scene,
                token_decoder::CLASSICAL[0],
                OSSL_FUNC_DECODER_NEWCTX,
                OSSL_FUNC_DECODER_FREECTX,
                |_decoder| Ok(())
            )
        })
    }),
    ("token_decoder_decode", Shows::AsFailure, |at, scene| {
        with_object!(
            scene,
            token_decoder::CLASSICAL[0],
            OSSL_FUNC_DECODER_NEWCTX,
            OSSL_FUNC_DECODER_FREECTX,
            |decoder| answered(
                armed(at, || call!(
                    token_decoder::CLASSICAL[0],
                    OSSL_FUNC_DECODER_DECODE,
                    fn(
                        Pointer: decoder,
                        *mut CoreBio: null_mut(),
                        c_int: 0,
                        Option<Callback>: None,
                        Pointer: null_mut(),
                        Option<PassphraseCallback>: None,
                        Pointer: null_mut()
                    ) -> c_int
                )) == 0
            )
        )
    }),
    ("store_open", Shows::AsFailure, |at, scene| {
        answered(
            armed(at, || {
                call!(
                    store::TABLE,
                    OSSL_FUNC_STORE_OPEN,
                    fn(Pointer: scene.provider.inner_context(), *const c_char: c"pkcs11:".as_ptr()) -> Pointer
                )
            })
            .is_null(),
        )
    }),
    ("store_set_ctx_params", Shows::AsFailure, |at, scene| {
        with_store!(scene, |opened| answered(
            armed(at, || call!(
                store::TABLE,
                OSSL_FUNC_STORE_SET_CTX_PARAMS,
                fn(Pointer: opened, *const abi::Param: null()) -> c_int
            )) == 0
        ))
    }),
    ("store_load", Shows::AsFailure, |at, scene| {
        with_store!(scene, |opened| answered(
            armed(at, || call!(
                store::TABLE,
                OSSL_FUNC_STORE_LOAD,
                fn(
                    Pointer: opened,
                    Option<Callback>: None,
                    Pointer: null_mut(),
                    Option<PassphraseCallback>: None,
                    Pointer: null_mut()
                ) -> c_int
            )) == 0
        ))
    }),
    // A store that does not know whether it is at its end is: else a program would ask for ever.
    ("store_eof", Shows::AsFailure, |at, scene| {
        with_store!(scene, |opened| answered(
            armed(at, || call!(store::TABLE, OSSL_FUNC_STORE_EOF, fn(Pointer: opened) -> c_int)) == 1
        ))
    }),
    ("store_close", Shows::InLog, |at, scene| armed(at, || with_store!(scene, |_opened| Ok(())))),
];

#[test]
fn a_panic_at_any_entry_point_becomes_an_error_that_names_it_and_the_provider_goes_on() {
    for &(name, shows, provoke) in ENTRIES {
        let context = with_provider();
        let result = provoke(name, Scene::new(&context));
        let errors = match (shows, result) {
            (Shows::AsFailure, Err(errors)) => errors,
            (Shows::InQueue | Shows::InLog, Ok(())) => Errors::take(),
            (Shows::AsFailure, Ok(())) => panic!("{name} panicked and answered as if it had not"),
            (_, Err(errors)) => panic!("{name} panicked and disturbed its caller: {errors}"),
        };
        if shows != Shows::InLog {
            assert!(
                errors.says("internal error, please report it", &[name, "injected"])
                    && errors.0.iter().any(|error| error.function == name),
                "{name}: {errors}"
            );
        }
        let again = context.load("qtls").unwrap_or_else(|errors| panic!("{name}, then loading: {errors}"));
        let key = context.generate(ALGORITHM).unwrap_or_else(|errors| panic!("{name}, then: {errors}"));
        let (ciphertext, secret) = key.encapsulate().unwrap();
        assert_eq!(key.decapsulate(&ciphertext).unwrap(), secret, "{name}");
        let signing_key = context.generate(SIGNING).unwrap();
        let file = signing_key.encode(File::private(c"DER")).unwrap();
        let read = context.decode(&file, None).unwrap_or_else(|errors| panic!("{name}, then: {errors}"));
        read.verify(MESSAGE, &signing_key.sign(MESSAGE).unwrap()).unwrap();
        drop((key, signing_key, read, again));
    }
}

#[test]
fn a_panic_while_the_provider_is_loaded_keeps_it_out_and_the_next_attempt_loads_it() {
    let context = with_provider();
    assert!(armed("OSSL_provider_init", || context.load("qtls").is_err()));
    assert!(!context.is_available("qtls"));
    Scene::new(&context);
}

#[test]
fn a_panic_while_the_provider_ends_does_not_end_the_process() {
    let context = with_provider();
    Scene::new(&context);
    armed("provider_teardown", || drop(context));
}

#[test]
fn two_of_us_in_one_context_both_work() {
    // The second finds the core's list of watchers taken by another, as beside any provider with a library context of its
    // own.
    let context = with_provider_named(&["qtls", "again"]);
    let first = context.load("qtls").unwrap();
    let second = context.load("again").unwrap();
    assert!(context.generate(ALGORITHM).unwrap().check().is_ok());
    first.unload().unwrap();
    assert_eq!(second.integer(c"status").unwrap(), 1);
    assert!(context.generate(ALGORITHM).unwrap().check().is_ok());
}

#[test]
fn the_list_of_entry_points_is_complete() {
    const PREFIXES: [&str; 10] = [
        "OSSL_provider_",
        "provider_",
        "default_properties_",
        "keymgmt_",
        "kem_",
        "signature_",
        "encoder_",
        "decoder_",
        "store_",
        "token_",
    ];
    let first_and_last = ["OSSL_provider_init", "provider_teardown"];
    let listed: BTreeSet<&str> = ENTRIES.iter().map(|&(name, ..)| name).chain(first_and_last).collect();
    assert_eq!(listed.len(), ENTRIES.len() + 2, "an entry point stands there twice");
    let mut guarded = BTreeSet::new();
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    for file in std::fs::read_dir(&sources).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        // An entry point's name is a string literal that is an argument of its own.
        let parts: Vec<_> = source.split('"').collect();
        for pair in parts[1..].chunks(2) {
            if let [literal, after] = pair
                && after.starts_with(',')
                && PREFIXES.iter().any(|prefix| literal.starts_with(prefix))
            {
                guarded.insert((*literal).to_owned());
            }
        }
    }
    let guarded: BTreeSet<&str> = guarded.iter().map(String::as_str).collect();
    assert_eq!(listed, guarded);
}

/// The same, noting that it was called: every argument is null.
macro_rules! with_nulls {
    ($table:expr, $called:expr, $number:expr, fn($($argument:ty: $null:expr),*) -> $result:ty) => {{
        $called.insert($number);
        call!($table, $number, fn($($argument: $null),*) -> $result)
    }};
}

fn all(table: &[Dispatch]) -> BTreeSet<c_int> {
    table.iter().map(|line| line.function_id).filter(|&number| number != 0).collect()
}

#[test]
fn null_pointers_are_refused_by_every_base_function() {
    let (table, mut called) = (&entry::BASE, BTreeSet::new());
    // SAFETY: null pointers are what is tried.
    unsafe {
        assert_eq!(OSSL_provider_init(null(), null(), null_mut(), null_mut()), 0);
        let (mut functions, mut context) = (null(), null_mut());
        assert_eq!(OSSL_provider_init(null(), null(), &mut functions, &mut context), 0);
        assert!(functions.is_null() && context.is_null());
    }
    with_nulls!(table, called, OSSL_FUNC_PROVIDER_TEARDOWN, fn(Pointer: null_mut()) -> ());
    let gettable = with_nulls!(
        table,
        called,
        OSSL_FUNC_PROVIDER_GETTABLE_PARAMS,
        fn(Pointer: null_mut()) -> *const abi::Param
    );
    assert!(!gettable.is_null(), "a static list needs no provider");
    let reasons = with_nulls!(
        table,
        called,
        OSSL_FUNC_PROVIDER_GET_REASON_STRINGS,
        fn(Pointer: null_mut()) -> *const Item
    );
    assert!(!reasons.is_null(), "a static list needs no provider");
    assert_eq!(
        with_nulls!(table, called, OSSL_FUNC_PROVIDER_GET_PARAMS, fn(Pointer: null_mut(), *mut abi::Param: null_mut()) -> c_int),
        0
    );
    assert!(
        with_nulls!(
            table,
            called,
            OSSL_FUNC_PROVIDER_QUERY_OPERATION,
            fn(Pointer: null_mut(), c_int: OSSL_OP_KEM, *mut c_int: null_mut()) -> *const Algorithm
        )
        .is_null()
    );
    assert_eq!(
        with_nulls!(
            table,
            called,
            OSSL_FUNC_PROVIDER_GET_CAPABILITIES,
            fn(Pointer: null_mut(), *const c_char: null(), Option<Callback>: None, Pointer: null_mut()) -> c_int
        ),
        0
    );
    assert_eq!(with_nulls!(table, called, OSSL_FUNC_PROVIDER_SELF_TEST, fn(Pointer: null_mut()) -> c_int), 0);
    assert_eq!(called, all(table));
}

#[test]
fn null_pointers_are_refused_by_every_kem_function() {
    let (table, mut called) = (&kem::TABLE, BTreeSet::new());
    assert!(with_nulls!(table, called, OSSL_FUNC_KEM_NEWCTX, fn(Pointer: null_mut()) -> Pointer).is_null());
    assert!(with_nulls!(table, called, OSSL_FUNC_KEM_DUPCTX, fn(Pointer: null_mut()) -> Pointer).is_null());
    with_nulls!(table, called, OSSL_FUNC_KEM_FREECTX, fn(Pointer: null_mut()) -> ());
    for number in [OSSL_FUNC_KEM_ENCAPSULATE_INIT, OSSL_FUNC_KEM_DECAPSULATE_INIT] {
        assert_eq!(
            with_nulls!(
                table,
                called,
                number,
                fn(Pointer: null_mut(), Pointer: null_mut(), *const abi::Param: null()) -> c_int
            ),
            0
        );
    }
    assert_eq!(
        with_nulls!(
            table,
            called,
            OSSL_FUNC_KEM_ENCAPSULATE,
            fn(
                Pointer: null_mut(),
                *mut u8: null_mut(),
                *mut usize: null_mut(),
                *mut u8: null_mut(),
                *mut usize: null_mut()
            ) -> c_int
        ),
        0
    );
    assert_eq!(
        with_nulls!(
            table,
            called,
            OSSL_FUNC_KEM_DECAPSULATE,
            fn(Pointer: null_mut(), *mut u8: null_mut(), *mut usize: null_mut(), *const u8: null(), usize: 0) -> c_int
        ),
        0
    );
    assert_eq!(called, all(table));
}

#[test]
fn null_pointers_are_refused_by_every_key_management_function_of_every_algorithm() {
    for table in &keymgmt::TABLES {
        let mut called = BTreeSet::new();
        assert!(
            with_nulls!(table, called, OSSL_FUNC_KEYMGMT_NEW, fn(Pointer: null_mut()) -> Pointer).is_null()
        );
        assert!(
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_GEN_INIT,
                fn(Pointer: null_mut(), c_int: 0, *const abi::Param: null()) -> Pointer
            )
            .is_null()
        );
        assert!(
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_GEN,
                fn(Pointer: null_mut(), Option<Callback>: None, Pointer: null_mut()) -> Pointer
            )
            .is_null()
        );
        assert!(
            with_nulls!(table, called, OSSL_FUNC_KEYMGMT_DUP, fn(Pointer: null_mut(), c_int: 0) -> Pointer)
                .is_null()
        );
        assert!(
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_LOAD,
                fn(*const c_void: null(), usize: size_of::<Pointer>()) -> Pointer
            )
            .is_null()
        );
        for number in [OSSL_FUNC_KEYMGMT_FREE, OSSL_FUNC_KEYMGMT_GEN_CLEANUP] {
            with_nulls!(table, called, number, fn(Pointer: null_mut()) -> ());
        }
        for number in
            [OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, OSSL_FUNC_KEYMGMT_GET_PARAMS, OSSL_FUNC_KEYMGMT_SET_PARAMS]
        {
            assert_eq!(
                with_nulls!(table, called, number, fn(Pointer: null_mut(), *mut abi::Param: null_mut()) -> c_int),
                0
            );
        }
        for number in [OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS] {
            let list = with_nulls!(table, called, number, fn(Pointer: null_mut()) -> *const abi::Param);
            assert!(!list.is_null());
        }
        let list = with_nulls!(
            table,
            called,
            OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS,
            fn(Pointer: null_mut(), Pointer: null_mut()) -> *const abi::Param
        );
        assert!(!list.is_null());
        for number in [OSSL_FUNC_KEYMGMT_IMPORT_TYPES, OSSL_FUNC_KEYMGMT_EXPORT_TYPES] {
            let list = with_nulls!(table, called, number, fn(c_int: 0) -> *const abi::Param);
            assert!(list.is_null(), "nothing selected is nothing exchanged");
        }
        assert_eq!(
            with_nulls!(table, called, OSSL_FUNC_KEYMGMT_HAS, fn(Pointer: null_mut(), c_int: 0) -> c_int),
            0
        );
        assert_eq!(
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_VALIDATE,
                fn(Pointer: null_mut(), c_int: 0, c_int: 0) -> c_int
            ),
            0
        );
        assert_eq!(
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_MATCH,
                fn(Pointer: null_mut(), Pointer: null_mut(), c_int: 0) -> c_int
            ),
            0
        );
        assert_eq!(
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_IMPORT,
                fn(Pointer: null_mut(), c_int: 0, *const abi::Param: null()) -> c_int
            ),
            0
        );
        assert_eq!(
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_EXPORT,
                fn(Pointer: null_mut(), c_int: 0, Option<Callback>: None, Pointer: null_mut()) -> c_int
            ),
            0
        );
        assert_eq!(called, all(table));
    }
}

#[test]
fn null_pointers_are_refused_by_every_signature_function() {
    let (table, mut called) = (&signature::TABLE, BTreeSet::new());
    assert!(
        with_nulls!(
            table,
            called,
            OSSL_FUNC_SIGNATURE_NEWCTX,
            fn(Pointer: null_mut(), *const c_char: null()) -> Pointer
        )
        .is_null()
    );
    assert!(
        with_nulls!(table, called, OSSL_FUNC_SIGNATURE_DUPCTX, fn(Pointer: null_mut()) -> Pointer).is_null()
    );
    with_nulls!(table, called, OSSL_FUNC_SIGNATURE_FREECTX, fn(Pointer: null_mut()) -> ());
    for number in [
        OSSL_FUNC_SIGNATURE_SIGN_INIT,
        OSSL_FUNC_SIGNATURE_VERIFY_INIT,
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT,
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT,
    ] {
        assert_eq!(
            with_nulls!(
                table,
                called,
                number,
                fn(Pointer: null_mut(), Pointer: null_mut(), *const abi::Param: null()) -> c_int
            ),
            0
        );
    }
    for number in [OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT] {
        assert_eq!(
            with_nulls!(
                table,
                called,
                number,
                fn(Pointer: null_mut(), *const c_char: null(), Pointer: null_mut(), *const abi::Param: null()) -> c_int
            ),
            0
        );
    }
    for number in [
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE,
        OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_UPDATE,
        OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_UPDATE,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL,
    ] {
        assert_eq!(
            with_nulls!(
                table,
                called,
                number,
                fn(Pointer: null_mut(), *const u8: null(), usize: 0) -> c_int
            ),
            0
        );
    }
    for number in [OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_FINAL] {
        assert_eq!(
            with_nulls!(
                table,
                called,
                number,
                fn(Pointer: null_mut(), *mut u8: null_mut(), *mut usize: null_mut(), usize: 0) -> c_int
            ),
            0
        );
    }
    for number in [OSSL_FUNC_SIGNATURE_SIGN, OSSL_FUNC_SIGNATURE_DIGEST_SIGN] {
        assert_eq!(
            with_nulls!(
                table,
                called,
                number,
                fn(
                    Pointer: null_mut(),
                    *mut u8: null_mut(),
                    *mut usize: null_mut(),
                    usize: 0,
                    *const u8: null(),
                    usize: 0
                ) -> c_int
            ),
            0
        );
    }
    for number in [OSSL_FUNC_SIGNATURE_VERIFY, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY] {
        assert_eq!(
            with_nulls!(
                table,
                called,
                number,
                fn(Pointer: null_mut(), *const u8: null(), usize: 0, *const u8: null(), usize: 0) -> c_int
            ),
            0
        );
    }
    assert_eq!(
        with_nulls!(
            table,
            called,
            OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_FINAL,
            fn(Pointer: null_mut()) -> c_int
        ),
        0
    );
    for number in [OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS] {
        assert_eq!(
            with_nulls!(table, called, number, fn(Pointer: null_mut(), *mut abi::Param: null_mut()) -> c_int),
            0
        );
    }
    for number in [OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS] {
        let list = with_nulls!(
            table,
            called,
            number,
            fn(Pointer: null_mut(), Pointer: null_mut()) -> *const abi::Param
        );
        assert!(!list.is_null());
    }
    assert_eq!(called, all(table));
}

#[test]
fn null_pointers_in_a_signature_operation_are_refused_one_by_one() {
    let context = with_provider();
    let scene = Scene::new(&context);
    let operation = call!(
        signature::TABLE,
        OSSL_FUNC_SIGNATURE_NEWCTX,
        fn(Pointer: scene.provider.inner_context(), *const c_char: null()) -> Pointer
    );
    assert_eq!(
        call!(
            signature::TABLE,
            OSSL_FUNC_SIGNATURE_SIGN_INIT,
            fn(Pointer: operation, Pointer: null_mut(), *const abi::Param: null()) -> c_int
        ),
        0
    );
    assert!(Errors::take().says(MISSING, &["no key"]));
    for number in [OSSL_FUNC_SIGNATURE_VERIFY, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY] {
        assert_eq!(
            call!(
                signature::TABLE,
                number,
                fn(Pointer: operation, *const u8: null(), usize: 1, *const u8: null(), usize: 1) -> c_int
            ),
            0
        );
        assert!(Errors::take().says("invalid argument", &["null pointer"]));
    }
    call!(signature::TABLE, OSSL_FUNC_SIGNATURE_FREECTX, fn(Pointer: operation) -> ());
}

const MISSING: &str = "the key lacks the part that this operation needs";

#[test]
fn null_pointers_are_refused_by_every_encoder() {
    for (output, table) in &encoder::TABLES {
        let mut called = BTreeSet::new();
        let new = with_nulls!(table, called, OSSL_FUNC_ENCODER_NEWCTX, fn(Pointer: null_mut()) -> Pointer);
        assert!(new.is_null(), "{output:?}");
        with_nulls!(table, called, OSSL_FUNC_ENCODER_FREECTX, fn(Pointer: null_mut()) -> ());
        assert_eq!(
            with_nulls!(
                table,
                called,
                OSSL_FUNC_ENCODER_SET_CTX_PARAMS,
                fn(Pointer: null_mut(), *const abi::Param: null()) -> c_int
            ),
            0
        );
        let list = with_nulls!(
            table,
            called,
            OSSL_FUNC_ENCODER_SETTABLE_CTX_PARAMS,
            fn(Pointer: null_mut()) -> *const abi::Param
        );
        assert!(!list.is_null());
        let any = with_nulls!(
            table,
            called,
            OSSL_FUNC_ENCODER_DOES_SELECTION,
            fn(Pointer: null_mut(), c_int: 0) -> c_int
        );
        assert_eq!(any, 1, "{output:?}: no selection leaves it open");
        assert_eq!(
            with_nulls!(
                table,
                called,
                OSSL_FUNC_ENCODER_ENCODE,
                fn(
                    Pointer: null_mut(),
                    *mut CoreBio: null_mut(),
                    *const c_void: null(),
                    *const abi::Param: null(),
                    c_int: 0,
                    Option<PassphraseCallback>: None,
                    Pointer: null_mut()
                ) -> c_int
            ),
            0
        );
        assert_eq!(called, all(table));
    }
}

#[test]
fn null_pointers_are_refused_by_every_decoder_of_every_algorithm() {
    for table in decoder::PUBLIC.iter().chain(&decoder::PRIVATE) {
        let mut called = BTreeSet::new();
        assert!(
            with_nulls!(table, called, OSSL_FUNC_DECODER_NEWCTX, fn(Pointer: null_mut()) -> Pointer)
                .is_null()
        );
        with_nulls!(table, called, OSSL_FUNC_DECODER_FREECTX, fn(Pointer: null_mut()) -> ());
        let any = with_nulls!(
            table,
            called,
            OSSL_FUNC_DECODER_DOES_SELECTION,
            fn(Pointer: null_mut(), c_int: 0) -> c_int
        );
        assert_eq!(any, 1, "no selection leaves it open");
        assert_eq!(
            with_nulls!(
                table,
                called,
                OSSL_FUNC_DECODER_DECODE,
                fn(
                    Pointer: null_mut(),
                    *mut CoreBio: null_mut(),
                    c_int: 0,
                    Option<Callback>: None,
                    Pointer: null_mut(),
                    Option<PassphraseCallback>: None,
                    Pointer: null_mut()
                ) -> c_int
            ),
            0
        );
        assert_eq!(called, all(table));
    }
}

#[test]
fn null_pointers_are_refused_by_every_key_management_function_of_keys_in_tokens() {
    for table in &token_keymgmt::TABLES {
        let mut called = BTreeSet::new();
        let new = with_nulls!(table, called, OSSL_FUNC_KEYMGMT_NEW, fn(Pointer: null_mut()) -> Pointer);
        let copy =
            with_nulls!(table, called, OSSL_FUNC_KEYMGMT_DUP, fn(Pointer: null_mut(), c_int: 0) -> Pointer);
        let loaded = with_nulls!(
            table,
            called,
            OSSL_FUNC_KEYMGMT_LOAD,
            fn(*const c_void: null(), usize: size_of::<Pointer>()) -> Pointer
        );
        assert!(new.is_null() && copy.is_null() && loaded.is_null());
        with_nulls!(table, called, OSSL_FUNC_KEYMGMT_FREE, fn(Pointer: null_mut()) -> ());
        let gettable = with_nulls!(
            table,
            called,
            OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS,
            fn(Pointer: null_mut()) -> *const abi::Param
        );
        assert!(!gettable.is_null());
        let name =
            with_nulls!(table, called, OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, fn(c_int: 0) -> *const c_char);
        assert!(!name.is_null());
        for number in [OSSL_FUNC_KEYMGMT_IMPORT_TYPES, OSSL_FUNC_KEYMGMT_EXPORT_TYPES] {
            let list = with_nulls!(table, called, number, fn(c_int: 0) -> *const abi::Param);
            assert!(list.is_null(), "nothing selected is nothing exchanged");
        }
        let answers = [
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_GET_PARAMS,
                fn(Pointer: null_mut(), *mut abi::Param: null_mut()) -> c_int
            ),
            with_nulls!(table, called, OSSL_FUNC_KEYMGMT_HAS, fn(Pointer: null_mut(), c_int: 0) -> c_int),
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_VALIDATE,
                fn(Pointer: null_mut(), c_int: 0, c_int: 0) -> c_int
            ),
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_MATCH,
                fn(Pointer: null_mut(), Pointer: null_mut(), c_int: 0) -> c_int
            ),
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_IMPORT,
                fn(Pointer: null_mut(), c_int: 0, *const abi::Param: null()) -> c_int
            ),
            with_nulls!(
                table,
                called,
                OSSL_FUNC_KEYMGMT_EXPORT,
                fn(Pointer: null_mut(), c_int: 0, Option<Callback>: None, Pointer: null_mut()) -> c_int
            ),
        ];
        assert_eq!(answers, [0; 6]);
        assert_eq!(called, all(table));
    }
}

#[test]
fn null_pointers_are_refused_by_every_signature_function_of_keys_in_tokens() {
    let (table, mut called) = (&token_signature::TABLE, BTreeSet::new());
    let new = with_nulls!(
        table,
        called,
        OSSL_FUNC_SIGNATURE_NEWCTX,
        fn(Pointer: null_mut(), *const c_char: null()) -> Pointer
    );
    let copy = with_nulls!(table, called, OSSL_FUNC_SIGNATURE_DUPCTX, fn(Pointer: null_mut()) -> Pointer);
    assert!(new.is_null() && copy.is_null());
    with_nulls!(table, called, OSSL_FUNC_SIGNATURE_FREECTX, fn(Pointer: null_mut()) -> ());
    for number in [OSSL_FUNC_SIGNATURE_SIGN_INIT, OSSL_FUNC_SIGNATURE_VERIFY_INIT] {
        let answer = with_nulls!(
            table,
            called,
            number,
            fn(Pointer: null_mut(), Pointer: null_mut(), *const abi::Param: null()) -> c_int
        );
        assert_eq!(answer, 0);
    }
    for number in [OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT] {
        let answer = with_nulls!(
            table,
            called,
            number,
            fn(Pointer: null_mut(), *const c_char: null(), Pointer: null_mut(), *const abi::Param: null()) -> c_int
        );
        assert_eq!(answer, 0);
    }
    for number in [
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE,
        OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL,
    ] {
        let answer =
            with_nulls!(table, called, number, fn(Pointer: null_mut(), *const u8: null(), usize: 0) -> c_int);
        assert_eq!(answer, 0);
    }
    let answer = with_nulls!(
        table,
        called,
        OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL,
        fn(Pointer: null_mut(), *mut u8: null_mut(), *mut usize: null_mut(), usize: 0) -> c_int
    );
    assert_eq!(answer, 0);
    for number in [OSSL_FUNC_SIGNATURE_SIGN, OSSL_FUNC_SIGNATURE_DIGEST_SIGN] {
        let answer = with_nulls!(
            table,
            called,
            number,
            fn(
                Pointer: null_mut(),
                *mut u8: null_mut(),
                *mut usize: null_mut(),
                usize: 0,
                *const u8: null(),
                usize: 0
            ) -> c_int
        );
        assert_eq!(answer, 0);
    }
    for number in [OSSL_FUNC_SIGNATURE_VERIFY, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY] {
        let answer = with_nulls!(
            table,
            called,
            number,
            fn(Pointer: null_mut(), *const u8: null(), usize: 0, *const u8: null(), usize: 0) -> c_int
        );
        assert_eq!(answer, 0);
    }
    for number in [OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS] {
        let answer =
            with_nulls!(table, called, number, fn(Pointer: null_mut(), *mut abi::Param: null_mut()) -> c_int);
        assert_eq!(answer, 0);
    }
    for number in [OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS] {
        let list = with_nulls!(
            table,
            called,
            number,
            fn(Pointer: null_mut(), Pointer: null_mut()) -> *const abi::Param
        );
        assert!(!list.is_null());
    }
    assert_eq!(called, all(table));
}

#[test]
fn null_pointers_are_refused_by_encoders_decoders_and_decryption_of_keys_in_tokens() {
    for (output, table) in &token_encoder::TABLES {
        let mut called = BTreeSet::new();
        let new = with_nulls!(table, called, OSSL_FUNC_ENCODER_NEWCTX, fn(Pointer: null_mut()) -> Pointer);
        assert!(new.is_null(), "{output:?}");
        with_nulls!(table, called, OSSL_FUNC_ENCODER_FREECTX, fn(Pointer: null_mut()) -> ());
        let set = with_nulls!(
            table,
            called,
            OSSL_FUNC_ENCODER_SET_CTX_PARAMS,
            fn(Pointer: null_mut(), *const abi::Param: null()) -> c_int
        );
        assert_eq!(set, 1, "whatever is set is for private keys, which are not written");
        let list = with_nulls!(
            table,
            called,
            OSSL_FUNC_ENCODER_SETTABLE_CTX_PARAMS,
            fn(Pointer: null_mut()) -> *const abi::Param
        );
        assert!(!list.is_null());
        let any = with_nulls!(
            table,
            called,
            OSSL_FUNC_ENCODER_DOES_SELECTION,
            fn(Pointer: null_mut(), c_int: 0) -> c_int
        );
        assert_eq!(any, 1, "{output:?}: no selection leaves it open");
        let encoded = with_nulls!(
            table,
            called,
            OSSL_FUNC_ENCODER_ENCODE,
            fn(
                Pointer: null_mut(),
                *mut CoreBio: null_mut(),
                *const c_void: null(),
                *const abi::Param: null(),
                c_int: 0,
                Option<PassphraseCallback>: None,
                Pointer: null_mut()
            ) -> c_int
        );
        assert_eq!(encoded, 0);
        assert_eq!(called, all(table));
    }
    let key_decoders = token_decoder::CLASSICAL.iter().chain(&token_decoder::ML_DSA).map(|table| &table[..]);
    for table in key_decoders.chain([&token_decoder::PEM[..]]) {
        let mut called = BTreeSet::new();
        let new = with_nulls!(table, called, OSSL_FUNC_DECODER_NEWCTX, fn(Pointer: null_mut()) -> Pointer);
        assert!(new.is_null());
        with_nulls!(table, called, OSSL_FUNC_DECODER_FREECTX, fn(Pointer: null_mut()) -> ());
        if all(table).contains(&OSSL_FUNC_DECODER_DOES_SELECTION) {
            let any = with_nulls!(
                table,
                called,
                OSSL_FUNC_DECODER_DOES_SELECTION,
                fn(Pointer: null_mut(), c_int: 0) -> c_int
            );
            assert_eq!(any, 1, "no selection leaves it open");
        }
        let decoded = with_nulls!(
            table,
            called,
            OSSL_FUNC_DECODER_DECODE,
            fn(
                Pointer: null_mut(),
                *mut CoreBio: null_mut(),
                c_int: 0,
                Option<Callback>: None,
                Pointer: null_mut(),
                Option<PassphraseCallback>: None,
                Pointer: null_mut()
            ) -> c_int
        );
        assert_eq!(decoded, 0);
        assert_eq!(called, all(table));
    }
    let (table, mut called) = (&token_cipher::TABLE, BTreeSet::new());
    assert!(
        with_nulls!(table, called, OSSL_FUNC_ASYM_CIPHER_NEWCTX, fn(Pointer: null_mut()) -> Pointer)
            .is_null()
    );
    with_nulls!(table, called, OSSL_FUNC_ASYM_CIPHER_FREECTX, fn(Pointer: null_mut()) -> ());
    let answers = [
        with_nulls!(
            table,
            called,
            OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT,
            fn(Pointer: null_mut(), Pointer: null_mut(), *const abi::Param: null()) -> c_int
        ),
        with_nulls!(
            table,
            called,
            OSSL_FUNC_ASYM_CIPHER_DECRYPT,
            fn(
                Pointer: null_mut(),
                *mut u8: null_mut(),
                *mut usize: null_mut(),
                usize: 0,
                *const u8: null(),
                usize: 0
            ) -> c_int
        ),
    ];
    assert_eq!(answers, [0; 2]);
    assert_eq!(called, all(table));
}

#[test]
fn null_pointers_are_refused_by_every_store_function() {
    let (table, mut called) = (&store::TABLE, BTreeSet::new());
    let opened = with_nulls!(table, called, OSSL_FUNC_STORE_OPEN, fn(Pointer: null_mut(), *const c_char: null()) -> Pointer);
    assert!(opened.is_null());
    let list = with_nulls!(
        table,
        called,
        OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS,
        fn(Pointer: null_mut()) -> *const abi::Param
    );
    assert!(!list.is_null());
    let set = with_nulls!(
        table,
        called,
        OSSL_FUNC_STORE_SET_CTX_PARAMS,
        fn(Pointer: null_mut(), *const abi::Param: null()) -> c_int
    );
    let loaded = with_nulls!(
        table,
        called,
        OSSL_FUNC_STORE_LOAD,
        fn(
            Pointer: null_mut(),
            Option<Callback>: None,
            Pointer: null_mut(),
            Option<PassphraseCallback>: None,
            Pointer: null_mut()
        ) -> c_int
    );
    assert_eq!((set, loaded), (0, 0));
    assert_eq!(with_nulls!(table, called, OSSL_FUNC_STORE_EOF, fn(Pointer: null_mut()) -> c_int), 1);
    assert_eq!(with_nulls!(table, called, OSSL_FUNC_STORE_CLOSE, fn(Pointer: null_mut()) -> c_int), 1);
    assert_eq!(called, all(table));
}
