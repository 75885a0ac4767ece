//! Sessions: so many of them, or all the time.

use std::fmt;
use std::io;
use std::ops::AddAssign;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::random::Random;
use crate::probe::block_on;
use crate::support::session::Way;
use crate::talk::{Talk, is_wrong};

/// Sessions at once in a batch.
const AT_ONCE: usize = 32;
/// Sessions at once of a crowd.
const CROWD: u64 = 8;
/// A session that takes longer was forgotten: far beyond what any fault may take.
const FORGOTTEN: Duration = Duration::from_secs(80);
/// Between a failed session and the next.
const AGAIN: Duration = Duration::from_millis(50);

/// What became of sessions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// Those with all their bytes and a clean end.
    pub(super) whole: u64,
    /// Those that were left by their client in the middle.
    pub(super) left: u64,
    /// Those that a fault ended.
    pub(super) failed: u64,
    /// Those that were given a wrong byte.
    pub(super) wrong: u64,
    /// Bytes compared, both ways.
    pub(super) bytes: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.whole += other.whole;
        self.left += other.left;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Sessions: {} whole, {} left by their clients, {} ended by faults, {} with a wrong byte; {} MiB compared.",
            self.whole,
            self.left,
            self.failed,
            self.wrong,
            self.bytes >> 20
        )
    }
}

/// So many sessions.
pub(super) async fn batch(way: &Way, count: u64, random: &mut Random) -> Tally {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut talking = JoinSet::new();
    for _ in 0..count {
        let (way, places, seed) = (way.clone(), Arc::clone(&places), random.next());
        talking.spawn(async move {
            let _place = places.acquire().await.expect("never closed");
            one(&way, seed).await
        });
    }
    let mut tally = Tally::default();
    while let Some(session) = talking.join_next().await {
        tally += session.expect("a session");
    }
    tally
}

/// One session with data. One in ten clients leaves in the middle.
async fn one(way: &Way, seed: u64) -> Tally {
    let mut random = Random::new(seed);
    let leaves = random.within(0..10) == 0;
    let bytes = random.within(1..32 << 10);
    let session = async {
        let mut talk = Talk::new(way.tcp().await?, seed);
        talk.round_trip(100).await?;
        talk.exchange(bytes).await?;
        if leaves {
            talk.ask_and_leave(bytes).await
        } else {
            talk.end().await
        }
    };
    let ended = tokio::time::timeout(FORGOTTEN, session).await;
    let ended = ended.unwrap_or_else(|_| Err(io::Error::other(Forgotten)));
    let mut tally = Tally::default();
    match ended {
        Ok(()) => {
            tally.bytes = 2 * bytes;
            let counted = if leaves {
                &mut tally.left
            } else {
                &mut tally.whole
            };
            *counted += 1;
        }
        Err(error) if is_wrong(&error) => tally.wrong += 1,
        Err(error) => {
            let forgotten = error.get_ref().is_some_and(|inner| inner.is::<Forgotten>());
            assert!(!forgotten, "a session hangs for {} s", FORGOTTEN.as_secs());
            tally.failed += 1;
        }
    }
    tally
}

#[derive(Debug, thiserror::Error)]
#[error("forgotten")]
struct Forgotten;

/// Clients that open sessions one after the other, whatever happens.
pub(super) struct Crowd {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Tally>,
}

impl Crowd {
    /// From the network in which the calling thread is.
    pub(super) fn start(way: &Way, seed: u64) -> Self {
        let (stop, stopped) = oneshot::channel();
        let way = way.clone();
        let thread = std::thread::spawn(move || {
            block_on(async {
                let mut random = Random::new(seed);
                let mut talking = JoinSet::new();
                let mut tally = Tally::default();
                for _ in 0..CROWD {
                    talking.spawn(client(way.clone(), random.next()));
                }
                let all = async {
                    while let Some(session) = talking.join_next().await {
                        let session = session.expect("a session");
                        tally += session;
                        talking.spawn(client(way.clone(), random.next()));
                    }
                };
                tokio::select! {
                    () = all => {}
                    _ = stopped => {}
                }
                tally
            })
        });
        Self { stop, thread }
    }

    /// Those that are under way are left.
    pub(super) fn stop(self) -> Tally {
        // It ends only when it is asked to.
        let _ = self.stop.send(());
        self.thread.join().expect("no client fails by itself")
    }
}

async fn client(way: Way, seed: u64) -> Tally {
    let tally = one(&way, seed).await;
    if tally.failed > 0 {
        tokio::time::sleep(AGAIN).await;
    }
    tally
}
