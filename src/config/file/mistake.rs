//! What can be wrong with a line of a configuration file, said without its value, and the key that was meant.

use crate::config::env::TABLE;

/// Edits by which a key may differ from the one that is suggested: a letter or two, or two swapped.
const MAX_TYPO: usize = 2;

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
