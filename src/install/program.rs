//! Whether a unit could execute this program where it lies, and whether only root could
//! replace it there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::sandbox::Sandbox;
use crate::host::unit::{InvalidProgram, Program};

/// Write permission of group and others.
const WRITABLE: u32 = 0o022;

/// The program cannot be installed from where it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot find out where this program lies")]
    Unknown(#[source] io::Error),
    #[error(transparent)]
    Path(#[from] InvalidProgram),
    #[error("{} lies where its own unit does not see it; {}", .0.display(), advice(.0))]
    Hidden(PathBuf),
    #[error(
        "{} can be changed by others than root (owner {uid}, mode {mode:04o}), who could replace {}, the program of the service; {}",
        .path.display(), .program.display(), cure(.path, *uid)
    )]
    Writable {
        /// The program, or a directory above it.
        path: PathBuf,
        program: PathBuf,
        uid: u32,
        mode: u32,
    },
}

/// Where a program is to be that cannot be installed from where it is.
pub(crate) fn recommended() -> &'static Path {
    // That directory may itself be a link to one that is hidden, such as below /opt.
    let local = Path::new("/usr/local/bin");
    let is_itself = std::fs::canonicalize(local).is_ok_and(|real| real == local);
    Path::new(if is_itself {
        "/usr/local/bin/infisical"
    } else {
        "/usr/bin/infisical"
    })
}

fn advice(program: &Path) -> String {
    let to = recommended().display();
    format!("run: install -m 0755 {} {to} && {to} …", program.display())
}

/// What makes `path` root's alone.
fn cure(path: &Path, uid: u32) -> String {
    let shown = path.display();
    let run = if uid == 0 {
        format!("chmod go-w {shown}")
    } else {
        format!("chown root {shown} && chmod go-w {shown}")
    };
    let to = recommended().display();
    format!("run: {run}, or install the program where only root can write: {to}")
}

/// This program, if `unit` can execute it.
pub(crate) fn find(unit: &str) -> Result<Program, Error> {
    let path = std::env::current_exe().map_err(Error::Unknown)?;
    let program = Program::try_new(&command(&path).unwrap_or(path))?;
    check(program.path(), unit)?;
    Ok(program)
}

/// The name by which people know a program that a package keeps in a directory of its own.
fn command(path: &Path) -> Option<PathBuf> {
    let link = Path::new("/usr/bin").join(path.file_name()?);
    let is_link = fs::canonicalize(&link).is_ok_and(|real| real == path);
    is_link.then_some(link)
}

/// True if process `pid` runs another program than the one that lies at `path` now: an older one,
/// after an update.
pub(crate) fn is_other(pid: u32, path: &Path) -> bool {
    // The link leads to the file itself, whatever has become of its name.
    let running = fs::metadata(format!("/proc/{pid}/exe"));
    match (running, fs::metadata(path)) {
        (Ok(running), Ok(there)) => (running.dev(), running.ino()) != (there.dev(), there.ino()),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Checks that `unit` can execute the program at `path`, and that only root can replace it.
pub(crate) fn check(path: &Path, unit: &str) -> Result<(), Error> {
    if is_hidden(path, unit) {
        return Err(Error::Hidden(path.to_owned()));
    }
    for part in path.ancestors() {
        let metadata = fs::metadata(part).map_err(Error::Unknown)?;
        let mode = metadata.mode() & 0o7777;
        if metadata.uid() != 0 || mode & WRITABLE != 0 {
            return Err(Error::Writable {
                path: part.to_owned(),
                program: path.to_owned(),
                uid: metadata.uid(),
                mode,
            });
        }
    }
    Ok(())
}

/// True if `unit` hides `path`.
fn is_hidden(path: &Path, unit: &str) -> bool {
    Sandbox::of([unit]).hides(path).is_some()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Error, check, cure, find, is_hidden, is_other};
    use crate::install::place::{Place, Role};
    use crate::install::unit_templates;

    #[test]
    fn hidden_path_cannot_be_the_program() {
        let place = Place::try_new(Role::Gateway, None).expect("a place");
        let unit = unit_templates::unit(&place);
        for path in [
            "/home/u/infisical",
            "/root/infisical",
            "/tmp/infisical",
            "/opt/infisical/bin/infisical",
            "/var/lib/x/infisical",
            "/srv/infisical",
            "/run/user/0/infisical",
        ] {
            assert!(is_hidden(Path::new(path), unit), "{path}");
        }
        for path in [
            "/usr/bin/infisical",
            "/usr/local/bin/infisical",
            "/homes/infisical",
        ] {
            assert!(!is_hidden(Path::new(path), unit), "{path}");
        }
    }

    #[test]
    fn replaced_program_is_another_one() {
        let own = std::env::current_exe().expect("a path");
        assert!(!is_other(std::process::id(), &own));
        assert!(is_other(std::process::id(), Path::new("/bin/sh")));
        assert!(!is_other(0, &own));
    }

    #[test]
    fn the_advice_names_what_others_can_write() {
        let directory = Path::new("/usr/local/bin");
        assert!(cure(directory, 0).starts_with("run: chmod go-w /usr/local/bin, or"));
        assert!(cure(directory, 7).starts_with("run: chown root /usr/local/bin && chmod"));
    }

    #[test]
    fn program_replaceable_by_others_is_refused() {
        let directory = tempfile::tempdir_in("/var").or_else(|_| tempfile::tempdir());
        let directory = directory.expect("a directory");
        let path = directory.path().join("infisical");
        std::fs::write(&path, "").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o775);
        std::fs::set_permissions(&path, mode).expect("a mode");
        let error = check(&path, "").expect_err("group may write");
        match &error {
            Error::Writable { .. } => {
                let text = error.to_string();
                assert!(text.contains("chmod go-w"), "{text}");
            }
            // The directory of a test may lie anywhere.
            Error::Hidden(_) => {}
            other => panic!("{other:?}"),
        }
        check(Path::new("/bin/sh"), "").expect("root's alone");
        // The program of a test lies where builders put it.
        drop(find(""));
    }
}
