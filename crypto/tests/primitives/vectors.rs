//! Where the published test vectors lie; the provider's tests use this file too.

use std::path::PathBuf;

/// A folder of the published vectors, which are read in place from `../shared/vectors` or `QTLS_VECTORS`; `None` after a
/// line that says that the test is skipped.
pub(crate) fn vectors(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("QTLS_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
        PathBuf::from,
    );
    let folder = root.join(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no published vectors in {} (set QTLS_VECTORS)", folder.display());
    None
}
