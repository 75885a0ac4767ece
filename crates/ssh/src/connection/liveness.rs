//! Global requests of ours (RFC 4254 §4): keepalives, pings and the measuring of round trips are
//! all the same request, and any answer will do: a refusal proves a living peer as well
//! (protocol.md §3). Answers come in the order of the requests, those to `reclaim`'s included.
//! Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::channel::ChannelId;
use super::round_trip::PathRoundTrip;
use crate::Keepalive;

/// Requests that wait for an answer; beyond it nothing is asked.
const MAX_PENDING: usize = 64;
/// Least time between the beginnings of two measurements of the round trip. Not after the end of
/// one: on a long path all data of a round trip come in one burst, which begins just when the
/// answer has come.
const MEASURING_PAUSE: Duration = Duration::from_millis(5);
/// A measurement that is not answered after so long is given up.
const MEASURING_PATIENCE: Duration = Duration::from_secs(30);

/// Why a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Nothing was heard for a while.
    Keepalive,
    /// Someone wants to know whether the peer is alive.
    Ping(u64),
    /// How long does it take?
    Measure,
    /// An idle channel's credit is asked back, with the number of this request.
    Reclaim(ChannelId, u64),
}

/// What an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub purpose: Purpose,
    pub round_trip: Duration,
    /// What the path alone takes of it.
    pub path: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Liveness {
    keepalive: Keepalive,
    /// When the peer was last heard.
    heard: Instant,
    /// Keepalives since then.
    unanswered: u32,
    pending: VecDeque<(Purpose, Instant)>,
    /// When the last measurement began.
    measured: Option<Instant>,
    is_measuring: bool,
    path: PathRoundTrip,
}

impl Liveness {
    pub(super) fn new(keepalive: Keepalive, now: Instant) -> Self {
        Self {
            keepalive,
            heard: now,
            unanswered: 0,
            pending: VecDeque::new(),
            measured: None,
            is_measuring: false,
            path: PathRoundTrip::new(now),
        }
    }

    /// Something came from the peer.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.unanswered = 0;
    }

    /// The end of the silence that is tolerated next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let silences = self.unanswered.saturating_add(1);
        self.heard
            .checked_add(self.keepalive.interval.saturating_mul(silences))
    }

    /// True if the peer has been silent for so long that it must be dead; a keepalive for each
    /// silent interval before. While keys are exchanged nothing can be asked, but then the exchange
    /// itself wants an answer.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Silence {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return Silence::Tolerable;
        }
        if self.unanswered >= self.keepalive.unanswered {
            return Silence::Dead;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        Silence::Ask
    }

    /// A request is sent; false if too many wait already.
    pub(super) fn ask(&mut self, purpose: Purpose, now: Instant) -> bool {
        if self.pending.len() >= MAX_PENDING {
            return false;
        }
        self.pending.push_back((purpose, now));
        true
    }

    /// True if a measurement may begin.
    pub(super) fn may_measure(&self, now: Instant) -> bool {
        let least = if self.is_measuring {
            MEASURING_PATIENCE
        } else {
            MEASURING_PAUSE
        };
        self.pending.len() < MAX_PENDING
            && self
                .measured
                .is_none_or(|at| now.saturating_duration_since(at) >= least)
    }

    /// A measurement begins.
    pub(super) fn measure(&mut self, now: Instant) {
        self.is_measuring = self.ask(Purpose::Measure, now);
        self.measured = Some(now);
    }

    /// What the path alone takes; `None` before a round trip was measured.
    pub(super) fn path(&self) -> Option<Duration> {
        self.path.get()
    }

    /// An answer has come, to the oldest request, and `bytes` of data in the last round. `None` if
    /// there is no request.
    pub(super) fn answered(&mut self, bytes: u64, now: Instant) -> Option<Answer> {
        let (purpose, asked) = self.pending.pop_front()?;
        let round_trip = now.saturating_duration_since(asked);
        if purpose == Purpose::Measure {
            self.is_measuring = false;
        }
        Some(Answer {
            purpose,
            round_trip,
            path: self.path.measured(round_trip, bytes, now),
        })
    }
}

/// What is to be done about a silent peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing.
    Tolerable,
    /// Ask whether it is alive.
    Ask,
    /// Give it up.
    Dead,
}

#[cfg(test)]
mod tests {
    use super::{Answer, Liveness, MAX_PENDING, Purpose, Silence};
    use crate::Keepalive;
    use std::time::{Duration, Instant};

    const INTERVAL: Duration = Keepalive::DEFAULT.interval;

    #[test]
    fn silent_peer_times_out_within_28_seconds() {
        let begin = Instant::now();
        let mut liveness = Liveness::new(Keepalive::DEFAULT, begin);
        let mut now = begin;
        for expected in [Silence::Ask, Silence::Ask, Silence::Dead] {
            let next = liveness.poll_timeout().expect("a time");
            assert_eq!(
                liveness.handle_timeout(next - Duration::from_nanos(1)),
                Silence::Tolerable
            );
            now = next;
            assert_eq!(liveness.handle_timeout(now), expected);
        }
        assert_eq!(now - begin, INTERVAL * 3);
        assert!(now - begin <= crate::socket::USER_TIMEOUT);
    }

    #[test]
    fn whatever_comes_begins_the_silence_again() {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(Keepalive::DEFAULT, now);
        for _ in 0..10 {
            now += INTERVAL;
            assert_eq!(liveness.handle_timeout(now), Silence::Ask);
            now += INTERVAL / 2;
            liveness.heard(now);
            assert_eq!(liveness.poll_timeout(), Some(now + INTERVAL));
        }
    }

    #[test]
    fn answers_belong_to_the_oldest_request() {
        let begin = Instant::now();
        let mut liveness = Liveness::new(Keepalive::DEFAULT, begin);
        let ms = Duration::from_millis;
        assert!(liveness.answered(0, begin).is_none());
        assert!(liveness.ask(Purpose::Ping(1), begin));
        liveness.measure(begin + ms(2));
        assert!(!liveness.may_measure(begin + ms(100)));
        assert!(liveness.may_measure(begin + ms(2) + super::MEASURING_PATIENCE));
        let answer = |purpose, round_trip, path| {
            Some(Answer {
                purpose,
                round_trip: ms(round_trip),
                path: ms(path),
            })
        };
        assert_eq!(
            liveness.answered(0, begin + ms(3)),
            answer(Purpose::Ping(1), 3, 3)
        );
        assert_eq!(
            liveness.answered(0, begin + ms(12)),
            answer(Purpose::Measure, 10, 3)
        );
        assert!(liveness.may_measure(begin + ms(12)));
        liveness.measure(begin + ms(20));
        liveness.answered(0, begin + ms(23));
        assert!(!liveness.may_measure(begin + ms(24)));
        assert!(liveness.may_measure(begin + ms(25)));
    }

    #[test]
    fn silent_peer_is_not_asked_forever() {
        let now = Instant::now();
        let mut liveness = Liveness::new(Keepalive::DEFAULT, now);
        let asked = (0..1000).filter(|n| liveness.ask(Purpose::Ping(*n), now));
        assert_eq!(asked.count(), MAX_PENDING);
    }
}
