//! What is generated from the catalogue of events: the journal's catalogue and the table of the
//! page.

use std::fmt::Write as _;

use infisical_runtime::events::{CATALOGUE, Level};

/// Columns of a line of the journal's catalogue.
const WIDTH: usize = 100;

/// The journal's catalogue (Journal Message Catalog format); the subject is the line itself.
pub(crate) fn journal() -> String {
    let mut page = "# Explanations for `journalctl -x`, one for each event of the program.\n\
        # Generated from crates/runtime/src/events.rs by tests/house.\n\
        # Install below /usr/lib/systemd/catalog, then run `journalctl --update-catalog`.\n"
        .to_owned();
    for entry in CATALOGUE {
        let (id, line) = (entry.event.id, entry.event.text);
        _ = write!(page, "\n-- {id}\nSubject: {line}\nDefined-By: infisical\n");
        page.push_str("Support: https://infisical.com/docs\n");
        for paragraph in entry.meaning.split("\n\n").chain([entry.action]) {
            _ = write!(page, "\n{}\n", wrapped(paragraph));
        }
    }
    page
}

/// `page` with its table of events as it should be.
pub(crate) fn table(page: &str) -> String {
    const HEAD: &str = "| line | id | level | of |\n| --- | --- | --- | --- |\n";
    let (before, rest) = page.split_once(HEAD).unwrap_or((page, ""));
    let mut page = format!("{before}{HEAD}");
    for entry in CATALOGUE {
        let (event, roles) = (entry.event, entry.roles);
        let level = match event.level {
            Level::WARN => "warning".to_owned(),
            level => level.as_str().to_lowercase(),
        };
        _ = writeln!(page, "| {event} | `{}` | {level} | {roles} |", event.id);
    }
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    _ = write!(page, "\n{after}");
    page
}

/// The ids in `page` that no event has.
pub(crate) fn unknown_ids(page: &str) -> Vec<String> {
    let words = page.split(|c: char| !c.is_ascii_alphanumeric());
    let ids = words.filter(|word| word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit()));
    let unknown = ids.filter(|id| !CATALOGUE.iter().any(|entry| entry.event.id == *id));
    unknown
        .map(|id| format!("docs/events.md: no event has the id {id}"))
        .collect()
}

/// `paragraph` in lines of at most [`WIDTH`].
fn wrapped(paragraph: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in paragraph.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => _ = write!(line, " {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
