//! What is examined: a program, its environment, its user, and the process or unit it comes from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::Arguments;
use super::nginx::{Build, Identity, Profile, Settings, read_settings};
use super::permissions::user_name;
use super::process::Process;
use super::unit::Unit;

/// Where nginx is looked for when it is not in `PATH`.
const USUAL_PLACES: [&str; 6] = [
    "/usr/sbin/nginx",
    "/usr/local/sbin/nginx",
    "/usr/local/nginx/sbin/nginx",
    "/usr/local/openresty/nginx/sbin/nginx",
    "/usr/local/openresty/bin/openresty",
    "/usr/bin/openresty",
];

/// Variables that OpenSSL and the loader drop in secure execution (`secure_getenv`, ld.so(8)).
const SCRUBBED: [&str; 5] =
    ["OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_CONF_INCLUDE", "LD_LIBRARY_PATH", "LD_PRELOAD"];

/// What is examined.
pub(super) struct Target {
    pub(super) program: PathBuf,
    /// The environment it is started with.
    pub(super) environment: BTreeMap<OsString, OsString>,
    /// For people: whose environment that is.
    pub(super) environment_of: String,
    /// User and group it starts as.
    pub(super) user: (u32, u32),
    pub(super) process: Option<Process>,
    pub(super) unit: Option<Unit>,
    /// What nginx was built as; none for other programs, an error when it can't be asked.
    pub(super) build: Option<anyhow::Result<Build>>,
    /// What nginx's configuration sets.
    pub(super) settings: Option<anyhow::Result<Settings>>,
    /// The list of `--groups`.
    own_groups: Option<String>,
    /// The file of `--conf`.
    pub(super) wanted_configuration: Option<PathBuf>,
    /// Why the environment is distrusted, if it is.
    pub(super) secure: Option<String>,
}

impl Target {
    /// Finds out what the command line means.
    ///
    /// # Errors
    /// When the program, process or unit does not exist.
    pub(super) fn find(arguments: &Arguments) -> anyhow::Result<Self> {
        let unit = arguments.unit.as_deref().map(Unit::find).transpose()?;
        let named_otherwise =
            arguments.conf.is_some() || unit.is_some() || std::env::var_os("OPENSSL_CONF").is_some();
        let process = match arguments.pid {
            Some(pid) => Some(Process(pid).master()),
            None if named_otherwise => None,
            None => the_running_nginx(arguments.program.as_deref()),
        };
        if let Some(process) = process.filter(|process| process.has_other_root()) {
            bail!(
                "process {0} lives in another file system (a container or a chroot), where files have other names; run \
                 doctor in there: cp qtls /proc/{0}/root/tmp/ and then nsenter --target {0} --all /tmp/qtls doctor --pid \
                 N, N being its number in there (of a container often 1)",
                process.0
            );
        }
        let command = match (&process, &unit) {
            (Some(process), _) => process.arguments(),
            (None, Some(unit)) => unit.command()?,
            (None, None) => Vec::new(),
        };
        let (program, name) = match (&arguments.program, &process, command.first()) {
            (Some(program), ..) => (program.clone(), None),
            (None, Some(process), _) => process.program().map(|(program, name)| (program, Some(name)))?,
            (None, None, Some(program)) => (PathBuf::from(program), None),
            (None, None, None) => (default_program()?, None),
        };
        let program = find_program(&program)?;
        let is_nginx = Build::is_nginx(name.as_deref().map_or(program.as_path(), Path::new));

        let (mut environment, environment_of) = match (&process, &unit) {
            (Some(process), _) => {
                let (environment, from_memory) = process.environment()?;
                let note = if from_memory { ", from its memory" } else { "" };
                (environment, format!("process {}{note}", process.0))
            }
            (None, Some(unit)) => (unit.environment()?, unit.name.clone()),
            (None, None) => (std::env::vars_os().collect(), "this shell".to_owned()),
        };
        if let (Some(file), None, None) = (&arguments.conf, &process, &unit) {
            let file = std::path::absolute(file).with_context(|| format!("{} is no path", file.display()))?;
            environment.insert("OPENSSL_CONF".into(), file.into());
        }
        let ourselves = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let user = match (&process, &unit) {
            (Some(process), _) => process.user()?,
            (None, Some(unit)) => user_of_unit(unit)?,
            (None, None) => ourselves,
        };
        let secure = why_secure(&program, user, process)?;
        if secure.is_some() {
            SCRUBBED.iter().for_each(|name| drop(environment.remove(OsStr::new(name))));
        }

        let build = is_nginx.then(|| Build::ask(&program, &environment));
        let settings = build.as_ref().and_then(|build| build.as_ref().ok()).and_then(|build| {
            let file = match (&arguments.nginx_conf, option_of(&command, "-c")) {
                (Some(file), _) => file.clone(),
                (None, Some(file)) => build.configuration.parent().unwrap_or(Path::new("/")).join(file),
                (None, None) => build.configuration.clone(),
            };
            // A configuration named by nobody may be absent: then nginx's defaults are examined.
            (arguments.nginx_conf.is_some() || file.exists()).then(|| read_settings(&file, build))
        });
        Ok(Self {
            program,
            environment,
            environment_of,
            user,
            process,
            unit,
            build,
            settings,
            own_groups: arguments.groups.clone(),
            wanted_configuration: arguments.conf.clone(),
            secure,
        })
    }

    /// A variable of its environment.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(OsStr::new(name)).map(|value| value.to_string_lossy().into_owned())
    }

    /// nginx's build, when it could be asked.
    pub(super) fn nginx(&self) -> Option<&Build> {
        self.build.as_ref()?.as_ref().ok()
    }

    /// The section the program asks OpenSSL for.
    pub(super) fn application(&self) -> Option<String> {
        self.nginx().and_then(Build::application).map(str::to_owned)
    }

    /// Whether the program reads a configuration at all.
    pub(super) fn reads_configuration(&self) -> bool {
        let openssl_conf = self.variable("OPENSSL_CONF").is_some();
        self.nginx().is_none_or(|build| build.reads_configuration(openssl_conf))
    }

    /// What the program sets on its contexts: one profile for each different setting, at least one.
    pub(super) fn profiles(&self) -> Vec<Profile> {
        let configured = self.settings.as_ref().and_then(|settings| settings.as_ref().ok());
        let mut profiles = configured.map(|settings| settings.profiles.clone()).unwrap_or_default();
        if profiles.is_empty() {
            profiles.push(Profile {
                label: if self.build.is_some() { "an nginx server" } else { "a plain server" }.to_owned(),
                protocols: self.nginx().map(Build::default_protocols),
                ..Profile::default()
            });
        }
        if let Some(groups) = &self.own_groups {
            profiles.iter_mut().for_each(|profile| profile.curves = Some(groups.clone()));
        }
        profiles
    }

    /// The certificates and keys that the program's own configuration names.
    pub(super) fn identities(&self) -> &[Identity] {
        match &self.settings {
            Some(Ok(settings)) => &settings.identities,
            _ => &[],
        }
    }

    /// User and group to become for a faithful try; none when we are that user, or can't become it.
    pub(super) fn user_to_become(&self) -> Option<(u32, u32)> {
        let ourselves = rustix::process::geteuid();
        (ourselves.is_root() && self.user.0 != 0).then_some(self.user)
    }

    /// How to set a variable where this program gets its environment from.
    pub(super) fn how_to_set(&self, assignment: &str) -> Vec<String> {
        match (&self.unit, self.build.is_some()) {
            (Some(unit), _) => vec![
                format!("systemctl edit {}   and add the two lines", unit.name),
                "  [Service]".to_owned(),
                format!("  Environment={assignment}"),
                format!("then systemctl restart {}", unit.name),
            ],
            (None, true) => vec![
                format!(
                    "start it with {assignment} in its environment; under systemd: systemctl edit nginx, and add"
                ),
                "  [Service]".to_owned(),
                format!("  Environment={assignment}"),
            ],
            (None, false) => {
                vec![format!("start {} with {assignment} in its environment", self.program.display())]
            }
        }
    }
}

/// Who says nothing but `qtls doctor` means the gateway that runs, if there is exactly one that may be looked at.
fn the_running_nginx(program: Option<&Path>) -> Option<Process> {
    let program =
        program.map_or_else(default_program, find_program).ok().filter(|path| Build::is_nginx(path))?;
    let may_be_seen = |process: &Process| !process.has_other_root() && process.environment().is_ok();
    let mut masters = Process::masters_of(&program).into_iter().filter(may_be_seen);
    masters.next().filter(|_| masters.next().is_none())
}

fn default_program() -> anyhow::Result<PathBuf> {
    let usual = USUAL_PLACES.iter().map(PathBuf::from);
    let candidates = in_path("nginx").into_iter().chain(usual).chain(in_path("openssl"));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.context(
        "neither nginx nor openssl is installed in a usual place; name the program by --program PATH",
    )
}

fn in_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).collect()
}

/// A program by path, or by name in `PATH`.
fn find_program(program: &Path) -> anyhow::Result<PathBuf> {
    if program.components().count() == 1 && !program.is_absolute() {
        let found = program.to_str().map(in_path).unwrap_or_default().into_iter().find(|path| path.is_file());
        return found.with_context(|| format!("no program {} in PATH", program.display()));
    }
    let data = std::fs::metadata(program).with_context(|| format!("can't look at {}", program.display()))?;
    if !data.is_file() || data.permissions().mode() & 0o111 == 0 {
        bail!("{} is no program: not a file that can be executed", program.display());
    }
    Ok(std::path::absolute(program)?)
}

/// The value after an option on a command line.
fn option_of(command: &[String], option: &str) -> Option<String> {
    let at = command.iter().position(|word| word == option)?;
    command.get(at + 1).cloned()
}

fn user_of_unit(unit: &Unit) -> anyhow::Result<(u32, u32)> {
    let Some(name) = unit.value("User") else { return Ok((0, 0)) };
    let found = match name.parse() {
        Ok(number) => nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(number)),
        Err(_) => nix::unistd::User::from_name(name),
    };
    let Some(user) = found.ok().flatten() else { bail!("{}: there is no user {name}", unit.name) };
    let group = match unit.value("Group") {
        None => user.gid.as_raw(),
        Some(name) => match nix::unistd::Group::from_name(name) {
            Ok(Some(group)) => group.gid.as_raw(),
            _ => name.parse().ok().with_context(|| format!("{}: there is no group {name}", unit.name))?,
        },
    };
    Ok((user.uid.as_raw(), group))
}

/// Why the kernel makes the program distrust its environment (`bprm->secureexec` in Linux).
fn why_secure(program: &Path, user: (u32, u32), process: Option<Process>) -> anyhow::Result<Option<String>> {
    let data = std::fs::metadata(program).with_context(|| format!("can't look at {}", program.display()))?;
    let mode = data.mode();
    let mut reasons = Vec::new();
    if mode & 0o4000 != 0 && data.uid() != user.0 {
        reasons.push(format!("it is setuid {}", user_name(data.uid())));
    }
    if mode & 0o2010 == 0o2010 && data.gid() != user.1 {
        reasons.push(format!("it is setgid {}", data.gid()));
    }
    // A program started by root gains nothing by file capabilities, so nothing is distrusted then.
    if user.0 != 0 && has_file_capabilities(program) {
        reasons.push(format!("it has file capabilities (getcap {})", program.display()));
    }
    match process.map(Process::is_secure) {
        Some(Some(false)) => return Ok(None),
        Some(Some(true)) if reasons.is_empty() => {
            reasons.push("its AT_SECURE is set, as by an AppArmor or SELinux transition".to_owned());
        }
        _ => {}
    }
    Ok((!reasons.is_empty()).then(|| reasons.join(", and ")))
}

/// Whether a file has the extended attribute of capabilities.
pub(super) fn has_file_capabilities(program: &Path) -> bool {
    let mut value = [0_u8; 64];
    rustix::fs::getxattr(program, "security.capability", &mut value).is_ok_and(|length| length > 0)
}
