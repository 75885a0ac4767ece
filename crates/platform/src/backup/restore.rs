//! Restoring a backup: into a new directory beside the state, which is exchanged only when
//! everything has been checked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{DATABASE, Error, Manifest, archive, io_error, timestamp};
use crate::store;
use crate::{ADMIN_TOKEN_FILE, RELAY_AUTH_SECRET_FILE};

/// What is to be restored where.
#[derive(Debug)]
pub struct Restore<'a> {
    /// The state directory; what leads there is created.
    pub state_dir: &'a Path,
    /// Whose it becomes, a user and a group, if it is not there; otherwise it keeps its owner.
    pub owner: Option<(u32, u32)>,
    /// Keep a state that is there beside it, and otherwise refuse.
    pub replace: bool,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// Where the state is that was there before.
    pub kept: Option<PathBuf>,
}

/// A directory that is removed unless it is [kept](Self::keep).
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The error that matters is the one at hand.
            let _ = fs::remove_dir_all(path);
        }
    }
}

impl Restore<'_> {
    /// Restores the backup that `from` gives.
    ///
    /// # Errors
    /// See [`Error`]; everything is then as it was.
    pub fn run(&self, from: &mut dyn Read, now: SystemTime) -> Result<Restored, Error> {
        // A service manager may have made a link of it.
        let directory = match fs::canonicalize(self.state_dir) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.state_dir.to_owned(),
            Err(error) => return Err(io_error("read", self.state_dir)(error)),
        };
        let absolute = std::path::absolute(&directory).map_err(io_error("find", &directory))?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            let error = io::Error::other("it has no directory above");
            return Err(io_error("replace", &absolute)(error));
        };
        let before = before(&absolute)?;
        if before == Before::State && !self.replace {
            return Err(Error::Exists(absolute));
        }
        // Held until the state is away: no platform starts meanwhile.
        let _lock = match before {
            Before::State => Some(lock(&absolute)?),
            Before::Nothing | Before::Empty => None,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(io_error("create", parent))?;
        let new = parent.join(format!(".restore-{}", uuid::Uuid::new_v4().simple()));
        let created = DirBuilder::new().mode(0o700).create(&new);
        created.map_err(io_error("create", &new))?;
        let temporary = Temporary(Some(new.clone()));
        let manifest = archive::read(from, |name| create(&new.join(name)))?;
        check(&new.join(DATABASE), &manifest)?;
        let owner = match before {
            Before::Nothing => self.owner,
            Before::Empty | Before::State => Some(owner_of(&absolute)?),
        };
        if let Some((user, group)) = owner {
            let files = [DATABASE, ADMIN_TOKEN_FILE, RELAY_AUTH_SECRET_FILE];
            let files = files.map(|name| new.join(name));
            for path in files.iter().chain([&new]) {
                chown(path, Some(user), Some(group))
                    .map_err(io_error("change the owner of", path))?;
            }
        }
        sync(&new)?;
        let kept = match before {
            Before::Nothing => None,
            Before::Empty => {
                fs::remove_dir(&absolute).map_err(io_error("replace", &absolute))?;
                None
            }
            Before::State => {
                let kept = parent.join(kept_name(&name.to_string_lossy(), now));
                fs::rename(&absolute, &kept).map_err(io_error("move away", &absolute))?;
                Some(kept)
            }
        };
        if let Err(error) = fs::rename(&new, &absolute) {
            if let Some(kept) = &kept {
                // As it was; the error that matters is the one at hand.
                let _ = fs::rename(kept, &absolute);
            }
            return Err(io_error("write", &absolute)(error));
        }
        temporary.keep();
        sync(parent)?;
        Ok(Restored { manifest, kept })
    }
}

/// What is where the state goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Empty,
    State,
}

fn before(directory: &Path) -> Result<Before, Error> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(match entries.next() {
            None => Before::Empty,
            Some(_) => Before::State,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Before::Nothing),
        Err(error) => Err(io_error("read", directory)(error)),
    }
}

/// Keeps platforms away from a state, if it has a database.
fn lock(directory: &Path) -> Result<Option<store::Lock>, Error> {
    if !directory.join(DATABASE).exists() {
        return Ok(None);
    }
    match store::lock(directory) {
        Ok(lock) => Ok(Some(lock)),
        Err(store::Error::InUse(_)) => Err(Error::Running(directory.to_owned())),
        // A damaged one is why backups are restored, and no platform runs with it.
        Err(_) => Ok(None),
    }
}

fn create(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io_error("create", path))
}

/// Fails unless this program can use the database, and it is that of the manifest.
fn check(database: &Path, manifest: &Manifest) -> Result<(), Error> {
    let found = store::describe(database).map_err(Error::Store)?;
    if found.is_newer {
        return Err(Error::Newer {
            program_version: crate::error::printable(&manifest.program_version),
        });
    }
    if !found.is_whole
        || found.schema_version != manifest.schema_version
        || found.organization_id != manifest.organization_id
    {
        let text = "its database is broken, or is not what the manifest says";
        return Err(Error::Damaged(text.to_owned()));
    }
    Ok(())
}

fn owner_of(directory: &Path) -> Result<(u32, u32), Error> {
    use std::os::unix::fs::MetadataExt as _;
    let found = fs::metadata(directory).map_err(io_error("examine", directory))?;
    Ok((found.uid(), found.gid()))
}

fn sync(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("write", directory))
}

/// `platform.before-restore-20261128T221500Z`.
fn kept_name(name: &str, now: SystemTime) -> String {
    format!("{name}.before-restore-{}", timestamp(now))
}
