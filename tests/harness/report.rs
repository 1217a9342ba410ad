//! Many small checks in one test: all are made, and the failures are told together.

use anyhow::Result;

/// Collects what fails; [`Report::finish`] panics when anything did, or when nothing was checked.
#[derive(Default)]
pub struct Report {
    passed: usize,
    failures: Vec<String>,
}

impl Report {
    /// An empty one.
    pub fn new() -> Report {
        Report::default()
    }

    /// Notes the outcome of one check.
    pub fn check(&mut self, what: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => self.failures.push(format!("{what}: {error:#}")),
        }
    }

    /// How many checks passed.
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// Ends the test.
    ///
    /// # Panics
    /// When a check failed, or none was made.
    pub fn finish(self) {
        assert!(
            self.failures.is_empty(),
            "{} of {} checks failed:\n{}",
            self.failures.len(),
            self.failures.len() + self.passed,
            self.failures.join("\n")
        );
        assert!(self.passed > 0, "nothing was checked");
        println!("{} checks passed", self.passed);
    }
}
