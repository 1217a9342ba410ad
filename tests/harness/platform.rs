//! The platforms: each is one OpenSSL with the programs that use it.

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{
    identity::identity,
    openssl_conf::{Native, OpensslConf},
};

/// One OpenSSL and the programs that use it, in a Debian root or in a prefix.
pub struct Platform {
    /// What failures call it.
    pub name: &'static str,
    /// Its OpenSSL: major and minor.
    pub version: (u32, u32),
    home: Home,
    openssl: &'static str,
    nginx: Option<(&'static str, (u32, u32))>,
    found: OnceLock<Result<PathBuf, String>>,
}

enum Home {
    /// A Debian root made by `tests/setup/root.sh NAME`; programs run there by chroot(1).
    Root(&'static str),
    /// A prefix printed by a script of `tests/setup/` with its argument; programs run on this host.
    Prefix(&'static str, &'static str),
}

/// Debian 12: OpenSSL 3.0, nginx 1.22, HAProxy 2.6.
pub static DEBIAN_12: Platform = Platform {
    name: "Debian 12 (OpenSSL 3.0)",
    version: (3, 0),
    home: Home::Root("bookworm"),
    openssl: "/usr/bin/openssl",
    nginx: Some(("/usr/sbin/nginx", (1, 22))),
    found: OnceLock::new(),
};
/// Debian 13: OpenSSL 3.5, nginx 1.26, HAProxy 3.0.
pub static DEBIAN_13: Platform = Platform {
    name: "Debian 13 (OpenSSL 3.5)",
    version: (3, 5),
    home: Home::Root("trixie"),
    openssl: "/usr/bin/openssl",
    nginx: Some(("/usr/sbin/nginx", (1, 26))),
    found: OnceLock::new(),
};
/// Debian sid: OpenSSL 3.6, nginx 1.30, HAProxy 3.2, PostgreSQL 18, curl.
pub static DEBIAN_SID: Platform = Platform {
    name: "Debian sid (OpenSSL 3.6 or newer)",
    version: (3, 6),
    home: Home::Root("sid"),
    openssl: "/usr/bin/openssl",
    nginx: Some(("/usr/sbin/nginx", (1, 30))),
    found: OnceLock::new(),
};
/// Debian experimental: OpenSSL 4.0, no server but `s_server`.
pub static OPENSSL_4_0: Platform = Platform {
    name: "Debian experimental (OpenSSL 4.0)",
    version: (4, 0),
    home: Home::Root("experimental"),
    openssl: "/usr/bin/openssl",
    nginx: None,
    found: OnceLock::new(),
};
/// Ubuntu 22.04's OpenSSL, from source; no server but `s_server`.
pub static OPENSSL_3_0_2: Platform = Platform {
    name: "OpenSSL 3.0.2",
    version: (3, 0),
    home: Home::Prefix("openssl.sh", "3.0.2"),
    openssl: "bin/openssl",
    nginx: None,
    found: OnceLock::new(),
};
/// nginx 1.26 on OpenSSL 3.4.1, both from source.
pub static NGINX_ON_3_4_1: Platform = Platform {
    name: "nginx on OpenSSL 3.4.1",
    version: (3, 4),
    home: Home::Prefix("nginx-on.sh", "3.4.1"),
    openssl: "",
    nginx: Some(("sbin/nginx", (1, 26))),
    found: OnceLock::new(),
};
/// OpenSSL 3.4.1 from source, the one that [`NGINX_ON_3_4_1`] uses.
pub static OPENSSL_3_4_1: Platform = Platform {
    name: "OpenSSL 3.4.1",
    version: (3, 4),
    home: Home::Prefix("openssl.sh", "3.4.1"),
    openssl: "bin/openssl",
    nginx: None,
    found: OnceLock::new(),
};

impl Platform {
    /// The platform's root or prefix on this host, made when it is missing.
    ///
    /// # Errors
    /// What the script of `tests/setup/` says; that root is needed.
    pub fn home(&self) -> Result<&Path> {
        match self.found.get_or_init(|| self.find_home().map_err(|error| format!("{error:#}"))) {
            Ok(path) => Ok(path),
            Err(message) => Err(anyhow!("platform {}: {message}", self.name)),
        }
    }

    fn find_home(&self) -> Result<PathBuf> {
        ensure!(
            fs::metadata("/proc/self")?.uid() == 0,
            "these tests run servers in Debian roots and need root; run them as root (in a container will do)"
        );
        let (script, argument) = match self.home {
            Home::Root(name) => ("root.sh", name),
            Home::Prefix(script, version) => (script, version),
        };
        setup(script, argument)
    }

    /// Whether programs of this platform run in a root of their own.
    pub fn is_chroot(&self) -> bool {
        matches!(self.home, Home::Root(_))
    }

    /// A program of this platform; in a root an absolute path or a name, in a prefix a path below it.
    ///
    /// The kernel ends it when the thread that starts it ends.
    pub fn command(&self, program: &str) -> Result<Command> {
        let home = self.home()?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        match self.home {
            Home::Root(_) => command.arg("chroot").arg(home).arg(program),
            Home::Prefix(..) => command.arg(home.join(program)),
        };
        clean(&mut command);
        Ok(command)
    }

    /// A shell in `directory`, a path as the platform's programs see it, that finds the platform's `openssl` and ends
    /// with the first command that fails.
    pub fn shell(&self, directory: &str, script: &str) -> Result<Command> {
        let mut command = match self.home {
            Home::Root(_) => self.command("/bin/sh")?,
            Home::Prefix(..) => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "/bin/sh"]);
                clean(&mut command);
                let programs = self.home()?.join(self.openssl);
                let programs = programs.parent().context("a program lies in a folder")?;
                command.env("PATH", format!("{}:{PATH}", programs.display()));
                command
            }
        };
        command.args(["-ec", "cd \"$0\"; eval \"$1\"", directory, script]);
        Ok(command)
    }

    /// A shell as above in a root where `files` lie in /usr/local/lib/qtls, as docs/install.md puts them there; nobody
    /// else sees that.
    pub fn shell_with_installed(&self, files: &Path, directory: &str, script: &str) -> Result<Command> {
        ensure!(self.is_chroot(), "{} has no root of its own", self.name);
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "sh", "-ec"])
            .arg(
                "root=$1 files=$2; shift 2; mount -t tmpfs none \"$root/usr/local/lib\"; mkdir \"$root/usr/local/lib/qtls\"; \
                 mount --bind \"$files\" \"$root/usr/local/lib/qtls\"; exec chroot \"$root\" \"$@\"",
            )
            .arg("sh")
            .arg(self.home()?)
            .arg(files)
            .args(["/bin/sh", "-ec", "cd \"$0\"; eval \"$1\"", directory, script]);
        clean(&mut command);
        Ok(command)
    }

    /// A program as [`Self::command`] starts it, with /proc mounted in the root, which valgrind needs; nobody else sees
    /// that mount.
    pub fn command_with_proc(&self, program: &str) -> Result<Command> {
        ensure!(self.is_chroot(), "{} has no root of its own", self.name);
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "sh", "-ec"])
            .arg("root=$1; shift; mount -t proc proc \"$root/proc\"; exec chroot \"$root\" \"$@\"")
            .arg("sh")
            .arg(self.home()?)
            .arg(program);
        clean(&mut command);
        Ok(command)
    }

    /// A program of this platform's root that runs as another user of that root.
    pub fn command_as(&self, user: &str, program: &str) -> Result<Command> {
        ensure!(self.is_chroot(), "{} has no users of its own", self.name);
        let mut command = self.command("setpriv")?;
        // Once more: a change of user makes the kernel forget the first.
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "--pdeathsig", "KILL", program]);
        Ok(command)
    }

    /// Its `openssl` program.
    pub fn openssl(&self) -> Result<Command> {
        ensure!(!self.openssl.is_empty(), "{} has no openssl program", self.name);
        self.command(self.openssl)
    }

    /// Its nginx, and the version of that.
    pub fn nginx(&self) -> Result<(Command, (u32, u32))> {
        let (program, version) = self.nginx.with_context(|| format!("{} has no nginx", self.name))?;
        Ok((self.command(program)?, version))
    }

    /// Whether its libcrypto has the six groups itself.
    pub fn has_native_groups(&self) -> bool {
        self.version >= (3, 5)
    }

    /// The values of `native` that differ here.
    pub fn native_modes(&self) -> &'static [Native] {
        if self.has_native_groups() { &[Native::Yield, Native::Prefer] } else { &[Native::Yield] }
    }
}

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of a service, whatever the tests run in.
fn clean(command: &mut Command) {
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C").current_dir("/");
}

/// Runs a script of `tests/setup/` and returns the path that it prints.
pub fn setup(script: &str, argument: &str) -> Result<PathBuf> {
    let program = workspace().join("tests/setup").join(script);
    let output = Command::new(&program)
        .arg(argument)
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    ensure!(output.status.success(), "{script} {argument} failed ({}); its message is above", output.status);
    let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    ensure!(path.is_dir(), "{script} {argument} printed '{}', which is no directory", path.display());
    Ok(path)
}

/// The root of the repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The provider under test: `QTLS_MODULE`, or `dist/qtls.so`.
///
/// # Errors
/// When there is none.
pub fn module() -> Result<PathBuf> {
    let path = env::var_os("QTLS_MODULE").map_or_else(|| workspace().join("dist/qtls.so"), PathBuf::from);
    if !path.is_file() {
        bail!("no provider at {}: run `make build`, or set QTLS_MODULE", path.display());
    }
    Ok(path)
}

/// A directory that a platform's programs and the test both see; removed when this is dropped.
///
/// It holds the certificates: `ca.pem`, `server.pem` and `server.key`.
pub struct WorkDir {
    directory: tempfile::TempDir,
    /// What to take off the front of a host path to get the path that the platform's programs see.
    outside: PathBuf,
}

impl WorkDir {
    /// Makes one for `platform`.
    pub fn new(platform: &Platform) -> Result<WorkDir> {
        let home = platform.home()?;
        let (parent, outside) = match platform.home {
            Home::Root(_) => (home.join("tmp"), home.to_owned()),
            Home::Prefix(..) => (PathBuf::from("/tmp"), PathBuf::from("/")),
        };
        let directory = tempfile::Builder::new().prefix("qtls-").tempdir_in(parent)?;
        // Workers run as another user.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let made = WorkDir { directory, outside };
        made.write("ca.pem", &identity().authority)?;
        made.write("server.pem", &identity().certificate)?;
        made.write("server.key", &identity().key)?;
        fs::set_permissions(made.outside("server.key"), fs::Permissions::from_mode(0o600))?;
        Ok(made)
    }

    /// The path of a file as the test sees it.
    pub fn outside(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// The path of a file as the platform's programs see it.
    pub fn inside(&self, file: &str) -> String {
        let path = self.outside(file);
        let relative = path.strip_prefix(&self.outside).expect("the directory lies in the platform's root");
        Path::new("/").join(relative).to_str().expect("a path of our own making is UTF-8").to_owned()
    }

    /// Writes a file and returns its path as the platform's programs see it.
    pub fn write(&self, file: &str, text: &str) -> Result<String> {
        let path = self.outside(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(self.inside(file))
    }

    /// Puts the provider there and returns its path as the platform's programs see it.
    pub fn install_module(&self) -> Result<String> {
        let target = self.outside("qtls.so");
        if !target.exists() {
            let module = module()?;
            fs::copy(&module, &target).with_context(|| format!("copying {}", module.display()))?;
        }
        Ok(self.inside("qtls.so"))
    }

    /// Writes an openssl.cnf that loads the provider and returns its path as the platform's programs see it.
    pub fn write_openssl_conf(&self, file: &str, conf: &OpensslConf) -> Result<String> {
        let module = if conf.provider { self.install_module()? } else { String::new() };
        self.write(file, &conf.text(&module))
    }
}
