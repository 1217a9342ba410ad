//! A running process, as `/proc` shows it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

/// `AT_SECURE` of the auxiliary vector (`<linux/auxvec.h>`).
const AT_SECURE: u64 = 23;

/// Variables looked for in memory: those that decide what OpenSSL, the loader and PKCS#11 modules do, and two that nearly
/// every process has, which tell that the place was found.
const VARIABLES: [&str; 14] = [
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "OPENSSL_CONF_INCLUDE",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "SOFTHSM2_CONF",
    "KRYOPTIC_CONF",
    "ChrystokiConfigurationPath",
    "P11_KIT_SERVER_ADDRESS",
    "CREDENTIALS_DIRECTORY",
    "XDG_RUNTIME_DIR",
    "HOME",
    "PATH",
    "LANG",
];

/// The copy is made at the start of the process, in its heap; a larger region is something else's.
const LARGEST_REGION: usize = 64 << 20;

/// A process by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process(pub(super) u32);

/// A file mapped into a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Path at the time it was mapped.
    pub(super) path: PathBuf,
    /// The file was deleted or replaced since.
    pub(super) deleted: bool,
    /// Its inode then.
    pub(super) inode: u64,
}

impl Process {
    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    fn read(self, name: &str) -> anyhow::Result<Vec<u8>> {
        let file = self.file(name);
        std::fs::read(&file).with_context(|| format!("can't read {}", file.display()))
    }

    /// Its program file, and the name that the file had when it was started.
    ///
    /// # Errors
    /// When there is no such process, or it is not ours to look at.
    pub(super) fn program(self) -> anyhow::Result<(PathBuf, String)> {
        let link = self.file("exe");
        let path = std::fs::read_link(&link).with_context(|| {
            format!("can't look at process {}; does it run, and is it yours? Else run doctor as root", self.0)
        })?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.trim_end_matches(" (deleted)").to_owned();
        // In a mount name space of its own the process names its program differently.
        let named = self.arguments().into_iter().next().map(PathBuf::from);
        let identity = |path: &Path| std::fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
        let same = |path: &PathBuf| {
            path.is_absolute() && identity(path).is_some() && identity(path) == identity(&link)
        };
        // After an upgrade the old file is reachable through /proc only.
        let path = [Some(path), named].into_iter().flatten().find(same).unwrap_or(link);
        Ok((path, name))
    }

    /// The environment it was started with, and whether it was found in its memory.
    ///
    /// nginx writes its title over the place that `/proc/PID/environ` shows, after it has copied the variables
    /// (`ngx_init_setproctitle`), so that only the copy is left.
    ///
    /// # Errors
    /// When it may not be read, or is not to be found.
    pub(super) fn environment(self) -> anyhow::Result<(BTreeMap<OsString, OsString>, bool)> {
        let bytes = self.read("environ")?;
        let environment = parse_environment(&bytes);
        if !environment.is_empty() || bytes.is_empty() {
            return Ok((environment, false));
        }
        let found = self.environment_in_memory().context("can't read its memory; run doctor as root")?;
        if found.is_empty() {
            anyhow::bail!(
                "process {0} has overwritten its environment, and no copy of it is left; name its unit, --unit NAME \
                 (systemctl status {0}), or its openssl.cnf, --conf FILE without --pid",
                self.0
            );
        }
        Ok((found, true))
    }

    /// The variables that matter, as they stand somewhere in its writable memory.
    fn environment_in_memory(self) -> anyhow::Result<BTreeMap<OsString, OsString>> {
        let maps = String::from_utf8_lossy(&self.read("maps")?).into_owned();
        let memory = std::fs::File::open(self.file("mem"))?;
        let mut found = BTreeMap::new();
        for line in maps.lines().filter(|line| line.contains(" rw-p ") && !line.contains("[stack]")) {
            let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
            let Some((start, end)) = range else { continue };
            let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16)) else {
                continue;
            };
            let length = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
            if length > LARGEST_REGION {
                continue;
            }
            let mut bytes = vec![0; length];
            // A region may have gone since.
            if memory.read_exact_at(&mut bytes, start).is_err() {
                continue;
            }
            for text in bytes.split(|byte| *byte == 0).filter(|text| text.len() < 4096) {
                for name in VARIABLES {
                    if let Some(value) =
                        text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
                    {
                        found
                            .entry(OsString::from(name))
                            .or_insert_with(|| OsString::from_vec(value.to_vec()));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Its command line.
    pub(super) fn arguments(self) -> Vec<String> {
        let bytes = self.read("cmdline").unwrap_or_default();
        // nginx writes a title over its arguments: "nginx: master process nginx -c file".
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        let text = text.split_once("master process ").map_or(&*text, |(_, command)| command);
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Effective user and group.
    pub(super) fn user(self) -> anyhow::Result<(u32, u32)> {
        let status = String::from_utf8_lossy(&self.read("status")?).into_owned();
        let effective = |key: &str| -> Option<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        effective("Uid:").zip(effective("Gid:")).context("no user in /proc/PID/status")
    }

    /// Fields of `stat` after the command name, the state being the first.
    fn stat(self) -> anyhow::Result<Vec<String>> {
        let text = String::from_utf8_lossy(&self.read("stat")?).into_owned();
        let (_, fields) = text.rsplit_once(") ").context("malformed /proc/PID/stat")?;
        Ok(fields.split_whitespace().map(str::to_owned).collect())
    }

    /// Its parent.
    pub(super) fn parent(self) -> Option<Self> {
        self.stat().ok()?.get(1)?.parse().ok().map(Self)
    }

    /// When it started, to the hundredth of a second.
    pub(super) fn start_time(self) -> anyhow::Result<SystemTime> {
        let ticks: u64 = self.stat()?.get(19).and_then(|text| text.parse().ok()).context("no start time")?;
        let started =
            Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second());
        // The start time counts from boot, sleep included (proc(5)).
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let since_boot =
            Duration::new(since_boot.tv_sec.unsigned_abs(), u32::try_from(since_boot.tv_nsec).unwrap_or(0));
        Ok(SystemTime::now() - since_boot.saturating_sub(started))
    }

    /// Files mapped into it.
    pub(super) fn mappings(self) -> anyhow::Result<Vec<Mapping>> {
        let text = String::from_utf8_lossy(&self.read("maps")?).into_owned();
        let mut mappings: Vec<Mapping> = text.lines().filter_map(parse_mapping).collect();
        mappings.dedup();
        Ok(mappings)
    }

    /// Whether the kernel told it to distrust its environment.
    pub(super) fn is_secure(self) -> Option<bool> {
        let bytes = self.read("auxv").ok()?;
        let numbers: Vec<u64> = bytes
            .chunks_exact(8)
            .filter_map(|eight| Some(u64::from_ne_bytes(eight.try_into().ok()?)))
            .collect();
        let pair = numbers.chunks_exact(2).find(|pair| pair[0] == AT_SECURE)?;
        Some(pair[1] != 0)
    }

    /// Its AppArmor profile, none when unconfined.
    pub(super) fn apparmor_profile(self) -> Option<String> {
        let bytes = self.read("attr/apparmor/current").or_else(|_| self.read("attr/current")).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n']).to_owned();
        (!text.is_empty() && text != "unconfined" && text.ends_with(')')).then_some(text)
    }

    /// Whether it sees another file system root than we do (a container or a chroot).
    pub(super) fn has_other_root(self) -> bool {
        let identity = |path: &Path| std::fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
        identity(&self.file("root")).is_some_and(|root| Some(root) != identity(Path::new("/")))
    }

    /// The topmost process of the same program: of an nginx worker its master.
    pub(super) fn master(self) -> Self {
        let mut process = self;
        while let Some(parent) = process.parent().filter(|parent| parent.0 > 1)
            && parent.same_program(process)
        {
            process = parent;
        }
        process
    }

    fn same_program(self, other: Self) -> bool {
        let identity =
            |process: Self| std::fs::metadata(process.file("exe")).map(|data| (data.dev(), data.ino()));
        identity(self).is_ok_and(|one| identity(other).is_ok_and(|two| one == two))
    }

    /// Every master of a program.
    pub(super) fn masters_of(program: &Path) -> Vec<Self> {
        let Ok(wanted) = std::fs::metadata(program).map(|data| (data.dev(), data.ino())) else {
            return Vec::new();
        };
        let numbers = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let processes = numbers.filter_map(|entry| {
            let number = std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse().ok()?;
            let data = std::fs::metadata(entry.path().join("exe")).ok()?;
            ((data.dev(), data.ino()) == wanted).then_some(Self(number))
        });
        let mut masters: Vec<Self> = processes.map(Self::master).collect();
        masters.sort_by_key(|process| process.0);
        masters.dedup();
        masters
    }
}

fn parse_environment(bytes: &[u8]) -> BTreeMap<OsString, OsString> {
    let pairs = bytes.split(|byte| *byte == 0).filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        Some((OsString::from_vec(pair[..at].to_vec()), OsString::from_vec(pair[at + 1..].to_vec())))
    });
    pairs.collect()
}

/// `7f1-7f2 r--p 00000000 fe:01 1234   /path/lib.so (deleted)`.
fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let inode = fields.nth(4)?.parse().ok()?;
    let path = fields.next()?.trim_start();
    let (path, deleted) = path.strip_suffix(" (deleted)").map_or((path, false), |path| (path, true));
    path.starts_with('/').then(|| Mapping { path: PathBuf::from(path), deleted, inode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_as_it_is() {
        let this = Process(std::process::id());
        let age = this.start_time().unwrap().elapsed().unwrap();
        assert!(age < Duration::from_secs(600), "{age:?}");
        assert_eq!(this.is_secure(), Some(false));
        assert_eq!(this.program().unwrap().0, std::env::current_exe().unwrap());
        assert!(
            this.mappings().unwrap().iter().any(|mapping| mapping.path.to_string_lossy().contains("libc.so"))
        );
        assert!(!this.has_other_root());
    }

    #[test]
    fn a_replaced_library_is_recognised() {
        let line = "7f0-7f1 r-xp 00000000 fe:01 77                         /usr/lib/qtls.so (deleted)";
        let mapping = parse_mapping(line).unwrap();
        assert_eq!(mapping, Mapping { path: "/usr/lib/qtls.so".into(), deleted: true, inode: 77 });
        assert_eq!(parse_mapping("7f0-7f1 rw-p 00000000 00:00 0 "), None);
    }
}
