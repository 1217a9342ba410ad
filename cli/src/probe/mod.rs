//! `qtls probe`: what a TLS server negotiates, and what else it accepts.

pub mod certificate;
pub mod chain;
pub mod handshake;
pub mod report;
pub mod survey;
pub mod wire;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustls::pki_types::ServerName;

use crate::groups::{self, Group, Kind};
use crate::net::Target;
use handshake::{Client, Schemes};
use report::{Report, Verdict};
use survey::{Questioner, Survey};

/// Command line of `qtls probe`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  qtls probe example.org
  qtls probe 127.0.0.1:8443 --sni shop.example --ca ca.pem
  qtls probe localhost:8443 --groups X25519        # as a classical client
  qtls probe example.org --json | jq .verdict

Exit code: 0 post-quantum key exchange negotiated, 1 handshake fine but classical, 2 error.")]
pub struct Arguments {
    /// The server; port 443 when left out
    #[arg(value_name = "HOST[:PORT]")]
    target: Target,
    /// Name to ask for, when it is not HOST
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// Offer only these groups in the handshake, such as X25519MLKEM768,X25519
    #[arg(long, value_name = "LIST", value_parser = parse_groups)]
    groups: Option<GroupList>,
    /// Protocols to offer, such as h2,http/1.1
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_alpn)]
    alpn: Vec<String>,
    /// Judge the certificate by these roots (PEM) instead of the system's; reported, never enforced
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Only the handshake, without asking what else is accepted
    #[arg(long)]
    quick: bool,
    /// Give up on a connection after this time
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    timeout: Duration,
    /// The whole report as JSON
    #[arg(long)]
    json: bool,
}

/// A list of groups from the command line.
#[derive(Clone, Debug)]
pub(crate) struct GroupList(pub(crate) Vec<Group>);

pub(crate) fn parse_groups(list: &str) -> Result<GroupList, String> {
    groups::parse_list(list).map(GroupList).map_err(|error| format!("{error:#}"))
}

fn parse_alpn(protocol: &str) -> Result<String, String> {
    // RFC 7301 section 3.1: 1 to 255 bytes.
    if (1..=255).contains(&protocol.len()) {
        Ok(protocol.to_owned())
    } else {
        Err("a protocol name has 1 to 255 bytes".to_owned())
    }
}

pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "write a number of seconds above 0, such as 2.5".to_owned())
}

/// Runs the command; 0 post-quantum, 1 classical.
///
/// # Errors
/// When there is no server, or no handshake can be made with it.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let report = probe(arguments)?;
    let mut out = anstream::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", report.to_text())?;
    }
    Ok(report.exit_code())
}

fn probe(arguments: &Arguments) -> anyhow::Result<Report> {
    let address = arguments.target.resolve(arguments.timeout)?;
    let name = arguments.sni.as_deref().unwrap_or(&arguments.target.host);
    let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
        anyhow!("\"{name}\" is neither a DNS name nor an address; give the name with --sni NAME")
    })?;
    let sni = name.parse::<IpAddr>().is_err().then_some(name);
    let offer = match &arguments.groups {
        Some(GroupList(groups)) => groups.clone(),
        None => groups::default_offer(),
    };
    let client = |offer: &[Group], schemes: Schemes| -> anyhow::Result<Client> {
        let ca: Option<&Path> = arguments.ca.as_deref();
        Client::new(address, server_name.clone(), offer, schemes, &arguments.alpn, ca, arguments.timeout)
    };
    let questioner =
        Questioner { address, server_name: sni, alpn: &arguments.alpn, timeout: arguments.timeout };

    let (handshake, post_quantum_offer_fails) = match client(&offer, Schemes::All)?.probe() {
        Ok(handshake) => (handshake, None),
        Err(error) => {
            let classical: Vec<Group> =
                offer.iter().copied().filter(|group| group.kind == Kind::Classical).collect();
            let second = if classical.is_empty() || classical == offer {
                None
            } else {
                client(&classical, Schemes::All)?.probe().ok()
            };
            match second {
                Some(handshake) => (handshake, Some(error.to_string())),
                None => return Err(no_handshake(error, arguments, address, &questioner)),
            }
        }
    };
    // A server with certificates of both kinds chooses by what the client offers.
    let classical_client = match handshake.signature_post_quantum {
        true => Some(client(&offer, Schemes::Classical)?.shown_certificate()),
        false => None,
    };
    let survey = (!arguments.quick).then(|| questioner.survey());
    Ok(Report {
        target: arguments.target.to_string(),
        address: address.to_string(),
        server_name: sni.map(str::to_owned),
        verdict: Verdict::of(&handshake, post_quantum_offer_fails.as_deref(), survey.as_ref()),
        handshake,
        classical_client,
        post_quantum_offer_fails,
        survey,
    })
}

/// The error of a failed handshake, with what the server would have accepted.
fn no_handshake(
    error: std::io::Error,
    arguments: &Arguments,
    address: SocketAddr,
    questioner: &Questioner<'_>,
) -> anyhow::Error {
    let failed = anyhow!(error);
    let place = format!("no handshake with {} ({address})", arguments.target);
    if arguments.quick {
        return failed.context(place);
    }
    let survey: Survey = questioner.survey();
    let accepted = survey.accepted_names(|_| true);
    let hint = match (accepted.is_empty(), &survey.tls_1_2) {
        (false, _) => format!("; asked about each group alone, the server accepts {}", accepted.join(", ")),
        (true, survey::Tls12Answer::Accepted(cipher)) => {
            format!("; the server accepts TLS 1.2 with {cipher} only")
        }
        (true, _) => String::new(),
    };
    Err::<(), _>(failed).context(format!("{place}{hint}")).unwrap_err()
}
