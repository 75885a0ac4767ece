//! What every case is built from: real processes, a loopback address of its own, certificates of
//! any quality, a platform that answers what the case wants, foreign OpenSSH peers and sample
//! targets.
//!
//! Nothing here waits for time to pass: every wait is for a condition that stays true once it is
//! true, and [`PATIENCE`] only bounds how long a failure takes to be reported.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a case fails by panicking, and prints its children's output when it does"
)]
#![allow(
    missing_docs,
    missing_debug_implementations,
    unnameable_types,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    reason = "a test has no readers but those of its source"
)]

pub mod admin;
mod built;
pub mod choice;
pub mod daemon;
pub mod dns;
pub mod fake_platform;
pub mod fake_relay;
pub mod go;
pub mod greedy;
pub mod journald;
pub mod lab;
pub mod loopback;
pub mod manager;
pub mod namespaces;
pub mod newer_openssh;
pub mod noise;
pub mod openssh;
pub mod process;
pub mod python;
pub mod session;
pub mod ssh_ca;
pub mod ssh_sides;
pub mod stack;
pub mod targets;
pub mod tls;
pub mod wanting;
pub mod x509;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// How long any condition may take on a busy machine before the case fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition that nothing announces.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Waits for `future`, [`PATIENCE`] at most.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {} s", PATIENCE.as_secs()),
    }
}

/// Tries `attempt` until it gives `Ok`; the last error is in the report of a failure.
pub async fn eventually<T, E, F, Fut>(what: &str, mut attempt: F) -> T
where
    E: std::fmt::Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        let last = match tokio::time::timeout_at(end, attempt()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the attempt itself hangs".to_owned(),
        };
        assert!(Instant::now() < end, "{what}: never; at last: {last}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What a program writes into its ready file, once it has.
pub async fn ready_file(path: &Path) -> String {
    let text = eventually("the ready file", || async { std::fs::read_to_string(path) });
    text.await.trim().to_owned()
}

/// Writes a file that only its owner may read, as every secret must be.
pub fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.write_all(text.as_bytes()).expect("writing");
}

/// The permission bits of a file.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .mode()
        & 0o7777
}
