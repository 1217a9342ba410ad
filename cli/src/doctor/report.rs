//! The findings, for people and for scripts.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::checks::{Finding, Findings, Status};
use super::facts::Facts;
use super::target::Target;

/// Version of the JSON's shape; fields are only ever added within one.
const FORMAT: u32 = 1;

/// Columns for the name of a check, and where its text begins.
const ID_WIDTH: usize = 25;
const INDENT: usize = ID_WIDTH + 8;

/// A gateway may have hundreds of certificates, and what is right about each is not worth a page.
const MOST_RIGHT_LINES: usize = 6;

/// What `--json` prints.
#[derive(Serialize)]
pub(super) struct Json<'a> {
    format: u32,
    /// `ok`, `warn` or `fail`: the worst finding.
    verdict: Status,
    program: String,
    environment: &'a str,
    libssl: Option<String>,
    openssl: Option<&'a str>,
    configuration: Option<&'a str>,
    findings: &'a [Finding],
}

impl<'a> Json<'a> {
    /// Puts a report together.
    pub(super) fn of(target: &'a Target, facts: &'a Facts, findings: &'a Findings) -> Self {
        let report = facts.report();
        Self {
            format: FORMAT,
            verdict: findings.all().iter().map(|finding| finding.status).max().unwrap_or(Status::Ok),
            program: target.program.display().to_string(),
            environment: &target.environment_of,
            libssl: facts.openssl.as_ref().map(|(_, libssl)| libssl.display().to_string()),
            openssl: report.map(|report| report.version.as_str()).filter(|text| !text.is_empty()),
            configuration: report
                .map(|report| report.configuration_file.as_str())
                .filter(|text| !text.is_empty()),
            findings: findings.all(),
        }
    }
}

/// Prints the report for people; colour goes away by itself where the output is no terminal.
pub(super) fn print(
    out: &mut impl Write,
    target: &Target,
    facts: &Facts,
    findings: &Findings,
) -> io::Result<()> {
    let bold = Style::new().bold();
    let dim = Style::new().dimmed();
    let json = Json::of(target, facts, findings);
    writeln!(out, "{bold}{}{bold:#}, environment of {}", json.program, json.environment)?;
    if let (Some(openssl), Some(libssl)) = (json.openssl, &json.libssl) {
        writeln!(out, "{openssl}, {libssl}")?;
    }
    writeln!(out)?;
    for finding in findings.all().iter().filter(|finding| finding.status != Status::Skipped) {
        let (mark, style) = appearance(finding.status);
        let grave = finding.gravity.iter().filter(|gravity| **gravity > Status::Ok).count();
        let shown = finding.found.len().min(grave + MOST_RIGHT_LINES);
        let mut lines = finding.found[..shown].iter();
        let first = lines.next().map(String::as_str).unwrap_or_default();
        writeln!(out, "{style}{mark}{style:#} {bold}{:ID_WIDTH$}{bold:#} {first}", finding.id)?;
        for line in lines {
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
        if shown < finding.found.len() {
            let more = finding.found.len() - shown;
            writeln!(out, "{:INDENT$}{dim}… and {more} more that are right (--json has them){dim:#}", "")?;
        }
        for line in &finding.mend {
            writeln!(out, "{:INDENT$}{bold}→{bold:#} {line}", "")?;
        }
    }
    let (wrong, warned) = (findings.count(Status::Fail), findings.count(Status::Warn));
    writeln!(out)?;
    let (mark, style) = appearance(json.verdict);
    let verdict = match (wrong, warned) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, warned) => format!("nothing is wrong, {} to look at", count(warned, "warning")),
        (wrong, 0) => format!("{} wrong", count(wrong, "thing")),
        (wrong, warned) => {
            format!("{} wrong, {} to look at", count(wrong, "thing"), count(warned, "warning"))
        }
    };
    let skipped = findings.count(Status::Skipped);
    writeln!(out, "{style}{mark}{style:#} {verdict}{dim}; {} not applicable{dim:#}", count(skipped, "check"))
}

/// `1 token`, `2 tokens`.
pub(super) fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn appearance(status: Status) -> (&'static str, Style) {
    match status {
        Status::Ok => ("  ok  ", AnsiColor::Green.on_default()),
        Status::Warn => (" warn ", AnsiColor::Yellow.on_default().bold()),
        Status::Fail => (" FAIL ", AnsiColor::Red.on_default().bold()),
        Status::Skipped => (" skip ", Style::new().dimmed()),
    }
}
