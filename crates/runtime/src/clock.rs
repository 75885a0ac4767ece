//! What time it is according to the platform: by its clock certificates are issued, and by no other
//! can they be judged.
//!
//! Each answer of the platform says when it was sent. From then on the time is counted on the clock
//! that no one sets and that goes on while the machine sleeps (CLOCK_BOOTTIME). Where this
//! machine's own time agrees, it is used; where it does not, because it is wrong or was set
//! meanwhile, the platform's counts. A machine that is certainly behind does not agree, by however
//! little: certificates are valid from the second in which they are issued, and used in the next
//! one.
//!
//! The platform may be believed in this: anyone who can issue certificates gains nothing by lying
//! about the time, and its answer came over TLS. That connection's certificate is judged by the
//! machine's own time, which is why a clock that is wrong by years still has to be set by someone.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::humanize::Rounded;
use crate::{event, events};

/// What the two clocks may differ by. Answers tell the time in whole seconds, travel for a while,
/// and machines that are set by the network are right within a second or two.
const AGREES: Duration = Duration::from_secs(30);
/// A disagreement that was told is over when this little is left, so that one at the limit is not
/// told repeatedly.
const AGREES_AGAIN: Duration = Duration::from_secs(20);
/// An answer that took longer says too little about when it was sent.
const LONGEST_TRIP: Duration = Duration::from_secs(20);
/// What the date of an answer leaves out, at most.
const CUT: Duration = Duration::from_millis(999);
/// Answers from before 2020 or after 2100 are someone else's mistake, in seconds since 1970.
const SENSIBLE: std::ops::Range<u64> = 1_577_836_800..4_102_444_800;

/// The time. Cheap to clone; clones know the same.
#[derive(Clone)]
pub struct Clock {
    shared: Arc<Shared>,
}

struct Shared {
    read: Box<dyn Fn() -> Reading + Send + Sync>,
    judgement: Mutex<Judgement>,
}

/// What this machine's clocks show at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The time of day, which anyone with the right may set.
    pub system: SystemTime,
    /// The time since the machine started, sleep included; `None` if the kernel does not say.
    pub since_boot: Option<Duration>,
}

impl Reading {
    /// Now.
    #[must_use]
    pub(crate) fn take() -> Self {
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).ok();
        Self {
            system: SystemTime::now(),
            since_boot: since_boot.map(Duration::from),
        }
    }
}

#[derive(Debug, Default)]
struct Judgement {
    anchor: Option<Anchor>,
    /// The disagreement that was logged last.
    logged: Option<Skew>,
}

/// One moment on two clocks.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    since_boot: Duration,
    /// The platform's time as far as it can be told; rather too late than too early.
    platform: SystemTime,
    /// By how much it may be too late.
    vague: Duration,
}

/// When a question to the platform was asked, for [`Clock::observe`].
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Counted while the machine sleeps: an answer that was read after a sleep is not a fresh one.
    since_boot: Option<Duration>,
}

/// By how much this machine's clock is wrong. `Display` is a sentence's part: `this clock is 14 min
/// behind the platform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// Whether it shows a later time than the platform's.
    pub ahead: bool,
    /// The difference.
    pub by: Duration,
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.ahead { "ahead of" } else { "behind" };
        write!(f, "this clock is {} {side} the platform", Rounded(self.by))
    }
}

impl Skew {
    fn between(system: SystemTime, platform: SystemTime) -> Self {
        match system.duration_since(platform) {
            Ok(by) => Self { ahead: true, by },
            Err(error) => Self {
                ahead: false,
                by: error.duration(),
            },
        }
    }

    /// How much has changed since `before`.
    fn change(self, before: Self) -> Duration {
        if self.ahead == before.ahead {
            self.by.abs_diff(before.by)
        } else {
            self.by.saturating_add(before.by)
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// This machine's clock, of which nothing else is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Reading::take)
    }

    /// A clock that reads the machine's as told, for tests.
    pub fn of(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                read: Box::new(read),
                judgement: Mutex::default(),
            }),
        }
    }

    /// A clock that shows what `time` says and takes no correction, for tests.
    pub fn showing(time: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self::of(move || Reading {
            system: time(),
            since_boot: None,
        })
    }

    /// A question to the platform is about to be sent.
    #[must_use]
    pub fn ask(&self) -> Asked {
        let since_boot = (self.shared.read)().since_boot;
        Asked { since_boot }
    }

    /// The platform has just answered what was `asked`, and dated its answer `date`. The connection
    /// may have been made in between.
    pub fn observe(&self, date: SystemTime, asked: Asked) {
        let Reading { system, since_boot } = (self.shared.read)();
        let seconds = date
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let (Some(since_boot), Some(begin)) = (since_boot, asked.since_boot) else {
            return;
        };
        let round_trip = since_boot.saturating_sub(begin);
        if !SENSIBLE.contains(&seconds) || round_trip > LONGEST_TRIP {
            return;
        }
        // Written at some time of the round trip, and cut to the second.
        let vague = round_trip / 2 + CUT;
        let platform = date + vague;
        let skew = Skew::between(system, platform);
        let mut judgement = self.judgement();
        judgement.anchor = Some(Anchor {
            since_boot,
            platform,
            vague,
        });
        let news = match judgement.logged {
            None => skew.by > AGREES,
            Some(told) => skew.change(told) > AGREES || skew.by <= AGREES_AGAIN,
        };
        if !news {
            return;
        }
        let is_wrong = skew.by > AGREES;
        judgement.logged = is_wrong.then_some(skew);
        drop(judgement);
        if is_wrong {
            event!(events::CLOCK_SKEWED, skew = %skew);
        } else {
            event!(events::CLOCK_AGREES);
        }
    }

    /// The time by which to judge certificates: this machine's where it agrees with the platform's,
    /// or nothing is judgement of that one, and else the platform's.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        let reading = (self.shared.read)();
        let Some((platform, vague)) = self.platform(reading) else {
            return reading.system;
        };
        let skew = Skew::between(reading.system, platform);
        let is_certainly_behind = !skew.ahead && skew.by > vague;
        if is_certainly_behind || skew.by > AGREES {
            platform
        } else {
            reading.system
        }
    }

    /// By how much this machine's clock is wrong; `None` if it is not, or if no one knows.
    #[must_use]
    pub fn skew(&self) -> Option<Skew> {
        let reading = (self.shared.read)();
        let (platform, _) = self.platform(reading)?;
        let skew = Skew::between(reading.system, platform);
        (skew.by > AGREES).then_some(skew)
    }

    /// The platform's time, counted on from its last answer, and by how much it may be too late.
    fn platform(&self, reading: Reading) -> Option<(SystemTime, Duration)> {
        let anchor = self.judgement().anchor?;
        let elapsed = reading.since_boot?.saturating_sub(anchor.since_boot);
        Some((anchor.platform.checked_add(elapsed)?, anchor.vague))
    }

    fn judgement(&self) -> MutexGuard<'_, Judgement> {
        let judgement = self.shared.judgement.lock();
        judgement.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&*self.judgement()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Reading, Skew};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    const NOON: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A machine whose clocks a test sets: (time of day, time since boot), in seconds.
    fn machine(system: u64, boot: u64) -> (Clock, Arc<Mutex<(u64, u64)>>) {
        let hands = Arc::new(Mutex::new((system, boot)));
        let read = Arc::clone(&hands);
        let clock = Clock::of(move || {
            let (system, boot) = *read.lock().expect("no panic");
            Reading {
                system: at(system),
                since_boot: Some(Duration::from_secs(boot)),
            }
        });
        (clock, hands)
    }

    fn answered(clock: &Clock, date: u64) {
        clock.observe(at(date), clock.ask());
    }

    /// Almost a second is added for what the date leaves out.
    fn seconds(time: SystemTime) -> u64 {
        time.duration_since(UNIX_EPOCH).expect("later").as_secs()
    }

    #[test]
    fn without_reference_machine_time_is_used() {
        let (clock, _) = machine(NOON, 100);
        assert_eq!(clock.now(), at(NOON));
        assert_eq!(clock.skew(), None);
    }

    #[test]
    fn agreeing_machine_keeps_its_own_time() {
        for off in [0, 29] {
            let (clock, _) = machine(NOON, 100);
            answered(&clock, NOON - off);
            assert_eq!(clock.now(), at(NOON), "{off} s");
            assert_eq!(clock.skew(), None);
        }
    }

    #[test]
    fn wrong_clock_is_corrected_by_its_skew() {
        let (clock, hands) = machine(NOON - 14 * 60, 100);
        answered(&clock, NOON);
        assert_eq!(seconds(clock.now()), NOON);
        let told = clock.skew().expect("a skew").to_string();
        assert_eq!(told, "this clock is 14 min behind the platform");
        *hands.lock().expect("no panic") = (NOON - 14 * 60 + 50, 150);
        assert_eq!(seconds(clock.now()), NOON + 50);
    }

    #[test]
    fn clock_jump_and_return_change_nothing() {
        for hour in [HOUR, 48 * HOUR] {
            for system in [NOON + hour, NOON - hour] {
                let (clock, hands) = machine(NOON, 100);
                answered(&clock, NOON);
                *hands.lock().expect("no panic") = (system + 60, 160);
                assert_eq!(seconds(clock.now()), NOON + 60);
                assert!(clock.skew().is_some());
                *hands.lock().expect("no panic") = (NOON + 120, 220);
                assert_eq!(clock.now(), at(NOON + 120));
                assert_eq!(clock.skew(), None);
            }
        }
    }

    #[test]
    fn clock_lost_in_sleep_is_noticed() {
        let (clock, hands) = machine(NOON, 100);
        answered(&clock, NOON);
        // The time of day stood still, the time since boot did not.
        *hands.lock().expect("no panic") = (NOON + 5, 100 + 9 * HOUR);
        assert_eq!(seconds(clock.now()), NOON + 9 * HOUR);
    }

    #[test]
    fn nonsense_is_no_observation() {
        for date in [0, 1_577_836_799, 4_102_444_800] {
            let (clock, _) = machine(NOON, 100);
            answered(&clock, date);
            assert_eq!(clock.now(), at(NOON), "{date}");
        }
        let (clock, hands) = machine(NOON, 100);
        let asked = clock.ask();
        // It took too long, or was read after a sleep.
        *hands.lock().expect("no panic") = (NOON + 21, 121);
        clock.observe(at(NOON - HOUR), asked);
        assert_eq!(clock.now(), at(NOON + 21), "an old answer");
        let clock = Clock::showing(|| at(NOON));
        answered(&clock, NOON - HOUR);
        assert_eq!(clock.now(), at(NOON), "nothing to count on");
    }

    #[test]
    fn answer_is_dated_at_half_its_way() {
        let (clock, hands) = machine(NOON - HOUR, 100);
        let asked = clock.ask();
        *hands.lock().expect("no panic") = (NOON - HOUR + 10, 110);
        clock.observe(at(NOON), asked);
        assert_eq!(seconds(clock.now()), NOON + 5);
    }

    #[test]
    fn small_lag_accepts_new_certificates() {
        for behind in [2, 10, 29] {
            let (clock, hands) = machine(NOON - behind, 100);
            answered(&clock, NOON);
            // Issued in the second of the answer or later, and shown at once.
            for later in [0, 1, 600] {
                *hands.lock().expect("no panic") = (NOON - behind + later, 100 + later);
                assert!(clock.now() >= at(NOON + later), "{behind} s behind");
            }
            assert_eq!(clock.skew(), None, "not worth telling");
        }
    }

    #[test]
    fn clones_know_the_same() {
        let (clock, _) = machine(NOON - HOUR, 100);
        let clone = clock.clone();
        answered(&clock, NOON);
        assert_eq!(seconds(clone.now()), NOON);
    }

    #[test]
    fn skew_is_logged_on_change() {
        let (clock, hands) = machine(NOON, 100);
        let told = || clock.judgement().logged;
        answered(&clock, NOON - 29);
        assert_eq!(told(), None, "within the limit");
        answered(&clock, NOON - HOUR);
        let first = told().expect("it began");
        assert!(first.ahead);
        answered(&clock, NOON - HOUR - 25);
        assert_eq!(told(), Some(first), "a small change");
        answered(&clock, NOON + HOUR);
        let second = told().expect("it changed");
        assert!(!second.ahead);
        hands.lock().expect("no panic").0 = NOON + HOUR;
        answered(&clock, NOON + HOUR);
        assert_eq!(told(), None, "it ended");
    }

    #[test]
    fn skew_at_the_limit_is_logged_once() {
        let (clock, _) = machine(NOON, 100);
        answered(&clock, NOON - 32);
        assert!(clock.judgement().logged.is_some());
        answered(&clock, NOON - 28);
        assert!(clock.judgement().logged.is_some(), "about the same");
        answered(&clock, NOON - 10);
        assert!(clock.judgement().logged.is_none());
    }

    #[test]
    fn skew_is_part_of_a_sentence() {
        let days = Skew {
            ahead: true,
            by: Duration::from_secs(48 * HOUR),
        };
        assert_eq!(
            days.to_string(),
            "this clock is 2 days ahead of the platform"
        );
    }

    #[test]
    fn the_time_since_boot_is_known_here() {
        let reading = Reading::take();
        assert!(reading.since_boot.expect("Linux has it") > Duration::ZERO);
    }
}
