//! The TOML form: `key = "text"` lines, no tables.
//!
//! The reader is a library's, and stops at the first thing that is no TOML. To tell everything at
//! once, the line in question is taken out and the rest is read again. Only the library's own words
//! are passed on, which never hold a piece of the file; its `Display` would show the line. Changes
//! are cut into the text where the value stands, so that every other byte stays as it is. What the
//! library copies of the text is freed, but not wiped.

use toml_edit::{Document, Item, Table, Value};
use zeroize::Zeroizing;

use super::lines::key_of;
use super::mistake::{LineError, Mistake, known};
use super::{Entry, Form, Parsed};
use crate::env::Variable;
use crate::secret::Secret;
use crate::value::clean;

/// After so many lines that are no TOML the rest is not read: it is some other file.
pub(super) const MOST_SYNTAX_ERRORS: usize = 20;

/// Reads the text of a file.
pub(super) fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut rest = Zeroizing::new(text.to_owned());
    while parsed.mistakes.len() < MOST_SYNTAX_ERRORS {
        let error = match Document::parse(rest.as_str()) {
            Ok(document) => {
                judge(document.as_table(), &rest, true, &mut parsed);
                break;
            }
            Err(error) => error,
        };
        let at = error.span().map_or(rest.len(), |span| span.start);
        let line = line_at(&rest, at);
        let content = rest.lines().nth(line - 1).unwrap_or_default();
        if opens_string(content) || content.trim().is_empty() {
            // It is the end of the file that comes too early, and no line to take out.
            let mistake = syntax(None, error.message());
            parsed.mistakes.push(LineError { line, mistake });
            break;
        }
        let mistake = of_line(content, line, error.message(), text);
        parsed.mistakes.push(LineError { line, mistake });
        rest = without_line(&rest, line);
    }
    parsed.mistakes.sort_by_key(|mistake| mistake.line);
    parsed.mistakes.dedup();
    parsed
}

/// True if a string begins on `line` that does not end on it.
fn opens_string(line: &str) -> bool {
    ["\"\"\"", "'''"]
        .iter()
        .any(|quotes| line.matches(quotes).count() % 2 == 1)
}

/// What is wrong with the line of that number in `text`, which the reader refuses for `reason`.
fn of_line(line: &str, number: usize, reason: &str, text: &str) -> Mistake {
    let Some((name, _)) = key_of(line) else {
        return syntax(None, reason);
    };
    let name = name.trim_matches(['"', '\'']);
    let sets =
        |line: &str| key_of(line).is_some_and(|(key, _)| key.trim_matches(['"', '\'']) == name);
    let first = text.lines().position(sets).map(|index| index + 1);
    match (known(name, Form::Toml), first) {
        (Ok(_), Some(first)) if first < number => Mistake::Repeated {
            key: name.to_owned(),
            first,
        },
        (Ok(_), _) => syntax(Some(name), reason),
        (Err(mistake @ (Mistake::OtherForm { .. } | Mistake::Renamed { .. })), _) => mistake,
        (Err(_), _) => syntax(None, reason),
    }
}

fn syntax(key: Option<&str>, reason: &str) -> Mistake {
    Mistake::Syntax {
        key: key.map(str::to_owned),
        reason: reason.to_owned(),
    }
}

/// Sorts what a table holds into what is right and what is wrong. Only keys of the `root` set
/// something.
fn judge(table: &Table, text: &str, root: bool, parsed: &mut Parsed) {
    for (name, item) in table {
        let key = table.key(name);
        let at = key.and_then(toml_edit::Key::span).or_else(|| item.span());
        let line = line_at(text, at.map_or(0, |span| span.start));
        let set = match item {
            Item::Value(value) => text_of(name, value),
            Item::Table(inner) => {
                if !inner.is_dotted() {
                    // No one's keys, but what else is wrong with them is reported as well.
                    judge(inner, text, false, parsed);
                }
                Err(Mistake::Table)
            }
            Item::ArrayOfTables(_) | Item::None => Err(Mistake::Table),
        };
        match set {
            Ok((key, value)) if root => parsed.entries.push(Entry {
                line,
                key,
                name: Form::Toml.spell(key),
                form: Form::Toml,
                value,
            }),
            Ok(_) => {}
            Err(mistake) => parsed.mistakes.push(LineError { line, mistake }),
        }
    }
}

/// The setting that `name` is and the text that `value` is.
fn text_of(name: &str, value: &Value) -> Result<(&'static Variable, Secret), Mistake> {
    let key = known(name, Form::Toml)?;
    let Some(text) = value.as_str() else {
        let found = value.type_name();
        let article = if found.starts_with(['a', 'i']) {
            "an"
        } else {
            "a"
        };
        return Err(Mistake::NotAString {
            key: name.to_owned(),
            found: format!("{article} {found}"),
        });
    };
    let text = clean(text);
    if text.chars().any(char::is_control) {
        return Err(Mistake::Control(name.to_owned()));
    }
    Ok((key, Secret::new(text)))
}

/// `old` with `changes` made: a key's value is replaced where it stands, new keys go to the end.
///
/// # Errors
/// What is wrong with the file, if that leaves no right place for a change.
pub(super) fn changed(
    old: &str,
    changes: &[(&'static Variable, &Secret)],
) -> Result<Zeroizing<String>, Vec<LineError>> {
    let document = match Document::parse(old) {
        Ok(document) if document.iter().all(|(_, item)| item.is_value()) => document,
        Ok(_) | Err(_) => return Err(parse(old).mistakes),
    };
    let mut cuts = Vec::new();
    let mut lines = Vec::new();
    for (variable, value) in changes {
        let key = variable.toml_key();
        let present = document.get(&key);
        if present.and_then(Item::as_str) == Some(value.expose()) {
            continue;
        }
        match present.and_then(Item::span) {
            Some(span) => cuts.push((span, render(value))),
            None => {
                let mut line = Zeroizing::new(format!("{key} = "));
                line.push_str(&render(value));
                lines.push(line);
            }
        }
    }
    // From the end, so that the places of the others stay.
    cuts.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut new = Zeroizing::new(old.to_owned());
    for (span, text) in cuts {
        let mut longer = Zeroizing::new(String::with_capacity(new.len() + text.len()));
        longer.push_str(new.get(..span.start).unwrap_or_default());
        longer.push_str(&text);
        longer.push_str(new.get(span.end..).unwrap_or_default());
        new = longer;
    }
    for line in lines {
        super::append(&mut new, &line);
    }
    Ok(new)
}

/// `value`, which holds no control character, as a string.
fn render(value: &Secret) -> Zeroizing<String> {
    let mut text = Zeroizing::default();
    super::push_quoted(&mut text, value.expose(), &['"', '\\']);
    text
}

/// The line, counted from 1, on which the byte `at` stands.
fn line_at(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// `text` with nothing on that line.
fn without_line(text: &str, line: usize) -> Zeroizing<String> {
    let mut rest = Zeroizing::new(String::with_capacity(text.len()));
    for (number, piece) in (1..).zip(text.split_inclusive('\n')) {
        if number != line {
            rest.push_str(piece);
        } else if piece.ends_with('\n') {
            rest.push('\n');
        }
    }
    rest
}
