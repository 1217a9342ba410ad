//! What the primitives and the keys above them must hold, on both backends, through the public interface.

mod acvp;
mod backends_agree;
mod bad_input;
mod classical_key;
mod common;
mod composite_vectors;
mod digest;
mod encoding;
mod known_answers;
mod rfc9881;
mod rfc9935;
mod signature_wycheproof;
mod signatures;
mod vectors;
mod wycheproof_vectors;
