//! Two connections against each other.
