//! What reads foreign bytes, as functions of bytes, for fuzzers and tests.

use crate::file;

/// A file of settings, in either form.
pub fn env_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match file::parse(text) {
        Ok(entries) => {
            for entry in entries {
                assert!(text.contains('='), "{:?} out of nothing", entry.key.name);
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(mistake.to_string().len() < 1024 + 8 * text.len());
            }
        }
    }
}
