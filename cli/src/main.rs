//! `qtls`: see, check and measure post-quantum TLS.

mod doctor;
mod hsm;
mod libssl;

use clap::{Parser, Subcommand};
use qtls_cli::{bench, probe, serve};

#[derive(Parser)]
#[command(name = "qtls", version, about = "See, check and measure post-quantum TLS")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Is the gateway's OpenSSL really set up as you think? Says what is wrong and how to mend it
    Doctor(doctor::Arguments),
    /// Keys in a PKCS#11 token: make them, list them, see what running servers do with them
    Hsm(hsm::Arguments),
    /// Write a key file that names a key in a token, for nginx and everybody else who wants a file
    KeyRef(hsm::KeyRefArguments),
    /// What does a TLS server negotiate, and what else does it accept?
    Probe(probe::Arguments),
    /// What does a handshake cost the server? Compares configurations in one run
    Bench(bench::Arguments),
    /// A small hybrid-TLS server to try clients against
    Serve(serve::Arguments),
}

fn main() -> std::process::ExitCode {
    let outcome = match Cli::parse().command {
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Hsm(arguments) => hsm::run(&arguments),
        Command::KeyRef(arguments) => hsm::key_ref(&arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("qtls: {error:#}");
        std::process::ExitCode::from(2)
    })
}
