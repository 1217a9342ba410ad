//! Figures from samples, and the table.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::load::Kind;
use crate::style::{BOLD, DIM, WARN, paint, thousands};

/// What one round of one configuration brought.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Worker CPU for all of its handshakes; none when no process is known.
    pub(crate) cpu: Option<Duration>,
    /// Worker CPU for one handshake in microseconds, of each turn.
    pub(crate) turns_us: Vec<f64>,
    pub(crate) took: Duration,
    pub(crate) latencies: Vec<Duration>,
    /// What the server sent in each handshake.
    pub(crate) bytes: Vec<u64>,
}

impl Sample {
    /// What one turn brought.
    pub(crate) fn of_turn(
        cpu: Option<Duration>,
        took: Duration,
        latencies: Vec<Duration>,
        bytes: Vec<u64>,
    ) -> Self {
        let turns_us = cpu.iter().map(|cpu| cpu.as_secs_f64() * 1e6 / latencies.len() as f64).collect();
        Self { cpu, turns_us, took, latencies, bytes }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.cpu = more.cpu.map(|cpu| self.cpu.unwrap_or_default() + cpu);
        self.turns_us.extend(more.turns_us);
        self.took += more.took;
        self.latencies.extend(more.latencies);
        self.bytes.extend(more.bytes);
    }

    /// Worker CPU for one handshake in microseconds.
    fn cpu_us(&self) -> Option<f64> {
        Some(self.cpu?.as_secs_f64() * 1e6 / self.latencies.len() as f64)
    }
}

/// One configuration and kind of handshake.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) group: &'static str,
    pub(crate) server: String,
    pub(crate) cipher: String,
    /// The scheme that the server signs full handshakes with.
    pub(crate) signature: String,
    pub(crate) kind: Kind,
    pub(crate) handshakes: usize,
    /// Worker CPU for one handshake; none without a process to read it from.
    pub(crate) cpu: Option<Cpu>,
    /// Median of the rounds.
    pub(crate) handshakes_per_second: f64,
    pub(crate) latency_us: Latency,
    /// Median of what the server sends until the client has finished.
    pub(crate) server_bytes: f64,
}

/// Worker CPU for one handshake, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cpu {
    pub(crate) min_us: f64,
    pub(crate) median_us: f64,
    /// Over all handshakes.
    pub(crate) mean_us: f64,
    pub(crate) rounds_us: Vec<f64>,
    /// To the first configuration: the median over all turns of the ratio within a turn.
    pub(crate) ratio: f64,
    /// To the first configuration, by the lower quartile of each one's turns: what else runs only ever adds time.
    pub(crate) ratio_of_quiet_turns: f64,
    /// More than the first configuration: the median over all turns of the difference within a turn, in microseconds.
    pub(crate) extra_us: f64,
    #[serde(skip)]
    turns_us: Vec<f64>,
}

/// Of all handshakes, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
}

impl Measured {
    pub(crate) fn new(
        name: String,
        group: &'static str,
        server: String,
        cipher: String,
        signature: String,
        kind: Kind,
        samples: Vec<Sample>,
    ) -> Self {
        let rounds_us: Option<Vec<f64>> = samples.iter().map(Sample::cpu_us).collect();
        let rates: Vec<f64> =
            samples.iter().map(|sample| sample.latencies.len() as f64 / sample.took.as_secs_f64()).collect();
        let mut latencies: Vec<f64> = samples
            .iter()
            .flat_map(|sample| &sample.latencies)
            .map(|latency| latency.as_secs_f64() * 1e6)
            .collect();
        latencies.sort_by(f64::total_cmp);
        let bytes: Vec<f64> =
            samples.iter().flat_map(|sample| &sample.bytes).map(|bytes| *bytes as f64).collect();
        Self {
            name,
            group,
            server,
            cipher,
            signature,
            kind,
            handshakes: latencies.len(),
            cpu: rounds_us.map(|rounds_us| Cpu {
                min_us: minimum(&rounds_us),
                median_us: median(&rounds_us),
                // Every round has as many handshakes.
                mean_us: rounds_us.iter().sum::<f64>() / rounds_us.len() as f64,
                rounds_us,
                ratio: 1.0,
                ratio_of_quiet_turns: 1.0,
                extra_us: 0.0,
                turns_us: samples.iter().flat_map(|sample| sample.turns_us.iter().copied()).collect(),
            }),
            handshakes_per_second: median(&rates),
            latency_us: Latency {
                p50: percentile(&latencies, 50),
                p95: percentile(&latencies, 95),
                p99: percentile(&latencies, 99),
            },
            server_bytes: median(&bytes),
        }
    }

    fn compare_with(&mut self, first: &Cpu) {
        if let Some(cpu) = &mut self.cpu {
            let ratios: Vec<f64> =
                cpu.turns_us.iter().zip(&first.turns_us).map(|(own, first)| own / first).collect();
            cpu.ratio = median(&ratios);
            let differences: Vec<f64> =
                cpu.turns_us.iter().zip(&first.turns_us).map(|(own, first)| own - first).collect();
            cpu.extra_us = median(&differences);
            cpu.ratio_of_quiet_turns = lower_quartile(&cpu.turns_us) / lower_quartile(&first.turns_us);
        }
    }
}

/// Everything one run measured, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    rounds: u32,
    handshakes_per_round: u32,
    connections: u32,
    /// Whether server and clients had cores of their own.
    pinned: bool,
    note: Option<String>,
    results: Vec<Measured>,
}

impl Report {
    pub(crate) fn new(
        rounds: u32,
        handshakes_per_round: u32,
        connections: u32,
        pinned: bool,
        note: Option<String>,
        mut results: Vec<Measured>,
    ) -> Self {
        for kind in [Kind::Full, Kind::Resumed] {
            let first =
                results.iter().find(|measured| measured.kind == kind).and_then(|first| first.cpu.clone());
            if let Some(first) = first {
                for measured in results.iter_mut().filter(|measured| measured.kind == kind) {
                    measured.compare_with(&first);
                }
            }
        }
        Self { rounds, handshakes_per_round, connections, pinned, note, results }
    }

    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        let name_width = column("configuration", self.results.iter().map(|measured| measured.name.as_str()));
        let signature_width =
            column("signature", self.results.iter().map(|measured| measured.signature.as_str()));
        let group_width = column("group", self.results.iter().map(|measured| measured.group));
        for kind in [Kind::Full, Kind::Resumed] {
            let rows: Vec<_> = self.results.iter().filter(|measured| measured.kind == kind).collect();
            if rows.is_empty() {
                continue;
            }
            let heading = if kind == Kind::Full { "Full handshakes" } else { "Resumed handshakes" };
            let _ = writeln!(out, "{}", paint(BOLD, heading));
            let head = format!(
                "  {:<name_width$}  {:<group_width$} {:<signature_width$} {:>10} {:>8} {:>8} {:>6} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8}",
                "configuration",
                "group",
                "signature",
                "CPU µs min",
                "median",
                "mean",
                "ratio",
                "extra",
                "per s",
                "p50 ms",
                "p95 ms",
                "p99 ms",
                "bytes"
            );
            let _ = writeln!(out, "{}", paint(DIM, head));
            for row in rows {
                let [min, median, mean, ratio, extra] = match &row.cpu {
                    Some(cpu) => [
                        format!("{:.1}", cpu.min_us),
                        format!("{:.1}", cpu.median_us),
                        format!("{:.1}", cpu.mean_us),
                        format!("{:.3}", cpu.ratio),
                        format!("{:+.1}", cpu.extra_us),
                    ],
                    None => ["-"; 5].map(str::to_owned),
                };
                let _ = writeln!(
                    out,
                    "  {:<name_width$}  {:<group_width$} {:<signature_width$} {min:>10} {median:>8} {mean:>8} {ratio:>6} {extra:>7} {:>8} {:>8.2} {:>8.2} {:>8.2} {:>8}",
                    row.name,
                    row.group,
                    row.signature,
                    thousands(row.handshakes_per_second.round() as u64),
                    row.latency_us.p50 / 1000.0,
                    row.latency_us.p95 / 1000.0,
                    row.latency_us.p99 / 1000.0,
                    thousands(row.server_bytes.round() as u64),
                );
            }
            out.push('\n');
        }
        self.write_circumstances(&mut out);
        out
    }

    fn write_circumstances(&self, out: &mut String) {
        let mut said: Vec<String> = Vec::new();
        for measured in &self.results {
            let line = format!("{}: {}, {}", measured.name, measured.server, measured.cipher);
            if !said.contains(&line) {
                said.push(line);
            }
        }
        said.push(format!(
            "{} rounds of {} handshakes each, {} connections at once, {}",
            self.rounds,
            thousands(u64::from(self.handshakes_per_round)),
            self.connections,
            if self.pinned { "server and clients on cores of their own" } else { "cores not pinned" }
        ));
        for line in said {
            let _ = writeln!(out, "{}", paint(DIM, line));
        }
        if let Some(note) = &self.note {
            let _ = writeln!(out, "{} {note}", paint(WARN, "!"));
        }
        if self.results.iter().any(|measured| measured.cpu.is_none()) {
            let _ = writeln!(out, "{} without --pid the server's CPU time is not known", paint(WARN, "!"));
        }
    }
}

fn column<'a>(heading: &str, cells: impl Iterator<Item = &'a str>) -> usize {
    cells.map(|cell| cell.chars().count()).chain([heading.len()]).max().unwrap_or(0)
}

fn minimum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

fn lower_quartile(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 25)
}

/// The nearest rank: the smallest value that at least `percent` of all do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &str, rounds: &[f64]) -> Measured {
        let samples = rounds.iter().map(|cpu| {
            let cpu = Duration::from_secs_f64(cpu * 100.0 / 1e6);
            Sample::of_turn(
                Some(cpu),
                Duration::from_secs(1),
                vec![Duration::from_millis(1); 100],
                vec![3000; 100],
            )
        });
        Measured::new(
            name.to_owned(),
            "X25519",
            "nginx".to_owned(),
            "suite".to_owned(),
            "mldsa65".to_owned(),
            Kind::Full,
            samples.collect(),
        )
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([50, 95, 99, 100].map(|percent| percentile(&values, percent)), [50.0, 95.0, 99.0, 100.0]);
        assert_eq!(percentile(&[7.0], 99), 7.0);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 50), 2.0);
    }

    #[test]
    fn medians_of_even_counts_lie_between() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn ratio_and_difference_compare_within_a_turn() {
        // Round two was disturbed for both alike: the ratio of a round does not care, that of medians would.
        let results =
            vec![measured("first", &[100.0, 200.0, 100.0]), measured("second", &[110.0, 220.0, 110.0])];
        let report = Report::new(3, 100, 4, true, None, results);
        let cpu = report.results[1].cpu.as_ref().unwrap();
        assert!((cpu.ratio - 1.1).abs() < 1e-9 && (cpu.ratio_of_quiet_turns - 1.1).abs() < 1e-9, "{cpu:?}");
        assert_eq!(report.results[0].cpu.as_ref().unwrap().ratio, 1.0);
        assert!((cpu.extra_us - 10.0).abs() < 1e-9, "{cpu:?}");
        assert_eq!(report.results[1].handshakes_per_second, 100.0);
    }

    #[test]
    fn turns_add_up_to_a_round() {
        let turn = |cpu| {
            let latencies = vec![Duration::from_millis(1); 2];
            Sample::of_turn(
                Some(Duration::from_micros(cpu)),
                Duration::from_millis(5),
                latencies,
                vec![3000; 2],
            )
        };
        let mut round = Sample::default();
        round.add(turn(100));
        round.add(turn(300));
        assert_eq!(round.cpu_us(), Some(100.0));
        assert_eq!(round.turns_us, [50.0, 150.0]);
        assert_eq!((round.took, round.latencies.len()), (Duration::from_millis(10), 4));
    }

    #[test]
    fn the_table_says_when_cpu_time_is_not_known() {
        let samples =
            vec![Sample::of_turn(None, Duration::from_secs(1), vec![Duration::from_millis(1)], vec![3000])];
        let name = "remote".to_owned();
        let results = vec![Measured::new(
            name,
            "X25519",
            "host".to_owned(),
            "suite".to_owned(),
            "mldsa65".to_owned(),
            Kind::Resumed,
            samples,
        )];
        let text = Report::new(1, 1, 1, false, None, results).to_text();
        assert!(text.contains("without --pid"), "{text}");
    }
}
