//! The `KEY=value` form.

use super::mistake::{LineError, Mistake, nearest};
use super::{Entry, Error};
use crate::config::env::{TABLE, Variable};
use crate::secret::Secret;

/// Some editors begin a file with it.
const BYTE_ORDER_MARK: char = '\u{feff}';

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
