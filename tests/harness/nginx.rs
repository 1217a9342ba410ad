//! Stock nginx with the provider.

use std::{
    collections::BTreeMap, fs, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::{
    openssl_conf::OpensslConf,
    platform::{Platform, WorkDir},
    process::{self, Process, free_port, wait_for},
};

/// What every server block answers a request with; [`Answer::parse`] reads it.
pub const ANSWER: &str = "protocol=$ssl_protocol curve=$ssl_curve reused=$ssl_session_reused \
                          early=$ssl_early_data http=$server_protocol";

/// What nginx said about the connection that a request came on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `TLSv1.3` …
    pub protocol: String,
    /// The group's name.
    pub group: String,
    /// Whether the session was resumed.
    pub reused: bool,
    /// Whether the request came as 0-RTT data.
    pub early: bool,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub http: String,
}

impl Answer {
    /// Finds and reads the line made of [`ANSWER`] in `text`.
    pub fn parse(text: &str) -> Result<Answer> {
        let line = text.lines().find(|line| line.starts_with("protocol=TLS")).with_context(|| {
            format!("no answer of the test's nginx in:\n{}", text.chars().take(2000).collect::<String>())
        })?;
        let fields: BTreeMap<&str, &str> =
            line.split_whitespace().filter_map(|field| field.split_once('=')).collect();
        let field = |name| fields.get(name).copied().with_context(|| format!("no field {name} in '{line}'"));
        Ok(Answer {
            protocol: field("protocol")?.to_owned(),
            group: crate::groups::canonical_name(field("curve")?),
            reused: field("reused")? == "r",
            early: field("early")? == "1",
            http: field("http")?.to_owned(),
        })
    }
}

/// One `server {}` on a port of its own.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// Its `ssl_ecdh_curve`; none leaves the groups to openssl.cnf.
    pub groups: Option<String>,
    /// Further lines of the block.
    pub lines: String,
    /// Further server blocks on the same port (without `listen`, certificate or braces).
    pub siblings: Vec<String>,
}

impl Server {
    /// One that accepts only these groups, colon-separated.
    pub fn groups(groups: &str) -> Server {
        Server { groups: Some(groups.to_owned()), ..Server::default() }
    }

    /// One whose groups openssl.cnf decides.
    pub fn library_groups() -> Server {
        Server::default()
    }

    /// Adds lines to the block.
    pub fn lines(mut self, lines: &str) -> Server {
        self.lines.push_str(lines);
        self.lines.push('\n');
        self
    }

    /// Adds a server block on the same port.
    pub fn sibling(mut self, lines: &str) -> Server {
        self.siblings.push(lines.to_owned());
        self
    }
}

/// What nginx is to run with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The process's openssl.cnf.
    pub openssl_conf: OpensslConf,
    /// Worker processes.
    pub workers: u32,
    /// The servers, each on a port of its own, with HTTP/1.1 and h2.
    pub servers: Vec<Server>,
    /// Lines of the `http {}` block.
    pub http: String,
    /// Further files of its directory, by name; the configuration may name them as they are.
    pub files: Vec<(String, String)>,
    /// Further variables of the master's environment; workers get none of them.
    pub environment: Vec<(String, String)>,
}

impl Setup {
    /// One worker and these servers.
    pub fn new(openssl_conf: OpensslConf, servers: Vec<Server>) -> Setup {
        Setup {
            openssl_conf,
            workers: 1,
            servers,
            http: String::new(),
            files: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Sets the number of workers.
    pub fn workers(mut self, workers: u32) -> Setup {
        self.workers = workers;
        self
    }

    /// Adds a variable to the master's environment.
    pub fn variable(mut self, (name, value): (String, String)) -> Setup {
        self.environment.push((name, value));
        self
    }

    /// Adds a file.
    pub fn file(mut self, name: &str, text: &str) -> Setup {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }
}

/// A running nginx; ended when this is dropped.
pub struct Nginx {
    process: Process,
    directory: WorkDir,
    ports: Vec<u16>,
}

impl Nginx {
    /// Starts one of the platform and waits until it listens.
    ///
    /// # Errors
    /// When it ends before; the error holds what it wrote.
    pub fn start(platform: &Platform, setup: &Setup) -> Result<Nginx> {
        let directory = WorkDir::new(platform)?;
        let ports = setup.servers.iter().map(|_| free_port()).collect::<Result<Vec<u16>>>()?;
        for (name, text) in &setup.files {
            directory.write(name, text)?;
        }
        let text = configuration(platform, &directory, setup, &ports)?;
        let openssl_conf = directory.write_openssl_conf("openssl.cnf", &setup.openssl_conf)?;
        let environment = [&[("OPENSSL_CONF".to_owned(), openssl_conf)], &setup.environment[..]].concat();
        Nginx::start_in(platform, directory, &environment, &text, ports)
    }

    /// Starts one with a configuration of the caller's, which must say `daemon off;` nowhere, write its error
    /// log to `error.log` and its pid to a file in `directory`, and listen on `ports`.
    pub fn start_with(
        platform: &Platform,
        directory: WorkDir,
        openssl_conf: &str,
        nginx_conf: &str,
        ports: Vec<u16>,
    ) -> Result<Nginx> {
        let environment = [("OPENSSL_CONF".to_owned(), openssl_conf.to_owned())];
        Nginx::start_in(platform, directory, &environment, nginx_conf, ports)
    }

    /// The same with these variables in the master's environment, OPENSSL_CONF among them.
    pub fn start_in(
        platform: &Platform,
        directory: WorkDir,
        environment: &[(String, String)],
        nginx_conf: &str,
        ports: Vec<u16>,
    ) -> Result<Nginx> {
        let conf = directory.write("nginx.conf", nginx_conf)?;
        let (mut command, _) = platform.nginx()?;
        command
            .envs(environment.iter().cloned())
            .args(["-g", "daemon off;", "-p", &directory.inside(""), "-c", &conf])
            .args(["-e", &directory.inside("error.log")]);
        let mut process = Process::spawn("nginx", command, directory.outside("nginx.output"))?;
        for port in &ports {
            process.wait_for_port(*port).with_context(|| platform.name)?;
        }
        let nginx = Nginx { process, directory, ports };
        // The sockets are open before the workers are there.
        wait_for("nginx's workers", || Ok(Some(nginx.workers()?).filter(|workers| !workers.is_empty())))?;
        Ok(nginx)
    }

    /// `nginx -t` with this configuration: whether it passed, and what it wrote.
    pub fn check(
        platform: &Platform,
        directory: &WorkDir,
        openssl_conf: &str,
        conf: &str,
    ) -> Result<(bool, String)> {
        let conf = directory.write("checked.conf", conf)?;
        let (mut command, _) = platform.nginx()?;
        let output = command
            .env("OPENSSL_CONF", openssl_conf)
            .args(["-t", "-p", &directory.inside(""), "-c", &conf, "-e", &directory.inside("error.log")])
            .output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Whether `nginx -t` passes with a [`Setup`], and what it wrote.
    pub fn check_setup(platform: &Platform, setup: &Setup) -> Result<(bool, String)> {
        let directory = WorkDir::new(platform)?;
        let ports = setup.servers.iter().map(|_| free_port()).collect::<Result<Vec<u16>>>()?;
        for (name, text) in &setup.files {
            directory.write(name, text)?;
        }
        let text = configuration(platform, &directory, setup, &ports)?;
        let conf = directory.write("nginx.conf", &text)?;
        let openssl_conf = directory.write_openssl_conf("openssl.cnf", &setup.openssl_conf)?;
        let (mut command, _) = platform.nginx()?;
        let output = command
            .env("OPENSSL_CONF", openssl_conf)
            .envs(setup.environment.iter().cloned())
            .args(["-t", "-p", &directory.inside(""), "-c", &conf, "-e", &directory.inside("error.log")])
            .output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// The port of the n-th server.
    pub fn port(&self, server: usize) -> u16 {
        self.ports[server]
    }

    /// The master's process id.
    pub fn master(&self) -> u32 {
        self.process.pid()
    }

    /// The workers' process ids, lowest first.
    pub fn workers(&self) -> Result<Vec<u32>> {
        process::children(self.process.pid())
    }

    /// CPU time that the present workers have used.
    pub fn cpu_time(&self) -> Result<Duration> {
        self.workers()?.into_iter().map(process::cpu_time).sum()
    }

    /// Its directory.
    pub fn directory(&self) -> &WorkDir {
        &self.directory
    }

    /// The error log as it stands.
    pub fn error_log(&self) -> Result<String> {
        let path: PathBuf = self.directory.outside("error.log");
        let log = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// What it wrote to its standard error.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Reloads the configuration and waits until workers run that did not run before.
    ///
    /// # Errors
    /// When none comes up in time; the error holds the log.
    pub fn reload(&self) -> Result<()> {
        let before = self.workers()?;
        self.process.signal(Signal::HUP)?;
        wait_for("new workers after a reload", || {
            Ok(self.workers()?.iter().any(|pid| !before.contains(pid)).then_some(()))
        })
        .with_context(|| format!("its log:\n{}", self.error_log().unwrap_or_default()))
    }

    /// Ends it as `nginx -s quit` does, and checks that it ended well.
    ///
    /// # Errors
    /// When it ends with another status than 0, when a worker died of a signal.
    pub fn quit(mut self) -> Result<()> {
        let status: ExitStatus = self.process.stop(Signal::QUIT)?;
        ensure!(status.success(), "nginx ended with {status} (signal {:?})", status.signal());
        let log = self.error_log()?;
        // The master logs the end of each worker.
        if let Some(line) =
            log.lines().find(|line| line.contains("exited on signal") || line.contains("[emerg]"))
        {
            bail!("a worker ended badly: {line}");
        }
        Ok(())
    }
}

/// The nginx.conf of a [`Setup`].
fn configuration(platform: &Platform, directory: &WorkDir, setup: &Setup, ports: &[u16]) -> Result<String> {
    let (_, version) = platform.nginx()?;
    let mut servers = String::new();
    for (server, port) in setup.servers.iter().zip(ports) {
        // `listen … http2` is deprecated from 1.25.1 on.
        let (listen, http2) = if version >= (1, 25) { ("ssl", "http2 on;") } else { ("ssl http2", "") };
        let curve =
            server.groups.as_ref().map_or_else(String::new, |groups| format!("ssl_ecdh_curve {groups};"));
        servers.push_str(&format!(
            "server {{ listen 127.0.0.1:{port} {listen} default_server; server_name localhost; {http2}\n{curve}\n{}\n}}\n",
            server.lines
        ));
        for sibling in &server.siblings {
            servers.push_str(&format!("server {{ listen 127.0.0.1:{port} ssl;\n{sibling}\n}}\n"));
        }
    }
    Ok(format!(
        "user www-data;\n\
         worker_processes {workers};\n\
         pid {pid};\n\
         error_log {log} info;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path {temporary}; proxy_temp_path {temporary}; fastcgi_temp_path {temporary};\n\
         uwsgi_temp_path {temporary}; scgi_temp_path {temporary};\n\
         ssl_certificate {certificate};\n\
         ssl_certificate_key {key};\n\
         ssl_protocols TLSv1.2 TLSv1.3;\n\
         default_type text/plain;\n\
         {http}\n\
         {servers}\
         }}\n",
        workers = setup.workers,
        pid = directory.inside("nginx.pid"),
        log = directory.inside("error.log"),
        temporary = directory.inside("temporary"),
        certificate = directory.inside("server.pem"),
        key = directory.inside("server.key"),
        http = setup.http,
    ))
}

/// The `location` that answers with [`ANSWER`].
pub fn answer_location() -> String {
    format!("location / {{ return 200 \"{ANSWER}\\n\"; }}")
}
