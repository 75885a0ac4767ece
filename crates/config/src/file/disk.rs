//! Files on the disk: replaced whole or not at all; private ones are read only if no one else may.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Error, LineError, Mistake};

/// Largest file that is read, in bytes: far beyond any sensible one.
pub(super) const MAX_SIZE: u64 = 1 << 20;
/// Bytes that are written to prove that a new file can be: more than a configuration with tokens
/// has.
const PROOF_SIZE: usize = 4096;

/// Reads a file without the mode bits `forbidden`; with `owners`, one of theirs.
pub(super) fn read_private(
    path: &Path,
    forbidden: u32,
    owners: Option<[u32; 2]>,
) -> Result<Zeroizing<String>, Error> {
    let owned = || path.to_owned();
    let error = |source| Error::Read {
        path: owned(),
        source,
    };
    // A FIFO would block the open forever.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: owned() });
    }
    let owner = metadata.uid();
    if owners.is_some_and(|owners| !owners.contains(&owner)) {
        let path = owned();
        return Err(Error::Foreign { path, owner });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        let path = owned();
        return Err(Error::Exposed { path, mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let read = io::Read::by_ref(&mut file)
        .take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(error)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_SIZE {
        return Err(Error::TooLarge { path: owned() });
    }
    let text = decode(&bytes).map_err(|mistake| Error::Lines {
        path: owned(),
        lines: vec![mistake],
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The text of a file, which must be UTF-8.
fn decode(bytes: &[u8]) -> Result<&str, LineError> {
    let zeros = bytes.iter().filter(|byte| **byte == 0).count();
    if bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
        || zeros > bytes.len() / 4
    {
        return Err(LineError {
            line: 1,
            mistake: Mistake::Encoding("UTF-16"),
        });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let right = bytes.get(..error.valid_up_to()).unwrap_or_default();
        LineError {
            line: 1 + right.iter().filter(|byte| **byte == b'\n').count(),
            mistake: Mistake::Encoding("ISO-8859-1"),
        }
    })
}

pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // An administrator's change must not take the file from the service that owns it.
    let owner = fs::metadata(path).ok().map(|old| (old.uid(), old.gid()));
    put(path, content, 0o600, owner)
}

/// Writes `content` to `path`, in place of what was there: after a crash or on a full disk the file
/// is the old one or the new one, whole, and what this returns `Ok` for is on the disk. The new one
/// is ours, with exactly these permissions. Blocks for the disk.
///
/// # Errors
/// The file is then as it was, and nothing is left beside it.
pub fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    put(path, content, mode, None)
}

/// The same; the new file belongs to `owner`, a user and a group.
///
/// # Errors
/// The same.
pub fn write_whole_for(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: (u32, u32),
) -> io::Result<()> {
    put(path, content, mode, Some(owner))
}

fn put(path: &Path, content: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    // First of all: with the last descriptor gone, the rename could not be brought to the disk any
    // more.
    let directory = File::open(directory_of(path))?;
    let temporary = temporary_beside(path)?;
    let written =
        write(&temporary, content, mode, owner).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error that matters is the one at hand.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The rename is on the disk only once its directory is.
    directory.sync_all()
}

/// Proves that a file at `path`, which is not there, can be made, and makes none: a temporary one
/// is written beside it and removed. Blocks for the disk.
///
/// # Errors
/// Why it cannot be made.
pub fn prove_creatable(path: &Path) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let written = write(&temporary, &[b'#'; PROOF_SIZE], 0o600, None);
    let removed = fs::remove_file(&temporary);
    written?;
    removed
}

/// The path of a new temporary file in the directory of `path`.
fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(
        path.file_name()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?,
    );
    name.push(format!(".{:016x}", crate::backoff::random()));
    Ok(path.with_file_name(name))
}

/// The directory of the file at `path`.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Makes a private directory, and those above it, unless it is there. Blocks for the disk.
///
/// # Errors
/// One of them cannot be made.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let mut missing: Vec<&Path> = directory.ancestors().take_while(missing).collect();
    while let Some(directory) = missing.pop() {
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        // A file is not on the disk before the way to it is.
        File::open(directory_of(directory))?.sync_all()?;
    }
    Ok(())
}

fn write(path: &Path, content: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    let new = file.metadata()?;
    if let Some((user, group)) = owner.filter(|owner| *owner != (new.uid(), new.gid())) {
        fchown(&file, Some(user), Some(group))?;
    }
    // Whatever the umask is.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}
