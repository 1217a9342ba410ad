//! Shell scripts that call `openssl`, in a directory of a platform.

use std::{
    fs,
    process::{ExitStatus, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{
    openssl_conf::OpensslConf,
    platform::{Platform, WorkDir},
};

/// A directory of a platform in which scripts find its `openssl`, configured.
pub struct OpensslShell {
    /// Whose `openssl` it is.
    pub platform: &'static Platform,
    /// Where scripts run.
    pub directory: WorkDir,
    variables: Vec<(String, String)>,
}

/// How a script ended.
#[derive(Debug)]
pub struct ScriptRun {
    /// The status of the last command, or of the first that failed.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub output: String,
    /// What it wrote to its standard error.
    pub errors: String,
}

impl OpensslShell {
    /// Makes the directory, with an openssl.cnf that all scripts use.
    pub fn new(platform: &'static Platform, conf: &OpensslConf) -> Result<OpensslShell> {
        let directory = WorkDir::new(platform)?;
        let conf = directory.write_openssl_conf("openssl.cnf", conf)?;
        Ok(OpensslShell { platform, directory, variables: vec![("OPENSSL_CONF".to_owned(), conf)] })
    }

    /// Adds a variable to the scripts' environment.
    pub fn variable(mut self, name: &str, value: &str) -> OpensslShell {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs a script; it ends with the first command that fails.
    pub fn run(&self, script: &str) -> Result<ScriptRun> {
        let mut command = self.platform.shell(&self.directory.inside(""), script)?;
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let run = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
        Ok(ScriptRun {
            status: run.status,
            output: String::from_utf8_lossy(&run.stdout).into_owned(),
            errors: String::from_utf8_lossy(&run.stderr).into_owned(),
        })
    }

    /// Runs a script that must succeed, and returns what it wrote to its standard output.
    ///
    /// # Errors
    /// It failed; the error holds all that it wrote.
    pub fn succeed(&self, script: &str) -> Result<String> {
        let run = self.run(script)?;
        ensure!(run.status.success(), "{} of\n{script}\n{}", run.status, run.text());
        Ok(run.output)
    }

    /// Writes a file into the directory.
    pub fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.directory.outside(file);
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a file of the directory.
    pub fn read(&self, file: &str) -> Result<Vec<u8>> {
        let path = self.directory.outside(file);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }
}

impl ScriptRun {
    /// All that it wrote.
    pub fn text(&self) -> String {
        format!("{}{}", self.output, self.errors)
    }
}
