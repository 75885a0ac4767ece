//! One entry in journald's native form: `NAME=value`, or, for a value of several lines, `NAME`, its
//! length in eight bytes and the value.

use std::borrow::Cow;

use tracing::Level;

use super::priority;

/// `SYSLOG_IDENTIFIER` of every line, whatever the file of the program is called: `journalctl -t
/// infisical` finds all roles, as it always did, and units tell them apart.
const IDENTIFIER: &str = "infisical";

/// The longest name of a field that journald takes.
const LONGEST_NAME: usize = 64;

/// The end of a message that is not whole.
const SHORTENED: &[u8] = " … (shortened)".as_bytes();

/// An entry, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    level: Level,
    bytes: Vec<u8>,
}

impl Entry {
    /// An entry of that level, without a message yet.
    pub(super) fn new(level: Level) -> Self {
        // Enough for most, so that nothing is moved.
        let bytes = Vec::with_capacity(768);
        let mut entry = Self { level, bytes };
        entry.put("PRIORITY", &[priority(level)]);
        entry.put("SYSLOG_IDENTIFIER", IDENTIFIER.as_bytes());
        entry
    }

    /// How severe it is.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// As journald reads it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its message, for where nothing else can be told.
    #[must_use]
    pub fn message(&self) -> Cow<'_, str> {
        let mut fields = fields(&self.bytes);
        let message = fields.find(|(name, _)| *name == b"MESSAGE");
        String::from_utf8_lossy(message.map_or(b"", |(_, value)| value))
    }

    pub(super) fn put(&mut self, name: &str, value: &[u8]) {
        put(&mut self.bytes, name, value);
    }

    /// What is there, for [`put`] to append to.
    pub(super) fn fields_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The same with no field longer than `limit`: the message is cut, others are left out.
    pub(super) fn shortened(&self, limit: usize) -> Self {
        let mut bytes = Vec::new();
        for (name, value) in fields(&self.bytes) {
            let name = String::from_utf8_lossy(name);
            if value.len() <= limit {
                put(&mut bytes, &name, value);
            } else if name == "MESSAGE" {
                let (kept, _) = value.split_at(limit);
                // Not in the middle of a character.
                let kept = kept.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                put(&mut bytes, &name, &[kept.as_bytes(), SHORTENED].concat());
            }
        }
        let level = self.level;
        Self { level, bytes }
    }
}

/// Appends one field. A name that journald would refuse is made to fit; without a letter it is
/// none.
pub(super) fn put(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    let letters = name.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => byte.to_ascii_uppercase(),
        _ => b'_',
    });
    let start = bytes.len();
    let letters = letters.skip_while(|byte| !byte.is_ascii_uppercase());
    bytes.extend(letters.take(LONGEST_NAME));
    if bytes.len() == start {
        return;
    }
    if value.contains(&b'\n') {
        bytes.push(b'\n');
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
        bytes.extend(length.to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend(value);
    bytes.push(b'\n');
}

/// Reads what [`put`] wrote; ends at what it cannot have written.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let end = bytes.iter().position(|byte| matches!(byte, b'=' | b'\n'))?;
        let (name, rest) = bytes.split_at_checked(end)?;
        let (separator, rest) = rest.split_first()?;
        let (length, rest) = if *separator == b'=' {
            (rest.iter().position(|byte| *byte == b'\n')?, rest)
        } else {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_le_bytes(*length)).ok()?, rest)
        };
        let (value, rest) = rest.split_at_checked(length)?;
        bytes = rest.strip_prefix(b"\n")?;
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::{Entry, fields, put};

    #[test]
    fn multiline_value_is_preceded_by_its_length() {
        let mut bytes = Vec::new();
        put(&mut bytes, "one", b"a=b");
        put(&mut bytes, "two", b"a\nb");
        put(&mut bytes, "none", b"");
        assert_eq!(
            bytes,
            b"ONE=a=b\nTWO\n\x03\0\0\0\0\0\0\0a\nb\nNONE=\n".as_slice()
        );
        let read: Vec<_> = fields(&bytes).collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"ONE", b"a=b"), (b"TWO", b"a\nb"), (b"NONE", b"")];
        assert_eq!(read, expected);
        for end in 0..bytes.len() {
            // Cut anywhere, it is read as far as it is whole.
            assert!(fields(&bytes[..end]).count() < 3);
        }
    }

    #[test]
    fn every_name_is_one_that_journald_takes() {
        let long = "a".repeat(100);
        for (name, expected) in [
            ("relay.host", "RELAY_HOST=v\n"),
            ("delay-ms", "DELAY_MS=v\n"),
            ("_pid", "PID=v\n"),
            ("0_9x", "X=v\n"),
            ("ä", ""),
            ("", ""),
            ("__", ""),
            (&long, &format!("{}=v\n", "A".repeat(64))),
        ] {
            let mut bytes = Vec::new();
            put(&mut bytes, name, b"v");
            assert_eq!(String::from_utf8_lossy(&bytes), expected, "{name}");
        }
    }

    #[test]
    fn oversized_field_is_cut_or_omitted() {
        let mut entry = Entry::new(Level::WARN);
        entry.put("error", "x".repeat(1000).as_bytes());
        entry.put("attempt", b"3");
        entry.put("MESSAGE", "ä".repeat(500).as_bytes());
        let short = entry.shortened(101);
        let names: Vec<_> = fields(short.as_bytes()).map(|(name, _)| name).collect();
        let expected: [&[u8]; 4] = [b"PRIORITY", b"SYSLOG_IDENTIFIER", b"ATTEMPT", b"MESSAGE"];
        assert_eq!(names, expected);
        assert_eq!(short.message(), format!("{} … (shortened)", "ä".repeat(50)));
    }
}
