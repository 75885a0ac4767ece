//! The chain of hashes through the entries: each hash is over the one before and all fields of its
//! entry, so that a changed, missing or added entry breaks it.
//!
//! The store keeps both ends: the last entry that was removed, from where the entries that are there
//! go on, and the newest one. docs/platform.md describes the encoding, and what a chain does not
//! show. Pure.

use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::entry::{AuditEntry, Field, NewAuditEntry, Subject};
use crate::store::millis;

/// Stands before the first entry ever.
pub(in crate::store) const ORIGIN: [u8; SHA256_OUTPUT_LEN] = [0; SHA256_OUTPUT_LEN];

/// A place in the chain: after the entry with this number and this hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Position {
    pub(in crate::store) number: i64,
    pub(in crate::store) hash: Vec<u8>,
}

/// What verifying the chain has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The last entry that the retention has removed; 0 if there is none.
    pub(crate) removed: i64,
    /// Entries from there on that are as they were written.
    pub(crate) entries: u64,
    /// The last of them, or the last removed one.
    pub(crate) number: i64,
    pub(crate) hash: Vec<u8>,
    /// Where the chain breaks first.
    pub(crate) broken: Option<Break>,
    /// The hash of the entry that was asked about, if it is there and comes before any break.
    pub(crate) asked: Option<Vec<u8>>,
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Break {
    /// The first entry that does not hold.
    pub(crate) number: i64,
    pub(crate) reason: &'static str,
}

/// The hash of `entry` after the one with the hash `previous`: SHA-256 over `previous` and all
/// fields in their order.
///
/// A field that is absent is the byte 0. Any other is the byte 1, the number of its bytes as 64 bits
/// big endian, and these: a text as UTF-8, a number as 64 bits big endian, in two's complement.
pub(in crate::store) fn hash(previous: &[u8], entry: &AuditEntry) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    add(&mut context, Some(previous));
    for field in entry.fields() {
        match field {
            Field::Number(number) => add(&mut context, Some(&number.to_be_bytes())),
            Field::Text(text) => add(&mut context, text.map(str::as_bytes)),
        }
    }
    context.finish().as_ref().to_vec()
}

fn add(context: &mut Context, field: Option<&[u8]>) {
    let Some(bytes) = field else {
        context.update(&[0]);
        return;
    };
    context.update(&[1]);
    // No slice is longer than 2^63 bytes.
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    context.update(&length.to_be_bytes());
    context.update(bytes);
}

impl Position {
    /// The entry that follows here.
    pub(in crate::store) fn entry(&self, new: NewAuditEntry, now: SystemTime) -> AuditEntry {
        let (subject_kind, subject_id, subject_name) = match new.subject {
            Some(Subject { kind, id, name }) => (Some(kind.to_owned()), id, name),
            None => (None, None, None),
        };
        let (refusal_class, refusal_reason) = match new.refusal {
            Some((class, reason)) => (Some(class), Some(reason)),
            None => (None, None),
        };
        let mut entry = AuditEntry {
            number: self.number.saturating_add(1),
            at: millis(now),
            kind: new.action.kind().as_str().to_owned(),
            action: new.action.as_str().to_owned(),
            actor_kind: new.requester.kind.to_owned(),
            actor_id: new.requester.id,
            actor_name: new.requester.name,
            source: new.requester.source.map(|address| address.to_string()),
            subject_kind,
            subject_id,
            subject_name,
            details: new.details,
            refusal_class,
            refusal_reason,
            left_out: i64::try_from(new.left_out).unwrap_or(i64::MAX),
            hash: Vec::new(),
        };
        entry.hash = hash(&self.hash, &entry);
        entry
    }
}

impl Verified {
    /// At the beginning of a chain whose last removed entry is `begin`; `before` is what an earlier
    /// page has found, from which the retention may have removed what comes next.
    pub(in crate::store) fn resume(before: Option<Self>, begin: Position, asked: i64) -> Self {
        match before {
            Some(found) if found.number >= begin.number => found,
            skipped => Self {
                removed: begin.number,
                entries: skipped.map_or(0, |found| found.entries),
                asked: (begin.number == asked).then(|| begin.hash.clone()),
                number: begin.number,
                hash: begin.hash,
                broken: None,
            },
        }
    }

    /// Takes one entry more, with its number; false if the chain breaks there. An entry that cannot
    /// be read is `None`.
    pub(in crate::store) fn follow(
        &mut self,
        number: i64,
        entry: Option<AuditEntry>,
        asked: i64,
    ) -> bool {
        let followed = self.try_follow(number, entry, asked);
        if let Err(reason) = followed {
            self.breaks(reason);
        }
        followed.is_ok()
    }

    fn try_follow(
        &mut self,
        number: i64,
        entry: Option<AuditEntry>,
        asked: i64,
    ) -> Result<(), &'static str> {
        if self.number.checked_add(1) != Some(number) {
            return Err("it is missing");
        }
        let entry = entry.ok_or("it cannot be read")?;
        if hash(&self.hash, &entry) != entry.hash {
            return Err("it is not as it was written, or the one before it is not");
        }
        self.number = number;
        self.entries += 1;
        if number == asked {
            self.asked = Some(entry.hash.clone());
        }
        self.hash = entry.hash;
        Ok(())
    }

    /// After the last entry: the newest one must be `end`.
    pub(in crate::store) fn finish(&mut self, end: &Position) {
        if (self.number, &self.hash) != (end.number, &end.hash) {
            self.breaks("the newest entries are missing");
        }
    }

    fn breaks(&mut self, reason: &'static str) {
        let number = self.number.saturating_add(1);
        self.broken = Some(Break { number, reason });
    }
}
