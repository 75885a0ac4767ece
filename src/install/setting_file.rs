//! Whether a service can use a file that one of its settings names.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::place::CONFIGURATION;
use super::sandbox::Sandbox;

/// A file that a service can never use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("a service has no directory that a relative path could begin in; give the whole path")]
    Relative,
    #[error(
        "the service does not see {}, because its unit hides {}; {}",
        .path.display(), .folder.display(), advice(.path, *.own_user)
    )]
    Hidden {
        path: PathBuf,
        /// What is hidden: the file, or a directory above it.
        folder: PathBuf,
        /// The service has a user of its own.
        own_user: bool,
    },
}

/// Where the file can be instead.
fn advice(path: &Path, own_user: bool) -> String {
    if own_user {
        return "copy it to a directory below /etc that the user of the service can read, and give \
                that path"
            .to_owned();
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(
        "copy it to {CONFIGURATION}, and give that path: install -m 0600 {} {CONFIGURATION}/{name}",
        path.display()
    )
}

/// Checks that a service in `sandbox` sees the file at `path`.
pub(crate) fn check(path: &Path, sandbox: &Sandbox, own_user: bool) -> Result<(), Unusable> {
    if !path.is_absolute() {
        return Err(Unusable::Relative);
    }
    match sandbox.hides(path) {
        Some(folder) => Err(Unusable::Hidden {
            path: path.to_owned(),
            folder: folder.to_owned(),
            own_user,
        }),
        None => Ok(()),
    }
}

/// What keeps a service from reading the file at `path`, as far as mode bits tell: the file, or a
/// directory above it, and its mode. Without a user of its own the service is root, which without
/// capabilities is a user like others.
pub(crate) fn closed_to_service(path: &Path, own_user: bool) -> Option<(PathBuf, u32)> {
    let real = fs::canonicalize(path).ok()?;
    let mut parts: Vec<&Path> = real.ancestors().collect();
    parts.reverse();
    parts.into_iter().find_map(|part| {
        let found = fs::metadata(part).ok()?;
        let mode = found.mode() & 0o7777;
        let shift = match (own_user, found.uid(), found.gid()) {
            (false, 0, _) => 6,
            (false, _, 0) => 3,
            (true, ..) | (false, ..) => 0,
        };
        let needed = if found.is_dir() { 0o1 } else { 0o4 };
        ((mode >> shift) & needed == 0).then(|| (part.to_owned(), mode))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{check, closed_to_service};
    use crate::install::sandbox::Sandbox;

    #[test]
    fn refusal_names_path_folder_and_remedy() {
        let sandbox = Sandbox::of(["ProtectHome=yes\n"]);
        let text = |path: &str, own_user| {
            let error = check(Path::new(path), &sandbox, own_user).expect_err("refused");
            error.to_string()
        };
        let hidden = text("/home/u/jwt", false);
        for part in [
            "/home/u/jwt, because its unit hides /home;",
            "install -m 0600 /home/u/jwt /etc/infisical/jwt",
        ] {
            assert!(hidden.contains(part), "{hidden}");
        }
        // That directory is closed to it.
        assert!(!text("/home/u/jwt", true).contains("/etc/infisical"));
        assert!(text("jwt", false).contains("relative path"));
        check(Path::new("/etc/jwt"), &sandbox, true).expect("seen");
    }

    #[test]
    fn closed_part_of_a_path_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("jwt");
        fs::write(&file, "").expect("written");
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        };
        chmod(directory.path(), 0o755);
        chmod(&file, 0o600);
        let real = fs::canonicalize(&file).expect("there");
        let found = closed_to_service(&file, true);
        // Temporary directories may themselves be below a closed one.
        assert!(found.is_some_and(|(part, _)| real.starts_with(part)));
        if nix::unistd::geteuid().is_root() {
            assert_eq!(closed_to_service(&file, false), None);
            chmod(&file, 0);
            assert_eq!(closed_to_service(&file, false), Some((real, 0)));
        }
    }
}
