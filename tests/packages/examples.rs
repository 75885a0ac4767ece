//! packaging/examples, read by the programs that they are for.
