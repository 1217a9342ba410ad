//! `qtls doctor`: loads the libssl a program is linked to, with its configuration, and says what is wrong.
//!
//! First it is found out *what* to look at ([`target`]), then everything is looked at ([`facts`], which asks the
//! library in a process of its own, [`inner`]), and only then judged ([`judge`]) into one finding for each row of the
//! table in [`checks`].

mod bounded;
mod checks;
mod configuration;
mod elf;
mod facts;
mod identity;
mod inner;
mod judge;
mod nginx;
mod permissions;
mod process;
mod report;
mod target;
mod tokens;
mod unit;
mod version;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use qtls_cli::net;

use checks::Status;
use facts::Facts;
use target::Target;

const DEFAULT_PROVIDER: &str = "qtls";

/// In seconds.
const DEFAULT_TIME_LIMIT: u32 = 30;

/// Command line of `qtls doctor`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit code: 0 nothing is wrong (warnings are allowed), 1 something is wrong, 2 it could not be \
                        looked at.\n\nExamples:\n  qtls doctor\n  qtls doctor --conf /usr/local/lib/qtls/with-system.cnf\n  \
                        qtls doctor --unit nginx --require require_pqc\n  qtls doctor --pid 4711 --json\n  \
                        qtls doctor --hsm --unit nginx"
)]
pub(crate) struct Arguments {
    /// The program whose OpenSSL is examined; without it nginx, else openssl
    #[arg(long, visible_alias = "nginx", value_name = "PATH")]
    program: Option<PathBuf>,

    /// The openssl.cnf that is meant to be in force
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,

    /// nginx's own configuration, where it is not the one nginx reads by default
    #[arg(long, value_name = "FILE")]
    nginx_conf: Option<PathBuf>,

    /// The list of groups the program sets by itself, as HAProxy's `curves` and PostgreSQL's `ssl_groups` do
    #[arg(long, value_name = "LIST")]
    groups: Option<String>,

    /// Look at a running process: its program, environment and user
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,

    /// Look at a systemd unit (a name, or the path of a unit file): its program, environment, user and sandbox
    #[arg(long, value_name = "NAME", conflicts_with = "pid")]
    unit: Option<String>,

    /// What has to be true in the end; may be given several times
    #[arg(long, value_name = "MODE", value_enum)]
    require: Vec<Requirement>,

    /// Look at keys in PKCS#11 tokens too: module, token, PIN, login, each key, a trial signature. Logs in, so that a wrong
    /// PIN counts as one try
    #[arg(long)]
    hsm: bool,

    /// Ask a running server from outside as well
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<net::Target>,

    /// The provider that is meant to be in force
    #[arg(long, value_name = "NAME", default_value = DEFAULT_PROVIDER)]
    provider: String,

    /// The section name the program asks OpenSSL for, where it is not known (nginx's is)
    #[arg(long, value_name = "NAME")]
    application: Option<String>,

    /// How long OpenSSL may take to start and answer; a self-test and two dozen handshakes take less than a second
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIME_LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    time_limit: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print the table of checks as Markdown
    #[arg(long, hide = true)]
    list_checks: bool,

    /// The process that loads the library; its orders come on standard input
    #[arg(long, hide = true)]
    inner: bool,
}

/// The section of the provider `qtls` in an `openssl.cnf`.
pub(crate) struct ProviderSection {
    /// The file.
    pub(crate) file: PathBuf,
    /// The section's name.
    pub(crate) name: String,
    /// Names and values, in order.
    pub(crate) settings: Vec<(String, String)>,
}

/// The provider's section in this `openssl.cnf`, or in the one that the program reads that doctor would look at.
///
/// # Errors
/// There is no program or library to read it with, no such file, or no such section.
pub(crate) fn provider_section(conf: Option<&Path>) -> anyhow::Result<ProviderSection> {
    let arguments = Arguments::of_configuration(conf);
    let target = Target::find(&arguments)?;
    let Some(report) = facts::read_configuration(&target, &arguments)? else {
        bail!("{} uses no OpenSSL that could read one", target.program.display());
    };
    let file = PathBuf::from(&report.configuration_file);
    let shown = file.display();
    if let Some(error) = &report.open_error {
        bail!("can't read {shown}: {error}");
    }
    let configuration = report.configuration.with_context(|| {
        let (line, errors) = report.syntax_error.unwrap_or_default();
        format!("{shown} is wrong in line {line}: {}", errors.join("; "))
    })?;
    let providers = configuration.providers(target.application().as_deref());
    let entry = providers.into_iter().find(|entry| entry.name == arguments.provider);
    let entry = entry.with_context(|| format!("{shown} lists no provider {}", arguments.provider))?;
    if entry.settings.is_none() {
        bail!("{shown} has no section [{}]", entry.section);
    }
    let settings = entry.plain_settings();
    Ok(ProviderSection { file, name: entry.section, settings })
}

impl Arguments {
    /// Those that say no more than this.
    fn of_configuration(conf: Option<&Path>) -> Self {
        Self {
            program: None,
            conf: conf.map(Path::to_path_buf),
            nginx_conf: None,
            groups: None,
            pid: None,
            unit: None,
            require: Vec::new(),
            hsm: false,
            connect: None,
            provider: DEFAULT_PROVIDER.to_owned(),
            application: None,
            time_limit: DEFAULT_TIME_LIMIT,
            json: false,
            list_checks: false,
            inner: false,
        }
    }
}

/// What may be required. The four modes judge the key exchange of TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Requirement {
    /// Post-quantum groups, and classical ones for old clients
    RequireAny,
    /// Hybrid or pure post-quantum groups only
    RequirePqc,
    /// Hybrid groups only
    RequireBoth,
    /// Pure ML-KEM groups only
    PurePqc,
    /// ML-DSA certificates
    #[value(name = "ml-dsa")]
    MlDsa,
}

/// Runs the command.
///
/// # Errors
/// When the program, process or unit named does not exist or may not be looked at.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.inner {
        return inner::main().map(|()| ExitCode::SUCCESS);
    }
    let mut out = anstream::stdout().lock();
    if arguments.list_checks {
        write!(out, "{}", checks::as_markdown())?;
        return Ok(ExitCode::SUCCESS);
    }
    let target = Target::find(arguments)?;
    let facts = Facts::gather(&target, arguments)?;
    let findings = judge::judge(&target, &facts, arguments);
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report::Json::of(&target, &facts, &findings))?)?;
    } else {
        report::print(&mut out, &target, &facts, &findings)?;
    }
    Ok(ExitCode::from(u8::from(findings.count(Status::Fail) > 0)))
}
