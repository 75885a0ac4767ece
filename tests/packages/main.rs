//! What is made of the program besides packages, checked by the tools that read it: the Helm chart,
//! the examples, and the container image as an engine builds it. Packages themselves are installed
//! in containers, by `tests/system`.
//!
//! Run by `make test-packages`, which installs the tools (`make test-tools`); what one of them would
//! check is skipped visibly without it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a case fails by panicking, and says what it skips"
)]
#![allow(missing_docs, reason = "a test has no readers but those of its source")]

mod chart;
mod chart_values;
mod engine;
mod examples;
mod tools;
