//! A token in a file of its own, or on standard input: one line, so that it appears in no argument
//! list.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::table::Kind;
use super::value::{InvalidValue, MAX_SIZE, clean};
use crate::secret::Secret;

/// Mode bits of group and others.
const NOT_OWNER: u32 = 0o077;

/// A token cannot be had; never shows what was read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("cannot read a token from {from}")]
    Read {
        from: String,
        #[source]
        source: io::Error,
    },
    #[error("{from} is open to other users (mode {mode:04o}); run: chmod 600 {from}")]
    Exposed { from: String, mode: u32 },
    #[error("{from} must hold a token and nothing else; it holds more than {MAX_SIZE} bytes")]
    TooLong { from: String },
    #[error("{from} must hold a token and nothing else, on one line")]
    NotAToken {
        from: String,
        #[source]
        source: InvalidValue,
    },
}

/// Reads the token in the file at `path`.
///
/// # Errors
/// See [`Error`].
pub fn load(path: &Path) -> Result<Secret, Error> {
    open(path, 0)
}

/// Like [`load`], for a person's own token: a file, unless it is a pipe or the like, must be closed
/// to others.
///
/// # Errors
/// See [`Error`].
pub fn load_private(path: &Path) -> Result<Secret, Error> {
    open(path, NOT_OWNER)
}

/// Reads the token in a file without the mode bits `forbidden`.
fn open(path: &Path, forbidden: u32) -> Result<Secret, Error> {
    let from = path.display().to_string();
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = match opened {
        Ok(opened) => opened,
        Err(source) => return Err(Error::Read { from, source }),
    };
    let mode = metadata.mode() & 0o7777;
    if metadata.is_file() && mode & forbidden != 0 {
        return Err(Error::Exposed { from, mode });
    }
    read(file, from)
}

/// Reads a token up to the end of `reader`, which `from` names in errors.
///
/// # Errors
/// See [`Error`].
pub fn read(reader: impl Read, from: String) -> Result<Secret, Error> {
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = u64::try_from(MAX_SIZE).unwrap_or(u64::MAX);
    if let Err(source) = reader.take(limit.saturating_add(1)).read_to_end(&mut bytes) {
        return Err(Error::Read { from, source });
    }
    if bytes.len() > MAX_SIZE {
        return Err(Error::TooLong { from });
    }
    let checked = match std::str::from_utf8(&bytes).map(clean) {
        Ok(token) => Kind::Secret.check(token).map(|()| Secret::new(token)),
        Err(_) => Err(InvalidValue::NotAscii),
    };
    checked.map_err(|source| Error::NotAToken { from, source })
}

#[cfg(test)]
mod tests {
    use super::{MAX_SIZE, read};
    use crate::secret::Secret;

    #[test]
    fn a_token_is_one_word() {
        for text in ["abc", "abc\n", " abc \r\n", "\u{feff}abc\n"] {
            let token = read(text.as_bytes(), "test".to_owned()).expect(text);
            assert_eq!(token, Secret::new("abc"));
        }
        let long = "a".repeat(MAX_SIZE + 1);
        for text in [
            "",
            "\n",
            "hunter2 two",
            "hunter2\ntwo",
            "hunter2\u{7}",
            "Bearer hunter2",
            "\"hunter2\"",
            "${hunter2}",
            "INFISICAL_TOKEN=hunter2",
            "h\u{fc}nter2",
            &long,
        ] {
            let error = read(text.as_bytes(), "test".to_owned()).expect_err("no token");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        assert!(read(&[0xff_u8][..], "test".to_owned()).is_err());
    }
}
