//! What each operation costs, on every backend built in:
//! `cargo run --release -p qtls-crypto --all-features --example speed`.
//!
//! Microseconds, the minimum over rounds in which the backends take turns: on a shared machine the minimum is what
//! comes back. `server` and `client` are what one TLS handshake asks of libssl's side.

use qtls_crypto::{Backend, KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, KemPublicKey};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 40;
const ROUND: Duration = Duration::from_millis(3);

type Operation<'a> = Box<dyn FnMut() + 'a>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "{:<19} {:<10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "µs per operation", "", "generate", "parse", "encaps", "decaps", "server", "client"
    );
    for algorithm in &KEM_ALGORITHMS {
        let mut backends: Vec<(&str, Vec<Operation>, Vec<Duration>)> = Vec::new();
        #[cfg(feature = "aws-lc")]
        backends.push(operations::<qtls_crypto::AwsLc>(algorithm)?);
        #[cfg(feature = "rustcrypto")]
        backends.push(operations::<qtls_crypto::RustCrypto>(algorithm)?);
        for _ in 0..ROUNDS {
            for (_, operations, fastest) in &mut backends {
                for (operation, fastest) in operations.iter_mut().zip(fastest) {
                    *fastest = (*fastest).min(time(operation));
                }
            }
        }
        for (backend, _, fastest) in &backends {
            print!("{:<19} {backend:<10}", algorithm.name);
            fastest.iter().for_each(|time| print!(" {:>9.2}", time.as_secs_f64() * 1e6));
            println!();
        }
    }
    Ok(())
}

fn operations<'a, B: Backend>(
    algorithm: &'static KemAlgorithm,
) -> Result<(&'static str, Vec<Operation<'a>>, Vec<Duration>), qtls_crypto::Error> {
    let private = KemPrivateKey::<B>::generate(algorithm)?;
    let share = private.public_key().to_vec();
    let public = KemPublicKey::<B>::from_bytes(algorithm, &share)?;
    let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
    let mut secret = vec![0; algorithm.shared_secret_bytes()];
    public.encapsulate(&mut ciphertext, &mut secret)?;
    let (of_server, of_client) = (share.clone(), ciphertext.clone());
    let (mut made, mut found, mut served, mut received) =
        (ciphertext.clone(), secret.clone(), (ciphertext.clone(), secret.clone()), secret.clone());

    let operations: Vec<Operation<'a>> = vec![
        Box::new(move || {
            black_box(KemPrivateKey::<B>::generate(algorithm)).unwrap();
        }),
        Box::new(move || {
            black_box(KemPublicKey::<B>::from_bytes(algorithm, black_box(&share))).unwrap();
        }),
        Box::new(move || public.encapsulate(&mut made, &mut secret).unwrap()),
        Box::new(move || private.decapsulate(black_box(&ciphertext), &mut found).unwrap()),
        Box::new(move || {
            let public = KemPublicKey::<B>::from_bytes(algorithm, black_box(&of_server)).unwrap();
            public.encapsulate(&mut served.0, &mut served.1).unwrap();
        }),
        Box::new(move || {
            let private = KemPrivateKey::<B>::generate(algorithm).unwrap();
            private.decapsulate(black_box(&of_client), &mut received).unwrap();
        }),
    ];
    let fastest = vec![Duration::MAX; operations.len()];
    Ok((B::NAME, operations, fastest))
}

/// Time of one call, from as many as fit into a round.
fn time(operation: &mut Operation) -> Duration {
    let begin = Instant::now();
    let mut calls = 0;
    while begin.elapsed() < ROUND {
        for _ in 0..8 {
            operation();
        }
        calls += 8;
    }
    begin.elapsed() / calls
}
