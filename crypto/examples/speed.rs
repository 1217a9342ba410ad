//! What each operation costs, on every backend built in:
//! `cargo run --release -p qtls-crypto --all-features --example speed`.
//!
//! Microseconds, the minimum over rounds in which the backends take turns: on a shared machine the minimum is what
//! comes back. `server` and `client` are what one TLS handshake asks of libssl's side. How long ML-DSA signs is a matter
//! of luck (FIPS 204 algorithm 7 tries until it likes the result), so of signing it is the mean.

use qtls_crypto::{
    Backend, KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, KemPublicKey, MessageEncoding,
    SIGNATURE_ALGORITHMS, SignatureAlgorithm, SignaturePrivateKey, SignaturePublicKey, SigningRandomness,
};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 40;
const ROUND: Duration = Duration::from_millis(3);

type Operation<'a> = Box<dyn FnMut() + 'a>;

/// A backend's operations, and how many of the last are to be shown as the mean and not as the minimum.
struct Operations<'a> {
    backend: &'static str,
    operations: Vec<Operation<'a>>,
    means: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "{:<19} {:<10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "µs per operation", "", "generate", "parse", "encaps", "decaps", "server", "client"
    );
    for algorithm in &KEM_ALGORITHMS {
        let backends = Vec::from([
            #[cfg(feature = "aws-lc")]
            operations::<qtls_crypto::AwsLc>(algorithm)?,
            #[cfg(feature = "rustcrypto")]
            operations::<qtls_crypto::RustCrypto>(algorithm)?,
        ]);
        measure(algorithm.name, 19, backends);
    }
    println!(
        "\n{:<28} {:<10} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "µs per operation", "", "generate", "import", "parse", "verify", "sign"
    );
    for algorithm in &SIGNATURE_ALGORITHMS {
        let backends = Vec::from([
            #[cfg(feature = "aws-lc")]
            signature_operations::<qtls_crypto::AwsLc>(algorithm)?,
            #[cfg(feature = "rustcrypto")]
            signature_operations::<qtls_crypto::RustCrypto>(algorithm)?,
        ]);
        measure(algorithm.name, 28, backends);
    }
    Ok(())
}

fn measure(name: &str, width: usize, mut backends: Vec<Operations<'_>>) {
    let mut times: Vec<Vec<Vec<Duration>>> =
        backends.iter().map(|backend| vec![Vec::new(); backend.operations.len()]).collect();
    for _ in 0..ROUNDS {
        for (backend, times) in backends.iter_mut().zip(&mut times) {
            for (operation, times) in backend.operations.iter_mut().zip(times) {
                times.push(time(operation));
            }
        }
    }
    for (Operations { backend, operations, means }, times) in backends.iter().zip(&times) {
        print!("{name:<width$} {backend:<10}");
        for (index, times) in times.iter().enumerate() {
            let shown = if index < operations.len() - means {
                times.iter().min().copied().unwrap_or_default()
            } else {
                times.iter().sum::<Duration>() / ROUNDS as u32
            };
            print!(" {:>9.2}", shown.as_secs_f64() * 1e6);
        }
        println!();
    }
}

fn signature_operations<'a, B: Backend>(
    algorithm: &'static SignatureAlgorithm,
) -> Result<Operations<'a>, qtls_crypto::Error> {
    const PURE: MessageEncoding<'static> = MessageEncoding::PURE;
    // As long as what a TLS 1.3 server signs (RFC 8446 section 4.4.3).
    let message = [7; 130];
    let private = SignaturePrivateKey::<B>::generate(algorithm)?;
    let seed = private.seed().unwrap_or_default().to_vec();
    let encoded = private.public_key().to_vec();
    let public = SignaturePublicKey::<B>::from_bytes(algorithm, &encoded)?;
    let signature = private.sign(&message, PURE, SigningRandomness::Hedged)?;
    let operations: Vec<Operation<'a>> = vec![
        Box::new(move || {
            black_box(SignaturePrivateKey::<B>::generate(algorithm)).unwrap();
        }),
        Box::new(move || {
            black_box(SignaturePrivateKey::<B>::from_seed(algorithm, black_box(&seed))).unwrap();
        }),
        Box::new(move || {
            black_box(SignaturePublicKey::<B>::from_bytes(algorithm, black_box(&encoded))).unwrap();
        }),
        Box::new(move || public.verify(black_box(&message), PURE, black_box(&signature)).unwrap()),
        Box::new(move || {
            black_box(private.sign(black_box(&message), PURE, SigningRandomness::Hedged)).unwrap();
        }),
    ];
    Ok(Operations { backend: B::NAME, operations, means: 1 })
}

fn operations<'a, B: Backend>(
    algorithm: &'static KemAlgorithm,
) -> Result<Operations<'a>, qtls_crypto::Error> {
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
    Ok(Operations { backend: B::NAME, operations, means: 0 })
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
