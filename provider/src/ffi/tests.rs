//! What must hold at every entry point: a panic becomes an error, a null pointer is refused.

#[path = "../../tests/common/openssl.rs"]
mod openssl;

use super::abi;
use super::abi::{
    Algorithm, Callback, Dispatch, Function, Item, OSSL_FUNC_KEM_DECAPSULATE, OSSL_FUNC_KEM_DECAPSULATE_INIT,
    OSSL_FUNC_KEM_DUPCTX, OSSL_FUNC_KEM_ENCAPSULATE, OSSL_FUNC_KEM_ENCAPSULATE_INIT, OSSL_FUNC_KEM_FREECTX,
    OSSL_FUNC_KEM_NEWCTX, OSSL_FUNC_KEYMGMT_DUP, OSSL_FUNC_KEYMGMT_EXPORT, OSSL_FUNC_KEYMGMT_EXPORT_TYPES,
    OSSL_FUNC_KEYMGMT_FREE, OSSL_FUNC_KEYMGMT_GEN, OSSL_FUNC_KEYMGMT_GEN_CLEANUP, OSSL_FUNC_KEYMGMT_GEN_INIT,
    OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, OSSL_FUNC_KEYMGMT_GET_PARAMS,
    OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, OSSL_FUNC_KEYMGMT_HAS, OSSL_FUNC_KEYMGMT_IMPORT,
    OSSL_FUNC_KEYMGMT_IMPORT_TYPES, OSSL_FUNC_KEYMGMT_MATCH, OSSL_FUNC_KEYMGMT_NEW,
    OSSL_FUNC_KEYMGMT_SET_PARAMS, OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, OSSL_FUNC_KEYMGMT_VALIDATE,
    OSSL_FUNC_PROVIDER_GET_CAPABILITIES, OSSL_FUNC_PROVIDER_GET_PARAMS,
    OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, OSSL_FUNC_PROVIDER_GETTABLE_PARAMS,
    OSSL_FUNC_PROVIDER_QUERY_OPERATION, OSSL_FUNC_PROVIDER_SELF_TEST, OSSL_FUNC_PROVIDER_TEARDOWN,
    OSSL_OP_KEM,
};
use super::guard::injection::PANIC_AT;
use super::{OSSL_provider_init, entry, kem, keymgmt};
use openssl::{Context, Errors, Init, KEY_PAIR, Key, Operation, PUBLIC, Param, Provider};
use std::collections::BTreeSet;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::{null, null_mut};

/// A context with the provider of this very program in it.
fn with_provider() -> Context {
    with_provider_named(&["qtls"])
}

fn with_provider_named(names: &[&str]) -> Context {
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
}

impl<'a> Scene<'a> {
    fn new(context: &'a Context) -> Self {
        let provider = context.load("qtls").unwrap();
        let key = context.generate(ALGORITHM).unwrap();
        let (share, (ciphertext, _)) = (key.encoded().unwrap(), key.encapsulate().unwrap());
        Self { context, provider, key, share, ciphertext }
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

/// Where a panic shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// In the answer and in the error queue.
    AsFailure,
    /// In the queue alone: the answer is for another provider, which must not suffer.
    InQueue,
    /// In the log alone: the function has no answer, and the queue belongs to whatever is being cleaned up after.
    InLog,
}

/// Arms the panic for what follows in this thread, and makes sure that it happened.
fn armed<T>(entry: &'static str, call: impl FnOnce() -> T) -> T {
    PANIC_AT.set(Some(entry));
    let answer = call();
    assert_eq!(PANIC_AT.take(), None, "{entry} was not called");
    answer
}

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
        let parts = [Param::Octets(c"pub", &scene.share)];
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
        armed(at, || operation.set(&[Param::Text(c"group", c"")]))
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
        let parts = [Param::Octets(c"pub", &scene.share)];
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
        drop((key, again));
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
                && ["OSSL_provider_", "provider_", "default_properties_", "keymgmt_", "kem_"]
                    .iter()
                    .any(|prefix| literal.starts_with(prefix))
            {
                guarded.insert((*literal).to_owned());
            }
        }
    }
    let guarded: BTreeSet<&str> = guarded.iter().map(String::as_str).collect();
    assert_eq!(listed, guarded);
}

/// Calls the function with this number in a table, every argument null.
macro_rules! with_nulls {
    ($table:expr, $called:expr, $number:expr, fn($($argument:ty: $null:expr),*) -> $result:ty) => {{
        let line = $table.iter().find(|line| line.function_id == $number).expect(stringify!($number));
        $called.insert($number);
        // SAFETY: the type is the one that belongs to the number (core_dispatch.h); null pointers are what is tried.
        unsafe {
            let function = std::mem::transmute::<Function, unsafe extern "C" fn($($argument),*) -> $result>(
                line.function.expect(stringify!($number)),
            );
            function($($null),*)
        }
    }};
}

fn all(table: &[Dispatch]) -> BTreeSet<c_int> {
    table.iter().map(|line| line.function_id).filter(|&number| number != 0).collect()
}

type Pointer = *mut c_void;

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
