//! `qtls`: see, check and measure post-quantum TLS.

mod doctor;
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
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("qtls: {error:#}");
        std::process::ExitCode::from(2)
    })
}
