//! The file qtls.so: what it exports, what it needs, and that it stays.

mod common;

use object::elf::{DF_1_NODELETE, DT_FLAGS_1, DT_NEEDED, FileHeader64, SHN_UNDEF, STB_LOCAL};
use object::read::elf::{Dyn, ElfFile, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, Object, ObjectSymbol};
use std::collections::BTreeSet;

type Elf<'data> = ElfFile<'data, FileHeader64<Endianness>>;

fn with_module<T>(look: impl FnOnce(&Elf<'_>, &[u8]) -> T) -> T {
    let data = std::fs::read(common::module()).expect("the module can be read");
    look(&Elf::parse(&*data).expect("the module is a 64-bit ELF file"), &data)
}

#[test]
fn it_exports_the_entry_point_and_nothing_else() {
    with_module(|elf, _| {
        let exported: Vec<_> = elf
            .dynamic_symbols()
            .filter(|symbol| {
                let raw = symbol.elf_symbol();
                raw.st_shndx(Endianness::default()) != SHN_UNDEF && raw.st_bind() != STB_LOCAL
            })
            .map(|symbol| symbol.name().unwrap().to_owned())
            .collect();
        assert_eq!(exported, ["OSSL_provider_init"]);
    });
}

/// The entries of the dynamic section with this tag.
fn dynamic(elf: &Elf<'_>, data: &[u8], tag: u32) -> Vec<u64> {
    let endian = elf.endian();
    let entries = elf
        .elf_program_headers()
        .iter()
        .find_map(|header| header.dynamic(endian, data).unwrap())
        .expect("a shared library has a dynamic section");
    entries.iter().filter(|entry| entry.tag32(endian) == Some(tag)).map(|entry| entry.d_val(endian)).collect()
}

#[test]
fn it_needs_no_libcrypto_and_no_libssl() {
    with_module(|elf, data| {
        let strings = elf.elf_section_table();
        let dynamic_strings = strings
            .iter()
            .find(|section| strings.section_name(elf.endian(), section) == Ok(b".dynstr"))
            .expect("a string table")
            .data(elf.endian(), data)
            .unwrap();
        let needed: Vec<_> = dynamic(elf, data, DT_NEEDED)
            .into_iter()
            .map(|at| {
                let name = dynamic_strings[at as usize..].split(|&byte| byte == 0).next().unwrap();
                String::from_utf8(name.to_vec()).unwrap()
            })
            .collect();
        assert!(needed.iter().any(|name| name == "libc.so.6"), "{needed:?}");
        for name in &needed {
            assert!(
                ["libc.so.6", "libgcc_s.so.1", "libm.so.6"].contains(&name.as_str())
                    || name.starts_with("ld-linux"),
                "{name} is needed; only the C library may be"
            );
        }
    });
}

#[test]
fn it_is_never_unmapped() {
    // A thread-exit destructor of the Rust runtime may run after libcrypto's dlclose.
    let flags = with_module(|elf, data| dynamic(elf, data, DT_FLAGS_1));
    assert!(flags.iter().any(|flags| flags & u64::from(DF_1_NODELETE) != 0), "{flags:?}");
}

#[test]
fn it_needs_no_symbol_that_ubuntu_22_04_and_rhel_9_lack() {
    // RHEL 9 has glibc 2.34, Ubuntu 22.04 has 2.35.
    const NEWEST: [u32; 2] = [2, 34];
    with_module(|elf, data| {
        let endian = elf.endian();
        let sections = elf.elf_section_table();
        let versions = sections.versions(endian, data).unwrap().expect("symbols have versions");
        let symbols = sections.symbols(endian, data, object::elf::SHT_DYNSYM).unwrap();
        let mut seen = BTreeSet::new();
        for (index, symbol) in symbols.enumerate() {
            if !symbol.is_undefined(endian) {
                continue;
            }
            let Some(version) = versions.version(versions.version_index(endian, index)).unwrap() else {
                continue;
            };
            let version = String::from_utf8_lossy(version.name()).into_owned();
            let name = String::from_utf8_lossy(symbol.name(endian, symbols.strings()).unwrap()).into_owned();
            if let Some(numbers) = version.strip_prefix("GLIBC_") {
                let numbers: Vec<u32> = numbers.split('.').map(|part| part.parse().unwrap()).collect();
                assert!(numbers[..] <= NEWEST[..], "{name} needs {version}");
                seen.insert(numbers);
            }
        }
        assert!(!seen.is_empty(), "no versioned symbol was seen at all");
    });
}
