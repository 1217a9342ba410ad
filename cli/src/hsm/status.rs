//! `qtls hsm status`: what running servers count, without asking them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::Style;
use anyhow::Context as _;
use qtls_pkcs11::{Config, Status, TokenStatus, read_status};
use serde::Serialize;

use super::options::{TokenOptions, parse};
use qtls_cli::style::{BAD, DIM, GOOD, paint, thousands};

/// Version of the JSON's shape; fields are only ever added within one.
const FORMAT: u32 = 1;

/// Columns before the counters.
const NAME_WIDTH: usize = 12;

/// Command line of `qtls hsm status`.
#[derive(clap::Args)]
#[command(
    after_help = "Reads the files that servers with token keys share with their workers; nothing is asked of a token or a server.\n\
                  Exit code: 0 every first token answers, 1 one does not, or refused its PIN, 2 the files cannot be read.\n\n\
                  Examples:\n  qtls hsm status\n  qtls hsm status --json\n  watch qtls hsm status --dir /run/qtls"
)]
pub(super) struct Arguments {
    /// Where the servers' files lie: pkcs11-status-dir of openssl.cnf, else /run/qtls
    #[arg(long, value_name = "DIR", conflicts_with = "conf")]
    dir: Option<PathBuf>,

    /// The openssl.cnf whose pkcs11-status-dir is meant
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    format: u32,
    directory: String,
    servers: Vec<Server>,
}

#[derive(Serialize)]
struct Server {
    pid: u32,
    /// Its name, as `ps` shows it; none when it is gone and others go on.
    program: Option<String>,
    failovers: u64,
    software_signatures: u64,
    tokens: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    name: String,
    connected: Option<bool>,
    signatures: u64,
    failures: u64,
    latency_us: u64,
    mean_latency_us: Option<u64>,
    retries: u64,
    reconnects: u64,
    breaker_opened: u64,
    timeouts: u64,
    pin_refused: bool,
}

/// Runs the command.
///
/// # Errors
/// The configuration that is named, or the directory, cannot be read.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = directory(arguments)?;
    let found = read_status(&directory).with_context(|| format!("can't read {}", directory.display()))?;
    let servers: Vec<Server> = found.iter().map(Server::of).collect();
    let first_tokens = || servers.iter().filter_map(|server| server.tokens.first());
    let wrong = first_tokens().any(|token| token.connected == Some(false) || token.pin_refused);
    let mut out = anstream::stdout().lock();
    if arguments.json {
        let report = Report { format: FORMAT, directory: directory.display().to_string(), servers };
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&mut out, &directory, &servers)?;
    }
    Ok(ExitCode::from(u8::from(wrong)))
}

/// Without options the default is as good as a configuration that is not found.
fn directory(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    if let Some(directory) = &arguments.dir {
        return Ok(directory.clone());
    }
    let section = TokenOptions::of_configuration(arguments.conf.clone()).section();
    let settings = match section {
        Ok(section) => section.settings,
        Err(error) if arguments.conf.is_some() => return Err(error),
        Err(_) => Vec::new(),
    };
    let configured = parse(&settings).ok().flatten().map(|config| config.status_directory);
    Ok(configured.unwrap_or_else(|| Config::DEFAULT_STATUS_DIRECTORY.into()))
}

impl Server {
    fn of(status: &Status) -> Self {
        let program = std::fs::read_to_string(format!("/proc/{}/comm", status.pid)).ok();
        Self {
            pid: status.pid,
            program: program.map(|name| name.trim_end().to_owned()),
            failovers: status.failovers,
            software_signatures: status.software_signatures,
            tokens: status.tokens.iter().map(Token::of).collect(),
        }
    }
}

impl Token {
    fn of(status: &TokenStatus) -> Self {
        Self {
            name: status.name.clone(),
            connected: status.connected,
            signatures: status.signatures,
            failures: status.failures,
            latency_us: status.latency_us,
            mean_latency_us: status.latency_us.checked_div(status.signatures),
            retries: status.retries,
            reconnects: status.reconnects,
            breaker_opened: status.breaker_opened,
            timeouts: status.timeouts,
            pin_refused: status.pin_refused,
        }
    }
}

fn print(out: &mut impl Write, directory: &Path, servers: &[Server]) -> std::io::Result<()> {
    let bold = Style::new().bold();
    if servers.is_empty() {
        return writeln!(
            out,
            "no server with keys in a token runs: {} has no file of one (a server makes it when it reads its first token key)",
            directory.display()
        );
    }
    for (index, server) in servers.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let program = server.program.as_deref().unwrap_or("gone, and its workers go on");
        writeln!(out, "{bold}process {}{bold:#} ({program})", server.pid)?;
        for (number, token) in server.tokens.iter().enumerate() {
            let connected = match token.connected {
                Some(true) => paint(GOOD, "connected"),
                Some(false) => paint(BAD, "not connected"),
                None => paint(DIM, "not used yet"),
            };
            writeln!(out, "  token {}  {}  {connected}", number + 1, token.name)?;
            let mean = token.mean_latency_us.map_or_else(|| "-".to_owned(), milliseconds);
            let counted = [
                ("signatures", thousands(token.signatures)),
                ("mean time", mean),
                ("failed", thousands(token.failures)),
                ("retried", thousands(token.retries)),
                ("reconnects", thousands(token.reconnects)),
                ("time-outs", thousands(token.timeouts)),
                ("breaker", format!("opened {} times", thousands(token.breaker_opened))),
            ];
            for (name, value) in counted {
                writeln!(out, "    {name:NAME_WIDTH$} {value}")?;
            }
            if token.pin_refused {
                let said = paint(BAD, "refused, and not tried again");
                writeln!(
                    out,
                    "    {:NAME_WIDTH$} {said}: correct it where pin-source says, and reload",
                    "PIN"
                )?;
            }
        }
        let (failovers, software) = (thousands(server.failovers), thousands(server.software_signatures));
        writeln!(
            out,
            "  {failovers} signatures by another than the first token, {software} by a software key"
        )?;
    }
    Ok(())
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03} ms", thousands(microseconds / 1000), microseconds % 1000)
}
