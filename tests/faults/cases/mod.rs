//! The table: one row for each fault, in the order of docs/reliability.md.

mod boot;
mod clocks;
mod corruption;
mod deaths;
mod mute;
mod partitions;
mod refusals;
mod vanished;

use crate::runner::Case;

/// All of it.
pub(crate) const TABLE: &[&[Case]] = &[
    deaths::CASES,
    partitions::CASES,
    vanished::CASES,
    mute::CASES,
    boot::CASES,
    refusals::CASES,
    clocks::CASES,
    corruption::CASES,
];
