//! The `KEY=value` form.
//!
//! systemd's `EnvironmentFile=` reads it too: a line is blank, a comment (`#` or `;`), or a key,
//! `=` and a value, bare or in matching quotes; a leading `export` is tolerated. Within double
//! quotes a backslash escapes `"`, `\`, `$` and `` ` ``. Forms on which readers disagree (a bare
//! value with a backslash or a comment, text behind a closing quote) are refused. White space
//! around a value is not part of it, not even within quotes.

use zeroize::Zeroizing;

use super::mistake::{LineError, Mistake, variable};
use super::{BYTE_ORDER_MARK, Entry, Form, Parsed};
use crate::env::Variable;
use crate::secret::Secret;
use crate::value::{clean, has_comment};

/// Reads the text of a file.
pub(super) fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for (line, text) in (1..).zip(text.lines()) {
        let set = parse_line(text).and_then(|assignment| {
            let Some((key, name, value)) = assignment else {
                return Ok(());
            };
            if let Some(first) = parsed.entries.iter().find(|entry| entry.name == name) {
                return Err(Mistake::Repeated {
                    key: name.to_owned(),
                    first: first.line,
                });
            }
            parsed.entries.push(Entry {
                line,
                key,
                name: name.to_owned(),
                form: Form::KeyValue,
                value,
            });
            Ok(())
        });
        if let Err(mistake) = set {
            parsed.mistakes.push(LineError { line, mistake });
        }
    }
    parsed
}

/// True for a line that sets nothing.
pub(super) fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with(['#', ';'])
}

/// True for the header of a section, such as `[gateway]`.
pub(super) fn is_section(line: &str) -> bool {
    let line = line.trim_start_matches(BYTE_ORDER_MARK);
    line.trim_start().starts_with('[')
}

/// The key that a line sets and the text behind `=`, both as written; `None` for what is no
/// assignment.
pub(super) fn key_of(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start_matches(BYTE_ORDER_MARK).trim();
    if is_comment(line) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let exported = key.strip_prefix("export");
    let exported = exported.filter(|rest| rest.starts_with(char::is_whitespace));
    Some((exported.unwrap_or(key).trim(), value.trim()))
}

/// A setting, its name on the line, and its value.
type Assignment<'a> = (&'static Variable, &'a str, Secret);

fn parse_line(line: &str) -> Result<Option<Assignment<'_>>, Mistake> {
    if is_comment(line.trim_start_matches(BYTE_ORDER_MARK)) {
        return Ok(None);
    }
    if is_section(line) {
        return Err(Mistake::Section);
    }
    let (name, text) = key_of(line).ok_or(Mistake::NotAnAssignment)?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Mistake::NotAnAssignment);
    }
    let key = variable(name)?;
    let wrong = |mistake: fn(String) -> Mistake| Err(mistake(name.to_owned()));
    if text.chars().any(char::is_control) {
        return wrong(Mistake::Control);
    }
    let mut chars = text.chars();
    let value = match chars.next() {
        Some('\'') => match chars.as_str().split_once('\'') {
            Some((value, "")) => value.to_owned(),
            Some(_) => return wrong(Mistake::TextBehindQuote),
            None => return wrong(Mistake::OpenQuote),
        },
        Some('"') => unescape(chars.as_str(), name)?,
        Some(_) if text.contains('\\') => return wrong(Mistake::Backslash),
        Some(_) if has_comment(text) => return wrong(Mistake::Comment),
        Some(_) | None => text.to_owned(),
    };
    let value = Zeroizing::new(value);
    Ok(Some((key, name, Secret::new(clean(&value)))))
}

/// The text up to the closing double quote, which must be the last character.
fn unescape(text: &str, name: &str) -> Result<String, Mistake> {
    let key = || name.to_owned();
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('"') if chars.as_str().is_empty() => return Ok(value),
            Some('"') => return Err(Mistake::TextBehindQuote(key())),
            Some('\\') => match chars.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => value.push(escaped),
                Some(_) => return Err(Mistake::Backslash(key())),
                None => return Err(Mistake::OpenQuote(key())),
            },
            Some(other) => value.push(other),
            None => return Err(Mistake::OpenQuote(key())),
        }
    }
}

/// `old` with `changes` made: a key's line is replaced where it stands, new keys go to the end.
pub(super) fn changed(old: &str, changes: &[(&'static Variable, &Secret)]) -> Zeroizing<String> {
    let mut written: Vec<&Variable> = vec![];
    let mut new = Zeroizing::new(String::with_capacity(old.len()));
    for piece in old.split_inclusive('\n') {
        let line = piece.trim_end_matches(['\n', '\r']);
        let name = key_of(line).map(|(name, _)| name);
        // By another of its names a setting would win over the new value, or lie beside it.
        let set = name.and_then(Variable::called).map(|(key, _)| key);
        let Some((key, value)) = changes.iter().find(|(key, _)| Some(*key) == set) else {
            new.push_str(piece);
            continue;
        };
        if written.contains(key) {
            continue;
        }
        written.push(key);
        match parse_line(line) {
            // It says so already, if in other words.
            Ok(Some((_, name, present))) if name == key.name && present == **value => {
                new.push_str(piece);
            }
            Ok(_) | Err(_) => {
                new.push_str(&render(key, value));
                new.push_str(piece.get(line.len()..).unwrap_or_default());
            }
        }
    }
    for (key, value) in changes.iter().filter(|(key, _)| !written.contains(key)) {
        super::append(&mut new, &render(key, value));
    }
    new
}

/// One line for `key`, quoted where a reader might need it; `value` holds no control character.
fn render(key: &'static Variable, value: &Secret) -> Zeroizing<String> {
    let text = value.expose();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:+=@,~%".contains(&byte);
    let mut line = Zeroizing::new(format!("{}=", key.name));
    if text.bytes().all(plain) {
        line.push_str(text);
    } else {
        super::push_quoted(&mut line, text, &['"', '\\', '$', '`']);
    }
    line
}
