//! Key exchanges.
