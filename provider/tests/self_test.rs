//! The known answers, as an application that watches them through `OSSL_SELF_TEST_set_callback(3)` sees them.

mod common;

use common::openssl::{Context, SelfTestEvent};
use common::{configure, with_provider};
use qtls_crypto::{KEM_ALGORITHMS, KnownAnswerStep};
use std::cell::RefCell;
use std::rc::Rc;

const FAILED: &str = "self-test failed, algorithm disabled";

/// The events of one algorithm's self-test that passes.
fn passing(algorithm: &str) -> Vec<SelfTestEvent> {
    KnownAnswerStep::KEM
        .into_iter()
        .flat_map(|step| ["Start", "Corrupt", "Pass"].map(|phase| event(phase, algorithm, step)))
        .collect()
}

fn event(phase: &str, algorithm: &str, step: KnownAnswerStep) -> SelfTestEvent {
    SelfTestEvent {
        phase: phase.to_owned(),
        kind: "KAT_KEM".to_owned(),
        description: format!("{algorithm} {step}"),
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
    let all: Vec<_> = KEM_ALGORITHMS.iter().flat_map(|row| passing(row.name)).collect();
    assert_eq!(events.take(), all);
    for algorithm in &KEM_ALGORITHMS {
        context.generate(algorithm.name).unwrap();
    }
    assert_eq!(events.take(), [], "what has passed is not tested again");
}

#[test]
fn on_demand_runs_an_algorithm_s_steps_before_its_first_use_and_no_other_s() {
    let context = Context::new();
    let events = watch(&context, None);
    configure(&context, "self-test = on-demand").unwrap();
    assert_eq!(events.take(), []);
    for algorithm in &KEM_ALGORITHMS {
        context.empty(algorithm.name).unwrap();
        assert_eq!(events.take(), passing(algorithm.name));
        context.generate(algorithm.name).unwrap().encapsulate().unwrap();
        assert_eq!(events.take(), []);
    }
}

#[test]
fn off_runs_nothing_until_it_is_asked_for() {
    let context = Context::new();
    let events = watch(&context, None);
    configure(&context, "self-test = off").unwrap();
    for algorithm in &KEM_ALGORITHMS {
        context.generate(algorithm.name).unwrap().encapsulate().unwrap();
    }
    assert_eq!(events.take(), []);
    context.load("qtls").unwrap().self_test().unwrap();
    assert_eq!(events.take().len(), KEM_ALGORITHMS.len() * KnownAnswerStep::KEM.len() * 3);
}

#[test]
fn a_step_that_fails_on_load_stops_every_tls_server_and_client() {
    for algorithm in &KEM_ALGORITHMS {
        for step in KnownAnswerStep::KEM {
            let context = Context::new();
            let events = watch(&context, Some(format!("{} {step}", algorithm.name)));
            configure(&context, "self-test = on-load").unwrap();
            let errors = context.make_tls_context().expect_err(algorithm.name);
            let parts = [algorithm.name, &step.to_string(), "known answer"];
            assert!(errors.says(FAILED, &parts), "{} {step}: {errors}", algorithm.name);
            assert!(events.borrow().contains(&event("Fail", algorithm.name, step)));
            assert_eq!(context.load("qtls").unwrap().integer(c"status").unwrap(), 0);
            assert!(context.generate(algorithm.name).is_err());
        }
    }
}

#[test]
fn a_step_that_fails_on_demand_disables_its_algorithm_for_good_and_no_other() {
    for broken in &KEM_ALGORITHMS {
        let context = Context::new();
        let events = watch(&context, Some(format!("{} {}", broken.name, KnownAnswerStep::Decapsulation)));
        configure(&context, "").unwrap();
        let provider = context.load("qtls").unwrap();
        assert_eq!(provider.integer(c"status").unwrap(), 1);
        for attempt in 1..=2 {
            let errors = context.generate(broken.name).err().expect(broken.name);
            assert!(errors.says(FAILED, &[broken.name]), "attempt {attempt}: {errors}");
            assert!(context.empty(broken.name).is_err());
        }
        // Run once: up to the step that failed.
        let steps = events.take();
        assert_eq!(steps.len(), 9, "{steps:?}");
        assert_eq!(steps.last(), Some(&event("Fail", broken.name, KnownAnswerStep::Decapsulation)));
        assert_eq!(provider.integer(c"status").unwrap(), 0);
        assert!(
            provider.text(c"qtls-self-tests").unwrap().contains(&format!("{}=failed", broken.group_name))
        );
        for other in KEM_ALGORITHMS.iter().filter(|row| *row != broken) {
            context.generate(other.name).unwrap_or_else(|errors| panic!("{}: {errors}", other.name));
        }
    }
}

#[test]
fn the_self_tests_can_be_asked_for_and_a_failure_then_sticks() {
    let context = with_provider("");
    let provider = context.load("qtls").unwrap();
    let events = watch(&context, None);
    provider.self_test().unwrap();
    assert_eq!(events.take().len(), KEM_ALGORITHMS.len() * KnownAnswerStep::KEM.len() * 3);
    context.generate("X25519MLKEM768").unwrap();

    watch(&context, Some(format!("X25519MLKEM768 {}", KnownAnswerStep::KeyGeneration)));
    let errors = provider.self_test().unwrap_err();
    assert!(errors.says(FAILED, &["X25519MLKEM768", "key generation"]), "{errors}");
    assert_eq!(provider.integer(c"status").unwrap(), 0);
    watch(&context, None);
    assert!(provider.self_test().is_err(), "a later success does not take a failure back");
    assert!(context.generate("X25519MLKEM768").is_err());
    context.generate("ML-KEM-768").unwrap();
}
