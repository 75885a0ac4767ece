//! Lines of text for people: a time, a level, the sentence, and its fields. The id of an event is
//! not for them.
//!
//! A program can read the fields too: each is `name=value`, and a value that is not one plain word
//! is quoted, with `\"`, `\\` and control characters escaped.

use std::fmt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::format::{DefaultVisitor, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::sink::Sink;
use crate::error::chain;
use crate::host::journal::MESSAGE_ID;

/// A whole line.
#[derive(Debug)]
pub(super) struct Line(pub(super) Arc<Sink>);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let look = self.0.look();
        // With the module, for those who look for a defect.
        let format = Format::default().with_target(look.is_verbose);
        if self.0.is_file() || look.is_plain {
            // That standard error is a terminal with colours says nothing about the file: a new
            // writer has none.
            let plain = Writer::new(&mut writer);
            return format.format_event(context, plain, event);
        }
        format.format_event(context, writer, event)
    }
}

/// The sentence and the fields.
#[derive(Debug)]
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = WithoutId(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct WithoutId<'a>(DefaultVisitor<'a>);

impl Visit for WithoutId<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            MESSAGE_ID => {}
            // The sentence stands before the fields, as it is.
            "message" => self.0.record_debug(field, value),
            _ => {
                let text = quoted(format!("{value:?}"));
                self.0.record_debug(field, &format_args!("{text}"));
            }
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // The library quotes it.
        if field.name() != MESSAGE_ID {
            self.0.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{}", chain(value)));
    }
}

/// `text` as the value of a field: as it is if it is one plain word or quoted already.
fn quoted(text: String) -> String {
    let is_special = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\');
    if text.is_empty() || (text.contains(is_special) && !is_quoted(&text)) {
        format!("{text:?}")
    } else {
        text
    }
}

/// True for what `Debug` makes of a string.
fn is_quoted(text: &str) -> bool {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let Some(inner) = inner else {
        return false;
    };
    let mut is_escaped = false;
    for c in inner.chars() {
        if !is_escaped && (c == '"' || c.is_control()) {
            return false;
        }
        is_escaped = !is_escaped && c == '\\';
    }
    !is_escaped
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn values_that_are_not_words_are_quoted() {
        for (value, expected) in [
            ("eu-1", "eu-1"),
            ("127.0.0.1:22", "127.0.0.1:22"),
            ("3.5s", "3.5s"),
            ("", r#""""#),
            ("two words", r#""two words""#),
            ("a=b", r#""a=b""#),
            ("one\nand\ttwo", r#""one\nand\ttwo""#),
            ("\u{1b}[31m", r#""\u{1b}[31m""#),
            (r"back\slash", r#""back\\slash""#),
            (r#"a "b""#, r#""a \"b\"""#),
            // Debug of a string, and Display of two quoted words.
            (r#""a \"b\" \\""#, r#""a \"b\" \\""#),
            (r#""a" and "b""#, r#""\"a\" and \"b\"""#),
            (r#""a\""#, r#""\"a\\\"""#),
            (r#"["a", "b"]"#, r#""[\"a\", \"b\"]""#),
        ] {
            assert_eq!(quoted(value.to_owned()), expected, "{value}");
        }
    }
}
