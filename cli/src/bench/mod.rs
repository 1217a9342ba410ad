//! `qtls bench`: what a handshake costs the server, with several configurations compared in one run.

mod load;
mod report;
mod server;
mod worker_cpu;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::ServerName;

use crate::groups::Group;
use crate::net::Target;
use crate::probe::{GroupList, parse_groups};
use load::{Checked, Kind, Load};
use report::{Measured, Report, Sample};
use server::{Configuration, Identity, Server, parse_configuration};
use worker_cpu::{Cores, cpu_nanoseconds};

/// Command line of `qtls bench`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  qtls bench localhost:8443 --groups X25519,X25519MLKEM768 --pid 4711
  qtls bench --nginx /usr/sbin/nginx \\
      --conf classical=-,group=X25519 --conf qtls=/etc/qtls/openssl.cnf

A --conf is NAME=OPENSSL_CNF[,group=G][,cert=FILE,key=FILE][,compress=on][,nginx=PATH][,chroot=DIR][,env.NAME=VALUE] \
or with haproxy=PATH,threads=N in place of nginx=PATH, \
with OPENSSL_CNF - for the system's own file, the group X25519MLKEM768 when left out, a certificate and key of its own \
where they are named, and compressed certificates (RFC 8879) where nginx has them.

Each --conf gets an nginx with one worker, or an HAProxy, on a free port, kept on one core while the clients keep to the \
others; they take turns every 50 handshakes, so that noise hits all alike. CPU is the worker's own time, in \
the kernel and outside of it, for one handshake from accept to close; the ratio is to the first configuration \
in the same turn, the median of all turns; extra is the difference likewise, in µs. Every handshake is checked to have used the group asked for. Bytes \
are those that the server sends until the client has finished, TCP and IP not counted.

Exit code: 0 measured, 2 error.")]
pub struct Arguments {
    /// A server that runs already
    #[arg(value_name = "HOST:PORT", required_unless_present = "conf", conflicts_with = "conf")]
    target: Option<Target>,
    /// Groups to compare on it
    #[arg(long, value_name = "LIST", default_value = "X25519,X25519MLKEM768", value_parser = parse_groups)]
    #[arg(conflicts_with = "conf")]
    groups: GroupList,
    /// Its process, or its workers', to read CPU time from
    #[arg(long, value_name = "PID,…", value_delimiter = ',', conflicts_with = "conf")]
    pid: Vec<i32>,
    /// Start nginx with this configuration; repeat it to compare
    #[arg(long, value_name = "SPEC", value_parser = parse_configuration)]
    conf: Vec<Configuration>,
    /// The nginx to start
    #[arg(long, value_name = "PATH", default_value = "nginx")]
    nginx: PathBuf,
    /// Start it inside this root; paths are as seen from inside
    #[arg(long, value_name = "DIR")]
    chroot: Option<PathBuf>,
    /// Certificate chain for nginx, PEM; without it an ECDSA P-256 one is made
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Rounds for each configuration
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Handshakes a round
    #[arg(long, value_name = "N", default_value = "2000", value_parser = clap::value_parser!(u32).range(1..))]
    handshakes: u32,
    /// Connections open at once
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// Measure only these handshakes
    #[arg(long, value_name = "full|resumed", hide_possible_values = true)]
    only: Option<Kind>,
    /// Let server and clients run on any core
    #[arg(long)]
    no_pin: bool,
    /// Every figure of every round as JSON
    #[arg(long)]
    json: bool,
}

/// Handshakes in a row with one server before the next one has its turn.
const TURN: usize = 50;

/// One row of the comparison: a server, a group, and where to read its CPU time.
struct Subject {
    name: String,
    group: Group,
    server: String,
    cipher: String,
    signature: String,
    load: Load,
    workers: Vec<i32>,
    own: Option<Server>,
}

/// Runs the command.
///
/// # Errors
/// When a server cannot be started or does not negotiate what is asked, and when interrupted.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("Ctrl-C cannot be caught")?;

    let subjects = match &arguments.target {
        Some(target) => running_server(arguments, target)?,
        None => own_servers(arguments)?,
    };
    let (pinned, note) = pin(arguments, &subjects)?;
    let measured = measure(arguments, &subjects, &stop)?;
    let report =
        Report::new(arguments.rounds, arguments.handshakes, arguments.connections, pinned, note, measured);
    let mut out = anstream::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", report.to_text())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn running_server(arguments: &Arguments, target: &Target) -> anyhow::Result<Vec<Subject>> {
    let address = target.resolve(Duration::from_secs(10))?;
    let server_name = ServerName::try_from(target.host.clone())
        .map_err(|_| anyhow!("\"{}\" is neither a DNS name nor an address", target.host))?;
    cpu_nanoseconds(&arguments.pid)?;
    let GroupList(groups) = &arguments.groups;
    groups
        .iter()
        .map(|group| {
            let connections = arguments.connections as usize;
            let load = Load::new(address, server_name.clone(), *group, connections, false)?;
            let Checked { cipher, signature } = load.check()?;
            Ok(Subject {
                name: group.name.to_owned(),
                group: *group,
                server: target.to_string(),
                cipher,
                signature,
                load,
                workers: arguments.pid.clone(),
                own: None,
            })
        })
        .collect()
}

fn own_servers(arguments: &Arguments) -> anyhow::Result<Vec<Subject>> {
    let common = identity(arguments)?;
    let server_name = ServerName::try_from("localhost").context("localhost is no server name")?;
    let mut subjects: Vec<Subject> = Vec::new();
    for configuration in &arguments.conf {
        if subjects.iter().any(|subject| subject.name == configuration.name) {
            bail!("two configurations are called \"{}\"; give each its own name", configuration.name);
        }
        let failed = || format!("configuration \"{}\"", configuration.name);
        let own = match &configuration.identity {
            Some((certificate, key)) => Some(read_identity(certificate, key).with_context(failed)?),
            None => None,
        };
        let identity = own.as_ref().unwrap_or(&common);
        let server = Server::start(configuration, &arguments.nginx, arguments.chroot.as_deref(), identity)
            .with_context(failed)?;
        let connections = arguments.connections as usize;
        let compress = configuration.compress;
        let load = Load::new(server.address, server_name.clone(), configuration.group, connections, compress)
            .with_context(failed)?;
        let Checked { cipher, signature } =
            load.check().with_context(|| format!("{} (it wrote: {})", failed(), server.said()))?;
        subjects.push(Subject {
            name: configuration.name.clone(),
            group: configuration.group,
            server: server.version.clone(),
            cipher,
            signature,
            load,
            workers: vec![server.worker],
            own: Some(server),
        });
    }
    Ok(subjects)
}

fn identity(arguments: &Arguments) -> anyhow::Result<Identity> {
    if let (Some(cert), Some(key)) = (&arguments.cert, &arguments.key) {
        return read_identity(cert, key);
    }
    let key = KeyPair::generate().context("no key can be made")?;
    let mut params =
        CertificateParams::new(vec!["localhost".to_owned()]).context("no certificate can be made")?;
    params.distinguished_name.push(DnType::CommonName, "qtls bench");
    let certificate = params.self_signed(&key).context("no certificate can be made")?;
    Ok(Identity { chain: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() })
}

fn read_identity(certificate: &Path, key: &Path) -> anyhow::Result<Identity> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    Ok(Identity { chain: read(certificate)?, key: read(key)? })
}

/// Gives the servers that we started one core and ourselves the others; says so, or why not.
fn pin(arguments: &Arguments, subjects: &[Subject]) -> anyhow::Result<(bool, Option<String>)> {
    let ours = subjects.iter().any(|subject| subject.own.is_some());
    if arguments.no_pin || !ours {
        return Ok((false, None));
    }
    let cores = match Cores::split() {
        Ok(cores) => cores,
        Err(reason) => return Ok((false, Some(reason.to_string()))),
    };
    cores.pin_clients()?;
    for worker in subjects.iter().flat_map(|subject| &subject.workers) {
        cores.pin_server(*worker)?;
    }
    Ok((true, None))
}

fn measure(arguments: &Arguments, subjects: &[Subject], stop: &AtomicBool) -> anyhow::Result<Vec<Measured>> {
    let kinds = match arguments.only {
        Some(kind) => vec![kind],
        None => vec![Kind::Full, Kind::Resumed],
    };
    let count = arguments.handshakes as usize;
    let total =
        u64::from(arguments.rounds) * u64::from(arguments.handshakes) * (subjects.len() * kinds.len()) as u64;
    let progress = progress_bar(total)?;
    // One short turn each before the first counts: caches, page faults, first allocations.
    for subject in subjects {
        for kind in &kinds {
            progress.set_message(format!("warming up {}", subject.name));
            subject.prepare(*kind)?;
            subject.turn(*kind, count.min(200), &ProgressBar::hidden(), stop)?;
        }
    }
    let mut samples: Vec<Vec<Vec<Sample>>> =
        subjects.iter().map(|_| kinds.iter().map(|_| Vec::new()).collect()).collect();
    for round in 0..arguments.rounds {
        for (kind_index, kind) in kinds.iter().enumerate() {
            progress.set_message(format!("{kind:?}, round {} of {}", round + 1, arguments.rounds));
            let round = interleaved(subjects, *kind, count, &progress, stop)?;
            for (samples, sample) in samples.iter_mut().zip(round) {
                samples[kind_index].push(sample);
            }
        }
    }
    progress.finish_and_clear();

    let mut measured = Vec::new();
    for (subject, by_kind) in subjects.iter().zip(samples) {
        for (kind, samples) in kinds.iter().zip(by_kind) {
            measured.push(Measured::new(
                subject.name.clone(),
                subject.group.name,
                subject.server.clone(),
                subject.cipher.clone(),
                subject.signature.clone(),
                *kind,
                samples,
            ));
        }
    }
    Ok(measured)
}

/// One round of every subject, a few handshakes at a time in turns: what else happens on the machine hits all of them alike.
fn interleaved(
    subjects: &[Subject],
    kind: Kind,
    count: usize,
    progress: &ProgressBar,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<Sample>> {
    let mut samples = vec![Sample::default(); subjects.len()];
    for subject in subjects {
        subject.prepare(kind)?;
    }
    let mut done = 0;
    for turn in 0.. {
        let handshakes = TURN.min(count - done);
        if handshakes == 0 {
            break;
        }
        for position in 0..subjects.len() {
            // Each turn starts with another subject, so that none always follows the same one.
            let index = (turn + position) % subjects.len();
            samples[index].add(subjects[index].turn(kind, handshakes, progress, stop)?);
        }
        done += handshakes;
    }
    Ok(samples)
}

impl Subject {
    fn prepare(&self, kind: Kind) -> anyhow::Result<()> {
        match kind {
            Kind::Full => Ok(()),
            Kind::Resumed => self.load.prime(),
        }
    }

    fn turn(
        &self,
        kind: Kind,
        count: usize,
        progress: &ProgressBar,
        stop: &AtomicBool,
    ) -> anyhow::Result<Sample> {
        let before = cpu_nanoseconds(&self.workers)?;
        let round = self
            .load
            .round(kind, count, progress, stop)
            .with_context(|| format!("measuring \"{}\"", self.name))?;
        // The clients have seen the server close every connection, so it has nothing left to do for them.
        let spent = cpu_nanoseconds(&self.workers)?.saturating_sub(before);
        let cpu = (!self.workers.is_empty()).then(|| Duration::from_nanos(spent));
        Ok(Sample::of_turn(cpu, round.took, round.latencies, round.bytes))
    }
}

fn progress_bar(total: u64) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {per_sec:>10} {eta:>4} left  {msg}")
        .context("the progress bar's template is wrong")?;
    Ok(ProgressBar::new(total).with_style(style))
}
