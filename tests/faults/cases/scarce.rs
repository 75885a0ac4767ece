//! Descriptors or memory run out.

use crate::runner::Case;

pub(super) const CASES: &[Case] = &[];
