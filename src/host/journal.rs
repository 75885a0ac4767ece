//! The journal behind standard error: is it there, and how lines reach it.
//!
//! Lines go to journald's own socket with every field, so that `journalctl -o json`, `MESSAGE_ID=` and the catalogue
//! work; where that socket is missing, as lines of text with a priority before each (sd-daemon(3)). Names of fields
//! have no prefix, or `MESSAGE_ID` would be none; whoever logs keeps clear of journald's own (`PRIORITY`, `CODE_FILE`,
//! `SYSLOG_…`).

use std::io;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing::field::{Field, Value, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// `SYSLOG_IDENTIFIER` of every line, whatever the file of the program is called: `journalctl -t infisical` finds all
/// roles, as it always did, and units tell them apart.
const IDENTIFIER: &str = "infisical";

/// Where an event has its id; for the journal and for JSON, not for people.
pub const MESSAGE_ID: &str = "message_id";

/// True if `stream` is the one that `named`, the value of `JOURNAL_STREAM`, says is connected to the journal
/// (systemd.exec(5)). A redirection since then makes it another one.
pub fn is_behind(stream: impl AsFd, named: Option<&str>) -> bool {
    let Some((device, inode)) = named.and_then(|named| named.split_once(':')) else {
        return false;
    };
    fstat(stream)
        .is_ok_and(|found| Ok(found.st_dev) == device.parse() && Ok(found.st_ino) == inode.parse())
}

/// `lines` with the priority of `level` before each, as journald reads them from a stream.
#[must_use]
pub fn with_priority(level: Level, lines: &[u8]) -> Vec<u8> {
    let number = match level {
        Level::ERROR => b'3',
        Level::WARN => b'4',
        Level::INFO => b'6',
        Level::DEBUG | Level::TRACE => b'7',
    };
    let mut text = Vec::with_capacity(lines.len() + 3);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        text.extend([b'<', number, b'>']);
        text.extend(line);
    }
    text
}

/// Sends every event to journald: its fields, and as the message the sentence followed by the fields, since that is
/// all that `journalctl` and `systemctl status` show.
#[derive(Debug)]
pub struct Journal(Socket);

struct Socket(tracing_journald::Layer);

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("journald")
    }
}

impl Journal {
    /// Connects to the socket of this machine's journald.
    ///
    /// # Errors
    /// There is none, or it does not listen.
    pub fn connect() -> io::Result<Self> {
        let layer = tracing_journald::layer()?
            .with_field_prefix(None)
            .with_syslog_identifier(IDENTIFIER.to_owned())
            .with_priority_mappings(PriorityMappings {
                error: Priority::Error,
                warn: Priority::Warning,
                info: Priority::Informational,
                debug: Priority::Debug,
                trace: Priority::Debug,
            });
        Ok(Self(Socket(layer)))
    }
}

impl<S> Layer<S> for Journal
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.0.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = event.metadata().fields();
        let mut read = Read::new(fields.len());
        event.record(&mut read);
        read.complete_message();
        let values: Vec<Option<&dyn Value>> = read
            .values
            .iter()
            .map(|value| value.as_ref().map(|value| value as &dyn Value))
            .collect();
        // The same event again, its message replaced. This is what the macros of `tracing` expand to.
        let values = fields.value_set_all(&values);
        let event = Event::new(event.metadata(), &values);
        self.0.0.on_event(&event, context);
    }
}

/// An event's values as text, each at its field's index.
#[derive(Debug)]
struct Read {
    values: Vec<Option<String>>,
    /// Which of them is the sentence.
    message: Option<usize>,
    /// The fields as a person reads them, a space before each.
    tail: String,
}

impl Read {
    fn new(fields: usize) -> Self {
        Self {
            values: vec![None; fields],
            message: None,
            tail: String::new(),
        }
    }

    fn keep(&mut self, field: &Field, value: String, shown: &str) {
        match field.name() {
            "message" => self.message = Some(field.index()),
            MESSAGE_ID => {}
            name => self.tail.extend([" ", name, "=", shown]),
        }
        if let Some(place) = self.values.get_mut(field.index()) {
            *place = Some(value);
        }
    }

    fn complete_message(&mut self) {
        let message = self.message.and_then(|index| self.values.get_mut(index));
        if let Some(Some(message)) = message {
            message.push_str(&self.tail);
        }
    }
}

impl Visit for Read {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.to_owned(), &format!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        self.keep(field, text.clone(), &text);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;

    use tracing::Level;

    use super::{is_behind, with_priority};

    #[test]
    fn the_journal_is_behind_a_stream_only_if_it_is_the_named_one() {
        let file = tempfile::tempfile().expect("a file");
        let metadata = file.metadata().expect("metadata");
        let named = format!("{}:{}", metadata.dev(), metadata.ino());
        assert!(is_behind(&file, Some(&named)));
        let other = File::open("/dev/null").expect("opened");
        assert!(!is_behind(&other, Some(&named)));
        for bad in [None, Some(""), Some("1"), Some("a:b"), Some("1:2:3")] {
            assert!(!is_behind(&file, bad), "{bad:?}");
        }
    }

    #[test]
    fn each_line_has_its_priority() {
        for (level, expected) in [
            (Level::ERROR, "<3>a\n<3>b\n"),
            (Level::WARN, "<4>a\n<4>b\n"),
            (Level::INFO, "<6>a\n<6>b\n"),
            (Level::DEBUG, "<7>a\n<7>b\n"),
            (Level::TRACE, "<7>a\n<7>b\n"),
        ] {
            assert_eq!(with_priority(level, b"a\nb\n"), expected.as_bytes());
        }
    }
}
