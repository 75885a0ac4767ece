//! What the two test programs that want root have in common: `tests/system` and `tests/faults`.

pub(crate) mod dns;
pub(crate) mod wanting;
