//! Gathering: everything that is looked at before anything is judged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use qtls_cli::net;
use qtls_cli::probe::survey::{Questioner, Survey};

use super::Arguments;
use super::configuration::ProviderEntry;
use super::elf::{self, Library, Program};
use super::inner::{self, Ending, Report, Request, Surroundings, Task};
use super::nginx::Pair;
use super::process::Process;
use super::target::Target;
use super::tokens::{TokenRequest, Worker, uri_in_key_file};

/// How long the server of `--connect` may take for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// What was found out, not yet judged.
pub(super) struct Facts {
    pub(super) program: anyhow::Result<Program>,
    /// What the loader resolves in the target's environment.
    pub(super) libraries: anyhow::Result<Vec<Library>>,
    /// The same without the loader's variables.
    pub(super) plain_libraries: Vec<Library>,
    /// libcrypto and libssl.
    pub(super) openssl: Option<(PathBuf, PathBuf)>,
    pub(super) examination: Option<Ending>,
    pub(super) strict: Option<Ending>,
    /// The provider's module and what the loader says to it.
    pub(super) module: Option<(PathBuf, Ending)>,
    /// The running process, named or found.
    pub(super) process: ProcessFound,
    pub(super) outside: Option<anyhow::Result<Survey>>,
    /// With `--hsm`: what was found of tokens.
    pub(super) tokens: Option<Ending>,
    /// Whom nginx's workers become, when root starts it.
    pub(super) worker: Option<Worker>,
}

/// Which running process is compared.
pub(super) enum ProcessFound {
    /// The one named, or that of the unit, or the only one of this program.
    One(Process),
    /// Several run: name one.
    Several(Vec<Process>),
    /// None runs.
    None,
}

impl Facts {
    /// Looks at everything.
    ///
    /// # Errors
    /// When the inner process can't even be started.
    pub(super) fn gather(target: &Target, arguments: &Arguments) -> anyhow::Result<Self> {
        let program = Program::read(&target.program);
        let interpreter = program.as_ref().ok().and_then(|program| program.interpreter.clone());
        let list = |environment| match &interpreter {
            Some(interpreter) => elf::libraries(&target.program, interpreter, environment),
            None => Ok(Vec::new()),
        };
        let libraries = list(&target.environment);
        let mut plain_environment = target.environment.clone();
        plain_environment.retain(|name, _| !name.to_string_lossy().starts_with("LD_"));
        let plain_libraries = list(&plain_environment).unwrap_or_default();
        let openssl = libraries.as_ref().ok().and_then(|libraries| openssl_among(libraries));
        // Interpreters and servers with modules (Apache) load libssl later: then it is seen in the process only.
        let openssl = openssl.or_else(|| mapped_openssl(target.process?));
        let process = find_process(target);
        let outside = arguments.connect.as_ref().map(survey);
        let mut facts = Self {
            program,
            libraries,
            plain_libraries,
            openssl,
            examination: None,
            strict: None,
            module: None,
            process,
            outside,
            tokens: None,
            worker: worker_of(target),
        };
        facts.ask_library(target, arguments)?;
        Ok(facts)
    }

    fn ask_library(&mut self, target: &Target, arguments: &Arguments) -> anyhow::Result<()> {
        let Some((libcrypto, libssl)) = self.openssl.clone() else { return Ok(()) };
        let surroundings = surroundings(target, arguments);
        let mut identities = target.identities().to_vec();
        if arguments.hsm {
            self.tokens = self.look_at_tokens(target, arguments)?;
            // The provider would try a PIN once more that the token has refused just now, or hang in the module as well.
            let failed = match &self.tokens {
                Some(Ending::Reported(report)) => report.tokens.better_not_again(),
                Some(Ending::Died { .. }) => true,
                None => false,
            };
            if failed {
                identities
                    .iter_mut()
                    .for_each(|identity| identity.pairs.retain(|pair| !names_token_key(pair)));
            }
        }
        let mut request = Request {
            application: arguments.application.clone().or_else(|| target.application()),
            reads_configuration: target.reads_configuration(),
            provider: arguments.provider.clone(),
            profiles: target.profiles(),
            identities,
            ..Request::for_libraries(Task::Examine, libcrypto, libssl)
        };
        self.examination = Some(inner::run(&request, &surroundings)?);
        if target.reads_configuration() {
            request.task = Task::LoadStrictly;
            self.strict = Some(inner::run(&request, &surroundings)?);
        }
        if let Some(module) = self.module_path(&request) {
            request.task = Task::LoadModule;
            request.module.clone_from(&module);
            self.module = Some((module, inner::run(&request, &surroundings)?));
        }
        Ok(())
    }

    /// Looks at tokens in a process of its own; none where there is no section that could name one.
    fn look_at_tokens(&self, target: &Target, arguments: &Arguments) -> anyhow::Result<Option<Ending>> {
        let application = arguments.application.clone().or_else(|| target.application());
        let Ok(Some(report)) = read_configuration(target, arguments) else { return Ok(None) };
        let Some(configuration) = report.configuration else { return Ok(None) };
        let providers = configuration.providers(application.as_deref());
        let entry = providers.into_iter().find(|entry| entry.name == arguments.provider);
        let Some(entry) = entry else { return Ok(None) };
        let order = TokenRequest {
            settings: entry.plain_settings(),
            identities: target.identities().to_vec(),
            worker: self.worker.clone(),
        };
        let request = Request {
            tokens: Some(order),
            ..Request::for_libraries(Task::LookAtTokens, PathBuf::new(), PathBuf::new())
        };
        inner::run(&request, &surroundings(target, arguments)).map(Some)
    }

    /// What the library told, when it lived to tell.
    pub(super) fn report(&self) -> Option<&Report> {
        match &self.examination {
            Some(Ending::Reported(report)) => Some(report),
            _ => None,
        }
    }

    fn module_path(&self, request: &Request) -> Option<PathBuf> {
        let report = self.report()?;
        let configuration = report.configuration.as_ref()?;
        let providers = configuration.providers(request.application.as_deref());
        let entry = providers.iter().find(|entry| entry.name == request.provider)?;
        module_of(entry, Path::new(&report.modules_directory))
    }
}

/// What the target's libcrypto reads as its configuration; none where the target has no OpenSSL.
///
/// # Errors
/// The program cannot be examined, or its library does not come so far.
pub(super) fn read_configuration(target: &Target, arguments: &Arguments) -> anyhow::Result<Option<Report>> {
    let program = Program::read(&target.program)?;
    let Some(interpreter) = program.interpreter else { return Ok(None) };
    let libraries = elf::libraries(&target.program, &interpreter, &target.environment)?;
    let found = openssl_among(&libraries).or_else(|| mapped_openssl(target.process?));
    let Some((libcrypto, libssl)) = found else { return Ok(None) };
    let request = Request::for_libraries(Task::ReadConfiguration, libcrypto, libssl);
    match inner::run(&request, &surroundings(target, arguments))? {
        Ending::Reported(report) => match &report.loader_error {
            Some(error) => bail!("libssl does not load: {error}"),
            None => Ok(Some(*report)),
        },
        Ending::Died { step, how, .. } => bail!("{} was {how} while {step}", target.program.display()),
    }
}

/// As whom and where the inner process runs for a target.
fn surroundings(target: &Target, arguments: &Arguments) -> Surroundings {
    Surroundings {
        environment: target.environment.clone(),
        user: target.user_to_become(),
        time_limit: Duration::from_secs(arguments.time_limit.into()),
    }
}

/// Where OpenSSL looks for the module of a provider (`provider_init`); none for those inside of libcrypto.
fn module_of(entry: &ProviderEntry, modules_directory: &Path) -> Option<PathBuf> {
    entry.settings.as_ref()?;
    match entry.setting("module") {
        Some(module) => Some(modules_directory.join(module)),
        None if ["default", "base", "null"].contains(&entry.name.as_str()) => None,
        None => Some(modules_directory.join(format!("{}.so", entry.name))),
    }
}

/// Whether the key file of a pair names a key in a token.
pub(super) fn names_token_key(pair: &Pair) -> bool {
    std::fs::read(&pair.key).is_ok_and(|text| uri_in_key_file(&text).is_some())
}

/// Whom the workers become: only root can become another.
fn worker_of(target: &Target) -> Option<Worker> {
    let build = target.nginx().filter(|_| target.user.0 == 0)?;
    let set = target.settings.as_ref().and_then(|settings| settings.as_ref().ok()?.user.as_ref());
    let (name, group) = set.unwrap_or(&build.user);
    let user = nix::unistd::User::from_name(name).ok().flatten()?;
    let group = match group {
        Some(group) => nix::unistd::Group::from_name(group).ok().flatten()?.gid,
        None => user.gid,
    };
    Some(Worker { name: user.name, user: user.uid.as_raw(), group: group.as_raw() })
}

/// libcrypto and libssl.
fn openssl_among(libraries: &[Library]) -> Option<(PathBuf, PathBuf)> {
    Some((find_library(libraries, "libcrypto.so")?, find_library(libraries, "libssl.so")?))
}

/// The file of a library by the beginning of its name.
pub(super) fn find_library(libraries: &[Library], name: &str) -> Option<PathBuf> {
    libraries
        .iter()
        .find(|library| library.name.rsplit('/').next().is_some_and(|file| file.starts_with(name)))?
        .path
        .clone()
}

fn mapped_openssl(process: Process) -> Option<(PathBuf, PathBuf)> {
    let mappings = process.mappings().ok()?;
    let find = |name: &str| {
        let is = |path: &Path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
        mappings
            .iter()
            .find(|mapping| is(&mapping.path) && mapping.path.exists())
            .map(|mapping| mapping.path.clone())
    };
    Some((find("libcrypto.so")?, find("libssl.so")?))
}

fn find_process(target: &Target) -> ProcessFound {
    let unit_process = target.unit.as_ref().and_then(|unit| unit.main_pid).map(Process);
    if let Some(process) = target.process.or(unit_process) {
        return ProcessFound::One(process);
    }
    let found: Vec<Process> = Process::masters_of(&target.program)
        .into_iter()
        .filter(|process| !process.has_other_root())
        .collect();
    match found[..] {
        [] => ProcessFound::None,
        [process] => ProcessFound::One(process),
        _ => ProcessFound::Several(found),
    }
}

fn survey(server: &net::Target) -> anyhow::Result<Survey> {
    let address = server.resolve(ANSWER_TIME)?;
    let name = server.host.parse::<std::net::IpAddr>().is_err().then_some(server.host.as_str());
    Ok(Questioner { address, server_name: name, alpn: &[], timeout: ANSWER_TIME }.survey())
}
