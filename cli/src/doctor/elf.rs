//! What a program file says of itself: which loader and libraries it wants, and whether it carries an OpenSSL inside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use object::elf;
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, FileKind};

use super::bounded;

/// A program file.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    /// The dynamic loader; none when linked statically.
    pub(super) interpreter: Option<PathBuf>,
    /// Names of libraries the program itself asks for.
    pub(super) needed: Vec<String>,
    /// `DT_RPATH` and `DT_RUNPATH`.
    pub(super) run_paths: Vec<String>,
    /// Version text of a TLS library found inside of the file.
    pub(super) embedded: Option<String>,
}

/// A library as the dynamic loader resolves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Library {
    /// Name asked for, such as `libssl.so.3`.
    pub(super) name: String,
    /// Where it was found.
    pub(super) path: Option<PathBuf>,
}

impl Program {
    /// Reads a program file.
    ///
    /// # Errors
    /// When it can't be read or is no ELF program.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
        if bytes.starts_with(b"#!") {
            let line: String =
                bytes.iter().take(120).take_while(|byte| **byte != b'\n').map(|byte| *byte as char).collect();
            bail!("{} is a script ({line}); name the program it starts", path.display());
        }
        let mut program = match FileKind::parse(&*bytes) {
            Ok(FileKind::Elf64) => read_headers::<elf::FileHeader64<Endianness>>(&bytes),
            Ok(FileKind::Elf32) => read_headers::<elf::FileHeader32<Endianness>>(&bytes),
            _ => bail!("{} is no ELF program", path.display()),
        }
        .with_context(|| format!("{} is a damaged ELF file", path.display()))?;
        program.embedded = embedded_version(&bytes);
        Ok(program)
    }
}

fn read_headers<E: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> object::Result<Program> {
    let header = E::parse(bytes)?;
    let endian = header.endian()?;
    let mut program = Program::default();
    for segment in header.program_headers(endian, bytes)? {
        if let Some(interpreter) = segment.interpreter(endian, bytes)? {
            program.interpreter = Some(PathBuf::from(String::from_utf8_lossy(interpreter).into_owned()));
        }
    }
    let sections = header.sections(endian, bytes)?;
    if let Some((entries, link)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, link)?;
        for entry in entries {
            let Some(tag) = entry.tag32(endian) else { continue };
            if let elf::DT_NEEDED | elf::DT_RPATH | elf::DT_RUNPATH = tag {
                let text = String::from_utf8_lossy(entry.string(endian, strings)?).into_owned();
                if tag == elf::DT_NEEDED { program.needed.push(text) } else { program.run_paths.push(text) }
            }
        }
    }
    // Read for its errors: a file cut short must not look like one without libraries.
    for section in sections.iter() {
        if section.sh_type(endian) != elf::SHT_NOBITS {
            section.data(endian, bytes)?;
        }
    }
    Ok(program)
}

/// The version text a TLS library has among its constants, as `OpenSSL 3.5.4 30 Sep 2025`.
fn embedded_version(bytes: &[u8]) -> Option<String> {
    let text_at = |start: usize| {
        let length = bytes[start..].iter().take(64).take_while(|byte| (b' '..=b'~').contains(*byte)).count();
        String::from_utf8_lossy(&bytes[start..start + length]).into_owned()
    };
    let mut boring = None;
    for (start, window) in bytes.windows(9).enumerate() {
        if window.starts_with(b"OpenSSL ") && window[8].is_ascii_digit() {
            let text = text_at(start);
            // "OpenSSL 3.5.4 30 Sep 2025": a date tells a library's own version from other mentions.
            let words: Vec<&str> = text.split_whitespace().collect();
            if words.len() >= 5 && words[2].parse::<u8>().is_ok() && words[4].parse::<u16>().is_ok() {
                return Some(words[..5].join(" "));
            }
        } else if window == b"BoringSSL" || window.starts_with(b"AWS-LC ") || window == b"LibreSSL " {
            boring.get_or_insert_with(|| text_at(start));
        }
    }
    boring
}

/// Asks the program's own dynamic loader which files it would load in this environment.
///
/// # Errors
/// When the loader can't be run or refuses the program.
pub(super) fn libraries(
    path: &Path,
    interpreter: &Path,
    environment: &BTreeMap<OsString, OsString>,
) -> anyhow::Result<Vec<Library>> {
    // `--list` stops at the first library that is missing; with the variable, as ldd(1) uses it, the loader lists
    // them all. Neither runs the program.
    let ask = |option: &[&str], variable: &[(&str, &str)]| {
        let mut command = Command::new(interpreter);
        command.args(option).arg(path).env_clear().envs(environment).envs(variable.iter().copied());
        bounded::output(&mut command)
            .with_context(|| format!("can't run the dynamic loader {}", interpreter.display()))
    };
    let mut output = ask(&["--list"], &[])?;
    if !output.status.success() {
        output = ask(&[], &[("LD_TRACE_LOADED_OBJECTS", "1")])?;
    }
    let libraries: Vec<Library> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(parse_line).collect();
    if libraries.is_empty() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{} does not load {}: {}", interpreter.display(), path.display(), error.trim());
    }
    Ok(libraries)
}

/// `\tlibssl.so.3 => /usr/lib/libssl.so.3 (0x…)`, or `=> not found`.
fn parse_line(line: &str) -> Option<Library> {
    let (name, target) = line.trim().split_once(" => ")?;
    let path = target.rsplit_once(" (").map_or(target, |(path, _)| path);
    let path = (path != "not found").then(|| PathBuf::from(path));
    Some(Library { name: name.to_owned(), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_lines_are_understood() {
        let found = parse_line("\tlibssl.so.3 => /lib/x/libssl.so.3 (0x00007f)").unwrap();
        assert_eq!(found, Library { name: "libssl.so.3".into(), path: Some("/lib/x/libssl.so.3".into()) });
        assert_eq!(parse_line("\tlibssl.so.4 => not found").unwrap().path, None);
        assert_eq!(parse_line("\tlinux-vdso.so.1 (0x00007ffc)"), None);
    }

    #[test]
    fn an_openssl_inside_is_told_from_a_mention_of_one() {
        let file = b"built with OpenSSL 3.0.2 and\0xOpenSSL 3.5.4 30 Sep 2025\0tail";
        assert_eq!(embedded_version(file).as_deref(), Some("OpenSSL 3.5.4 30 Sep 2025"));
        assert_eq!(embedded_version(b"needs OpenSSL 3.0.2 or later\0 so be it"), None);
    }

    #[test]
    fn this_program_is_read() {
        let program = Program::read(Path::new("/proc/self/exe")).unwrap();
        assert!(program.interpreter.is_some());
        assert!(program.needed.iter().any(|name| name.starts_with("libc.so")));
    }
}
