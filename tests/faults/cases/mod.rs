//! The table: one row for each fault, in the order of docs/reliability.md.

mod deaths;

use crate::runner::Case;

/// All of it.
pub(crate) const TABLE: &[&[Case]] = &[deaths::CASES];
