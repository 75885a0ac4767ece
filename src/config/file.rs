//! Files of `KEY=value` lines: what they may hold, how they are read, and how one is changed.
//!
//! The form is what systemd's `EnvironmentFile=` also reads, so that one file serves both: a line is blank, a
//! comment (`#` or `;`), or a key of [`env::TABLE`](super::env::TABLE), `=` and a value, bare or in matching quotes;
//! a leading `export ` is tolerated. Within double quotes a backslash escapes `"`, `\`, `$` and `` ` ``. Forms on
//! which readers disagree (a bare value with a backslash, text behind a closing quote) are refused.
//! Unknown and repeated keys are mistakes. Values are secrets as long as nobody knows better.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::env::{TABLE, Variable};
use crate::secret::Secret;

/// Largest file that is read, in bytes: far beyond any sensible one.
const MAX_SIZE: u64 = 1 << 20;
/// Edits by which a key may differ from the one that is suggested: a letter or two, or two swapped.
const MAX_TYPO: usize = 2;
/// Mode bits of group and others.
const NOT_OWNER: u32 = 0o077;

/// Some editors begin a file with it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// What it sets.
    pub key: &'static Variable,
    /// To what; an empty value counts as unset, as in the environment.
    pub value: Secret,
}

/// What is wrong with one line; never shows a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {mistake}")]
pub struct LineError {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub mistake: Mistake,
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// Not of the form `KEY=value`.
    #[error("expected KEY=value")]
    NotAnAssignment,
    /// A key that this program does not know.
    #[error("unknown key {key}{}", suggestion(*.nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A key that stands further up already.
    #[error("{key} is already set on line {first}")]
    Repeated {
        /// The key.
        key: &'static str,
        /// Where it stands first.
        first: usize,
    },
    /// A quote without its twin.
    #[error("{key} has an opening quote without a closing one")]
    OpenQuote {
        /// The key.
        key: &'static str,
    },
    /// Text behind the closing quote.
    #[error("{key} has text behind its closing quote")]
    TextBehindQuote {
        /// The key.
        key: &'static str,
    },
    /// A backslash whose meaning depends on the reader.
    #[error("{key} has a backslash that escapes nothing; put the value in single quotes")]
    Backslash {
        /// The key.
        key: &'static str,
    },
    /// A control character.
    #[error("{key} holds a control character")]
    Control {
        /// The key.
        key: &'static str,
    },
}

fn suggestion(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean {name}?"))
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or is not there ([`Error::is_absent`]).
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read or change it.
    #[error("{} is open to other users (mode {mode:04o}); run: chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, a device or something else that is no file.
    #[error("{} is not a regular file", .path.display())]
    NotAFile {
        /// What it is called.
        path: PathBuf,
    },
    /// Too large to be a configuration file.
    #[error("{} is larger than {MAX_SIZE} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Lines are wrong.
    #[error("{}: {}", .path.display(), join(.lines))]
    Lines {
        /// The file.
        path: PathBuf,
        /// Every wrong line; never empty.
        lines: Vec<LineError>,
    },
    /// It cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A value that no line can hold.
    #[error("the value of {key} holds a control character")]
    Unwritable {
        /// Its key.
        key: &'static str,
    },
}

fn join(lines: &[LineError]) -> String {
    let texts: Vec<String> = lines.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl Error {
    /// True if there is no such file.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads the text of a file.
///
/// # Errors
/// Every wrong line.
pub fn parse(text: &str) -> Result<Vec<Entry>, Vec<LineError>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut errors = Vec::new();
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    for (number, text) in (1..).zip(text.lines()) {
        let parsed = parse_line(text).and_then(|assignment| {
            let Some((key, value)) = assignment else {
                return Ok(());
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                return Err(Mistake::Repeated {
                    key: key.name,
                    first: first.line,
                });
            }
            entries.push(Entry {
                line: number,
                key,
                value: Secret::new(value),
            });
            Ok(())
        });
        if let Err(mistake) = parsed {
            errors.push(LineError {
                line: number,
                mistake,
            });
        }
    }
    if errors.is_empty() {
        Ok(entries)
    } else {
        Err(errors)
    }
}

/// The key that a line sets, as written; `None` for comments, blank lines and what is no assignment.
fn key_of(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let key = key.strip_prefix("export ").unwrap_or(key).trim();
    Some((key, value.trim()))
}

fn parse_line(line: &str) -> Result<Option<(&'static Variable, String)>, Mistake> {
    let Some((name, text)) = key_of(line) else {
        let line = line.trim();
        return if line.is_empty() || line.starts_with(['#', ';']) {
            Ok(None)
        } else {
            Err(Mistake::NotAnAssignment)
        };
    };
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Mistake::NotAnAssignment);
    }
    let Some(&key) = TABLE.iter().find(|known| known.name == name) else {
        return Err(Mistake::UnknownKey {
            key: name.chars().take(80).collect(),
            nearest: nearest(name),
        });
    };
    if text.chars().any(char::is_control) {
        return Err(Mistake::Control { key: key.name });
    }
    let mut chars = text.chars();
    let value = match chars.next() {
        Some('\'') => match chars.as_str().split_once('\'') {
            Some((value, "")) => value.to_owned(),
            Some(_) => return Err(Mistake::TextBehindQuote { key: key.name }),
            None => return Err(Mistake::OpenQuote { key: key.name }),
        },
        Some('"') => unescape(chars.as_str(), key.name)?,
        Some(_) if text.contains('\\') => return Err(Mistake::Backslash { key: key.name }),
        Some(_) | None => text.to_owned(),
    };
    Ok(Some((key, value)))
}

/// The text up to the closing double quote, which must be the last character.
fn unescape(text: &str, key: &'static str) -> Result<String, Mistake> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('"') if chars.as_str().is_empty() => return Ok(value),
            Some('"') => return Err(Mistake::TextBehindQuote { key }),
            Some('\\') => match chars.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => value.push(escaped),
                Some(_) => return Err(Mistake::Backslash { key }),
                None => return Err(Mistake::OpenQuote { key }),
            },
            Some(other) => value.push(other),
            None => return Err(Mistake::OpenQuote { key }),
        }
    }
}

/// The known key that most resembles `name`, if any does.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    TABLE
        .iter()
        .map(|known| (distance(&name, known.name), known.name))
        .min()
        .filter(|(distance, _)| *distance <= MAX_TYPO)
        .map(|(_, known)| known)
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        for (y, pair) in b.bytes().zip(row.windows(2)) {
            if let (&[diagonal, above], Some(&left)) = (pair, next.last()) {
                let replaced = diagonal + usize::from(x != y);
                next.push(replaced.min(above + 1).min(left + 1));
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// See [`Error`]; a file that is not there is one for which [`Error::is_absent`] holds.
pub fn load(path: &Path) -> Result<Vec<Entry>, Error> {
    load_checked(path, NOT_OWNER)
}

/// Reads a file from a service's `CREDENTIALS_DIRECTORY`. The service manager keeps other users out of that directory,
/// and its access lists show as permissions of the group.
///
/// # Errors
/// As [`load`].
pub fn load_credential(path: &Path) -> Result<Vec<Entry>, Error> {
    load_checked(path, 0)
}

fn load_checked(path: &Path, forbidden: u32) -> Result<Vec<Entry>, Error> {
    let text = read_private(path, forbidden)?;
    parse(&text).map_err(|lines| Error::Lines {
        path: path.to_owned(),
        lines,
    })
}

fn read_private(path: &Path, forbidden: u32) -> Result<zeroize::Zeroizing<String>, Error> {
    let error = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    // A FIFO would block the open for ever.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    if !metadata.is_file() {
        return Err(Error::NotAFile {
            path: path.to_owned(),
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(Error::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = io::Read::by_ref(&mut file)
        .take(MAX_SIZE + 1)
        .read_to_string(&mut text)
        .map_err(error)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_SIZE {
        return Err(Error::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

/// Sets keys in a file and keeps its other lines; the file (mode 0600) and its directory (0700) are made if they are not
/// there. The change is atomic: after a crash the file is the old one or the new one, on the disk.
///
/// Blocks for the disk; not for an async task without `spawn_blocking`.
///
/// # Errors
/// See [`Error`]; the old file is then as it was.
pub fn update(path: &Path, changes: &[(&'static Variable, &Secret)]) -> Result<(), Error> {
    // A rename would replace a link, not the file that it names.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = match read_private(&target, 0) {
        Ok(text) => text,
        Err(error) if error.is_absent() => zeroize::Zeroizing::default(),
        Err(error) => return Err(error),
    };
    let new = changed(&old, changes)?;
    replace(&target, new.as_bytes()).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// `old` with `changes` made: a key's line is replaced where it stands, new keys go to the end.
pub(super) fn changed(
    old: &str,
    changes: &[(&'static Variable, &Secret)],
) -> Result<zeroize::Zeroizing<String>, Error> {
    let lines = changes
        .iter()
        .map(|(key, value)| Ok((key.name, render(key, value)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let mut written = vec![];
    let mut new = zeroize::Zeroizing::new(String::new());
    for line in old.strip_prefix(BYTE_ORDER_MARK).unwrap_or(old).lines() {
        let change = key_of(line).and_then(|(key, _)| lines.iter().find(|(name, _)| *name == key));
        match change {
            Some((name, _)) if written.contains(name) => continue,
            Some((name, text)) => {
                written.push(*name);
                new.push_str(text);
            }
            None => new.push_str(line),
        }
        new.push('\n');
    }
    for (_, text) in lines.iter().filter(|(name, _)| !written.contains(name)) {
        new.push_str(text);
        new.push('\n');
    }
    Ok(new)
}

/// One line for `key`, quoted where a reader might need it.
fn render(key: &'static Variable, value: &Secret) -> Result<zeroize::Zeroizing<String>, Error> {
    let text = value.expose();
    if text.chars().any(char::is_control) {
        return Err(Error::Unwritable { key: key.name });
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:+=@,~%".contains(&byte);
    let mut line = zeroize::Zeroizing::new(format!("{}=", key.name));
    if text.bytes().all(plain) {
        line.push_str(text);
    } else {
        line.push('"');
        for character in text.chars() {
            if matches!(character, '"' | '\\' | '$' | '`') {
                line.push('\\');
            }
            line.push(character);
        }
        line.push('"');
    }
    Ok(line)
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(format!(".{:016x}", crate::backoff::random()));
    let temporary = directory.join(temporary_name);
    let written = write_beside(&temporary, path, content);
    if written.is_err() {
        // The error that matters is the one at hand.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The rename is on the disk only once its directory is.
    File::open(directory)?.sync_all()
}

fn write_beside(temporary: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    if let Ok(old) = fs::metadata(path) {
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            // An administrator's change must not take the file from the service that owns it.
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}
