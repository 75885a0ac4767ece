//! The configuration's files and directories are root's alone, whatever was there before: made,
//! taken back from another owner, and freed of what a crash has left beside them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::plan::Error;

/// Mode bits of group and others.
const OTHERS: u32 = 0o077;
/// Digits at the end of a temporary file's name.
const DIGITS: usize = 16;
/// A temporary file of this age is no one's any more: writing one takes moments.
const ABANDONED: Duration = Duration::from_secs(60);

/// Makes the directories of `file` from `top` on, gives them and the file to `owner` (root, but for
/// tests), and closes the directories to others. Says what it changed.
pub(crate) fn secure(file: &Path, top: &Path, owner: u32) -> Result<Vec<String>, Error> {
    let mut said = Vec::new();
    let mut above: Vec<&Path> = file.ancestors().skip(1).collect();
    above.reverse();
    for directory in above.into_iter().filter(|path| path.starts_with(top)) {
        let error = |source| Error::new("prepare", directory, source);
        match fs::metadata(directory) {
            Ok(found) => {
                take_back(directory, found.uid(), owner, &mut said).map_err(error)?;
                if found.permissions().mode() & OTHERS != 0 {
                    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
                        .map_err(error)?;
                    said.push(format!("~ {} (mode 0700)", directory.display()));
                }
            }
            Err(_) => fs::DirBuilder::new()
                .mode(0o700)
                .create(directory)
                .map_err(error)?,
        }
    }
    let error = |source| Error::new("prepare", file, source);
    match fs::symlink_metadata(file) {
        Ok(found) if found.is_symlink() && found.uid() != owner => {
            let text = "it is a link that another user made; remove it";
            Err(error(io::Error::other(text)))
        }
        Ok(found) => {
            take_back(file, found.uid(), owner, &mut said).map_err(error)?;
            Ok(said)
        }
        Err(_) => Ok(said),
    }
}

fn take_back(path: &Path, from: u32, owner: u32, said: &mut Vec<String>) -> io::Result<()> {
    if from == owner {
        return Ok(());
    }
    lchown(path, Some(owner), None)?;
    said.push(format!(
        "~ {} (belonged to user id {from}, and is root's now)",
        path.display()
    ));
    Ok(())
}

/// Files that a crashed change of `file` has left beside it, secrets and all; with `young`, those
/// that may still be written.
pub(crate) fn leftovers(file: &Path, young: bool) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
        return Vec::new();
    };
    let prefix = format!(".{}.", name.to_string_lossy());
    let is_ours = |name: &str| {
        name.strip_prefix(&prefix).is_some_and(|digits| {
            digits.len() == DIGITS && digits.chars().all(|c| c.is_ascii_hexdigit())
        })
    };
    let is_old = |path: &Path| {
        let written = fs::symlink_metadata(path).and_then(|found| found.modified());
        let age = written.map(|written| SystemTime::now().duration_since(written));
        matches!(age, Ok(Ok(age)) if age >= ABANDONED)
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| is_ours(&entry.file_name().to_string_lossy()));
    let mut paths: Vec<PathBuf> = ours.map(|entry| entry.path()).collect();
    paths.retain(|path| young || is_old(path));
    paths.sort();
    paths
}

/// True if one of `paths`, or something in one that is a directory, was changed after `since`.
pub(crate) fn changed_after(paths: &[PathBuf], since: SystemTime) -> bool {
    let is_newer = |path: &Path| {
        let modified = fs::metadata(path).and_then(|found| found.modified());
        modified.is_ok_and(|modified| modified > since)
    };
    paths.iter().any(|path| {
        let within = fs::read_dir(path).into_iter().flatten().flatten();
        is_newer(path) || within.map(|entry| entry.path()).any(|path| is_newer(&path))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use super::{ABANDONED, changed_after, leftovers, secure};

    #[test]
    fn directories_are_private_and_reported_once() {
        let top = tempfile::tempdir().expect("a directory");
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let own = nix::unistd::geteuid().as_raw();
        let file = top.path().join("gateways/edge.conf");
        let said = secure(&file, top.path(), own).expect("made");
        assert_eq!(said, [format!("~ {} (mode 0700)", top.path().display())]);
        let mode = fs::metadata(file.parent().expect("a directory"))
            .expect("made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(secure(&file, top.path(), own).expect("as it is").is_empty());
    }

    #[test]
    fn files_of_other_users_are_taken_back() {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: only root can give files away");
            return;
        }
        let top = tempfile::tempdir().expect("a directory");
        let file = top.path().join("gateway.conf");
        fs::write(&file, "").expect("written");
        for path in [top.path(), &file] {
            std::os::unix::fs::chown(path, Some(65534), None).expect("given away");
        }
        let said = secure(&file, top.path(), 0).expect("taken back");
        let taken = said.iter().filter(|line| line.contains("65534"));
        assert_eq!(taken.count(), 2, "{said:?}");
        assert!(secure(&file, top.path(), 0).expect("as it is").is_empty());
        fs::remove_file(&file).expect("removed");
        symlink("/etc/passwd", &file).expect("a link");
        std::os::unix::fs::lchown(&file, Some(65534), None).expect("given away");
        secure(&file, top.path(), 0).expect_err("another user's link");
    }

    #[test]
    fn only_a_crashs_leftovers_are_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("gateway.conf");
        for name in [
            "gateway.conf",
            ".gateway.conf.swp",
            ".relay.conf.0123456789abcdef",
            ".gateway.conf.0123456789abcdef",
        ] {
            fs::write(directory.path().join(name), "").expect("written");
        }
        let left = directory.path().join(".gateway.conf.0123456789abcdef");
        assert!(leftovers(&file, false).is_empty());
        assert_eq!(leftovers(&file, true), std::slice::from_ref(&left));
        let long_ago = SystemTime::now() - ABANDONED * 2;
        let opened = File::options().write(true).open(&left).expect("opened");
        opened.set_modified(long_ago).expect("aged");
        assert_eq!(leftovers(&file, false), [left]);
    }

    #[test]
    fn file_age_is_compared_with_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let drop_ins = directory.path().join("a.d");
        fs::create_dir(&drop_ins).expect("made");
        let file = drop_ins.join("b.conf");
        fs::write(&file, "").expect("written");
        let written = fs::metadata(&file).and_then(|found| found.modified());
        let written = written.expect("a time");
        let paths = [drop_ins, directory.path().join("absent")];
        let hour = Duration::from_secs(3600);
        assert!(changed_after(&paths, written - hour));
        assert!(!changed_after(&paths, written + hour));
    }
}
