//! `qtls doctor`.

use std::process::ExitCode;

/// Command line of `qtls doctor`.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command; the exit code is for scripts.
pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
