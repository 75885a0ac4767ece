//! A token in a file of its own, or on standard input: one line, so that it appears in no argument list.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::secret::Secret;

/// Longest token, in bytes; access tokens are JWTs of a few KiB at most.
const MAX_SIZE: u64 = 64 << 10;

/// Mode bits of group and others.
const NOT_OWNER: u32 = 0o077;

/// A token cannot be had; never shows what was read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or standard input cannot be read.
    #[error("cannot read a token from {from}")]
    Read {
        /// From where.
        from: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read or change the file.
    #[error("{from} is open to other users (mode {mode:04o}); run: chmod 600 {from}")]
    Exposed {
        /// The file.
        from: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Empty, several lines, or far too long.
    #[error("{from} must hold a token and nothing else, on one line")]
    NotAToken {
        /// Where it is from.
        from: String,
    },
}

/// Reads the token in the file at `path`.
///
/// # Errors
/// See [`Error`].
pub fn load(path: &Path) -> Result<Secret, Error> {
    let from = PathBuf::from(path).display().to_string();
    match File::open(path) {
        Ok(file) => read(file, from),
        Err(source) => Err(Error::Read { from, source }),
    }
}

/// Like [`load`], for a person's own token: a file, unless it is a pipe or the like, must be closed to others.
///
/// # Errors
/// See [`Error`].
pub fn load_private(path: &Path) -> Result<Secret, Error> {
    let from = PathBuf::from(path).display().to_string();
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = match opened {
        Ok(opened) => opened,
        Err(source) => return Err(Error::Read { from, source }),
    };
    let mode = metadata.mode() & 0o7777;
    if metadata.is_file() && mode & NOT_OWNER != 0 {
        return Err(Error::Exposed { from, mode });
    }
    read(file, from)
}

/// Reads a token up to the end of `reader`, which `from` names in errors.
///
/// # Errors
/// See [`Error`].
pub fn read(reader: impl Read, from: String) -> Result<Secret, Error> {
    let mut text = Zeroizing::new(String::new());
    let limited = reader.take(MAX_SIZE + 1).read_to_string(&mut text);
    let size = match limited {
        Ok(size) => u64::try_from(size).unwrap_or(u64::MAX),
        Err(source) => return Err(Error::Read { from, source }),
    };
    let token = text.trim();
    let is_token = |c: char| !c.is_control() && !c.is_whitespace();
    if size > MAX_SIZE || token.is_empty() || !token.chars().all(is_token) {
        return Err(Error::NotAToken { from });
    }
    Ok(Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::{MAX_SIZE, read};
    use crate::secret::Secret;

    #[test]
    fn a_token_is_one_word() {
        for text in ["abc", "abc\n", " abc \r\n"] {
            let token = read(text.as_bytes(), "test".to_owned()).expect(text);
            assert_eq!(token, Secret::new("abc"));
        }
        let long = "a".repeat(usize::try_from(MAX_SIZE).expect("small") + 1);
        for text in [
            "",
            "\n",
            "hunter2 two",
            "hunter2\ntwo",
            "hunter2\u{7}",
            &long,
        ] {
            let error = read(text.as_bytes(), "test".to_owned()).expect_err("no token");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        assert!(read(&[0xff_u8][..], "test".to_owned()).is_err());
    }
}
