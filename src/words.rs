//! Numbers and times as people say them, for status lines.

use std::fmt;
use std::time::Duration;

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
pub struct Roughly(pub Duration);

impl fmt::Display for Roughly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        match seconds {
            0..=119 => write!(f, "{seconds} s"),
            120..=7199 => write!(f, "{} min", seconds.div_ceil(60)),
            7200.. => write!(f, "{} h", seconds.div_ceil(3600)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Count, Roughly};

    #[test]
    fn one_is_singular() {
        let told = [0, 1, 2].map(|count| Count(count, "client").to_string());
        assert_eq!(told, ["0 clients", "1 client", "2 clients"]);
    }

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        for (millis, told) in [
            (0, "0 s"),
            (1, "1 s"),
            (119_000, "119 s"),
            (119_001, "2 min"),
            (3_600_000, "60 min"),
            (54_000_000, "15 h"),
            (53_999_000, "15 h"),
        ] {
            let told_now = Roughly(Duration::from_millis(millis)).to_string();
            assert_eq!(told_now, told, "{millis} ms");
        }
    }
}
