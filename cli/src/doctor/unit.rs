//! A systemd unit: the environment and the restrictions it starts a program with.
//!
//! `systemctl cat` shows the files in force; where systemd does not run (a container, a chroot, a rescue system) they
//! are found by systemd's own rules (systemd.unit(5)): the first unit file on the path, and every drop-in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::bounded;

/// Where units lie, strongest first (systemd.unit(5)); `SYSTEMD_UNIT_PATH` replaces it.
const UNIT_PATH: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The PATH a service has when its unit says nothing (systemd.exec(5)).
const SERVICE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// A unit with its drop-ins merged.
#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    /// Its name, such as `nginx.service`.
    pub(super) name: String,
    /// Keys of the `[Service]` section and their values, in order; an empty value resets.
    values: Vec<(String, String)>,
    /// The main process, when systemd knows one.
    pub(super) main_pid: Option<u32>,
}

impl Unit {
    /// Finds a unit by name, or reads the unit file given by path.
    ///
    /// # Errors
    /// When there is no such unit.
    pub(super) fn find(name: &str) -> anyhow::Result<Self> {
        if name.contains('/') {
            let text = std::fs::read_to_string(name).with_context(|| format!("can't read {name}"))?;
            return Ok(Self::parse(name.rsplit('/').next().unwrap_or(name), &text));
        }
        let name = if name.contains('.') { name.to_owned() } else { format!("{name}.service") };
        let mut unit = match std::env::var_os("SYSTEMD_UNIT_PATH") {
            Some(path) => Self::from_files(&name, &std::env::split_paths(&path).collect::<Vec<_>>())?,
            None => match systemctl(&["cat", "--no-pager", &name]) {
                Some(text) => Self::parse(&name, &text),
                None => Self::from_files(&name, &UNIT_PATH.map(PathBuf::from))?,
            },
        };
        unit.main_pid = systemctl(&["show", "--property=MainPID", "--value", &name])
            .and_then(|text| text.trim().parse().ok())
            .filter(|pid| *pid != 0);
        Ok(unit)
    }

    fn from_files(name: &str, path: &[PathBuf]) -> anyhow::Result<Self> {
        let Some(fragment) = path.iter().map(|directory| directory.join(name)).find(|file| file.is_file())
        else {
            bail!(
                "no unit {name} in {}",
                path.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            );
        };
        let mut text = std::fs::read_to_string(&fragment)
            .with_context(|| format!("can't read {}", fragment.display()))?;
        // A drop-in of the same name in a stronger directory replaces a weaker one; all are sorted by name.
        let mut drop_ins = BTreeMap::new();
        for directory in path.iter().rev() {
            let entries = std::fs::read_dir(directory.join(format!("{name}.d"))).into_iter().flatten();
            for entry in entries
                .filter_map(Result::ok)
                .filter(|entry| entry.path().extension().is_some_and(|end| end == "conf"))
            {
                drop_ins.insert(entry.file_name(), entry.path());
            }
        }
        for file in drop_ins.values() {
            text.push('\n');
            text +=
                &std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        }
        Ok(Self::parse(name, &text))
    }

    fn parse(name: &str, text: &str) -> Self {
        let mut values = Vec::new();
        let mut in_service = false;
        // A backslash at the end of a line goes on with the next, as a space.
        let joined = text.replace("\\\n", " ");
        for line in joined.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if line.starts_with('[') {
                in_service = line == "[Service]";
            } else if let Some((key, value)) = line.split_once('=').filter(|_| in_service) {
                values.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        Self { name: name.to_owned(), values, main_pid: None }
    }

    /// All values of a key since it was last reset.
    fn list(&self, key: &str) -> Vec<&str> {
        let mut found = Vec::new();
        for (_, value) in self.values.iter().filter(|(name, _)| name == key) {
            if value.is_empty() { found.clear() } else { found.push(value.as_str()) }
        }
        found
    }

    /// The value in force of a key that has one.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.list(key).last().copied()
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| matches!(value, "yes" | "true" | "on" | "1"))
    }

    /// The command that starts the service, without systemd's marks.
    ///
    /// # Errors
    /// When the unit has none.
    pub(super) fn command(&self) -> anyhow::Result<Vec<String>> {
        let line = self
            .list("ExecStart")
            .first()
            .copied()
            .with_context(|| format!("{} has no ExecStart", self.name))?;
        let words = split_words(line);
        let program =
            words.first().map(|word| word.trim_start_matches(['@', '-', ':', '+', '!', '|']).to_owned());
        Ok(program.into_iter().chain(words.into_iter().skip(1)).collect())
    }

    /// The environment the program is started with: `Environment`, then `EnvironmentFile`, less `UnsetEnvironment`.
    ///
    /// # Errors
    /// When a file that must exist can't be read.
    pub(super) fn environment(&self) -> anyhow::Result<BTreeMap<OsString, OsString>> {
        let mut environment = BTreeMap::from([(OsString::from("PATH"), OsString::from(SERVICE_PATH))]);
        let mut put = |assignment: &str| {
            if let Some((key, value)) = assignment.split_once('=') {
                environment.insert(key.into(), value.into());
            }
        };
        for line in self.list("Environment") {
            split_words(line).iter().for_each(|word| put(word));
        }
        for file in self.list("EnvironmentFile") {
            let (path, optional) = file.strip_prefix('-').map_or((file, false), |path| (path, true));
            match std::fs::read_to_string(path) {
                Ok(text) => {
                    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
                        if let Some((key, value)) = line.split_once('=') {
                            put(&format!("{}={}", key.trim(), split_words(value).join(" ")));
                        }
                    }
                }
                Err(_) if optional => {}
                Err(error) => {
                    bail!("{}: EnvironmentFile {path}: {error}; the service does not start", self.name)
                }
            }
        }
        for name in self.list("UnsetEnvironment").into_iter().flat_map(split_words) {
            environment.remove(std::ffi::OsStr::new(&name));
        }
        Ok(environment)
    }

    /// Whether the unit hides a file from the program, and by which setting.
    pub(super) fn hides(&self, path: &Path) -> Option<String> {
        let under = |roots: &[&str]| roots.iter().any(|root| path.starts_with(root));
        let protect_home = self
            .value("ProtectHome")
            .filter(|value| !matches!(*value, "no" | "false" | "off" | "0" | "read-only"));
        if let Some(value) = protect_home.filter(|_| under(&["/home", "/root", "/run/user"])) {
            return Some(format!("ProtectHome={value}"));
        }
        if self.is_on("PrivateTmp") && under(&["/tmp", "/var/tmp"]) {
            return Some("PrivateTmp=yes".to_owned());
        }
        for key in ["InaccessiblePaths", "InaccessibleDirectories"] {
            for root in self.list(key).into_iter().flat_map(split_words) {
                if path.starts_with(root.trim_start_matches(['-', '+'])) {
                    return Some(format!("{key}={root}"));
                }
            }
        }
        let root = self.value("RootDirectory").filter(|root| *root != "/");
        root.map(|root| format!("RootDirectory={root}"))
    }
}

/// Words separated by white space, with quotes and backslashes as systemd reads them.
fn split_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', _) => word.get_or_insert_default().extend(characters.next()),
            (mark, Some(open)) if mark == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// What `systemctl` prints, none when it fails: no systemd, or no such unit.
fn systemctl(arguments: &[&str]) -> Option<String> {
    let output = bounded::output(Command::new("systemctl").args(arguments)).ok()?;
    (output.status.success() && !output.stdout.is_empty())
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_add_to_and_reset_what_the_unit_says() {
        let root = tempfile::tempdir().unwrap();
        let (strong, weak) = (root.path().join("etc"), root.path().join("lib"));
        std::fs::create_dir_all(strong.join("x.service.d")).unwrap();
        std::fs::create_dir_all(weak.join("x.service.d")).unwrap();
        std::fs::write(
            weak.join("x.service"),
            "[Unit]\nEnvironment=NO=1\n[Service]\nEnvironment=A=1 \"B=two words\"\nExecStart=-/usr/sbin/nginx -g \\\n 'daemon on;'\nPrivateTmp=yes\n",
        )
        .unwrap();
        std::fs::write(weak.join("x.service.d/10.conf"), "[Service]\nEnvironment=A=weak\n").unwrap();
        std::fs::write(strong.join("x.service.d/10.conf"), "[Service]\nEnvironment=A=strong\n").unwrap();
        let unit = Unit::from_files("x.service", &[strong, weak]).unwrap();
        let environment = unit.environment().unwrap();
        assert_eq!(environment[std::ffi::OsStr::new("A")], "strong");
        assert_eq!(environment[std::ffi::OsStr::new("B")], "two words");
        assert!(!environment.contains_key(std::ffi::OsStr::new("NO")));
        assert_eq!(unit.command().unwrap(), ["/usr/sbin/nginx", "-g", "daemon on;"]);
        assert_eq!(unit.hides(Path::new("/tmp/x")).as_deref(), Some("PrivateTmp=yes"));
        assert_eq!(unit.hides(Path::new("/etc/x")), None);
    }

    #[test]
    fn environment_files_are_read_and_missing_ones_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("env");
        std::fs::write(&file, "# c\nOPENSSL_CONF=\"/etc/x.cnf\"\n").unwrap();
        let unit = Unit::parse(
            "x",
            &format!("[Service]\nEnvironmentFile={}\nEnvironmentFile=-/no/such\n", file.display()),
        );
        assert_eq!(unit.environment().unwrap()[std::ffi::OsStr::new("OPENSSL_CONF")], "/etc/x.cnf");
        let missing = Unit::parse("x", "[Service]\nEnvironmentFile=/no/such\n");
        assert!(missing.environment().unwrap_err().to_string().contains("/no/such"));
    }
}
