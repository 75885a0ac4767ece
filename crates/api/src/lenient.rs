//! Reads fields of the platform's answers no more strictly than they are used.
//!
//! A required field may be a string or a number. An optional field that cannot be used is absent,
//! so that one odd value never makes a whole answer useless.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::secret::Secret;

/// A required value: a string or a number in text form.
pub(super) fn required<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    let value = Value::deserialize(deserializer)?;
    let text = text_of(&value).ok_or_else(|| D::Error::custom("neither a string nor a number"))?;
    text.trim().parse().map_err(D::Error::custom)
}

/// An optional value: `None` if it is null, empty, of another type or not valid.
pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    let value = Value::deserialize(deserializer)?;
    let text = text_of(&value).filter(|text| !text.trim().is_empty());
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

/// Text that is only shown: empty if it is null or of another type.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(text_of(&value).unwrap_or_default())
}

/// A number of seconds: 0 if it is null, negative or not a number.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(text_of(&value).map_or(0, |text| whole_seconds(text.trim())))
}

/// An access token: visible ASCII, as an `Authorization` header needs it.
pub(super) fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    let text = Secret::deserialize(deserializer)?;
    let trimmed = text.expose().trim();
    if trimmed.is_empty() || !trimmed.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(D::Error::custom("not an access token"));
    }
    Ok(Secret::new(trimmed))
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The whole part of a decimal number; a number that overflows is as large as can be.
fn whole_seconds(text: &str) -> u64 {
    let whole = text.split('.').next().unwrap_or_default();
    if !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return whole.parse().unwrap_or(u64::MAX);
    }
    // Large numbers arrive with an exponent.
    let number: f64 = text.parse().unwrap_or(0.0);
    if number >= 1e19 { u64::MAX } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::{optional, required, seconds, text, token};
    use crate::names::GatewayId;
    use crate::secret::Secret;
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[derive(Deserialize)]
    struct Row {
        #[serde(deserialize_with = "required")]
        id: GatewayId,
        #[serde(default, deserialize_with = "optional")]
        other: Option<GatewayId>,
        #[serde(default, deserialize_with = "text")]
        shown: String,
        #[serde(default, deserialize_with = "seconds")]
        life: u64,
    }

    fn row(value: Value) -> Result<Row, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn numbers_are_read_as_text() {
        let row = row(json!({"id": 7, "other": 8, "shown": 1.5, "life": "90"})).expect("usable");
        assert_eq!(row.id.as_str(), "7");
        assert_eq!(row.other.expect("usable").as_str(), "8");
        assert_eq!((row.shown.as_str(), row.life), ("1.5", 90));
    }

    #[test]
    fn unusable_optional_fields_are_absent() {
        for odd in [
            json!(null),
            json!(""),
            json!([1]),
            json!({"a": 1}),
            json!("a b"),
        ] {
            let row = row(json!({"id": "g", "other": odd, "shown": null, "life": null}));
            let row = row.expect("usable");
            assert_eq!(
                (row.other, row.shown.as_str(), row.life),
                (None, "", 0),
                "{odd}"
            );
        }
        assert!(row(json!({"id": null})).is_err());
        assert!(row(json!({"other": "g"})).is_err());
    }

    #[test]
    fn seconds_may_be_any_number() {
        for (value, expected) in [
            (json!(7200), 7200),
            (json!(7200.9), 7200),
            (json!("7200"), 7200),
            (json!(-5), 0),
            (json!("soon"), 0),
            (json!(1e30), u64::MAX),
            (json!("99999999999999999999999"), u64::MAX),
        ] {
            assert_eq!(
                row(json!({"id": "g", "life": value})).expect("usable").life,
                expected
            );
        }
    }

    #[test]
    fn access_tokens_fit_into_a_header() {
        #[derive(Deserialize)]
        struct Login(#[serde(deserialize_with = "token")] Secret);
        let read = |text: &str| serde_json::from_value::<Login>(json!(text)).ok();
        assert_eq!(read("abc\n").expect("a token").0, Secret::new("abc"));
        for bad in ["", " ", "a b", "a\u{7}b", "\u{e9}"] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
    }
}
