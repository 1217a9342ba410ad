//! The inner process: loads the target's libssl under the target's environment and user, and reports.
//!
//! A foreign library may crash, hang or print; so it runs in a process of its own, which writes JSON lines to its
//! standard output: a `step` before each thing tried, the `report` at the end. When the report is missing, the last
//! step says where it died.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use qtls_cli::groups;
use qtls_cli::probe::wire;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde::{Deserialize, Serialize};

use super::configuration::{Configuration, names_in_list};
use super::identity::{IdentityFacts, examine_identity};
use super::nginx::{Identity, Profile};
use super::tokens::{self, TokenReport, TokenRequest};
use crate::libssl::{self, Context, Info, LoadError, OpenSsl, Operation};

/// OpenSSL before 3.0.14, 3.1.6 and 3.2.2 writes past a buffer when a list has more names than this.
const LONGEST_SAFE_LIST: usize = 40;

/// `SSL_OP_NO_SSLv3`, `_TLSv1`, `_TLSv1_2`, `_TLSv1_1`, `_TLSv1_3` (`<openssl/ssl.h>`), by nginx's names.
const VERSION_OPTIONS: [(&str, u64); 5] = [
    ("SSLv3", 1 << 25),
    ("TLSv1", 1 << 26),
    ("TLSv1.1", 1 << 28),
    ("TLSv1.2", 1 << 27),
    ("TLSv1.3", 1 << 29),
];

/// What the inner process is to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Task {
    /// Start as the program does and look at everything.
    Examine,
    /// Load the configuration with every error kept.
    LoadStrictly,
    /// Parse the configuration and no more.
    ReadConfiguration,
    /// Look at the keys in tokens.
    LookAtTokens,
    /// Load the provider's module with the dynamic loader alone.
    LoadModule,
}

/// The order to the inner process.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) task: Task,
    pub(super) libcrypto: PathBuf,
    pub(super) libssl: PathBuf,
    /// Name of the section a program asks for beside `openssl_conf`.
    pub(super) application: Option<String>,
    /// Whether the program reads a configuration at all.
    pub(super) reads_configuration: bool,
    /// The provider under examination.
    pub(super) provider: String,
    /// The module, for [`Task::LoadModule`].
    pub(super) module: PathBuf,
    /// What the server sets on its contexts itself.
    pub(super) profiles: Vec<Profile>,
    /// The certificates and keys the server's configuration names.
    pub(super) identities: Vec<Identity>,
    /// For [`Task::LookAtTokens`].
    pub(super) tokens: Option<TokenRequest>,
}

impl Request {
    /// One for these libraries, that says no more.
    pub(super) fn for_libraries(task: Task, libcrypto: PathBuf, libssl: PathBuf) -> Self {
        Self {
            task,
            libcrypto,
            libssl,
            application: None,
            reads_configuration: false,
            provider: String::new(),
            module: PathBuf::new(),
            profiles: Vec::new(),
            identities: Vec::new(),
            tokens: None,
        }
    }
}

/// What the inner process found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    /// The dynamic loader refused libcrypto, libssl or the module.
    pub(super) loader_error: Option<String>,
    /// Version text of a library that is no OpenSSL 3.
    pub(super) unsupported: Option<String>,
    pub(super) version: String,
    pub(super) configuration_directory: String,
    pub(super) modules_directory: String,
    pub(super) configuration_file: String,
    /// Why the configuration file can't be opened by this user.
    pub(super) open_error: Option<String>,
    /// Whether `OPENSSL_init_ssl` (or the strict load) reported success, and what the queue held.
    pub(super) started: bool,
    pub(super) start_errors: Vec<String>,
    pub(super) configuration: Option<Configuration>,
    /// Line and words when the file can't be parsed.
    pub(super) syntax_error: Option<(i64, Vec<String>)>,
    pub(super) providers: Vec<ProviderFacts>,
    pub(super) groups: Vec<GroupFacts>,
    pub(super) lists: Vec<ListFacts>,
    /// The schemes of ML-DSA that libssl knows, by the names that it takes in a list.
    pub(super) ml_dsa: Vec<String>,
    pub(super) profiles: Vec<ProfileFacts>,
    pub(super) identities: Vec<IdentityFacts>,
    /// What [`Task::LookAtTokens`] found.
    pub(super) tokens: TokenReport,
    /// What a client of this libssl would send: groups offered, groups with a share.
    pub(super) client_offer: (Vec<u16>, Vec<u16>),
    /// What was printed on standard error meanwhile; added by the outer process.
    pub(super) stderr: String,
    /// How the process ended when it did not end well, after it had reported; added by the outer process.
    pub(super) bad_end: Option<String>,
}

/// An active provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ProviderFacts {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) version: String,
    pub(super) build: String,
    pub(super) running: bool,
    pub(super) self_test: bool,
    /// Its key types, each by its first name.
    pub(super) key_types: Vec<String>,
    /// The TLS signature schemes it offers.
    pub(super) schemes: Vec<String>,
}

/// One group and who is behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct GroupFacts {
    pub(super) name: String,
    pub(super) code_point: u16,
    pub(super) post_quantum: bool,
    /// Provider of the key management under the default properties: it decides the handshake.
    pub(super) key_management: Option<String>,
    /// Provider of the encapsulation.
    pub(super) encapsulation: Option<String>,
    /// Every active provider that has it.
    pub(super) holders: Vec<String>,
    /// Whether libssl takes the name in a list.
    pub(super) accepted: bool,
}

/// One configured list of groups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ListFacts {
    /// Where it stands, for people.
    pub(super) origin: String,
    pub(super) value: String,
    pub(super) accepted: bool,
    /// Too long to be given to this libssl.
    pub(super) too_long: bool,
    /// Names that libssl does not take, one by one; optional ones (`?name`) left out.
    pub(super) unknown: Vec<String>,
    /// Names that come twice.
    pub(super) repeated: Vec<String>,
}

/// What a server with one profile does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ProfileFacts {
    pub(super) label: String,
    /// What the context could not be set up for.
    pub(super) errors: Vec<String>,
    /// Handshake with a client of the same libssl that offers everything, best first.
    pub(super) capable: Outcome,
    /// Answer to a client that offers post-quantum groups but sends an X25519 share only.
    pub(super) classical_share: Option<u16>,
    /// Groups accepted, each asked alone by a HelloRetryRequest.
    pub(super) accepted: Vec<u16>,
    /// Whether TLS 1.2 is accepted.
    pub(super) tls_1_2: bool,
    /// Whether TLS 1.3 is accepted.
    pub(super) tls_1_3: bool,
}

/// A handshake in memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) completed: bool,
    pub(super) group: Option<u16>,
    pub(super) errors: Vec<String>,
}

/// A line of the inner process.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Step(String),
    Report(Box<Report>),
}

/// How the inner process ended.
pub(super) enum Ending {
    /// With a report.
    Reported(Box<Report>),
    /// Without one: in which step, and how.
    Died {
        /// What it was doing.
        step: String,
        /// For people: a signal or an exit code, or the time limit.
        how: String,
        /// Its last words on standard error.
        stderr: String,
    },
}

/// As whom and where the inner process runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    pub(super) environment: BTreeMap<OsString, OsString>,
    /// User and group to become; none to stay.
    pub(super) user: Option<(u32, u32)>,
    /// How long the inner process may take.
    pub(super) time_limit: Duration,
}

/// Runs the inner process and waits for it, within the time limit.
pub(super) fn run(request: &Request, surroundings: &Surroundings) -> anyhow::Result<Ending> {
    let spawn = |program: &Path| {
        let mut command = Command::new(program);
        command.args(["doctor", "--inner"]).env_clear().envs(&surroundings.environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some((user, group)) = surroundings.user {
            command.uid(user).gid(group);
        }
        command.spawn()
    };
    // Without /proc (a bare chroot) the path this program was started by has to do.
    let mut child = spawn(Path::new("/proc/self/exe"))
        .or_else(|error| std::env::args_os().next().map_or(Err(error), |name| spawn(Path::new(&name))))
        .context("can't start the inner process")?;
    let order = serde_json::to_vec(request)?;
    // A child that dies before it reads closes the pipe; how it died says more than that.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(&order));

    let (sender, lines) = mpsc::channel();
    let output = child.stdout.take().context("no standard output of the inner process")?;
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            // What a module prints on standard output is no line of ours.
            if let Ok(line) = serde_json::from_slice::<Line>(&line)
                && sender.send(line).is_err()
            {
                return;
            }
        }
    });
    let mut errors = child.stderr.take().context("no standard error of the inner process")?;
    let stderr = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.by_ref().take(1 << 16).read_to_end(&mut text);
        let _ = std::io::copy(&mut errors, &mut std::io::sink());
        String::from_utf8_lossy(&text).trim().to_owned()
    });

    let deadline = Instant::now() + surroundings.time_limit;
    let mut step = "starting".to_owned();
    let mut report = None;
    let timed_out = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Line::Step(name)) => step = name,
            // What is left is the library's own exit, which may crash as well.
            Ok(Line::Report(found)) => report = Some(found),
            Err(mpsc::RecvTimeoutError::Disconnected) => break false,
            Err(mpsc::RecvTimeoutError::Timeout) => break true,
        }
    };
    if timed_out {
        child.kill().context("can't end the inner process")?;
    }
    let status = child.wait()?;
    // After a kill a grandchild may hold the pipe open; its words are not worth a wait.
    let stderr = if timed_out { String::new() } else { stderr.join().unwrap_or_default() };
    let how = match (timed_out, status.signal(), status.code()) {
        (true, ..) => {
            Some(format!("stopped, having found no end in {} seconds", surroundings.time_limit.as_secs()))
        }
        (_, Some(signal), _) => Some(format!("killed by {}", signal_name(signal))),
        (.., Some(0)) => None,
        (.., code) => Some(format!("ended with exit code {}", code.unwrap_or(-1))),
    };
    Ok(match report {
        Some(mut report) => {
            report.stderr = stderr;
            report.bad_end = how;
            Ending::Reported(report)
        }
        None => {
            Ending::Died { step, how: how.unwrap_or_else(|| "ended without a report".to_owned()), stderr }
        }
    })
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |name| name.to_string())
}

/// The inner process itself: order on standard input, lines on standard output.
pub(super) fn main() -> anyhow::Result<()> {
    let request: Request =
        serde_json::from_reader(std::io::stdin().lock()).context("no valid order on stdin")?;
    let report = match request.task {
        Task::LookAtTokens => Report {
            tokens: request.tokens.as_ref().map(tokens::examine).unwrap_or_default(),
            ..Report::default()
        },
        Task::LoadModule => {
            step("loading the provider's module");
            Report { loader_error: libssl::try_module(&request.module).err(), ..Report::default() }
        }
        Task::Examine | Task::LoadStrictly | Task::ReadConfiguration => {
            step("loading libcrypto and libssl");
            match OpenSsl::load(&request.libcrypto, &request.libssl) {
                Err(LoadError::Loader(error)) => Report { loader_error: Some(error), ..Report::default() },
                Err(LoadError::TooOld(version)) => Report { unsupported: Some(version), ..Report::default() },
                Ok(openssl) => match request.task {
                    Task::Examine => examine(&openssl, &request),
                    Task::ReadConfiguration => {
                        openssl.initialise(None, false);
                        read_configuration(&openssl, Report::default())
                    }
                    _ => load_strictly(&openssl, &request),
                },
            }
        }
    };
    say(&Line::Report(Box::new(report)));
    Ok(())
}

pub(super) fn step(name: &str) {
    say(&Line::Step(name.to_owned()));
}

fn say(line: &Line) {
    let Ok(mut text) = serde_json::to_vec(line) else { return };
    text.push(b'\n');
    // The reader gone means nobody wants to know.
    let _ = std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush());
}

fn load_strictly(openssl: &OpenSsl, request: &Request) -> Report {
    openssl.initialise(None, false);
    openssl.take_errors();
    step("loading the configuration");
    let file = openssl.default_configuration_file();
    let started = openssl.load_configuration_strictly(&file, request.application.as_deref());
    Report { started, start_errors: openssl.take_errors(), configuration_file: file, ..Report::default() }
}

fn examine(openssl: &OpenSsl, request: &Request) -> Report {
    let mut report = Report {
        version: openssl.version().to_owned(),
        configuration_directory: openssl.info(Info::ConfigurationDirectory),
        modules_directory: modules_directory(openssl),
        ..Report::default()
    };
    step("starting OpenSSL as the program does");
    report.started = openssl.initialise(request.application.as_deref(), request.reads_configuration);
    report.start_errors = openssl.take_errors();

    report = read_configuration(openssl, report);

    step("asking the providers");
    report.providers = openssl.providers(&request.provider).into_iter().map(ProviderFacts::from).collect();
    openssl.take_errors();

    step("asking who serves each group");
    report.groups = examine_groups(openssl, &report.providers);

    step("checking the configured lists of groups");
    report.lists = configured_lists(&report, request)
        .into_iter()
        .map(|(origin, value)| examine_list(openssl, &report.version, origin, value))
        .collect();

    step("asking for ML-DSA");
    report.ml_dsa = ml_dsa_schemes(openssl);
    openssl.take_errors();

    step("making a client's first message");
    if let Some(context) = openssl.context() {
        report.client_offer = offer_of(&context.client_hello());
    }

    report.profiles =
        request.profiles.iter().map(|profile| examine_profile(openssl, profile, &report)).collect();
    report.identities =
        request.identities.iter().map(|identity| examine_identity(openssl, identity, &report)).collect();
    report
}

/// Why the file can't be opened by this user.
fn open_error(file: &str) -> Option<String> {
    if file.is_empty() {
        return None;
    }
    let read = std::fs::File::open(file).and_then(|mut file| file.read(&mut [0]));
    read.err().map(|error| error.to_string())
}

fn read_configuration(openssl: &OpenSsl, report: Report) -> Report {
    step("parsing the configuration");
    let configuration_file = openssl.default_configuration_file();
    let open_error = open_error(&configuration_file);
    let report = Report { configuration_file, open_error, ..report };
    match openssl.read_configuration(&report.configuration_file) {
        Ok(sections) => Report { configuration: Some(Configuration { sections }), ..report },
        Err(error) => Report { syntax_error: Some((error.line, error.errors)), ..report },
    }
}

/// By the name of the scheme, `mldsa65`, where a list takes it (from 3.5 on), else by that of the key, `ML-DSA-65`.
fn ml_dsa_schemes(openssl: &OpenSsl) -> Vec<String> {
    let taken =
        |name: &&str| openssl.lenient_context().is_some_and(|context| context.set_signature_schemes(name));
    qtls_crypto::SIGNATURE_ALGORITHMS
        .iter()
        .filter_map(|algorithm| Some([algorithm.tls_scheme?.name, algorithm.name]))
        .filter_map(|names| names.into_iter().find(taken))
        .map(str::to_owned)
        .collect()
}

impl From<libssl::Provider> for ProviderFacts {
    fn from(provider: libssl::Provider) -> Self {
        let libssl::Provider { name, title, version, build, running, self_test, key_types, schemes } =
            provider;
        Self { name, title, version, build, running, self_test, key_types, schemes }
    }
}

/// `OPENSSL_MODULES` where it is honoured (the inner environment has lost it where not), else the built-in one.
fn modules_directory(openssl: &OpenSsl) -> String {
    match std::env::var_os("OPENSSL_MODULES") {
        Some(directory) => OsString::from_vec(directory.as_bytes().to_vec()).to_string_lossy().into_owned(),
        None => openssl.info(Info::ModulesDirectory),
    }
}

fn examine_groups(openssl: &OpenSsl, providers: &[ProviderFacts]) -> Vec<GroupFacts> {
    let known = groups::known_groups().into_iter().filter(|group| {
        matches!(group.kind, groups::Kind::Hybrid | groups::Kind::PureMlKem | groups::Kind::Classical)
    });
    known
        .map(|group| {
            let name = fetch_name(group.name);
            let holders = providers.iter().map(|provider| provider.name.clone()).filter(|provider| {
                let properties = format!("provider={provider}");
                openssl.who_serves(Operation::KeyManagement, name, &properties).as_ref() == Some(provider)
            });
            let facts = GroupFacts {
                name: group.name.to_owned(),
                code_point: group.code_point,
                post_quantum: group.kind.is_post_quantum(),
                key_management: openssl.who_serves(Operation::KeyManagement, name, ""),
                encapsulation: openssl.who_serves(Operation::Encapsulation, name, ""),
                holders: holders.collect(),
                accepted: openssl.lenient_context().is_some_and(|context| context.set_groups(group.name)),
            };
            openssl.take_errors();
            facts
        })
        .collect()
}

/// The key management behind a group: the NIST curves share one, so do the finite fields.
fn fetch_name(group: &str) -> &str {
    if group.starts_with("secp") {
        "EC"
    } else if group.starts_with("ffdhe") {
        "DH"
    } else {
        group
    }
}

/// Every list of groups that takes part: openssl.cnf's and those of the server's own configuration.
fn configured_lists(report: &Report, request: &Request) -> Vec<(String, String)> {
    let mut lists = Vec::new();
    if let Some(configuration) = &report.configuration
        && let Some((origin, value)) = configuration.groups(request.application.as_deref())
    {
        lists.push((format!("{origin} of {}", report.configuration_file), value));
    }
    for profile in &request.profiles {
        if let Some(value) = &profile.curves {
            lists.push((format!("{}, {}", profile.own_list(), profile.label), value.clone()));
        }
        for (name, value) in profile.commands.iter().filter(|(name, _)| is_groups_command(name)) {
            lists.push((format!("ssl_conf_command {name}, {}", profile.label), value.clone()));
        }
    }
    lists
}

/// Whether an `SSL_CONF_cmd` name sets the list of groups; OpenSSL compares without case.
pub(super) fn is_groups_command(name: &str) -> bool {
    name.eq_ignore_ascii_case("Groups") || name.eq_ignore_ascii_case("Curves")
}

fn examine_list(openssl: &OpenSsl, version: &str, origin: String, value: String) -> ListFacts {
    let names = names_in_list(&value);
    let too_long = names.len() > LONGEST_SAFE_LIST && super::version::Version::parse(version) < (3, 3, 0);
    let accepted = !too_long && openssl.lenient_context().is_some_and(|context| context.set_groups(&value));
    let mut unknown = Vec::new();
    let mut repeated = Vec::new();
    for (index, entry) in names.iter().enumerate() {
        let name = entry.name.as_str();
        if names[..index].iter().any(|earlier| earlier.name == name)
            && !repeated.iter().any(|known| known == name)
        {
            repeated.push(name.to_owned());
        }
        let taken = openssl.lenient_context().is_some_and(|context| context.set_groups(name));
        if !taken && !entry.optional && !entry.removed {
            unknown.push(name.to_owned());
        }
    }
    openssl.take_errors();
    ListFacts { origin, value, accepted, too_long, unknown, repeated }
}

fn examine_profile(openssl: &OpenSsl, profile: &Profile, report: &Report) -> ProfileFacts {
    step(&format!("a server's context for {}", profile.label));
    let mut facts = ProfileFacts { label: profile.label.clone(), ..ProfileFacts::default() };
    let Some(server) = openssl.context() else {
        facts.errors.push(format!("SSL_CTX_new fails: {}", openssl.take_errors().join("; ")));
        return facts;
    };
    for (certificate, key) in throw_away_identities() {
        for (_, errors) in server.use_identity(certificate.as_bytes(), key.as_bytes(), &[]) {
            facts.errors.push(format!("setting a certificate fails: {}", errors.join("; ")));
        }
    }
    facts.errors.extend(set_up_server(openssl, &server, profile));
    if !facts.errors.is_empty() {
        return facts;
    }

    step(&format!("a handshake with {}", profile.label));
    match capable_client(openssl, report) {
        Some(client) => {
            let handshake = server.handshake_with(&client);
            facts.capable = Outcome {
                completed: handshake.completed,
                group: last_group(&handshake.server_bytes),
                errors: handshake.errors,
            };
        }
        None => facts.capable.errors = openssl.take_errors(),
    }

    step(&format!("single questions to {}", profile.label));
    let all: Vec<u16> = report.groups.iter().map(|group| group.code_point).collect();
    facts.accepted = all.iter().copied().filter(|group| asks_for(&server, *group)).collect();
    facts.classical_share = server_group(&server, &all, Some(X25519));
    facts.tls_1_2 = accepts_tls_1_2(&server);
    facts.tls_1_3 = !facts.accepted.is_empty() || facts.classical_share.is_some();
    facts
}

/// A client of every version that offers every group this libssl has, best first.
pub(super) fn capable_client<'a>(openssl: &'a OpenSsl, report: &Report) -> Option<Context<'a>> {
    let ours = report.groups.iter().filter(|group| group.accepted);
    let offer: Vec<&str> = ours.map(|group| group.name.as_str()).collect();
    let client = openssl.lenient_context()?;
    client.set_versions(0, 0);
    client.set_options(VERSION_OPTIONS.iter().map(|(_, bit)| bit).sum(), 0);
    client.set_groups(&offer.join(":")).then_some(client)
}

/// `SSL_OP_CIPHER_SERVER_PREFERENCE` (`<openssl/ssl.h>`): the server's order of signature schemes counts as well.
const SERVER_PREFERENCE: u64 = 1 << 22;

/// Sets everything but certificates, and returns what failed.
pub(super) fn set_up_server(openssl: &OpenSsl, server: &Context<'_>, profile: &Profile) -> Vec<String> {
    let mut failures = Vec::new();
    openssl.take_errors();
    if profile.server_preference {
        server.set_options(0, SERVER_PREFERENCE);
    }
    if let Some(protocols) = &profile.protocols {
        // nginx first allows everything and then forbids what ssl_protocols does not name (ngx_ssl_create), which
        // undoes MinProtocol and Protocol of openssl.cnf.
        server.set_versions(0, wire::TLS_1_3);
        let all: u64 = VERSION_OPTIONS.iter().map(|(_, bit)| bit).sum();
        let missing =
            VERSION_OPTIONS.iter().filter(|(name, _)| !protocols.iter().any(|wanted| wanted == name));
        server.set_options(all, missing.map(|(_, bit)| bit).sum());
    }
    let mut attempt = |what: String, done: bool| {
        let errors = openssl.take_errors();
        if !done {
            failures.push(format!("{what} fails: {}", errors.join("; ")));
        }
    };
    if let Some(curves) = &profile.curves {
        attempt(format!("{} {curves}", profile.own_list()), server.set_groups(curves));
    }
    for (name, value) in &profile.commands {
        // Certificates are looked at by their own directives.
        if name.to_ascii_lowercase().contains("certificate") || name.eq_ignore_ascii_case("PrivateKey") {
            continue;
        }
        attempt(format!("ssl_conf_command {name} {value}"), server.command(name, value));
    }
    failures
}

/// Self-signed certificates and their keys, PEM: ECDSA P-256, and RSA because TLS 1.2 has key exchanges only with that.
fn throw_away_identities() -> &'static [(String, String)] {
    static MADE: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
        let keys = [KeyPair::generate(), KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)];
        let identity = |key: KeyPair| {
            let parameters = CertificateParams::new(["localhost".to_owned()]).ok()?;
            Some((parameters.self_signed(&key).ok()?.pem(), key.serialize_pem()))
        };
        keys.into_iter().filter_map(Result::ok).filter_map(identity).collect()
    });
    &MADE
}

/// Code point of X25519 (RFC 8446 section 4.2.7).
const X25519: u16 = 0x001D;
/// Code point of secp256r1.
const SECP256R1: u16 = 0x0017;

/// Whether the server answers a client that names this group alone, without a share, by asking for it.
fn asks_for(server: &Context<'_>, group: u16) -> bool {
    server_group(server, &[group], None) == Some(group)
}

/// The group a server chooses or asks for.
fn server_group(server: &Context<'_>, offered: &[u16], share: Option<u16>) -> Option<u16> {
    // The u-coordinate 9 is X25519's base point (RFC 7748 section 4.1): a valid share whose secret nobody needs.
    let base_point: [u8; 32] = std::array::from_fn(|index| if index == 0 { 9 } else { 0 });
    let shares: Vec<(u16, &[u8])> = share.map(|group| (group, &base_point[..])).into_iter().collect();
    let hello = client_hello(wire::TLS_1_3, offered, &shares);
    match wire::parse_server_flight(&server.answer(&hello)) {
        Ok(
            wire::ServerAnswer::HelloRetryRequest { group, .. }
            | wire::ServerAnswer::ServerHello { group, .. },
        ) => group,
        _ => None,
    }
}

fn accepts_tls_1_2(server: &Context<'_>) -> bool {
    let hello = client_hello(wire::TLS_1_2, &[X25519, SECP256R1], &[]);
    let answer = wire::parse_server_flight(&server.answer(&hello));
    matches!(answer, Ok(wire::ServerAnswer::ServerHello { version: wire::TLS_1_2, .. }))
}

fn client_hello(version: u16, groups: &[u16], key_shares: &[(u16, &[u8])]) -> Vec<u8> {
    // The connection goes no further than the first answer, so nothing depends on these bytes.
    let randomness = std::array::from_fn(|index| index as u8);
    wire::ClientHello { version, server_name: None, alpn: &[], groups, key_shares, randomness: &randomness }
        .encode()
}

/// The group of the last ServerHello (the first may be a HelloRetryRequest).
fn last_group(server_bytes: &[u8]) -> Option<u16> {
    let mut rest = server_bytes;
    let mut group = None;
    while let Some(length) = rest.get(3..5).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    {
        if let Ok(
            wire::ServerAnswer::HelloRetryRequest { group: found, .. }
            | wire::ServerAnswer::ServerHello { group: found, .. },
        ) = wire::parse_server_flight(rest)
        {
            group = found.or(group);
        }
        rest = rest.get(5 + length..).unwrap_or_default();
    }
    group
}

/// Groups offered and groups with a share, of a ClientHello record (RFC 8446 section 4.1.2).
fn offer_of(record: &[u8]) -> (Vec<u16>, Vec<u16>) {
    read_offer(record).unwrap_or_default()
}

fn read_offer(record: &[u8]) -> Option<(Vec<u16>, Vec<u16>)> {
    let number = |bytes: &[u8], at: usize| -> Option<usize> {
        Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])))
    };
    // Record header 5, handshake header 4, version 2, random 32.
    let mut rest = record.get(43..)?;
    rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    rest = rest.get(2 + number(rest, 0)?..)?;
    rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    rest = rest.get(2..2 + number(rest, 0)?)?;
    let (mut groups, mut shares) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (kind, length) = (number(rest, 0)?, number(rest, 2)?);
        let content = rest.get(4..4 + length)?;
        rest = &rest[4 + length..];
        if kind == 10 {
            groups = (2..content.len()).step_by(2).filter_map(|at| number(content, at)).collect();
        } else if kind == 51 {
            let mut at = 2;
            while let (Some(group), Some(length)) = (number(content, at), number(content, at + 2)) {
                shares.push(group);
                at += 4 + length;
            }
        }
    }
    let code_points =
        |values: Vec<usize>| values.into_iter().filter_map(|value| u16::try_from(value).ok()).collect();
    Some((code_points(groups), code_points(shares)))
}
