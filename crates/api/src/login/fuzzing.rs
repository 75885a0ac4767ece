//! What clouds answer, and the files that programs of a cloud share, as bytes of a fuzzer's choice.

use super::aws::fuzzing as aws;
use super::{fetch, token_lifetime};

/// Any of it, read as each kind of answer in turn.
pub fn cloud_answer(data: &[u8]) {
    let shown = fetch::words(data);
    assert!(shown.chars().count() <= fetch::MAX_SHOWN);
    assert!(!shown.contains(char::is_control));
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(word) = fetch::one_word(text) {
        let word = word.expose();
        assert!(!word.is_empty() && !word.contains(char::is_whitespace));
    }
    let _ = token_lifetime::lifetime(text);
    aws::answer(text);
}
