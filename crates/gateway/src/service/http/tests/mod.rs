//! The service over an in-memory client stream, with real targets on loopback.

mod actions;
mod exact;
mod failures;
mod streams;
mod support;
mod tls;
