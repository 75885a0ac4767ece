//! Lines of text for people: a time, a level, the sentence, and its fields. The id of an event is
//! not for them.

use std::fmt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::format::{DefaultVisitor, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::sink::Sink;
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
        if field.name() != MESSAGE_ID {
            self.0.record_debug(field, value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != MESSAGE_ID {
            self.0.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.record_error(field, value);
    }
}
