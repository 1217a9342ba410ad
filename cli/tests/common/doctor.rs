//! `qtls doctor` run on set-ups made for it, and what it says of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use super::Identity;

/// What one run said.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) report: Value,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn finding(&self, id: &str) -> &Value {
        let findings =
            self.report["findings"].as_array().unwrap_or_else(|| panic!("no report: {}", self.stderr));
        findings.iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("no finding {id}"))
    }

    pub(crate) fn lines(&self, id: &str, field: &str) -> String {
        let lines = self.finding(id)[field].as_array().unwrap();
        lines.iter().map(|line| line.as_str().unwrap()).collect::<Vec<_>>().join("\n")
    }

    /// Asserts how a check ended, a part of what was found, and a part of what to do.
    #[track_caller]
    pub(crate) fn says(&self, id: &str, status: &str, found: &str, mend: &str) -> &Self {
        let finding = self.finding(id);
        assert_eq!(finding["status"], status, "{finding:#}\n{}", self.stderr);
        assert!(self.lines(id, "found").contains(found), "\"{found}\" is not in {finding:#}");
        assert!(self.lines(id, "mend").contains(mend), "\"{mend}\" is not in {finding:#}");
        let expected = i32::from(self.report["verdict"] == "fail");
        assert_eq!(self.code, expected, "the exit code does not fit the verdict {}", self.report["verdict"]);
        if status == "fail" {
            assert_eq!(self.code, 1);
        }
        self
    }
}

/// A run to be made.
pub(crate) struct Doctor {
    pub(crate) command: Command,
}

impl Doctor {
    pub(crate) fn of(program: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qtls"));
        command.args(["doctor", "--json", "--program", program]);
        for name in ["OPENSSL_CONF", "OPENSSL_MODULES", "LD_LIBRARY_PATH", "LD_PRELOAD"] {
            command.env_remove(name);
        }
        Self { command }
    }

    /// Without a program: the unit or process names it.
    pub(crate) fn bare() -> Self {
        let mut doctor = Self::of("");
        doctor.command = {
            let mut command = Command::new(env!("CARGO_BIN_EXE_qtls"));
            command.args(["doctor", "--json"]);
            ["OPENSSL_CONF", "OPENSSL_MODULES", "LD_LIBRARY_PATH"].iter().for_each(|name| {
                command.env_remove(name);
            });
            command
        };
        doctor
    }

    pub(crate) fn conf(mut self, file: &Path) -> Self {
        self.command.arg("--conf").arg(file);
        self
    }

    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    #[track_caller]
    pub(crate) fn run(mut self) -> Outcome {
        let output = self.command.output().expect("qtls starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Outcome { code: output.status.code().expect("qtls is not killed"), report, stderr }
    }
}

/// A directory with a copy of the module and configurations that use it.
pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Checks that run as another user must get in.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let place = Self { directory };
        let module = qtls_tests::platform::module().unwrap_or_else(|error| panic!("{error:#}"));
        fs::copy(module, place.path("qtls.so")).unwrap();
        fs::set_permissions(place.path("qtls.so"), Permissions::from_mode(0o644)).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        path
    }

    /// A configuration that is right in everything.
    pub(crate) fn right_text(&self) -> String {
        format!(
            "config_diagnostics = 1\nopenssl_conf = init\n\n\
             [init]\nproviders = providers\nssl_conf = ssl\n\n\
             [providers]\ndefault = default_sect\nqtls = qtls_sect\n\n\
             [default_sect]\nactivate = 1\n\n\
             [qtls_sect]\nmodule = {}\nactivate = 1\n\n\
             [ssl]\nsystem_default = tls\n\n\
             [tls]\nGroups = X25519MLKEM768:SecP256r1MLKEM768\n",
            self.path("qtls.so").display()
        )
    }

    /// The right configuration with one thing changed.
    #[track_caller]
    pub(crate) fn wrong(&self, right: &str, wrong: &str) -> PathBuf {
        let text = self.right_text();
        assert!(text.contains(right), "{right} is not in the configuration");
        self.write("openssl.cnf", &text.replacen(right, wrong, 1))
    }

    pub(crate) fn right(&self) -> PathBuf {
        self.write("openssl.cnf", &self.right_text())
    }

    /// Compiles a shared library from C.
    pub(crate) fn library(&self, name: &str, source: &str) -> PathBuf {
        let library = self.path(name);
        compile(source, &library, &["-shared", "-fPIC"]);
        library
    }
}

pub(crate) fn compile(source: &str, out: &Path, arguments: &[&str]) {
    let file = out.with_extension("c");
    fs::write(&file, source).unwrap();
    let status =
        Command::new("cc").arg("-o").arg(out).arg(&file).args(arguments).status().expect("cc is installed");
    assert!(status.success(), "cc fails on {}", file.display());
}

/// The host's libcrypto and libssl, as doctor finds them for `openssl`.
pub(crate) static LIBSSL: LazyLock<PathBuf> = LazyLock::new(|| {
    let outcome = Doctor::of("openssl").run();
    PathBuf::from(outcome.report["libssl"].as_str().unwrap_or_else(|| panic!("{}", outcome.stderr)))
});

pub(crate) static VERSION: LazyLock<(u32, u32)> = LazyLock::new(|| {
    let outcome = Doctor::of("openssl").run();
    let text = outcome.report["openssl"].as_str().unwrap().to_owned();
    let mut numbers =
        text.split_whitespace().nth(1).unwrap().split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
});

/// An nginx that only says what it is, loads what `LOAD` names, and waits; linked to the host's libssl.
pub(crate) fn stand_in(place: &Place, version: &str, arguments: &str) -> PathBuf {
    let source = format!(
        "#include <dlfcn.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n\
         int main(int argc, char **argv) {{\n\
         if (argc > 1 && !strcmp(argv[1], \"-V\")) {{\n\
         fputs(\"nginx version: {version}\\nconfigure arguments: --prefix={0} --conf-path={0}/nginx.conf {arguments}\\n\", stderr);\n\
         return 0; }}\n\
         if (getenv(\"LOAD\") && !dlopen(getenv(\"LOAD\"), RTLD_NOW)) {{ puts(dlerror()); return 1; }}\n\
         puts(\"ready\"); fflush(stdout); pause(); return 0; }}\n",
        place.directory.path().display()
    );
    let program = place.path("nginx");
    let name = LIBSSL.file_name().unwrap().to_str().unwrap().replace("libssl", "libcrypto");
    let libcrypto = LIBSSL.with_file_name(name);
    let (libssl, libcrypto) = (LIBSSL.to_str().unwrap(), libcrypto.to_str().unwrap());
    compile(&source, &program, &["-Wl,--no-as-needed", libssl, libcrypto, "-ldl"]);
    program
}

/// An nginx with these lines in its one TLS server.
pub(crate) fn with_nginx(place: &Place, version: &str, lines: &str) -> Doctor {
    let program = stand_in(place, version, "");
    place.write(
        "nginx.conf",
        &format!("http {{ server {{ listen 443 ssl; server_name shop.example; ssl_protocols TLSv1.2 TLSv1.3; {lines} }} }}"),
    );
    Doctor::of(program.to_str().unwrap()).conf(&place.right())
}

/// The two directives for a certificate, its key readable to its owner alone.
pub(crate) fn pair(identity: &Identity) -> String {
    fs::set_permissions(&identity.key, Permissions::from_mode(0o600)).unwrap();
    format!("ssl_certificate {}; ssl_certificate_key {};", identity.certificate(), identity.key())
}
