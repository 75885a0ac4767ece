//! What can be wrong with a line of a configuration file, said without its value, and the key that
//! was meant.

use strsim::levenshtein;

use super::Form;
use crate::env::{FOREIGN, TABLE, Variable, aliases, is_shared, is_standard, toml_key};

/// Edits by which a key may differ from the one that is suggested: a letter or two, or two swapped.
const MAX_TYPO: usize = 2;
/// Longest unknown key that is shown.
const MAX_SHOWN: usize = 64;

/// What is wrong with one line; never shows a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {mistake}")]
pub struct LineError {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub mistake: Mistake,
}

/// What can be wrong with a line. Keys are as the file spells them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Mistake {
    #[error("expected KEY=value")]
    NotAnAssignment,
    #[error("{}{reason}", .key.as_ref().map_or_else(String::new, |key| format!("{key}: ")))]
    Syntax { key: Option<String>, reason: String },
    #[error("keys stand alone: no [header] but [targets], and no dots in other keys")]
    Table,
    #[error("{key} must be a string in quotes, not {found}")]
    NotAString { key: String, found: String },
    #[error("unknown key{}{}", after_space(.key), suggestion(.nearest))]
    UnknownKey {
        key: Option<String>,
        nearest: Option<String>,
    },
    #[error("{key} is called {now} here")]
    Renamed { key: String, now: String },
    #[error("this file is {form}, where {key} is spelled {right}")]
    OtherForm {
        key: String,
        form: Form,
        right: String,
    },
    #[error(
        "unknown key {0}: keys about targets, policy, TLS, CAs and addresses are not ignored; remove the line"
    )]
    Guarded(String),
    #[error("{key} is already set on line {first}")]
    Repeated { key: String, first: usize },
    #[error("write {key} in capital letters: {right}")]
    SmallLetters { key: String, right: &'static str },
    #[error("remove this [section] line: a KEY=value file has no sections")]
    Section,
    #[error(
        "{0} has a comment behind its value; put the comment on a line of its own, or the whole value in single quotes"
    )]
    Comment(String),
    #[error(
        "this is not UTF-8 text but {0}; save the file as UTF-8, for instance with iconv -f {0} -t UTF-8"
    )]
    Encoding(&'static str),
    #[error("{0} has an opening quote without a closing one")]
    OpenQuote(String),
    #[error("{0} has text behind its closing quote")]
    TextBehindQuote(String),
    #[error("{0} has a backslash that escapes nothing; put the value in single quotes")]
    Backslash(String),
    #[error("{0} holds a control character")]
    Control(String),
}

fn after_space(key: &Option<String>) -> String {
    key.as_ref()
        .map_or_else(String::new, |key| format!(" {key}"))
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map_or_else(String::new, |name| format!(", did you mean {name}?"))
}

/// The setting that `name` stands for in a `KEY=value` file, by whichever of its names;
/// [`FOREIGN`] for a variable of another program.
///
/// # Errors
/// A name that means a setting of ours, or one on which security might depend.
pub(super) fn variable(name: &str) -> Result<&'static Variable, Mistake> {
    if let Some((known, _)) = Variable::called(name) {
        return Ok(known);
    }
    if is_standard(name) {
        return Ok(&FOREIGN);
    }
    let error = match known(name, Form::KeyValue) {
        Ok(known) => return Ok(known),
        Err(error) => error,
    };
    let is_unlike_ours = matches!(
        &error,
        Mistake::UnknownKey {
            key: Some(_),
            nearest: None
        }
    );
    let is_variable = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
    if !is_unlike_ours || !is_variable {
        return Err(error);
    }
    if name.split('_').any(|word| GUARDED.contains(&word)) {
        return Err(Mistake::Guarded(name.to_owned()));
    }
    Ok(&FOREIGN)
}

/// Words of names that are never ignored: a person who sets them relies on their effect.
const GUARDED: &[&str] = &[
    "ACL",
    "ADDR",
    "ADDRESS",
    "ALLOW",
    "ALLOWED",
    "BIND",
    "CA",
    "CERT",
    "CERTIFICATE",
    "CERTS",
    "CIDR",
    "DENIED",
    "DENY",
    "FORBID",
    "INSECURE",
    "LISTEN",
    "POLICIES",
    "POLICY",
    "RESTRICT",
    "SSL",
    "TARGET",
    "TARGETS",
    "TLS",
    "VERIFY",
];

/// The setting that `key` names in a file of `form`.
///
/// # Errors
/// What to write instead, as far as it can be guessed.
pub(super) fn known(key: &str, form: Form) -> Result<&'static Variable, Mistake> {
    let same = |known: &&&Variable| form.spell(known) == key;
    if let Some(&known) = TABLE.iter().find(same) {
        return Ok(known);
    }
    let small = |known: &&&Variable| form == Form::KeyValue && known.name.eq_ignore_ascii_case(key);
    if let Some(known) = TABLE.iter().find(small) {
        return Err(Mistake::SmallLetters {
            key: key.to_owned(),
            right: known.name,
        });
    }
    let old = |(old, _): &(&str, &Variable)| match form {
        Form::KeyValue => *old == key,
        Form::Toml => *old == key || toml_key(old) == key,
    };
    if let Some((_, now)) = aliases().find(old) {
        return Err(Mistake::Renamed {
            key: key.to_owned(),
            now: form.spell(now),
        });
    }
    let other = |known: &&&Variable| form.other().spell(known) == key;
    if let Some(known) = TABLE.iter().find(other) {
        return Err(Mistake::OtherForm {
            key: key.to_owned(),
            form,
            right: form.spell(known),
        });
    }
    Err(Mistake::UnknownKey {
        key: looks_like_a_key(key).then(|| key.to_owned()),
        nearest: flag(key, form).or_else(|| nearest(key).map(|known| form.spell(known))),
    })
}

/// What to write instead of `key` if it is the name of a flag.
fn flag(key: &str, form: Form) -> Option<String> {
    let key = toml_key(&key.to_ascii_uppercase().replace('-', "_"));
    let names = |known: &&&Variable| {
        let mut words = known.flags.iter().map(|flag| flag.word().replace('-', "_"));
        words.any(|word| word == key)
    };
    let known = TABLE.iter().filter(names);
    let spelled: Vec<String> = known.map(|known| form.spell(known)).collect();
    (!spelled.is_empty()).then(|| spelled.join(" or "))
}

/// True if `text` may be shown: the second line of a wrapped secret is sometimes taken for a key.
fn looks_like_a_key(text: &str) -> bool {
    let all = |letter: fn(&u8) -> bool| {
        let other = |byte: &u8| byte.is_ascii_digit() || b"_-.".contains(byte);
        text.bytes().all(|byte| letter(&byte) || other(&byte))
    };
    !text.is_empty()
        && text.len() <= MAX_SHOWN
        && (all(u8::is_ascii_uppercase) || all(u8::is_ascii_lowercase))
}

/// The setting whose name, in any spelling, most resembles `key`, if any does.
pub(super) fn nearest(key: &str) -> Option<&'static Variable> {
    let key = toml_key(&key.to_ascii_uppercase());
    let distance = |known: &Variable| levenshtein(&key, &known.toml_key());
    most_alike(
        TABLE
            .iter()
            .map(|known| (distance(known), known.name, *known)),
    )
}

/// The name of a variable of this program that most resembles `name`, if any does.
pub(crate) fn nearest_name(name: &str) -> Option<&'static str> {
    let names = TABLE.iter().flat_map(|known| known.names());
    let ours = names.filter(|known| !is_shared(known));
    most_alike(ours.map(|known| (levenshtein(name, known), known, known)))
}

/// Of candidates, each with its distance and its name, the nearest one that is near enough.
fn most_alike<T>(candidates: impl Iterator<Item = (usize, &'static str, T)>) -> Option<T> {
    candidates
        .min_by_key(|(distance, ..)| *distance)
        // Of a short key so few letters would be left that anything resembles it.
        .filter(|(distance, name, _)| *distance <= MAX_TYPO && 2 * distance < toml_key(name).len())
        .map(|(.., found)| found)
}
