//! What every error of this program has in common: a class that decides, and a chain that explains.
//!
//! Each module has its own error enum whose `Display` is its own level only; [`chain`] joins the
//! levels for a person. The class, and nothing else, decides whether something is tried again.
//!
//! Errors of libraries reach a person through [`chain`] only, and [`explain`] puts each of them
//! into words there.

mod explain;
mod http;
mod kind;
mod tls;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

pub use kind::kind;
pub use tls::{
    CertificateFault, HandshakeFault, certificate_fault, handshake_fault, is_certificate_error,
    is_closed_in_handshake, pem_error, tls_error,
};

use explain::Level;

/// What to do about an error. The connection supervisor looks at nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Transient: try again after the ordinary backoff.
    Retry,
    /// Transient: the peer said how long to wait at least.
    RetryAfter(Duration),
    /// The access token is no longer accepted: log in again, then try again.
    Reauthenticate,
    /// The stored identity is gone: only a new enrollment helps. Tried again slowly, in case the
    /// platform recovers.
    Reenroll,
    /// Nothing this program can do will help; a person must act.
    Fatal(Reason),
}

/// Why an error is fatal; `cli/exit.rs` maps it to the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The configuration, or what the platform knows of it, is wrong.
    Configuration,
    /// The identity is not permitted to do this.
    Permission,
    /// Something this program needs on this machine is missing or in use.
    Unavailable,
    /// A defect in this program.
    Software,
}

/// Longest text of a peer that is shown, in characters.
const MAX_FOREIGN: usize = 500;

/// A peer's text as it may stand in a log line, an error or a status: bounded, and one line.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .take(MAX_FOREIGN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Writes an error and all its sources, joined by `: `, and then the advice that a level has after
/// `; `. Errors of libraries are put into words.
#[must_use]
pub fn chain<'a>(error: &'a (dyn StdError + 'static)) -> Chain<'a> {
    Chain(error)
}

/// See [`chain`].
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(&'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut levels: Vec<String> = Vec::new();
        let mut next = Some(self.0);
        while let Some(error) = next {
            // What an I/O error wraps is not its source: `source` passes over it.
            let error = explain::unwrap(error);
            let (text, is_last) = match explain::level(error) {
                Level::Silent => (None, false),
                Level::Text(text) => (Some(text), false),
                Level::Last(text) => (Some(text), true),
            };
            // Some libraries repeat their source in their own text; say it once.
            let is_new = |text: &String| {
                levels
                    .last()
                    .is_none_or(|last| !last.contains(text.as_str()))
            };
            let news = text.filter(is_new);
            levels.extend(news);
            next = error.source().filter(|_| !is_last);
        }
        let (Some(last), outer) = (levels.pop(), levels) else {
            return Ok(());
        };
        // Advice comes after the cause.
        let split = |text: &String| match text.split_once("; ") {
            Some((failure, advice)) => (failure.to_owned(), Some(advice.to_owned())),
            None => (text.clone(), None),
        };
        let outer: Vec<_> = outer.iter().map(split).collect();
        for (failure, _) in &outer {
            write!(f, "{failure}: ")?;
        }
        f.write_str(&last)?;
        for advice in outer.iter().rev().filter_map(|(_, advice)| advice.as_ref()) {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{chain, printable};

    #[derive(Debug, thiserror::Error)]
    #[error("cannot reach the relay")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_peers_text_is_one_bounded_line() {
        assert_eq!(printable("bye\nMAINPID=1\u{1b}[31m"), "bye MAINPID=1 [31m");
        assert_eq!(printable(&"x".repeat(10_000)).len(), 500);
    }

    #[test]
    fn a_chain_names_every_level_once() {
        let error = Outer(std::io::Error::other("no route to host"));
        assert_eq!(
            chain(&error).to_string(),
            "cannot reach the relay: no route to host"
        );
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot make the directory /x; name another")]
    struct WithAdvice(#[source] std::io::Error);

    #[test]
    fn advice_comes_after_the_cause() {
        let error = WithAdvice(std::io::Error::other("permission denied"));
        let expected = "cannot make the directory /x: permission denied; name another";
        assert_eq!(chain(&error).to_string(), expected);
    }
}
