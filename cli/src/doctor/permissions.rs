//! Who else could change a file that a server loads as root.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

const WRITABLE_BY_ALL: u32 = 0o002;
const WRITABLE_BY_GROUP: u32 = 0o020;
const STICKY: u32 = 0o1000;

/// A way in which somebody else may change a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Weakness {
    /// Anybody may, so it is wrong; else a group or another user may, which can be meant.
    pub(super) grave: bool,
    /// What is so.
    pub(super) found: String,
    /// The command that mends it.
    pub(super) mend: String,
}

/// Looks at a file and each directory above it. Files that don't exist have no weakness.
pub(super) fn weaknesses(path: &Path, service_user: u32) -> Vec<Weakness> {
    let Ok(path) = path.canonicalize() else { return Vec::new() };
    let mut weaknesses = Vec::new();
    for part in path.ancestors() {
        let Ok(data) = part.metadata() else { continue };
        let is_file = part == path;
        let mode = data.mode();
        let shown = part.display();
        if mode & WRITABLE_BY_ALL != 0 && (is_file || mode & STICKY == 0) {
            weaknesses.push(Weakness {
                grave: true,
                found: format!("{shown} is writable by everybody (mode {:o})", mode & 0o7777),
                mend: format!("chmod o-w {shown}"),
            });
        } else if mode & WRITABLE_BY_GROUP != 0 && data.gid() != 0 && (is_file || mode & STICKY == 0) {
            weaknesses.push(Weakness {
                grave: false,
                found: format!("{shown} is writable by group {}", group_name(data.gid())),
                mend: format!("chmod g-w {shown}"),
            });
        }
        if is_file && data.uid() != 0 && data.uid() != service_user {
            weaknesses.push(Weakness {
                grave: false,
                found: format!(
                    "{shown} belongs to {}, neither root nor the user that starts the server",
                    user_name(data.uid())
                ),
                mend: format!("chown root: {shown}"),
            });
        }
    }
    weaknesses
}

/// The name of a user, else the number.
pub(super) fn user_name(user: u32) -> String {
    let found = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(user));
    found.ok().flatten().map_or_else(|| user.to_string(), |user| user.name)
}

fn group_name(group: u32) -> String {
    let found = nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(group));
    found.ok().flatten().map_or_else(|| group.to_string(), |group| group.name)
}

/// The parts of a path that a user may not pass or read, by mode bits.
pub(super) fn obstacles(path: &Path, user: u32, group: u32) -> Vec<String> {
    if user == 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
        let Ok(data) = part.metadata() else { continue };
        let shift = if data.uid() == user {
            6
        } else if data.gid() == group {
            3
        } else {
            0
        };
        let needed = if data.is_dir() { 0o1 } else { 0o4 };
        if (data.mode() >> shift) & needed == 0 {
            let (kind, mend) = if data.is_dir() { ("pass", "o+x") } else { ("read", "o+r") };
            found.push(format!(
                "{} may not {kind} {} (mode {:o}): chmod {mend} {}",
                user_name(user),
                part.display(),
                data.mode() & 0o7777,
                part.display()
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_writable_file_or_directory_is_grave_and_a_sticky_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("f");
        fs::write(&file, "x").unwrap();
        let user = fs::metadata(&file).unwrap().uid();
        assert_eq!(weaknesses(&file, user), []);
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert!(
            weaknesses(&file, user)
                .iter()
                .any(|weakness| weakness.grave && weakness.mend.starts_with("chmod o-w"))
        );
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        assert!(weaknesses(&file, user).iter().any(|weakness| weakness.grave));
        fs::set_permissions(&directory, Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(weaknesses(&file, user), []);
    }

    #[test]
    fn what_stops_another_user_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        let file = root.path().join("f");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let found = obstacles(&file, 54_321, 54_321);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("may not read"), "{}", found[0]);
        assert!(obstacles(&file, 0, 0).is_empty());
    }
}
