//! C programs against the headers and libraries of any OpenSSL at hand.
// Each test program uses a part of this.
#![allow(dead_code)]

use qtls_tests::Platform;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with the OpenSSL headers of `root`'s include folder and no other headers of it: the C library's are the
/// host's.
pub(crate) fn openssl_headers(include: &Path, folder: &Path) -> Vec<PathBuf> {
    // Debian has the headers that depend on the processor in a folder of their own, such as x86_64-linux-gnu.
    let of_processors = std::fs::read_dir(include).unwrap().map(|entry| entry.unwrap().path());
    [include.to_owned()]
        .into_iter()
        .chain(of_processors)
        .map(|place| place.join("openssl"))
        .filter(|headers| headers.is_dir())
        .enumerate()
        .map(|(number, headers)| {
            let link_folder = folder.join(format!("include-{number}"));
            std::fs::create_dir(&link_folder).unwrap();
            symlink(headers, link_folder.join("openssl")).unwrap();
            link_folder
        })
        .collect()
}

/// Where a platform has its headers.
pub(crate) fn include_of(platform: &Platform) -> PathBuf {
    let home = platform.home().unwrap_or_else(|error| panic!("{error:#}"));
    if platform.is_chroot() { home.join("usr/include") } else { home.join("include") }
}

/// Runs the C compiler; what it says is shown when it fails.
pub(crate) fn compile(source: &Path, program: &Path, includes: &[PathBuf], arguments: &[&str]) {
    let output = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror"])
        .args(includes.iter().map(|include| format!("-I{}", include.display())))
        .arg("-o")
        .args([program, source])
        .args(arguments)
        .output()
        .expect("a C compiler");
    assert!(
        output.status.success(),
        "cc {} failed: {}",
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}
