//! `infisical platform backup` and `restore`: the state of a platform on this machine, in one file.
//!
//! The running platform makes a copy of its database beside it; everything else is done here, so
//! that no key crosses a connection, of this machine neither.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Read, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use serde_json::json;

use super::admin::Administrator;
use super::exit::Failure;
use super::global::Global;
use super::platform_lists::to_the_second;
use super::print::{line, output_failed};
use crate::api::types::BackupSnapshot;
use crate::install::platform::{SERVICE, STATE};
use crate::platform::backup::{self, Error, Manifest, Restore, Snapshot};

/// The user of the service, where the machine has one of that name.
const SERVICE_USER: &str = "infisical-platform";
/// What stands for standard input or output.
const STANDARD: &str = "-";
/// Names of backups in a directory of them; a time in UTC is between.
const NAME: (&str, &str) = ("infisical-platform-", ".tar");

/// Write a backup of a platform on this machine, which may run meanwhile
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The backup is a tar file with the database, the administrator's token and the relay auth secret: it gives all \
keys of the platform away. It is readable by its owner alone; encrypt it before it leaves the machine.

Examples:
  sudo infisical platform backup /var/backups/infisical-platform.tar
  sudo infisical platform backup --keep 14 /var/backups/infisical
  sudo infisical platform backup - | age -r age1... > platform.tar.age")]
pub(super) struct Backup {
    /// The file, - for standard output, or with --keep the directory
    #[arg(value_name = "FILE")]
    to: PathBuf,
    /// Write a new file into the directory FILE, and remove all but the newest N of them there
    #[arg(long, value_name = "N")]
    keep: Option<NonZeroUsize>,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    administrator: Administrator,
}

/// Restore a backup; the platform must not run
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
By default root restores the state of the service, /var/lib/infisical-platform. Nothing is changed unless the whole backup \
is as it was written.

Examples:
  sudo infisical platform restore /var/backups/infisical-platform.tar
  age -d platform.tar.age | sudo infisical platform restore --replace -")]
pub(super) struct RestoreArgs {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// Move a state that is there aside, to a name beside it
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    state: State,
}

/// Whose state.
#[derive(Debug, ClapArgs)]
struct State {
    /// State directory of the platform [default: that of the service or the platform of this user]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl Backup {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        if self.to == Path::new(STANDARD) && io::stdout().is_terminal() {
            let text = "a backup is no text for a terminal; give a FILE, or pipe it into a program";
            return Err(Failure::usage(text).into());
        }
        let state_dir = self.state.state_dir.clone();
        let state_dir = known(state_dir.or_else(|| global.running_platform_directory()))?;
        let directory = state_dir.clone();
        let snapshot = match blocking(move || Snapshot::of_stopped(&directory)).await? {
            Err(Error::Running(_)) => self.of_running(&state_dir, global).await?,
            stopped => stopped.map_err(failed)?,
        };
        let written = blocking(move || self.write(&state_dir, snapshot)).await?;
        if let (manifest, Some(path)) = written? {
            line(&format!(
                "{}: organization {} ({}), {}",
                path.display(),
                manifest.organization_name,
                manifest.organization_id,
                to_the_second(&manifest.created_at)
            ));
        }
        Ok(())
    }

    /// The snapshot that the running platform makes.
    async fn of_running(&self, state_dir: &Path, global: &Global) -> anyhow::Result<Snapshot> {
        let admin = self.administrator.connect_at(state_dir, global)?;
        let path = "/v1/embedded/backup-snapshots";
        let made: BackupSnapshot = admin.post("making a snapshot", path, &json!({})).await?;
        let directory = state_dir.to_owned();
        let snapshot = blocking(move || Snapshot::of_running(&directory, &made.name)).await?;
        snapshot.map_err(failed)
    }

    /// Writes the archive where it goes; its path, if it has one.
    fn write(
        &self,
        state_dir: &Path,
        snapshot: Snapshot,
    ) -> anyhow::Result<(Manifest, Option<PathBuf>)> {
        let now = SystemTime::now();
        if self.to == Path::new(STANDARD) {
            let mut output = BufWriter::new(io::stdout().lock());
            let written = backup::write(state_dir, snapshot, &mut output, now);
            let manifest = written.map_err(|error| match error {
                Error::Write(error) => output_failed(error),
                other => failed(other),
            })?;
            output.flush().map_err(output_failed)?;
            return Ok((manifest, None));
        }
        let path = match self.keep {
            None => self.to.clone(),
            Some(_) => self.to.join(name(now)),
        };
        let manifest = write_file(&path, |file| {
            let written = backup::write(state_dir, snapshot, file, now);
            written.map_err(failed)
        })?;
        if let Some(keep) = self.keep {
            remove_older(&self.to, keep.get())?;
        }
        Ok((manifest, Some(path)))
    }
}

/// Writes a file with mode 0600, whole or not at all.
fn write_file<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let shown = || format!("cannot write {}", path.display());
    let io = |error: io::Error| Failure::unavailable(anyhow::Error::new(error).context(shown()));
    let Some(name) = path.file_name() else {
        return Err(io(io::ErrorKind::IsADirectory.into()));
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let id = uuid::Uuid::new_v4().simple();
    let temporary = directory.join(format!(".{}.{id}", name.to_string_lossy()));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io)?;
    let mut file = BufWriter::new(file);
    let written = write(&mut file).and_then(|done| {
        file.flush().map_err(io)?;
        file.get_ref().sync_all().map_err(io)?;
        fs::rename(&temporary, path).map_err(io)?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(io)?;
        Ok(done)
    });
    if written.is_err() {
        // The error that matters is the one at hand.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The name of a backup of `now` in a directory of them: names in their order are times in theirs.
fn name(now: SystemTime) -> String {
    let (before, after) = NAME;
    format!("{before}{}{after}", backup::timestamp(now))
}

fn is_name(name: &str) -> bool {
    let (before, after) = NAME;
    let time = name.strip_prefix(before);
    let time = time.and_then(|name| name.strip_suffix(after));
    let shape = |text: &str| -> String {
        let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
        text.chars().map(digit).collect()
    };
    time.is_some_and(|time| shape(time) == "00000000T000000Z")
}

/// Removes all backups in `directory` but the newest `keep`, and nothing else.
fn remove_older(directory: &Path, keep: usize) -> anyhow::Result<()> {
    let io = |error: io::Error| {
        let error = anyhow::Error::new(error);
        Failure::unavailable(error.context(format!("cannot tidy {}", directory.display())))
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        names.extend(
            name.to_str()
                .filter(|name| is_name(name))
                .map(str::to_owned),
        );
    }
    names.sort_unstable();
    let older = names.len().saturating_sub(keep);
    for name in names.iter().take(older) {
        fs::remove_file(directory.join(name)).map_err(io)?;
    }
    Ok(())
}

impl RestoreArgs {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let is_root = nix::unistd::Uid::effective().is_root();
        let usual = || match is_root {
            true => Some(PathBuf::from(STATE)),
            false => global.platform_directory(),
        };
        let state_dir = known(self.state.state_dir.clone().or_else(usual))?;
        let is_service = state_dir == Path::new(STATE);
        // Where the service manager makes up the user, it takes the directory over at the start.
        let user = nix::unistd::User::from_name(SERVICE_USER).ok().flatten();
        let owner = user.filter(|_| is_root && is_service);
        let owner = owner.map(|user| (user.uid.as_raw(), user.gid.as_raw()));
        let directory = state_dir.clone();
        let restored = blocking(move || {
            let mut from = self.open()?;
            let restore = Restore {
                state_dir: &directory,
                owner,
                replace: self.replace,
            };
            let restored = restore.run(&mut from, SystemTime::now());
            restored.map_err(failed)
        });
        let backup::Restored { manifest, kept } = restored.await??;
        line(&format!(
            "{} has the state of the organization {} ({}) of {}.",
            state_dir.display(),
            manifest.organization_name,
            manifest.organization_id,
            to_the_second(&manifest.created_at)
        ));
        if let Some(kept) = kept {
            line(&format!(
                "The state that was there is in {}; remove it when it is not needed any more.",
                kept.display()
            ));
        }
        line(
            "What was done since then is lost: tokens that were issued since are not known, and ones \
             that were revoked since are valid again.",
        );
        line(&match is_service {
            true => format!("Next: systemctl start {SERVICE}"),
            false => format!(
                "Next: infisical platform start --state-dir {}",
                state_dir.display()
            ),
        });
        Ok(())
    }

    fn open(&self) -> anyhow::Result<Box<dyn Read>> {
        if self.from == Path::new(STANDARD) {
            return Ok(Box::new(BufReader::new(io::stdin())));
        }
        let file = File::open(&self.from);
        let file = file.with_context(|| format!("cannot read {}", self.from.display()));
        Ok(Box::new(BufReader::new(
            file.map_err(Failure::configuration)?,
        )))
    }
}

fn known(state_dir: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    state_dir.ok_or_else(|| {
        let text = "HOME is not set; set it, or give --state-dir DIR";
        Failure::configuration(anyhow::Error::msg(text))
    })
}

fn failed(error: Error) -> anyhow::Error {
    Failure::new(error.reason(), error).into()
}

/// Runs `work`, which waits for disks, on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(Failure::unavailable)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::{is_name, name, remove_older, write_file};

    #[test]
    fn only_old_backups_are_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let names: Vec<_> = (0..5)
            .map(|number| name(start + number * Duration::from_secs(86_400)))
            .collect();
        assert!(names.iter().all(|name| is_name(name)), "{names:?}");
        let others = [
            "notes.tar",
            "infisical-platform-x.tar",
            "infisical-platform-1.tar",
        ];
        for name in names.iter().map(String::as_str).chain(others) {
            fs::write(directory.path().join(name), "x").expect("written");
        }
        remove_older(directory.path(), 2).expect("tidied");
        let left = |name: &str| directory.path().join(name).exists();
        let left_names: Vec<_> = names.iter().map(|name| left(name)).collect();
        assert_eq!(left_names, [false, false, false, true, true]);
        assert!(others.iter().all(|name| left(name)));
    }

    #[test]
    fn failed_backup_leaves_the_old_file() {
        use std::io::Write as _;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.tar");
        fs::write(&path, "old").expect("written");
        let failed = write_file::<()>(&path, |file| {
            file.write_all(b"half").expect("buffered");
            Err(anyhow::Error::msg("the disk is full"))
        });
        failed.expect_err("it failed");
        assert_eq!(fs::read(&path).expect("there"), b"old");
        assert_eq!(fs::read_dir(directory.path()).expect("read").count(), 1);
        write_file(&path, |file| Ok(file.write_all(b"new")?)).expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"new");
    }
}
