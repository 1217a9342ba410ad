//! The known answers, as an application that watches them through `OSSL_SELF_TEST_set_callback(3)` sees them.

mod common;

use common::openssl::{Context, SelfTestEvent};
use common::{configure, with_provider};
use qtls_crypto::{KeyAlgorithm, KnownAnswerStep};
use std::cell::RefCell;
use std::rc::Rc;

const FAILED: &str = "self-test failed, algorithm disabled";

fn steps(algorithm: KeyAlgorithm) -> &'static [KnownAnswerStep] {
    match algorithm {
        KeyAlgorithm::Kem(_) => &KnownAnswerStep::KEM,
        KeyAlgorithm::Signature(_) => &KnownAnswerStep::SIGNATURE,
    }
}

/// The events of one algorithm's self-test that passes.
fn passing(algorithm: KeyAlgorithm) -> Vec<SelfTestEvent> {
    steps(algorithm)
        .iter()
        .flat_map(|&step| ["Start", "Corrupt", "Pass"].map(|phase| event(phase, algorithm, step)))
        .collect()
}

fn passing_all() -> Vec<SelfTestEvent> {
    KeyAlgorithm::all().flat_map(passing).collect()
}

fn event(phase: &str, algorithm: KeyAlgorithm, step: KnownAnswerStep) -> SelfTestEvent {
    let kind = match algorithm {
        KeyAlgorithm::Kem(_) => "KAT_KEM",
        KeyAlgorithm::Signature(_) => "KAT_Signature",
    };
    SelfTestEvent {
        phase: phase.to_owned(),
        kind: kind.to_owned(),
        description: format!("{} {step}", algorithm.name()),
    }
}

/// What a key of the algorithm is for.
fn use_key(context: &Context, algorithm: KeyAlgorithm) {
    let key = context.generate(algorithm.name()).unwrap();
    match algorithm {
        KeyAlgorithm::Kem(_) => drop(key.encapsulate().unwrap()),
        KeyAlgorithm::Signature(_) => drop(key.sign(b"message").unwrap()),
    }
}

/// Takes note of every event, and spoils the step with this description.
fn watch(context: &Context, spoiled: Option<String>) -> Rc<RefCell<Vec<SelfTestEvent>>> {
    let events = Rc::<RefCell<Vec<SelfTestEvent>>>::default();
    let noted = events.clone();
    context.watch_self_tests(move |event| {
        noted.borrow_mut().push(event.clone());
        event.phase != "Corrupt" || spoiled.as_ref() != Some(&event.description)
    });
    events
}

#[test]
fn on_load_runs_every_step_of_every_algorithm_and_shows_it() {
    let context = Context::new();
    let events = watch(&context, None);
    configure(&context, "self-test = on-load").unwrap();
    assert_eq!(events.take(), passing_all());
    for algorithm in KeyAlgorithm::all() {
        context.generate(algorithm.name()).unwrap();
    }
    assert_eq!(events.take(), [], "what has passed is not tested again");
}

#[test]
fn on_demand_runs_an_algorithm_s_steps_before_its_first_use_and_no_other_s() {
    let context = Context::new();
    let events = watch(&context, None);
    configure(&context, "self-test = on-demand").unwrap();
    assert_eq!(events.take(), []);
    for algorithm in KeyAlgorithm::all() {
        context.empty(algorithm.name()).unwrap();
        assert_eq!(events.take(), passing(algorithm));
        use_key(&context, algorithm);
        assert_eq!(events.take(), []);
    }
}

#[test]
fn off_runs_nothing_until_it_is_asked_for() {
    let context = Context::new();
    let events = watch(&context, None);
    configure(&context, "self-test = off").unwrap();
    for algorithm in KeyAlgorithm::all() {
        use_key(&context, algorithm);
    }
    assert_eq!(events.take(), []);
    context.load("qtls").unwrap().self_test().unwrap();
    assert_eq!(events.take(), passing_all());
}

#[test]
fn a_step_that_fails_on_load_stops_every_tls_server_and_client() {
    for algorithm in KeyAlgorithm::all() {
        for &step in steps(algorithm) {
            let context = Context::new();
            let name = algorithm.name();
            let events = watch(&context, Some(format!("{name} {step}")));
            configure(&context, "self-test = on-load").unwrap();
            let errors = context.make_tls_context().expect_err(name);
            let parts = [name, &step.to_string(), "known answer"];
            assert!(errors.says(FAILED, &parts), "{name} {step}: {errors}");
            assert!(events.borrow().contains(&event("Fail", algorithm, step)));
            assert_eq!(context.load("qtls").unwrap().integer(c"status").unwrap(), 0);
            assert!(context.generate(name).is_err());
        }
    }
}

#[test]
fn a_step_that_fails_on_demand_disables_its_algorithm_for_good_and_no_other() {
    for broken in KeyAlgorithm::all() {
        let context = Context::new();
        let (name, third) = (broken.name(), steps(broken)[2]);
        let events = watch(&context, Some(format!("{name} {third}")));
        configure(&context, "").unwrap();
        let provider = context.load("qtls").unwrap();
        assert_eq!(provider.integer(c"status").unwrap(), 1);
        for attempt in 1..=2 {
            let errors = context.generate(name).err().expect(name);
            assert!(errors.says(FAILED, &[name]), "attempt {attempt}: {errors}");
            assert!(context.empty(name).is_err());
        }
        // Run once: up to the step that failed.
        let seen = events.take();
        assert_eq!(seen.len(), 9, "{seen:?}");
        assert_eq!(seen.last(), Some(&event("Fail", broken, third)));
        assert_eq!(provider.integer(c"status").unwrap(), 0);
        let shown = match broken {
            KeyAlgorithm::Kem(row) => row.group_name,
            KeyAlgorithm::Signature(row) => row.name,
        };
        assert!(provider.text(c"qtls-self-tests").unwrap().contains(&format!("{shown}=failed")));
        for other in KeyAlgorithm::all().filter(|algorithm| *algorithm != broken) {
            context.generate(other.name()).unwrap_or_else(|errors| panic!("{}: {errors}", other.name()));
        }
    }
}

#[test]
fn the_self_tests_can_be_asked_for_and_a_failure_then_sticks() {
    for (broken, other) in [("X25519MLKEM768", "ML-KEM-768"), ("ML-DSA-65", "ML-DSA-87")] {
        let context = with_provider("");
        let provider = context.load("qtls").unwrap();
        let events = watch(&context, None);
        provider.self_test().unwrap();
        assert_eq!(events.take(), passing_all());
        context.generate(broken).unwrap();

        watch(&context, Some(format!("{broken} {}", KnownAnswerStep::KeyGeneration)));
        let errors = provider.self_test().unwrap_err();
        assert!(errors.says(FAILED, &[broken, "key generation"]), "{errors}");
        assert_eq!(provider.integer(c"status").unwrap(), 0);
        watch(&context, None);
        assert!(provider.self_test().is_err(), "a later success does not take a failure back");
        assert!(context.generate(broken).is_err());
        context.generate(other).unwrap();
    }
}
