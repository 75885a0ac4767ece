//! Sessions that are opened at a steady rate while something happens, and what their clients see.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::support::PATIENCE;

/// Fifty a second.
const RATE: Duration = Duration::from_millis(20);
/// Between two attempts of one client.
const RETRY: Duration = Duration::from_millis(100);

/// One client's session.
struct Client {
    begun: Instant,
    attempts: u32,
    latency: Duration,
    error: Option<String>,
}

/// What all of them saw.
pub(crate) struct Figures(Vec<Client>);

impl Figures {
    pub(crate) fn opened(&self) -> usize {
        self.0.len()
    }

    /// Why sessions were not opened after all attempts.
    pub(crate) fn failures(&self) -> Vec<&String> {
        self.0
            .iter()
            .filter_map(|client| client.error.as_ref())
            .collect()
    }

    /// For a person who measures: `cargo test … -- --nocapture`.
    pub(crate) fn print(&self, what: &str) {
        let mut latencies: Vec<Duration> = self.0.iter().map(|client| client.latency).collect();
        latencies.sort();
        let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
        let refused = |client: &&Client| client.attempts > 1;
        let retried = self.0.iter().filter(refused).count();
        let first = self
            .0
            .iter()
            .filter(refused)
            .map(|client| client.begun)
            .min();
        let last = self
            .0
            .iter()
            .filter(refused)
            .map(|client| client.begun)
            .max();
        let span = last
            .zip(first)
            .map_or(Duration::ZERO, |(last, first)| last - first);
        eprintln!(
            "{what}: {} sessions, {retried} needed another attempt over {span:?}, {} failed, p50 {:?}, p99 {:?}, max {:?}",
            self.opened(),
            self.failures().len(),
            at(50),
            at(99),
            at(100),
        );
    }
}

/// Opens sessions with `open`, each in up to `attempts`, until `happening` is over and a moment
/// more.
pub(crate) async fn during<T, F>(
    attempts: u32,
    open: impl Fn() -> F + Clone + Send + 'static,
    happening: impl Future<Output = T>,
) -> (T, Figures)
where
    F: Future<Output = std::io::Result<()>> + Send,
{
    let stop = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&stop);
    let mut generator = JoinSet::new();
    // In a task of its own: what happens may block.
    generator.spawn(async move {
        let mut clients = JoinSet::new();
        let mut ticks = interval(RATE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !is_over.load(Ordering::Relaxed) {
            ticks.tick().await;
            let open = open.clone();
            clients.spawn(async move { client(attempts, open).await });
        }
        clients.join_all().await
    });
    let output = happening.await;
    stop.store(true, Ordering::Relaxed);
    let clients = generator.join_next().await.expect("a generator");
    (output, Figures(clients.expect("no panic")))
}

async fn client<F>(limit: u32, open: impl Fn() -> F) -> Client
where
    F: Future<Output = std::io::Result<()>>,
{
    let begun = Instant::now();
    let mut attempts = 0;
    let error = loop {
        attempts += 1;
        let error = match tokio::time::timeout(PATIENCE, open()).await {
            Ok(Ok(())) => break None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it hangs".to_owned(),
        };
        if attempts == limit {
            break Some(error);
        }
        sleep(RETRY).await;
    };
    Client {
        begun,
        attempts,
        latency: begun.elapsed(),
        error,
    }
}
