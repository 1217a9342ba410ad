//! `qtls bench`.

use std::process::ExitCode;

/// Command line of `qtls bench`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs the command; the exit code is for scripts.
pub fn run(_arguments: &Arguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
