//! The kind of an error: stable where its text is not, for example because the text holds a time.

use std::error::Error as StdError;
use std::fmt::{self, Write};
use std::io;

use super::explain::unwrap;

/// Longest kind, in bytes.
const MAX_KIND: usize = 256;

/// The names of the variants of an error and all its sources, without what they hold: two errors
/// of the same kind have the same cause, whatever their texts say.
#[must_use]
pub fn kind(error: &(dyn StdError + 'static)) -> String {
    let mut kind = Variants(String::new());
    let mut next = Some(error);
    while let Some(error) = next {
        // What an I/O error wraps is not its source: `source` passes over it.
        let error = unwrap(error);
        if !kind.0.is_empty() {
            kind.0.push('/');
        }
        // Ends at the first value with an error of its own, which is not of interest.
        let _ = match error.downcast_ref::<io::Error>() {
            Some(error) => match error.raw_os_error() {
                Some(code) => write!(kind.0, "os {code}"),
                None => write!(kind.0, "{:?}", error.kind()),
            },
            None => write!(kind, "{error:?}"),
        };
        if kind.0.len() >= MAX_KIND {
            break;
        }
        next = error.source();
    }
    kind.0
}

/// Takes the names of variants that `Debug` writes first, and ends it at the first value.
struct Variants(String);

impl Write for Variants {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let is_name = c == '_' || c == '(' || c.is_ascii_alphabetic();
            if !is_name || self.0.len() >= MAX_KIND {
                return Err(fmt::Error);
            }
            self.0.push(c);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::kind;
    use rustls::pki_types::UnixTime;
    use rustls::{CertificateError, Error as TlsError};
    use std::io;
    use std::time::Duration;

    #[derive(Debug, thiserror::Error)]
    enum Inner {
        #[error("refused at {at}: {source}")]
        Refused { at: u64, source: io::Error },
        #[error("{0} is not readable")]
        Unreadable(String),
    }

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error(transparent)]
        Inner(#[from] Inner),
    }

    fn expired(at: u64) -> io::Error {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
        io::Error::other(TlsError::InvalidCertificate(
            CertificateError::ExpiredContext {
                time,
                not_after: UnixTime::since_unix_epoch(Duration::ZERO),
            },
        ))
    }

    #[test]
    fn the_text_does_not_change_the_kind() {
        let of = |at| {
            kind(&Outer::from(Inner::Refused {
                at,
                source: expired(at),
            }))
        };
        assert_eq!(of(1), of(2));
        assert_eq!(of(1), "Inner(Refused/InvalidCertificate(ExpiredContext");
        let unreadable = Outer::from(Inner::Unreadable("secret".to_owned()));
        assert_eq!(kind(&unreadable), "Inner(Unreadable(");
    }

    #[test]
    fn system_errors_differ_by_code() {
        let refused = io::Error::from_raw_os_error(111);
        let reset = io::Error::from_raw_os_error(104);
        assert_eq!(kind(&refused), "os 111");
        assert_ne!(kind(&refused), kind(&reset));
        let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(&ended), "UnexpectedEof");
    }
}
