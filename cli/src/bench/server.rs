//! A server of our own for each configuration, in a temporary folder and on a free port: nginx with one worker, or HAProxy with
//! some threads.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

use super::worker_cpu::children_of;
use crate::groups::{self, Group};

/// nginx has this long to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often to look while waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// One `--conf`: `NAME=OPENSSL_CNF[,group=G][,cert=FILE,key=FILE][,compress=on][,nginx=PATH][,chroot=DIR][,env.NAME=VALUE]`,
/// or `haproxy=PATH,threads=N` in place of `nginx=PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// What the table calls it.
    pub(crate) name: String,
    /// Value of `OPENSSL_CONF`, as nginx sees it; none for the system's own file.
    openssl_conf: Option<PathBuf>,
    /// The one group that server and client use.
    pub(crate) group: Group,
    /// Chain and key of its own, as we see the files.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// RFC 8879, by server and client.
    pub(crate) compress: bool,
    program: Option<PathBuf>,
    /// HAProxy, with so many threads, instead of nginx.
    haproxy_threads: Option<u32>,
    chroot: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

/// Reads a `--conf`.
pub(crate) fn parse_configuration(text: &str) -> Result<Configuration, String> {
    let mut parts = text.split(',');
    let (name, path) = parts
        .next()
        .and_then(|first| first.split_once('='))
        .filter(|(name, path)| !name.is_empty() && !path.is_empty())
        .ok_or("write NAME=OPENSSL_CNF, with NAME=- for the system's own openssl.cnf")?;
    let group = groups::parse_list("X25519MLKEM768").map_err(|error| error.to_string())?[0];
    let mut configuration = Configuration {
        name: name.to_owned(),
        openssl_conf: (path != "-").then(|| PathBuf::from(path)),
        group,
        identity: None,
        compress: false,
        program: None,
        haproxy_threads: None,
        chroot: None,
        environment: Vec::new(),
    };
    let (mut certificate, mut private_key) = (None, None);
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("\"{part}\" is not KEY=VALUE"))?;
        match key {
            "group" => {
                let groups = groups::parse_list(value).map_err(|error| format!("{error:#}"))?;
                let [group] = groups[..] else {
                    return Err(format!("\"{value}\" is several groups; a configuration measures one"));
                };
                configuration.group = group;
            }
            "cert" => certificate = Some(PathBuf::from(value)),
            "key" => private_key = Some(PathBuf::from(value)),
            "compress" => {
                configuration.compress = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(format!("\"compress={value}\" is neither on nor off")),
                };
            }
            "nginx" => configuration.program = Some(PathBuf::from(value)),
            "haproxy" => {
                configuration.program = Some(PathBuf::from(value));
                configuration.haproxy_threads.get_or_insert(1);
            }
            "threads" => {
                let threads = value.parse().ok().filter(|threads| (1..=64).contains(threads));
                configuration.haproxy_threads =
                    Some(threads.ok_or_else(|| format!("\"threads={value}\" is not a number from 1 to 64"))?);
            }
            "chroot" => configuration.chroot = Some(PathBuf::from(value)),
            _ => match key.strip_prefix("env.") {
                Some(name) => configuration.environment.push((name.to_owned(), value.to_owned())),
                None => {
                    return Err(format!(
                        "\"{key}\" is not known; it is group, cert, key, compress, nginx, haproxy, threads, chroot \
                         or env.NAME"
                    ));
                }
            },
        }
    }
    configuration.identity = match (certificate, private_key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(format!("\"{name}\": cert and key belong together")),
    };
    if configuration.haproxy_threads.is_some() && configuration.program.is_none() {
        return Err(format!("\"{name}\": threads are HAProxy's; add haproxy=PATH"));
    }
    Ok(configuration)
}

/// PEM of the chain and the key that every server serves.
pub(crate) struct Identity {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// A running server; dropping it stops it and removes its folder.
pub(crate) struct Server {
    program: &'static str,
    /// nginx's master, or HAProxy itself.
    process: Child,
    folder: TempDir,
    pub(crate) address: SocketAddr,
    /// The process that does the work.
    pub(crate) worker: i32,
    /// `nginx/1.22.1, OpenSSL 3.0.19 27 Jan 2026`.
    pub(crate) version: String,
}

impl Server {
    /// Starts the server of this configuration and waits until it listens.
    ///
    /// # Errors
    /// Says why it did not start, in nginx's own words.
    pub(crate) fn start(
        configuration: &Configuration,
        default_nginx: &Path,
        default_chroot: Option<&Path>,
        identity: &Identity,
    ) -> anyhow::Result<Self> {
        let program = configuration.program.as_deref().unwrap_or(default_nginx);
        let chroot = configuration.chroot.as_deref().or(default_chroot);
        let root = chroot.unwrap_or(Path::new("/"));
        if let Some(path) = &configuration.openssl_conf {
            let seen_from_here = inside(root, path);
            if !seen_from_here.is_file() {
                bail!("there is no file {}, which OPENSSL_CONF is to name", seen_from_here.display());
            }
        }
        let folder = TempDir::with_prefix_in("qtls-bench-", inside(root, &std::env::temp_dir()))
            .context("cannot make a folder for the server")?;
        // The same folder as nginx sees it.
        let prefix = Path::new("/").join(folder.path().strip_prefix(root).unwrap_or(folder.path()));

        let (version, modules) = describe(program, chroot, configuration)?;
        let port = free_port().context("no free port")?;
        let write = |name: &str, content: &[u8]| {
            fs::write(folder.path().join(name), content)
                .with_context(|| format!("cannot write the server's {name}"))
        };
        let mut command = command(program, chroot, configuration);
        let name = match configuration.haproxy_threads {
            None => {
                write("chain.pem", &identity.chain)?;
                write("key.pem", &identity.key)?;
                write("nginx.conf", nginx_conf(&prefix, port, configuration, &modules).as_bytes())?;
                command.arg("-p").arg(&prefix).arg("-c").arg(prefix.join("nginx.conf"));
                "nginx"
            }
            Some(threads) => {
                write("both.pem", &[&identity.chain[..], &identity.key].concat())?;
                write("haproxy.cfg", haproxy_cfg(&prefix, port, configuration, threads).as_bytes())?;
                command.arg("-db").arg("-f").arg(prefix.join("haproxy.cfg"));
                "HAProxy"
            }
        };
        let said = folder.path().join("said.log");
        let output = File::create(&said).context("cannot write the server's log")?;
        let process = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot write the server's log")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Self { program: name, process, folder, address, worker: 0, version };
        server.wait_until_ready(configuration.haproxy_threads.is_some())?;
        Ok(server)
    }

    fn wait_until_ready(&mut self, works_itself: bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().context("cannot wait for the server")? {
                bail!("{} ended at once ({status}): {}", self.program, self.said());
            }
            let process = self.process.id().cast_signed();
            // nginx listens before it forks, so the worker is looked for after a connection was possible.
            if TcpStream::connect_timeout(&self.address, POLL_INTERVAL).is_ok() {
                if works_itself {
                    self.worker = process;
                    return Ok(());
                }
                if let [worker] = children_of(process)[..] {
                    self.worker = worker;
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                bail!(
                    "{} does not listen on {} after {} s: {}",
                    self.program,
                    self.address,
                    PATIENCE.as_secs(),
                    self.said()
                );
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// The end of what the server wrote, on stderr and into its log.
    pub(crate) fn said(&self) -> String {
        let mut lines = String::new();
        for name in ["said.log", "error.log"] {
            lines.push_str(&fs::read_to_string(self.folder.path().join(name)).unwrap_or_default());
        }
        let last: Vec<_> = lines.lines().rev().take(4).collect();
        if last.is_empty() {
            "it logged nothing".to_owned()
        } else {
            last.into_iter().rev().collect::<Vec<_>>().join(" | ")
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // TERM makes nginx's master end its worker too; KILL, below, would leave it behind.
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
                let _ = self.process.wait();
                break;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// A path of the chroot as it is seen from outside.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn command(program: &Path, chroot: Option<&Path>, configuration: &Configuration) -> Command {
    let mut command = match chroot {
        Some(root) => {
            let mut command = Command::new("chroot");
            command.arg(root).arg(program);
            command
        }
        None => Command::new(program),
    };
    match &configuration.openssl_conf {
        Some(path) => command.env("OPENSSL_CONF", path),
        None => command.env_remove("OPENSSL_CONF"),
    };
    for (name, value) in &configuration.environment {
        command.env(name, value);
    }
    command
}

/// The version line for the report, and the modules of nginx that need a temporary folder of their own.
fn describe(
    program: &Path,
    chroot: Option<&Path>,
    configuration: &Configuration,
) -> anyhow::Result<(String, Vec<&'static str>)> {
    let is_haproxy = configuration.haproxy_threads.is_some();
    let option = if is_haproxy { "-vv" } else { "-V" };
    let output = command(program, chroot, configuration).arg(option).output().with_context(|| {
        format!("cannot run {}; is it installed? (--nginx PATH, haproxy=PATH)", program.display())
    })?;
    let text = String::from_utf8_lossy(if is_haproxy { &output.stdout } else { &output.stderr }).into_owned();
    if !output.status.success() {
        bail!("{} {option} fails: {}", program.display(), text.trim());
    }
    let value = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix)).map(str::trim);
    if is_haproxy {
        let version = value("HAProxy version").and_then(|text| text.split(' ').next()).unwrap_or("?");
        let openssl = value("Running on OpenSSL version :").unwrap_or("unknown TLS library");
        return Ok((format!("haproxy/{version}, {openssl}"), Vec::new()));
    }
    let nginx = value("nginx version:").unwrap_or("nginx");
    // "built with OpenSSL A" alone, or "built with OpenSSL A (running with OpenSSL B)".
    let openssl = value("built with").unwrap_or("unknown TLS library");
    let openssl =
        openssl.split_once("(running with ").map_or(openssl, |(_, running)| running.trim_end_matches(')'));
    let modules = ["proxy", "fastcgi", "uwsgi", "scgi"]
        .into_iter()
        .filter(|module| !text.contains(&format!("--without-http_{module}_module")))
        .collect();
    Ok((format!("{nginx}, {openssl}"), modules))
}

fn nginx_conf(prefix: &Path, port: u16, configuration: &Configuration, modules: &[&str]) -> String {
    let prefix = prefix.display();
    // The user compiled in need not exist, in a chroot least of all; without root nginx ignores the line and warns.
    let user = if geteuid().is_root() { "user root root;\n" } else { "" };
    // nginx 1.29.1 or newer: an older one says that it does not know the line.
    let compression = if configuration.compress { "        ssl_certificate_compression on;\n" } else { "" };
    // nginx clears its workers' environment, and modules of others have no way around that.
    let environment: String =
        configuration.environment.iter().map(|(name, _)| format!("env {name};\n")).collect();
    let mut temporary_folders = format!("    client_body_temp_path {prefix}/client_body;\n");
    for module in modules {
        let _ = writeln!(temporary_folders, "    {module}_temp_path {prefix}/{module};");
    }
    format!(
        "{user}{environment}daemon off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
{temporary_folders}    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {prefix}/chain.pem;
        ssl_certificate_key {prefix}/key.pem;
        ssl_protocols TLSv1.3;
        ssl_ecdh_curve {};
{compression}    }}
}}
",
        configuration.group.name
    )
}

fn haproxy_cfg(prefix: &Path, port: u16, configuration: &Configuration, threads: u32) -> String {
    format!(
        "global
    nbthread {threads}
    maxconn 1024
defaults
    mode http
    timeout connect 10s
    timeout client 10s
    timeout server 10s
frontend bench
    bind 127.0.0.1:{port} ssl crt {}/both.pem curves {} ssl-min-ver TLSv1.3
    http-request return status 200
",
        prefix.display(),
        configuration.group.name
    )
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_with_all_its_parts() {
        let text = "ours=/etc/q.cnf,group=x25519,cert=/c.pem,key=/k.pem,compress=on,nginx=/opt/nginx,chroot=/srv/root,env.LD_LIBRARY_PATH=/opt/lib";
        let configuration = parse_configuration(text).unwrap();
        assert_eq!(configuration.name, "ours");
        assert_eq!(configuration.openssl_conf.as_deref(), Some(Path::new("/etc/q.cnf")));
        assert_eq!(configuration.group.name, "X25519");
        assert_eq!(configuration.identity, Some((PathBuf::from("/c.pem"), PathBuf::from("/k.pem"))));
        assert!(configuration.compress);
        assert_eq!(configuration.program.as_deref(), Some(Path::new("/opt/nginx")));
        assert_eq!(configuration.haproxy_threads, None);
        assert_eq!(configuration.chroot.as_deref(), Some(Path::new("/srv/root")));
        assert_eq!(configuration.environment, [("LD_LIBRARY_PATH".to_owned(), "/opt/lib".to_owned())]);
    }

    #[test]
    fn haproxy_takes_the_place_of_nginx_with_its_threads() {
        let configuration = parse_configuration("h=-,haproxy=/usr/sbin/haproxy,threads=4").unwrap();
        assert_eq!(configuration.program.as_deref(), Some(Path::new("/usr/sbin/haproxy")));
        assert_eq!(configuration.haproxy_threads, Some(4));
        let text = haproxy_cfg(Path::new("/prefix"), 4433, &configuration, 4);
        assert!(text.contains("nbthread 4") && text.contains("crt /prefix/both.pem curves X25519MLKEM768"));
    }

    #[test]
    fn a_dash_means_the_systems_file_and_the_group_defaults_to_the_first_hybrid() {
        let configuration = parse_configuration("stock=-").unwrap();
        assert_eq!(configuration.openssl_conf, None);
        assert_eq!(configuration.group.name, "X25519MLKEM768");
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("name", "NAME=OPENSSL_CNF"),
            ("=x", "NAME=OPENSSL_CNF"),
            ("a=-,gruop=X25519", "gruop"),
            ("a=-,group=X25519:P-256", "several groups"),
            ("a=-,group=P-257", "P-257"),
            ("a=-,group", "KEY=VALUE"),
            ("a=-,cert=/c.pem", "belong together"),
            ("a=-,compress=yes", "neither on nor off"),
            ("a=-,threads=2", "add haproxy=PATH"),
            ("a=-,haproxy=/h,threads=0", "from 1 to 64"),
        ] {
            let error = parse_configuration(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn paths_of_a_chroot_are_found_from_outside() {
        assert_eq!(inside(Path::new("/srv/root"), Path::new("/etc/q.cnf")), Path::new("/srv/root/etc/q.cnf"));
        assert_eq!(inside(Path::new("/"), Path::new("/etc/q.cnf")), Path::new("/etc/q.cnf"));
    }
}
