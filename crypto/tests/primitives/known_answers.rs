//! The power-on self-tests: they pass on both backends, and they notice when a step goes wrong.

use crate::common::Recorder;
use qtls_crypto::{
    AwsLc, Backend, Error, Fault, KEM_ALGORITHMS, KnownAnswerStep, RustCrypto, compute_known_answer,
    run_known_answer, run_known_answer_on,
};

#[test]
fn both_backends_give_the_known_answers_and_report_each_step() {
    let all: Vec<String> = KnownAnswerStep::KEM
        .iter()
        .flat_map(|step| [format!("begin {step}"), format!("end {step} true")])
        .collect();
    for algorithm in &KEM_ALGORITHMS {
        for run in [run_known_answer_on::<AwsLc>, run_known_answer_on::<RustCrypto>] {
            let mut recorder = Recorder::default();
            run(algorithm, &mut recorder).unwrap();
            assert_eq!(recorder.events, all, "{}", algorithm.name);
        }
        run_known_answer(algorithm, &mut ()).unwrap();
    }
}

#[test]
fn a_step_whose_output_is_wrong_fails_and_ends_the_test() {
    for algorithm in &KEM_ALGORITHMS {
        for step in KnownAnswerStep::KEM {
            let mut recorder = Recorder { spoil: Some(step), events: Vec::new() };
            let error = run_known_answer(algorithm, &mut recorder).unwrap_err();
            assert_eq!(error, Error::KnownAnswerMismatch { algorithm: algorithm.name, step });
            assert_eq!(error.fault(), Fault::Machine);
            assert_eq!(recorder.events.last(), Some(&format!("end {step} false")));
        }
    }
}

#[test]
fn the_vectors_in_the_source_are_what_both_backends_compute() {
    fn check<B: Backend>() {
        for algorithm in &KEM_ALGORITHMS {
            let file = format!("{}/src/known_answer/{}.bin", env!("CARGO_MANIFEST_DIR"), algorithm.name);
            assert_eq!(compute_known_answer::<B>(algorithm).unwrap(), std::fs::read(file).unwrap());
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}
