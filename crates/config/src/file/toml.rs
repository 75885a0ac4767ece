//! The TOML form: `key = "text"` lines, and one table, `[targets]`, whose keys may be lists of texts.
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
use crate::env::{Kind, Variable};
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
                judge(document.as_table(), &rest, Some(""), &mut parsed);
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

/// The one table whose keys set something.
const TABLE: &str = "targets";

/// Sorts what a table holds into what is right and what is wrong. Its keys stand behind `prefix` in
/// the names of settings; without one they set nothing.
fn judge(table: &Table, text: &str, prefix: Option<&str>, parsed: &mut Parsed) {
    for (name, item) in table {
        let key = table.key(name);
        let at = key.and_then(toml_edit::Key::span).or_else(|| item.span());
        let line = line_at(text, at.map_or(0, |span| span.start));
        let set = match item {
            Item::Value(value) => text_of(&format!("{}{name}", prefix.unwrap_or("")), value),
            Item::Table(inner) if name == TABLE && prefix == Some("") => {
                judge(inner, text, Some("targets."), parsed);
                continue;
            }
            Item::Table(inner) => {
                if !inner.is_dotted() {
                    // No one's keys, but what else is wrong with them is reported as well.
                    judge(inner, text, None, parsed);
                }
                Err(Mistake::Table)
            }
            Item::ArrayOfTables(_) | Item::None => Err(Mistake::Table),
        };
        match set {
            Ok((key, value)) if prefix.is_some() => parsed.entries.push(Entry {
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
    let list;
    let text = match value {
        Value::Array(array) if key.kind == Kind::Rules => {
            let texts = array.iter().map(|value| string(name, value));
            list = texts.collect::<Result<Vec<_>, _>>()?.join(", ");
            &list
        }
        value => string(name, value)?,
    };
    let text = clean(text);
    if text.chars().any(char::is_control) {
        return Err(Mistake::Control(name.to_owned()));
    }
    Ok((key, Secret::new(text)))
}

fn string<'a>(name: &str, value: &'a Value) -> Result<&'a str, Mistake> {
    value.as_str().ok_or_else(|| {
        let found = value.type_name();
        let article = if found.starts_with(['a', 'i']) {
            "an"
        } else {
            "a"
        };
        Mistake::NotAString {
            key: name.to_owned(),
            found: format!("{article} {found}"),
        }
    })
}

/// `old` with `changes` made: a key's value is replaced where it stands, new keys go to the end, or
/// before the table.
///
/// # Errors
/// What is wrong with the file, if that leaves no right place for a change.
pub(super) fn changed(
    old: &str,
    changes: &[(&'static Variable, &Secret)],
) -> Result<Zeroizing<String>, Vec<LineError>> {
    let document = match Document::parse(old) {
        Ok(document) if document.iter().all(|(name, item)| is_known(name, item)) => document,
        Ok(_) | Err(_) => return Err(parse(old).mistakes),
    };
    let mut cuts = Vec::new();
    let mut lines = Zeroizing::new(String::new());
    for (variable, value) in changes {
        let key = variable.toml_key();
        let (table, inner) = key.split_once('.').unwrap_or(("", &key));
        let present = match table {
            "" => document.get(inner),
            table => document.get(table).and_then(|table| table.get(inner)),
        };
        if present.and_then(Item::as_str) == Some(value.expose()) {
            continue;
        }
        if let Some(span) = present.and_then(Item::span) {
            cuts.push((span, render(value)));
            continue;
        }
        match table_header(&document).filter(|_| !table.is_empty()) {
            Some(header) => {
                // Behind the line of the table's name.
                let rest = old.get(header..).unwrap_or_default();
                let end = rest.find('\n').map_or(old.len(), |end| header + end + 1);
                let mut line = Zeroizing::new(format!("{inner} = "));
                line.push_str(&render(value));
                line.push('\n');
                if end == old.len() && !old.ends_with('\n') {
                    line.insert(0, '\n');
                }
                cuts.push((end..end, line));
            }
            None => {
                let mut line = Zeroizing::new(format!("{key} = "));
                line.push_str(&render(value));
                super::append(&mut lines, &line);
            }
        }
    }
    if !lines.is_empty() {
        let end = table_header(&document).unwrap_or(old.len());
        if end == old.len() && !old.is_empty() && !old.ends_with('\n') {
            lines.insert(0, '\n');
        }
        if old.contains("\r\n") {
            lines = Zeroizing::new(lines.replace('\n', "\r\n"));
        }
        cuts.push((end..end, lines));
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
    Ok(new)
}

/// True for what a file may hold.
fn is_known(name: &str, item: &Item) -> bool {
    item.is_value() || (name == TABLE && item.is_table())
}

/// Where the line of the table's name begins, if it has one of its own.
fn table_header(document: &Document<&str>) -> Option<usize> {
    let table = document.get(TABLE)?.as_table()?;
    let span = table.span().filter(|_| !table.is_dotted())?;
    let before = document.raw().get(..span.start)?;
    Some(before.rfind('\n').map_or(0, |end| end + 1))
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
