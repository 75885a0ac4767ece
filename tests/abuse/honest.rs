//! Honest work beside an attack: one session that goes on, and new ones.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::session::{Way, echoes};
use crate::support::tls::Inner;

/// Between two round trips of the session.
const ROUND_TRIP_EVERY: Duration = Duration::from_millis(20);
/// Between two new sessions.
const SESSION_EVERY: Duration = Duration::from_millis(200);

/// How long what honest peers did took, the shortest first.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    fn sorted(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self(all)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |percent: usize| self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)];
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(f, "{:.1} / {:.1} ms", ms(at(50)), ms(at(99)))
    }
}

/// Works for `time`; panics when an honest session fails.
pub(crate) async fn work(session: &mut Inner, way: &Way, time: Duration) -> (Latencies, Latencies) {
    let end = Instant::now() + time;
    let round_trips = async {
        let mut took = Vec::new();
        let mut pause = tokio::time::interval(ROUND_TRIP_EVERY);
        while Instant::now() < end {
            pause.tick().await;
            let begin = Instant::now();
            echoes(session, &[7; 64])
                .await
                .expect("the session goes on");
            took.push(begin.elapsed());
        }
        Latencies::sorted(took)
    };
    let newcomers = async {
        let mut took = Vec::new();
        let mut pause = tokio::time::interval(SESSION_EVERY);
        while Instant::now() < end {
            pause.tick().await;
            let begin = Instant::now();
            let mut stream = way.tcp().await.expect("a newcomer is served");
            echoes(&mut stream, b"new")
                .await
                .expect("a newcomer's echo");
            took.push(begin.elapsed());
        }
        Latencies::sorted(took)
    };
    tokio::join!(round_trips, newcomers)
}
