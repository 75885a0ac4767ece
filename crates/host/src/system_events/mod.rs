//! What happens to this machine that a tunnel should not have to find out by itself: its network
//! changed, it slept, its clock was set. Each is a reason to look, and proves nothing: a tunnel may
//! have survived it.
//!
//! The kernel reports changes of the network on a netlink socket, to anyone who asks and without
//! any right (`network`). Where a sandbox does not let it be asked, the way out of this machine is
//! looked up every second (`ways`), which sees less: that it came, went, or begins at another
//! address. Sleep and new times of day are seen by comparing clocks (`clocks`).

mod clocks;
mod default_route;
mod network;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::humanize::Rounded;
use clocks::{Clocks, Reading};
use default_route::DefaultRoute;
use network::Network;

/// How often clocks are compared.
const COMPARE: Duration = Duration::from_secs(5);
/// Changes of a network come in bursts: one that ended has been quiet for so long,
const QUIET: Duration = Duration::from_millis(250);
/// and one that does not end is reported after so long.
const BURST: Duration = Duration::from_secs(2);

/// Something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemEvent {
    /// An address, a route or a link came, went, or changed.
    Network,
    /// The machine slept for so long.
    Resumed(Duration),
    /// The time of day was set.
    ClockSet {
        /// Forwards.
        ahead: bool,
        /// By so much.
        by: Duration,
    },
}

impl fmt::Display for SystemEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("the network changed"),
            Self::Resumed(slept) => write!(f, "the machine slept for {}", Rounded(*slept)),
            Self::ClockSet { ahead, by } => {
                let way = if *ahead { "forward" } else { "back" };
                write!(f, "the clock was set {way} by {}", Rounded(*by))
            }
        }
    }
}

/// Notices system events while someone waits for the next one, and later those that happened
/// meanwhile, as one.
#[derive(Debug)]
pub struct Watcher {
    network: Sight,
    /// The first and the latest change that have not been told.
    burst: Option<(Instant, Instant)>,
    clocks: Clocks,
    compare_at: Instant,
    untold: VecDeque<SystemEvent>,
}

/// How changes of the network are seen.
#[derive(Debug)]
enum Sight {
    /// The kernel reports them.
    Reported(Network),
    /// It does not, and someone looks.
    LookedUp(DefaultRoute),
    /// They do not matter.
    None,
}

impl Sight {
    /// Waits for a change; forever where none matters. Cancel-safe.
    async fn changed(&mut self) {
        loop {
            match self {
                Self::Reported(network) => match network.changed().await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::debug!(%error, "the kernel reports no more changes of the network");
                        *self = Self::LookedUp(DefaultRoute::now());
                    }
                },
                Self::LookedUp(ways) => return ways.changed().await,
                Self::None => return std::future::pending().await,
            }
        }
    }
}

impl Watcher {
    /// Begins to watch. Within a runtime.
    #[must_use]
    pub fn new() -> Self {
        let network = Network::listen().inspect_err(|error| {
            tracing::debug!(%error, "the kernel does not report changes of the network");
        });
        let looked_up = |_| Sight::LookedUp(DefaultRoute::now());
        Self {
            network: network.map_or_else(looked_up, Sight::Reported),
            ..Self::of_clocks()
        }
    }

    /// Begins to watch the clocks alone, for whom the network does not concern.
    #[must_use]
    pub fn of_clocks() -> Self {
        Self {
            network: Sight::None,
            burst: None,
            clocks: Clocks::new(Reading::take()),
            compare_at: Instant::now() + COMPARE,
            untold: VecDeque::new(),
        }
    }

    /// The next system_event. Cancel-safe: what was noticed is kept.
    pub async fn next(&mut self) -> SystemEvent {
        loop {
            if let Some(system_event) = self.untold.pop_front() {
                return system_event;
            }
            let tell_at = self
                .burst
                .map(|(first, latest)| (latest + QUIET).min(first + BURST));
            tokio::select! {
                // A burst that does not end must not be all that is seen.
                biased;
                () = at(tell_at) => {
                    self.burst = None;
                    return SystemEvent::Network;
                }
                () = tokio::time::sleep_until(self.compare_at) => {
                    self.compare_at = Instant::now() + COMPARE;
                    // Two at most, each time after the last ones have been taken.
                    self.untold.extend(self.clocks.compare(Reading::take()));
                }
                () = self.network.changed() => {
                    let now = Instant::now();
                    self.burst = Some((self.burst.map_or(now, |(first, _)| first), now));
                }
            }
        }
    }
}

impl Default for Watcher {
    fn default() -> Self {
        Self::new()
    }
}

/// Never, if there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::{BURST, QUIET, SystemEvent, Watcher};
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn burst_is_one_event_after_quiet() {
        let begin = Instant::now();
        let mut watcher = Watcher::of_clocks();
        watcher.burst = Some((begin, begin + Duration::from_millis(100)));
        assert_eq!(watcher.next().await, SystemEvent::Network);
        assert_eq!(begin.elapsed(), QUIET + Duration::from_millis(100));
        assert!(watcher.burst.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn endless_burst_is_reported_anyway() {
        let begin = Instant::now();
        let mut watcher = Watcher::of_clocks();
        watcher.burst = Some((begin, begin + BURST));
        assert_eq!(watcher.next().await, SystemEvent::Network);
        assert_eq!(begin.elapsed(), BURST);
    }

    #[tokio::test(start_paused = true)]
    async fn event_survives_a_cancelled_wait() {
        let mut watcher = Watcher::of_clocks();
        watcher.burst = Some((Instant::now(), Instant::now()));
        {
            let waiting = pin!(watcher.next());
            let mut context = Context::from_waker(Waker::noop());
            assert!(matches!(waiting.poll(&mut context), Poll::Pending));
        }
        assert_eq!(watcher.next().await, SystemEvent::Network);
    }

    #[tokio::test(start_paused = true)]
    async fn polling_finds_another_route_within_a_second() {
        let begin = Instant::now();
        let mut watcher = Watcher::of_clocks();
        watcher.network = super::Sight::LookedUp(super::DefaultRoute::nowhere());
        assert_eq!(watcher.next().await, SystemEvent::Network);
        assert!(begin.elapsed() <= Duration::from_secs(1) + QUIET);
    }

    #[test]
    fn system_event_is_part_of_a_sentence() {
        let told = SystemEvent::Resumed(Duration::from_secs(9 * 3600)).to_string();
        assert_eq!(told, "the machine slept for 9 h");
        let set = SystemEvent::ClockSet {
            ahead: false,
            by: Duration::from_secs(3600),
        };
        assert_eq!(set.to_string(), "the clock was set back by 60 min");
    }
}
