//! The journal behind standard error: is it there, and how lines reach it.
//!
//! Lines go to journald's own socket with every field, so that `journalctl -o json`, `MESSAGE_ID=`
//! and the catalogue work; where that socket is missing, as lines of text with a priority before
//! each (sd-daemon(3)). Names of fields have no prefix, or `MESSAGE_ID` would be none; anyone who
//! logs keeps clear of journald's own (`PRIORITY`, `CODE_FILE`, `SYSLOG_…`).
//!
//! Making an entry and sending it are two things here, which no library for journald offers:
//! sending waits for as long as journald does not read, and a service that waits for that is ended
//! by its watchdog.

mod entry;
mod socket;

use std::fmt::{self, Write as _};
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

pub use entry::Entry;
pub use socket::Socket;

/// Where an event has its id; for the journal and for JSON, not for people.
pub const MESSAGE_ID: &str = "message_id";

/// True if `stream` is the one that `named`, the value of `JOURNAL_STREAM`, says is connected to
/// the journal (systemd.exec(5)). A redirection since then makes it another one.
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
    let number = priority(level);
    let mut text = Vec::with_capacity(lines.len() + 3);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        text.extend([b'<', number, b'>']);
        text.extend(line);
    }
    text
}

/// A digit, as syslog(3) numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => b'3',
        Level::WARN => b'4',
        Level::INFO => b'6',
        Level::DEBUG | Level::TRACE => b'7',
    }
}

/// Makes an entry of every event and hands it on: its fields and those of its spans, and as the
/// message the sentence followed by the event's fields, since that is all that `journalctl` and
/// `systemctl status` show.
pub struct Journal<F>(F);

impl<F> fmt::Debug for Journal<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

impl<F: Fn(Entry)> Journal<F> {
    /// Hands entries to `take`, which should not wait.
    pub fn new(take: F) -> Self {
        Self(take)
    }
}

/// The fields of a span, as they stand in an entry.
#[derive(Debug)]
struct SpanFields(Vec<u8>);

impl<F, S> Layer<S> for Journal<F>
where
    F: Fn(Entry) + 'static,
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return;
        };
        let mut fields = Vec::new();
        entry::put(&mut fields, "SPAN_NAME", span.name().as_bytes());
        attributes.record(&mut Fields::new(&mut fields));
        span.extensions_mut().insert(SpanFields(fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return;
        };
        if let Some(SpanFields(fields)) = span.extensions_mut().get_mut() {
            values.record(&mut Fields::new(fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::new(*metadata.level());
        entry.put("TARGET", metadata.target().as_bytes());
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            entry.put("CODE_FILE", file.as_bytes());
            entry.put("CODE_LINE", line.to_string().as_bytes());
        }
        let spans = context.event_scope(event).into_iter();
        for span in spans.flat_map(|spans| spans.from_root()) {
            if let Some(SpanFields(fields)) = span.extensions().get() {
                entry.fields_mut().extend(fields);
            }
        }
        let mut read = Fields::new(entry.fields_mut());
        event.record(&mut read);
        let message = read.message + &read.tail;
        entry.put("MESSAGE", message.trim_start().as_bytes());
        (self.0)(entry);
    }
}

/// Reads the fields of an event or a span.
#[derive(Debug)]
struct Fields<'a> {
    /// All but the sentence, as they stand in an entry.
    bytes: &'a mut Vec<u8>,
    /// The sentence.
    message: String,
    /// The fields as a person reads them, a space before each.
    tail: String,
    /// The value that is being read.
    value: String,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self {
            bytes,
            message: String::new(),
            tail: String::new(),
            value: String::new(),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => return self.message.push_str(value),
            MESSAGE_ID => {}
            // A `String` takes whatever it is given.
            name => drop(write!(self.tail, " {name}={value:?}")),
        }
        entry::put(self.bytes, field.name(), value.as_bytes());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.value.clear();
        let _ = write!(self.value, "{value:?}");
        match field.name() {
            "message" => return self.message.push_str(&self.value),
            MESSAGE_ID => {}
            name => self.tail.extend([" ", name, "=", &self.value]),
        }
        entry::put(self.bytes, field.name(), self.value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;

    use std::sync::{Arc, Mutex};

    use tracing::Level;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{Entry, Journal, is_behind, with_priority};

    /// The entries that `work` makes, as text.
    fn entries(work: impl FnOnce()) -> Vec<String> {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let take = Arc::clone(&taken);
        let journal = Journal::new(move |entry: Entry| {
            let text = String::from_utf8_lossy(entry.as_bytes()).into_owned();
            take.lock().expect("not poisoned").push(text);
        });
        let subscriber = tracing_subscriber::registry().with(journal);
        tracing::subscriber::with_default(subscriber, work);
        std::mem::take(&mut *taken.lock().expect("not poisoned"))
    }

    #[test]
    fn entry_has_fields_of_event_and_spans() {
        let entries = entries(|| {
            let outer =
                tracing::info_span!("outer", relay.host = "h", session = tracing::field::Empty);
            let _outer = outer.enter();
            outer.record("session", 7);
            tracing::warn!(message_id = "abc", error = %"no\nway", attempt = 3, who = "x", "not {}", "done");
            tracing::debug!(alone = true);
        });
        let [first, second] = entries.as_slice() else {
            panic!("{entries:?}");
        };
        for part in [
            "PRIORITY=4\nSYSLOG_IDENTIFIER=infisical\nTARGET=infisical_host::journal::tests\nCODE_FILE=crates/host/src/journal/mod.rs\nCODE_LINE=",
            "\nSPAN_NAME=outer\nRELAY_HOST=h\nSESSION=7\nMESSAGE_ID=abc\nERROR\n\u{6}\0\0\0\0\0\0\0no\nway\nATTEMPT=3\nWHO=x\n",
            "MESSAGE\n\u{27}\0\0\0\0\0\0\0not done error=no\nway attempt=3 who=\"x\"\n",
        ] {
            assert!(first.contains(part), "{part:?} in {first:?}");
        }
        assert!(second.starts_with("PRIORITY=7\n"), "{second:?}");
        assert!(
            second.ends_with("\nALONE=true\nMESSAGE=alone=true\n"),
            "{second:?}"
        );
    }

    #[test]
    fn journal_is_detected_by_its_named_stream() {
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
