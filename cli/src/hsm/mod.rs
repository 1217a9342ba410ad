//! `qtls hsm` and `qtls key-ref`: keys in PKCS#11 tokens, made, found, and named in files.

mod generate;
mod key_ref;
mod list;
mod options;
mod status;
pub(crate) mod trial;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use key_ref::{Arguments as KeyRefArguments, URI_LABEL, run as key_ref};
pub(crate) use list::fits;
pub(crate) use options::{NO_STATUS_DIRECTORY, parse as parse_options};

/// Command line of `qtls hsm`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key pair in the token, and say how to get its certificate and its key file
    Generate(generate::Arguments),
    /// Show the tokens of a module and what a token holds, each with its URI
    List(list::Arguments),
    /// Show what running servers count: signatures, time, failures, failovers
    Status(status::Arguments),
}

/// Runs the command.
///
/// # Errors
/// What could not be done, with its cause and what to do.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Generate(arguments) => generate::run(arguments),
        Command::List(arguments) => list::run(arguments),
        Command::Status(arguments) => status::run(arguments),
    }
}

/// A word for the shell, in quotes where it needs them: a URI has semicolons.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._:=%,+@".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        assert_eq!(quoted("/etc/key.pem"), "/etc/key.pem");
        assert_eq!(quoted("pkcs11:token=a;object=b"), "'pkcs11:token=a;object=b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
