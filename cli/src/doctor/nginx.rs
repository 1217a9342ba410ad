//! nginx: what it was built as, and what its configuration sets on TLS contexts by itself.

mod identities;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::bounded;
use super::version::Version;
pub(super) use identities::{Identity, Pair, Side};

/// Since this version nginx asks OpenSSL for the section `nginx` before `openssl_conf`.
const FIRST_WITH_APPLICATION_SECTION: (u32, u32, u32) = (1, 25, 2);
/// Since this version TLS 1.3 is on without being named in `ssl_protocols`.
const FIRST_WITH_TLS_1_3_BY_DEFAULT: (u32, u32, u32) = (1, 23, 4);

/// What a server sets on its TLS contexts itself, after `openssl.cnf` was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Profile {
    /// For people: which server.
    pub(super) label: String,
    /// `ssl_ecdh_curve`; none for `auto`.
    pub(super) curves: Option<String>,
    /// `ssl_protocols`; none when the program leaves protocols to OpenSSL.
    pub(super) protocols: Option<Vec<String>>,
    /// `ssl_conf_command`s, in order.
    pub(super) commands: Vec<(String, String)>,
    /// Whether `ssl_prefer_server_ciphers` is on, by which the server's order of signature schemes counts.
    pub(super) server_preference: bool,
}

impl Profile {
    /// What the program's own list of groups is called.
    pub(super) fn own_list(&self) -> &'static str {
        // Only nginx sets the protocols of every context.
        if self.protocols.is_some() { "ssl_ecdh_curve" } else { "the program's own list" }
    }
}

/// What `nginx -V` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Build {
    /// First line, as `nginx/1.22.1`.
    pub(super) name: String,
    /// Version of nginx itself; none for a relative with its own counting.
    pub(super) version: Option<Version>,
    /// Built with `--with-openssl=`, so with an OpenSSL inside.
    pub(super) own_openssl: bool,
    /// The configuration file built in.
    pub(super) configuration: PathBuf,
    /// The user and group that workers become without the directive `user`.
    pub(super) user: (String, Option<String>),
}

impl Build {
    /// Whether a file is an nginx or a relative, by its name.
    pub(super) fn is_nginx(program: &Path) -> bool {
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        ["nginx", "openresty", "angie", "freenginx", "tengine"].iter().any(|known| name.starts_with(known))
    }

    /// Runs `nginx -V`, which reads no configuration.
    pub(super) fn ask(program: &Path, environment: &BTreeMap<OsString, OsString>) -> anyhow::Result<Self> {
        let output = bounded::output(Command::new(program).arg("-V").env_clear().envs(environment))
            .with_context(|| format!("can't run {} -V", program.display()))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Self::parse(&text).with_context(|| format!("{} -V says: {}", program.display(), text.trim()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let versions: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(" version: "))
            .filter_map(|(_, rest)| rest.split_whitespace().next())
            .collect();
        let of_nginx =
            |name: &&&str| ["nginx/", "openresty/", "freenginx/"].iter().any(|known| name.starts_with(known));
        let known = versions.iter().find(of_nginx);
        let Some(name) = known.or(versions.first()) else { bail!("no version in it") };
        let arguments =
            text.lines().find_map(|line| line.strip_prefix("configure arguments:")).unwrap_or_default();
        let argument = |key: &str| arguments.split_whitespace().find_map(|word| word.strip_prefix(key));
        let prefix = Path::new(argument("--prefix=").unwrap_or("/usr/local/nginx"));
        Ok(Self {
            name: (*name).to_owned(),
            version: known.map(|name| Version::parse(name)),
            own_openssl: argument("--with-openssl=").is_some(),
            configuration: prefix.join(argument("--conf-path=").unwrap_or("conf/nginx.conf")),
            // auto/options: NGX_USER.
            user: (
                argument("--user=").unwrap_or("nobody").to_owned(),
                argument("--group=").map(str::to_owned),
            ),
        })
    }

    /// The section it asks OpenSSL for.
    pub(super) fn application(&self) -> Option<&'static str> {
        self.version.is_none_or(|version| version >= FIRST_WITH_APPLICATION_SECTION).then_some("nginx")
    }

    /// Whether it reads a configuration at all: one with an OpenSSL inside does so only when `OPENSSL_CONF` is set.
    pub(super) fn reads_configuration(&self, openssl_conf: bool) -> bool {
        !self.own_openssl || (openssl_conf && self.application().is_some())
    }

    /// What it uses without `ssl_protocols`.
    pub(super) fn default_protocols(&self) -> Vec<String> {
        let newer = self.version.is_none_or(|version| version >= FIRST_WITH_TLS_1_3_BY_DEFAULT);
        let names = if newer { &["TLSv1.2", "TLSv1.3"][..] } else { &["TLSv1", "TLSv1.1", "TLSv1.2"] };
        names.iter().map(|name| (*name).to_owned()).collect()
    }
}

/// What nginx's configuration says about TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// The different settings that listening sockets have.
    pub(super) profiles: Vec<Profile>,
    /// Settings that have no effect, with their place.
    pub(super) without_effect: Vec<String>,
    /// The certificates and keys it names.
    pub(super) identities: Vec<Identity>,
    /// The directive `user`: the user and group that workers become.
    pub(super) user: Option<(String, Option<String>)>,
}

/// Reads nginx's configuration with its includes, as far as TLS is concerned.
///
/// # Errors
/// When a file can't be read, or ends within a block.
pub(super) fn read_settings(file: &Path, build: &Build) -> anyhow::Result<Settings> {
    let directory = file.parent().unwrap_or(Path::new("/")).to_path_buf();
    let mut directives = Vec::new();
    read_file(file, &directory, 0, &mut directives)?;
    Ok(settings_of(&directives, &directory, build))
}

/// A directive with its block, if it has one.
#[derive(Debug)]
struct Directive {
    words: Vec<String>,
    block: Vec<Directive>,
    place: String,
}

/// nginx itself has no such limit, but then a file that includes itself never ends.
const DEEPEST_INCLUDE: u8 = 16;

fn read_file(file: &Path, directory: &Path, depth: u8, out: &mut Vec<Directive>) -> anyhow::Result<()> {
    if depth > DEEPEST_INCLUDE {
        bail!("{}: more than {DEEPEST_INCLUDE} includes within each other", file.display());
    }
    let text = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let tokens = tokens(&String::from_utf8_lossy(&text));
    let mut tokens = tokens.into_iter();
    read_block(&mut tokens, file, directory, depth, false, out)
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

/// Words, braces and semicolons with their lines (`ngx_conf_read_token`).
fn tokens(text: &str) -> Vec<(Token, usize)> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    let mut line = 1;
    while let Some(character) = characters.next() {
        match character {
            '\n' => line += 1,
            space if space.is_whitespace() => {}
            '#' => while characters.next_if(|next| *next != '\n').is_some() {},
            ';' => tokens.push((Token::End, line)),
            '{' => tokens.push((Token::Open, line)),
            '}' => tokens.push((Token::Close, line)),
            first => {
                let quote = Some(first).filter(|quote| matches!(quote, '"' | '\''));
                let mut word = String::new();
                let start = line;
                let mut next = if quote.is_some() { characters.next() } else { Some(first) };
                while let Some(character) = next {
                    if Some(character) == quote {
                        break;
                    }
                    if character == '\n' {
                        line += 1;
                    }
                    if character == '\\' {
                        word.extend(characters.next());
                    } else {
                        word.push(character);
                    }
                    // "${name}" has braces that are none.
                    let variable = word.ends_with('$');
                    let ends =
                        |next: &char| next.is_whitespace() || *next == ';' || (*next == '{' && !variable);
                    if quote.is_none() && characters.peek().is_none_or(ends) {
                        break;
                    }
                    next = characters.next();
                }
                tokens.push((Token::Word(word), start));
            }
        }
    }
    tokens
}

fn read_block(
    tokens: &mut std::vec::IntoIter<(Token, usize)>,
    file: &Path,
    directory: &Path,
    depth: u8,
    inside: bool,
    out: &mut Vec<Directive>,
) -> anyhow::Result<()> {
    let mut words = Vec::new();
    let mut place = String::new();
    while let Some((token, line)) = tokens.next() {
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    place = format!("{}:{line}", file.display());
                }
                words.push(word);
            }
            Token::End => {
                let words = std::mem::take(&mut words);
                if words.len() == 2 && words[0] == "include" {
                    for included in included_files(&words[1], directory) {
                        read_file(&included, directory, depth + 1, out)?;
                    }
                } else if !words.is_empty() {
                    out.push(Directive { words, block: Vec::new(), place: place.clone() });
                }
            }
            Token::Open => {
                let mut block = Vec::new();
                // Lua code in a block (OpenResty) has a grammar of its own; only its end matters.
                if words.last().is_some_and(|_| words[0].ends_with("_by_lua_block")) {
                    skip_block(tokens);
                } else {
                    read_block(tokens, file, directory, depth, true, &mut block)?;
                }
                out.push(Directive { words: std::mem::take(&mut words), block, place: place.clone() });
            }
            Token::Close if inside => return Ok(()),
            Token::Close => bail!("{}:{line}: a closing brace without an opening one", file.display()),
        }
    }
    if inside {
        bail!("{}: ends within a block", file.display());
    }
    Ok(())
}

fn skip_block(tokens: &mut std::vec::IntoIter<(Token, usize)>) {
    let mut depth = 1;
    for (token, _) in tokens.by_ref() {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

fn included_files(pattern: &str, directory: &Path) -> Vec<PathBuf> {
    let pattern = directory.join(pattern);
    let paths = glob::glob(&pattern.to_string_lossy());
    paths.map(|paths| paths.filter_map(Result::ok).collect()).unwrap_or_default()
}

/// The values in force in a block: its own, else the outer one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Scope {
    curves: Option<String>,
    protocols: Option<Vec<String>>,
    commands: Vec<(String, String)>,
    server_preference: bool,
}

impl Scope {
    /// What a server on a socket with this scope sets.
    fn profile(self, label: String, build: &Build) -> Profile {
        let Self { curves, protocols, commands, server_preference } = self;
        let protocols = Some(protocols.unwrap_or_else(|| build.default_protocols()));
        Profile { label, curves, protocols, commands, server_preference }
    }

    fn within(&self, block: &[Directive]) -> Self {
        let mut scope = self.clone();
        let own_commands = block
            .iter()
            .any(|directive| directive.words.first().is_some_and(|word| word == "ssl_conf_command"));
        if own_commands {
            // ngx_conf_merge_ptr_value: a block with commands of its own inherits none.
            scope.commands.clear();
        }
        for directive in block {
            match directive.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["ssl_ecdh_curve", "auto"] => scope.curves = None,
                ["ssl_ecdh_curve", list] => scope.curves = Some(list.to_owned()),
                ["ssl_protocols", ref names @ ..] => {
                    scope.protocols = Some(names.iter().map(|name| (*name).to_owned()).collect());
                }
                ["ssl_prefer_server_ciphers", value] => scope.server_preference = value == "on",
                ["ssl_conf_command", name, value] => scope.commands.push((name.to_owned(), value.to_owned())),
                _ => {}
            }
        }
        scope
    }
}

/// One `server` block on one socket.
struct Listener {
    address: String,
    default: bool,
    place: String,
    scope: Scope,
}

fn settings_of(directives: &[Directive], directory: &Path, build: &Build) -> Settings {
    let mut listeners = Vec::new();
    for directive in directives {
        if matches!(directive.words.first().map(String::as_str), Some("http" | "stream" | "mail")) {
            let outer = Scope::default().within(&directive.block);
            let servers = directive
                .block
                .iter()
                .filter(|inner| inner.words.first().is_some_and(|word| word == "server"));
            for server in servers {
                add_listeners(server, &outer, &directive.words[0], &mut listeners);
            }
        }
    }
    let mut settings = Settings::default();
    if listeners.is_empty() {
        // No TLS server yet: what http {} sets will count for the first one.
        let http =
            directives.iter().find(|directive| directive.words.first().is_some_and(|word| word == "http"));
        settings.profiles.extend(http.map(|http| {
            let label = format!("a TLS server in nginx's http {{}} ({})", http.place);
            Scope::default().within(&http.block).profile(label, build)
        }));
    }
    let mut seen: Vec<&str> = Vec::new();
    for listener in &listeners {
        if seen.contains(&listener.address.as_str()) {
            continue;
        }
        seen.push(&listener.address);
        let default = default_of(&listener.address, &listeners).unwrap_or(listener);
        let on_socket = listeners.iter().filter(|other| other.address == listener.address);
        for other in on_socket.filter(|other| other.scope != default.scope) {
            settings.without_effect.push(format!(
                "the server at {} sets groups or protocols of its own, but on {} those of the default server at {} count",
                other.place, listener.address, default.place
            ));
        }
        let label = format!("nginx's server on {} ({})", listener.address, default.place);
        let profile = default.scope.clone().profile(label, build);
        let same = |known: &Profile| Profile { label: profile.label.clone(), ..known.clone() } == profile;
        if !settings.profiles.iter().any(same) {
            settings.profiles.push(profile);
        }
    }
    settings.user = directives.iter().rev().find_map(|directive| match &directive.words[..] {
        [word, user, group @ ..] if word == "user" => Some((user.clone(), group.first().cloned())),
        _ => None,
    });
    settings.identities = identities::identities(directives, directory, &|place| {
        let listener = listeners.iter().find(|listener| listener.place == place)?;
        let default = default_of(&listener.address, &listeners)?;
        Some(default.scope.clone().profile(String::new(), build))
    });
    settings
}

/// The default server of a socket: the one that says so, else the first.
fn default_of<'a>(address: &str, listeners: &'a [Listener]) -> Option<&'a Listener> {
    let mut on_socket = listeners.iter().filter(|listener| listener.address == address);
    let first = on_socket.next()?;
    Some(std::iter::once(first).chain(on_socket).find(|listener| listener.default).unwrap_or(first))
}

fn add_listeners(server: &Directive, outer: &Scope, kind: &str, listeners: &mut Vec<Listener>) {
    let scope = outer.within(&server.block);
    let ssl_on = server.block.iter().any(|directive| directive.words == ["ssl", "on"]);
    for directive in
        server.block.iter().filter(|directive| directive.words.first().is_some_and(|word| word == "listen"))
    {
        let Some(address) = directive.words.get(1) else { continue };
        let flags = &directive.words[2..];
        let has = |flag: &str| flags.iter().any(|word| word == flag);
        if !(ssl_on || has("ssl") || has("quic")) {
            continue;
        }
        let address = address.strip_prefix("*:").unwrap_or(address);
        listeners.push(Listener {
            address: format!("{kind} {address}"),
            default: has("default_server") || has("default"),
            place: server.place.clone(),
            scope: scope.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(version: &str) -> Build {
        Build::parse(&format!("nginx version: nginx/{version}\nconfigure arguments: --prefix=/etc/nginx\n"))
            .unwrap()
    }

    fn settings(text: &str) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        read_settings(&file, &build("1.26.0")).unwrap()
    }

    #[test]
    fn the_build_is_read_from_the_version_text() {
        let text = "nginx version: openresty/1.21.4.1\nbuilt by gcc\nconfigure arguments: --prefix=/usr/local/openresty/nginx --with-openssl=/src/openssl\n";
        let build = Build::parse(text).unwrap();
        assert_eq!(build.version, Some(Version(1, 21, 4)));
        assert!(build.own_openssl && build.application().is_none());
        assert!(!build.reads_configuration(true));
        assert_eq!(build.configuration, Path::new("/usr/local/openresty/nginx/conf/nginx.conf"));
    }

    #[test]
    fn the_application_section_and_tls_1_3_come_with_their_versions() {
        assert_eq!(build("1.25.1").application(), None);
        assert_eq!(build("1.25.2").application(), Some("nginx"));
        assert!(!build("1.22.1").default_protocols().contains(&"TLSv1.3".to_owned()));
    }

    #[test]
    fn a_server_inherits_and_the_default_server_of_the_socket_counts() {
        let found = settings(
            "events {}\nhttp {\n ssl_ecdh_curve X25519MLKEM768:X25519; # c\n server { listen 443 ssl; }\n \
             server { listen 443 ssl default_server; ssl_protocols TLSv1.3; }\n server { listen 80; }\n}\n",
        );
        assert_eq!(found.profiles.len(), 1);
        assert_eq!(found.profiles[0].curves.as_deref(), Some("X25519MLKEM768:X25519"));
        assert_eq!(found.profiles[0].protocols, Some(vec!["TLSv1.3".to_owned()]));
        assert_eq!(found.without_effect.len(), 1);
        assert!(found.without_effect[0].contains("nginx.conf:4"), "{}", found.without_effect[0]);
    }

    #[test]
    fn quotes_variables_lua_and_includes_are_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("one.inc"),
            "server { listen [::]:8443 ssl; set $a \"x;{\"; log_format x ${b}c; access_by_lua_block { if a then b = {} end } \
             ssl_conf_command Groups P-256; }",
        )
        .unwrap();
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, "http { include *.inc; }").unwrap();
        let found = read_settings(&file, &build("1.26.0")).unwrap();
        assert_eq!(found.profiles.len(), 1);
        assert_eq!(found.profiles[0].commands, [("Groups".to_owned(), "P-256".to_owned())]);
    }

    #[test]
    fn a_file_that_ends_within_a_block_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, "http {").unwrap();
        assert!(
            read_settings(&file, &build("1.26.0")).unwrap_err().to_string().contains("ends within a block")
        );
    }
}
