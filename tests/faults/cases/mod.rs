//! The table: one row for each fault, in the order of docs/reliability.md.

mod boot;
mod clocks;
mod corruption;
mod crowds;
mod deaths;
mod defects;
mod disk;
mod doctor;
mod long_lines;
mod mute;
mod partitions;
mod refusals;
mod scarce;
mod transfers;
mod vanished;
pub(crate) mod writes;

use crate::runner::Case;

/// All of it.
pub(crate) const TABLE: &[&[Case]] = &[
    deaths::CASES,
    partitions::CASES,
    vanished::CASES,
    transfers::CASES,
    mute::CASES,
    boot::CASES,
    refusals::CASES,
    clocks::CASES,
    disk::CASES,
    writes::CASES,
    scarce::CASES,
    defects::CASES,
    corruption::CASES,
    doctor::CASES,
];

/// What needs the whole machine, and would make all others late: run one after the other, at the
/// end.
pub(crate) const ALONE: &[&[Case]] = &[long_lines::CASES, crowds::CASES];
