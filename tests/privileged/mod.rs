//! What the test programs that want root have in common: `tests/system`, `tests/faults` and
//! `tests/abuse`.

#[allow(dead_code, reason = "not all of it is wanted everywhere")]
pub(crate) mod choice;
#[allow(dead_code, reason = "not all of it is wanted everywhere")]
pub(crate) mod dns;
pub(crate) mod wanting;
