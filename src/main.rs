//! The `infisical` program.

fn main() {}
