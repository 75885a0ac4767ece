//! What reads foreign bytes, as functions of bytes, for fuzzers and tests.

pub use crate::login::fuzzing::cloud_answer;
