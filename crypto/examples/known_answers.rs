//! Writes the vectors of the self-tests: `cargo run -p qtls-crypto --example known_answers --features rustcrypto`.
//!
//! Only needed for a new algorithm; `tests/known_answers.rs` holds that both backends compute these very files.

use qtls_crypto::{
    DefaultBackend, KEM_ALGORITHMS, SIGNATURE_ALGORITHMS, compute_known_answer,
    compute_signature_known_answer,
};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/known_answer");
    for algorithm in &KEM_ALGORITHMS {
        let file = folder.join(format!("{}.bin", algorithm.name));
        std::fs::write(&file, compute_known_answer::<DefaultBackend>(algorithm)?)?;
        println!("{}", file.display());
    }
    for algorithm in &SIGNATURE_ALGORITHMS {
        let file = folder.join(format!("{}.bin", algorithm.name));
        std::fs::write(&file, compute_signature_known_answer::<DefaultBackend>(algorithm)?)?;
        println!("{}", file.display());
    }
    Ok(())
}
