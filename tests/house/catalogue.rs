//! The explanations of events: the journal's catalogue and the page that lists them, against the table in the code.

use infisical_runtime::events::Event;

/// An entry of the catalogue (Journal Message Catalog format).
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    id: &'a str,
    subject: &'a str,
    /// Whose it is, and where to ask; both are required.
    headers: [bool; 2],
    explained: bool,
}

fn entries(catalogue: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut in_headers = false;
    for line in catalogue.lines().filter(|line| !line.starts_with('#')) {
        if let Some(id) = line.strip_prefix("-- ") {
            in_headers = true;
            entries.push(Entry {
                id,
                subject: "",
                headers: [false; 2],
                explained: false,
            });
            continue;
        }
        let Some(entry) = entries.last_mut() else {
            continue;
        };
        if line.is_empty() {
            in_headers = false;
        } else if !in_headers {
            entry.explained = true;
        } else if let Some(subject) = line.strip_prefix("Subject: ") {
            entry.subject = subject;
        } else if line == "Defined-By: infisical" {
            entry.headers[0] = true;
        } else if line.starts_with("Support: https://") {
            entry.headers[1] = true;
        }
    }
    entries
}

/// Where the catalogue and `events` differ.
pub(crate) fn unexplained(catalogue: &str, events: &[Event]) -> Vec<String> {
    let entries = entries(catalogue);
    let mut wrong = Vec::new();
    for event in events {
        let with_id = entries.iter().filter(|entry| entry.id == event.id);
        let with_id: Vec<_> = with_id.collect();
        match with_id.as_slice() {
            [entry] if entry.subject == event.text && entry.headers == [true; 2] => {
                if !entry.explained {
                    wrong.push(format!("catalogue: {} is not explained", event.text));
                }
            }
            [entry] => wrong.push(format!("catalogue: {entry:?} is not {event:?}")),
            several => wrong.push(format!(
                "catalogue: {:?} ({}) is there {} times",
                event.text,
                event.id,
                several.len()
            )),
        }
    }
    for entry in &entries {
        if !events.iter().any(|event| event.id == entry.id) {
            wrong.push(format!("catalogue: no event has the id {}", entry.id));
        }
    }
    wrong
}

/// Where the table of the page and `events` differ: a row for each, and none besides.
pub(crate) fn unlisted(page: &str, events: &[Event]) -> Vec<String> {
    let row = |event: &Event| format!("| {} | `{}` |", event.text, event.id);
    let missing = events.iter().filter(|event| !page.contains(&row(event)));
    let mut wrong: Vec<String> = missing
        .map(|event| format!("docs/events.md: no row {:?}", row(event)))
        .collect();
    let is_id = |word: &&str| word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = page.split(|c: char| !c.is_ascii_alphanumeric());
    let unknown = words.filter(is_id);
    let unknown = unknown.filter(|id| !events.iter().any(|event| event.id == *id));
    wrong.extend(unknown.map(|id| format!("docs/events.md: no event has the id {id}")));
    wrong
}

#[cfg(test)]
mod tests {
    use infisical_runtime::events::Event;

    use super::{unexplained, unlisted};

    const ID: &str = "0123456789abcdef0123456789abcdef";
    const EVENTS: &[Event] = &[Event {
        id: ID,
        text: "it rains",
    }];

    #[test]
    fn every_event_has_its_entry_and_every_entry_its_event() {
        let good = format!(
            "# x\n-- {ID}\nSubject: it rains\nDefined-By: infisical\nSupport: https://x\n\nWater.\n"
        );
        assert!(unexplained(&good, EVENTS).is_empty());
        for bad in [
            String::new(),
            good.replace("it rains", "it snows"),
            good.replace("Water.", ""),
            good.replace("Support", "Supports"),
            format!("{good}\n{good}"),
            format!("{good}\n-- {}\nSubject: x\n", ID.replace('0', "1")),
        ] {
            assert_eq!(unexplained(&bad, EVENTS).len(), 1, "{bad}");
        }
    }

    #[test]
    fn every_event_has_its_row_and_every_id_its_event() {
        let good = format!("| it rains | `{ID}` | info |\nMESSAGE_ID={ID}\n");
        assert!(unlisted(&good, EVENTS).is_empty());
        assert_eq!(unlisted("", EVENTS).len(), 1);
        assert_eq!(unlisted(&good.replace("rains", "snows"), EVENTS).len(), 1);
        let other = format!("{good}{}\n", ID.replace('0', "1"));
        assert_eq!(unlisted(&other, EVENTS).len(), 1);
    }
}
