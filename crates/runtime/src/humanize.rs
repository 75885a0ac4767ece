//! Numbers and times as people say them, for status lines.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::macros::format_description;

/// A number of things: `1 session`, `2 sessions`.
#[derive(Debug, Clone, Copy)]
pub struct Count(pub usize, pub &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, thing) = self;
        let plural = if *count == 1 { "" } else { "s" };
        write!(f, "{count} {thing}{plural}")
    }
}

/// A time as people say it, in its largest unit, rounded up.
#[derive(Debug, Clone, Copy)]
pub struct RoundedUp(pub Duration);

impl fmt::Display for RoundedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        match seconds {
            0..=119 => write!(f, "{seconds} s"),
            120..=7199 => write!(f, "{} min", seconds.div_ceil(60)),
            7200.. => write!(f, "{} h", seconds.div_ceil(3600)),
        }
    }
}

/// A time as people say it, in its largest unit, to the nearest.
#[derive(Debug, Clone, Copy)]
pub struct Rounded(pub Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self
            .0
            .as_secs()
            .saturating_add(u64::from(self.0.subsec_millis() >= 500));
        let in_units = |unit: u64| seconds.saturating_add(unit / 2) / unit;
        match seconds {
            0..=119 => write!(f, "{seconds} s"),
            120..=7199 => write!(f, "{} min", in_units(60)),
            7200..=172_799 => write!(f, "{} h", in_units(3600)),
            172_800.. => write!(f, "{} days", in_units(86_400)),
        }
    }
}

/// A time of day, to the second: `2026-11-24 10:00:00 UTC`.
#[derive(Debug, Clone, Copy)]
pub struct Utc(pub SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
        let seconds = self
            .0
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let text = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .and_then(|time| time.format(form).ok());
        // A certificate may be good for longer than there are years with four digits.
        f.write_str(text.as_deref().unwrap_or("the end of time"))
    }
}

/// When something was last seen: `last seen 16:54 UTC`, with the date unless that was within a day.
#[derive(Debug, Clone, Copy)]
pub struct LastSeen {
    /// When; `None` if it never was.
    pub at: Option<SystemTime>,
    /// The time now.
    pub now: SystemTime,
}

impl fmt::Display for LastSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: Duration = Duration::from_secs(86_400);
        let Some(at) = self.at else {
            return f.write_str("never seen so far");
        };
        let text = Utc(at).to_string();
        let is_recent = self.now.duration_since(at).is_ok_and(|ago| ago < DAY);
        // `YYYY-MM-DD HH:MM:SS UTC`.
        match (text.get(..11), text.get(11..16)) {
            (Some(_), Some(time)) if is_recent => write!(f, "last seen {time} UTC"),
            (Some(date), Some(time)) => write!(f, "last seen {date}{time} UTC"),
            _ => write!(f, "last seen {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Count, LastSeen, Rounded, RoundedUp, Utc};

    #[test]
    fn last_seen_shows_date_after_a_day() {
        let at = UNIX_EPOCH + Duration::from_secs(1_795_514_459);
        for (at, later, told) in [
            (Some(at), 60, "last seen 10:00 UTC"),
            (Some(at), 86_400, "last seen 2026-11-24 10:00 UTC"),
            (None, 60, "never seen so far"),
        ] {
            let now = UNIX_EPOCH + Duration::from_secs(1_795_514_459 + later);
            assert_eq!(LastSeen { at, now }.to_string(), told);
        }
    }

    #[test]
    fn difference_is_rounded_to_nearest_unit() {
        for (millis, told) in [
            (31_400, "31 s"),
            (118_600, "119 s"),
            (840_400, "14 min"),
            (869_000, "14 min"),
            (871_000, "15 min"),
            (7_200_400, "2 h"),
            (172_800_400, "2 days"),
            (9 * 86_400_000, "9 days"),
        ] {
            let told_now = Rounded(Duration::from_millis(millis)).to_string();
            assert_eq!(told_now, told, "{millis} ms");
        }
    }

    #[test]
    fn time_of_day_is_in_utc() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_514_400_999);
        assert_eq!(Utc(time).to_string(), "2026-11-24 10:00:00 UTC");
        let ever = UNIX_EPOCH + Duration::from_secs(i64::MAX.unsigned_abs());
        assert_eq!(Utc(ever).to_string(), "the end of time");
        let early: SystemTime = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Utc(early).to_string(), "1970-01-01 00:00:00 UTC");
    }

    #[test]
    fn one_is_singular() {
        let told = [0, 1, 2].map(|count| Count(count, "client").to_string());
        assert_eq!(told, ["0 clients", "1 client", "2 clients"]);
    }

    #[test]
    fn time_is_shown_in_largest_unit() {
        for (millis, told) in [
            (0, "0 s"),
            (1, "1 s"),
            (119_000, "119 s"),
            (119_001, "2 min"),
            (3_600_000, "60 min"),
            (54_000_000, "15 h"),
            (53_999_000, "15 h"),
        ] {
            let told_now = RoundedUp(Duration::from_millis(millis)).to_string();
            assert_eq!(told_now, told, "{millis} ms");
        }
    }
}
