//! openssl.cnf files that activate the provider.

/// The provider's option `native`: what to do where libcrypto has an algorithm itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// Leave it to libcrypto; the default.
    Yield,
    /// Take it over, for groups, EVP fetches and decoders.
    Prefer,
}

/// What goes into an openssl.cnf.
#[derive(Clone, Debug)]
pub struct OpensslConf {
    /// Whether the provider is there at all.
    pub provider: bool,
    /// `native` in the provider's section, and for `Prefer` the default properties that go with it.
    pub native: Native,
    /// TLS groups for every context of the process, colon-separated.
    pub groups: Option<String>,
    /// Further lines for every TLS context of the process.
    pub tls_lines: String,
    /// Further lines of the provider's section.
    pub provider_lines: String,
    /// A second section with the same module, by this name: a provider that ours does not know.
    pub second_provider: Option<String>,
}

impl OpensslConf {
    /// The provider with default options and nothing said about groups.
    pub fn new() -> OpensslConf {
        OpensslConf {
            provider: true,
            native: Native::Yield,
            groups: None,
            tls_lines: String::new(),
            provider_lines: String::new(),
            second_provider: None,
        }
    }

    /// No provider but OpenSSL's own.
    pub fn without_provider() -> OpensslConf {
        OpensslConf { provider: false, ..OpensslConf::new() }
    }

    /// Sets `native`.
    pub fn native(mut self, native: Native) -> OpensslConf {
        self.native = native;
        self
    }

    /// Sets the groups of every TLS context.
    pub fn groups(mut self, groups: &str) -> OpensslConf {
        self.groups = Some(groups.to_owned());
        self
    }

    /// Adds a line for every TLS context.
    pub fn tls_line(mut self, line: &str) -> OpensslConf {
        self.tls_lines.push_str(line);
        self.tls_lines.push('\n');
        self
    }

    /// Activates the module a second time, under a name that it does not know.
    pub fn second_provider(mut self, name: &str) -> OpensslConf {
        self.second_provider = Some(name.to_owned());
        self
    }

    /// Adds a line to the provider's section.
    pub fn provider_line(mut self, line: &str) -> OpensslConf {
        self.provider_lines.push_str(line);
        self.provider_lines.push('\n');
        self
    }

    /// The file's text; `module` is the path of qtls.so where the program runs.
    pub fn text(&self, module: &str) -> String {
        let mut head = String::from("config_diagnostics = 1\nopenssl_conf = openssl_init\n[openssl_init]\n");
        let mut sections = String::new();
        if self.provider {
            head.push_str("providers = provider_sect\n");
            let native = match self.native {
                Native::Yield => "yield",
                Native::Prefer => "prefer",
            };
            let (second, second_section) = match &self.second_provider {
                None => (String::new(), String::new()),
                Some(name) => (
                    format!("{name} = second_sect\n"),
                    format!("[second_sect]\nmodule = {module}\nactivate = 1\nsignatures = none\n"),
                ),
            };
            sections.push_str(&format!(
                "[provider_sect]\ndefault = default_sect\nqtls = qtls_sect\n{second}{second_section}\
                 [default_sect]\nactivate = 1\n\
                 [qtls_sect]\nmodule = {module}\nactivate = 1\nnative = {native}\n{}",
                self.provider_lines
            ));
            if self.native == Native::Prefer {
                head.push_str("alg_section = alg_sect\n");
                sections.push_str("[alg_sect]\ndefault_properties = ?provider=qtls\n");
            }
        }
        let groups = self.groups.as_ref().map(|groups| format!("Groups = {groups}\n")).unwrap_or_default();
        let tls = groups + &self.tls_lines;
        if !tls.is_empty() {
            head.push_str("ssl_conf = ssl_sect\n");
            sections.push_str(&format!("[ssl_sect]\nsystem_default = tls\n[tls]\n{tls}"));
        }
        head + &sections
    }
}

impl Default for OpensslConf {
    fn default() -> OpensslConf {
        OpensslConf::new()
    }
}
