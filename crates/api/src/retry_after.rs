//! `Retry-After` (RFC 9110 §10.2.3): how long a server asks to wait. Pure.

use std::time::{Duration, SystemTime};

/// Longest wait that a server may ask for.
const LONGEST: Duration = Duration::from_secs(600);

/// The wait that `value` asks for at `now`, which is the server's time: a number of seconds, with a
/// fraction or not, or an HTTP date. `None` if it is neither. Never longer than ten minutes.
pub(super) fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Some(wait) = seconds(value) {
        return Some(wait.min(LONGEST));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(LONGEST))
}

/// A decimal number of seconds; `None` for anything else, such as a negative number.
fn seconds(value: &str) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    // Digits that do not fit are a very long time.
    let wait = Duration::from_secs(whole.parse().unwrap_or(u64::MAX));
    let has_fraction = fraction.bytes().any(|digit| digit != b'0');
    // A wait that is a little longer than asked for does no harm.
    Some(wait.saturating_add(Duration::from_secs(u64::from(has_fraction))))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::time::{Duration, SystemTime};

    #[test]
    fn every_form_of_a_wait_is_understood() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let date = |wait: i64| {
            let at = 1_790_000_000 + wait;
            let at = Duration::from_secs(u64::try_from(at).expect("after 1970"));
            httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + at)
        };
        for (value, seconds) in [
            ("3".to_owned(), Some(3)),
            (" 3 ".to_owned(), Some(3)),
            ("0".to_owned(), Some(0)),
            ("1.5".to_owned(), Some(2)),
            ("2.000".to_owned(), Some(2)),
            ("999999".to_owned(), Some(600)),
            ("99999999999999999999999999".to_owned(), Some(600)),
            (date(45), Some(45)),
            (date(-45), Some(0)),
            (date(86_400), Some(600)),
            ("-5".to_owned(), None),
            ("1e3".to_owned(), None),
            ("inf".to_owned(), None),
            (".5".to_owned(), None),
            (String::new(), None),
            ("soon".to_owned(), None),
        ] {
            assert_eq!(
                parse(&value, now),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }
}
