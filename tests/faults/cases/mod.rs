//! The table: one row for each fault, in the order of docs/reliability.md.

mod crowds;
mod deaths;
mod defects;
pub(crate) mod disk;
mod scarce;

use crate::runner::Case;

/// All of it.
pub(crate) const TABLE: &[&[Case]] = &[deaths::CASES, disk::CASES, scarce::CASES, defects::CASES];

/// What needs the whole machine, and would make all others late: run one after the other, at the end.
pub(crate) const ALONE: &[&[Case]] = &[crowds::CASES];
