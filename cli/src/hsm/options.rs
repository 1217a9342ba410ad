//! Which tokens: the options of the provider's section in `openssl.cnf`, or those of the command line.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use qtls_pkcs11::{Config, Hsm};

use crate::doctor::{self, ProviderSection};

/// Where no status file can be made: what is done by hand is no server.
pub(crate) const NO_STATUS_DIRECTORY: &str = "/dev/null/none";

/// The options by their names in `openssl.cnf`.
const MODULE: &str = "pkcs11-module";
const TOKEN: &str = "pkcs11-token";
const PIN_SOURCE: &str = "pkcs11-pin-source";

/// Options that say which token is meant.
#[derive(clap::Args)]
#[command(next_help_heading = "Which token")]
pub(crate) struct TokenOptions {
    /// The openssl.cnf whose provider section has the pkcs11- options; without it OPENSSL_CONF, else the one that
    /// `qtls doctor` finds
    #[arg(long, value_name = "FILE", conflicts_with = "module")]
    pub(crate) conf: Option<PathBuf>,

    /// The PKCS#11 module, as /usr/lib/softhsm/libsofthsm2.so, instead of what openssl.cnf says
    #[arg(long, value_name = "PATH")]
    module: Option<String>,

    /// The token's label, or a URI with token or slot attributes
    #[arg(long, value_name = "LABEL")]
    token: Option<String>,

    /// Where the PIN comes from: file:PATH, env:NAME, cmd:COMMAND or cred:NAME
    #[arg(long, value_name = "SOURCE")]
    pin_source: Option<String>,
}

impl TokenOptions {
    /// Those of a configuration alone.
    pub(super) fn of_configuration(conf: Option<PathBuf>) -> Self {
        Self { conf, module: None, token: None, pin_source: None }
    }

    /// The options, parsed.
    ///
    /// # Errors
    /// No configuration is found, it names no module, or an option is wrong.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        if self.pin_source.as_ref().is_some_and(|source| source.starts_with("value:")) {
            bail!(
                "--pin-source value: would show the PIN to everybody who lists processes; put it into a file that only you \
                 can read, and give --pin-source file:PATH"
            );
        }
        let (mut settings, place) = match &self.module {
            Some(_) => (Vec::new(), None),
            None => {
                let section = self.section().context(
                    "no options of tokens from openssl.cnf (give --conf FILE, or --module PATH, --token LABEL and \
                     --pin-source SOURCE)",
                )?;
                let place = format!("[{}] of {}", section.name, section.file.display());
                (section.settings, Some(place))
            }
        };
        for (name, value) in [(MODULE, &self.module), (TOKEN, &self.token), (PIN_SOURCE, &self.pin_source)] {
            if let Some(value) = value {
                settings.retain(|(known, _)| known != name);
                settings.push((name.to_owned(), value.clone()));
            }
        }
        let mut config = parse(&settings)?.with_context(|| {
            let place = place.unwrap_or_default();
            format!("{place} has no {MODULE}: add the absolute path of the HSM's PKCS#11 module, or give --module PATH")
        })?;
        config.status_directory = NO_STATUS_DIRECTORY.into();
        Ok(config)
    }

    /// The tokens.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub(super) fn hsm(&self) -> anyhow::Result<Arc<Hsm>> {
        Ok(Hsm::new(self.config()?))
    }

    /// The provider's section, as it stands.
    ///
    /// # Errors
    /// There is none, or nobody who could read it.
    pub(super) fn section(&self) -> anyhow::Result<ProviderSection> {
        doctor::provider_section(self.conf.as_deref())
    }

    /// What to put before an `openssl` command so that it reads the same configuration.
    pub(super) fn environment_for_openssl(&self) -> String {
        match &self.conf {
            Some(file) => format!("OPENSSL_CONF={} ", super::quoted(&file.display().to_string())),
            None => String::new(),
        }
    }

    /// What to put behind a further `qtls` command so that it means the same token.
    pub(super) fn again(&self) -> String {
        let conf = self.conf.as_ref().map(|file| file.display().to_string());
        let options = [
            ("--conf", &conf),
            ("--module", &self.module),
            ("--token", &self.token),
            ("--pin-source", &self.pin_source),
        ];
        let given = options.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        given.map(|(name, value)| format!(" {name} {}", super::quoted(value))).collect()
    }
}

/// The options among the settings of a provider's section; none where there is no module.
///
/// # Errors
/// One is wrong.
pub(crate) fn parse(settings: &[(String, String)]) -> Result<Option<Config>, qtls_pkcs11::Error> {
    Config::parse(|name| {
        // As OpenSSL: the last one counts.
        settings.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    })
}
