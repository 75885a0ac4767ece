//! What several pages show in the same way: states, times, tables, buttons.

use std::time::SystemTime;

use maud::{Markup, PreEscaped, Render, html};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::layout::form_token;
use super::visitor::Visitor;
use crate::api::types::Status;
use crate::humanize::{Rounded, Utc};
use crate::routes::rfc3339;

/// Icons, which stand beside words and never for them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Icon {
    Good,
    Bad,
    Waiting,
}

/// An icon that is drawn, and not read aloud.
pub(super) fn icon(icon: Icon) -> Markup {
    let drawing = match icon {
        Icon::Good => {
            "<circle cx='8' cy='8' r='7'/><path d='m4.800 8.300 2.200 2.200 4.200-4.600'/>"
        }
        Icon::Bad => {
            "<path d='M5.100 1h5.800L15 5.100v5.800L10.900 15H5.100L1 10.900V5.100Z'/><path d='m5.500 5.500 5 5m0-5-5 5'/>"
        }
        Icon::Waiting => "<circle cx='8' cy='8' r='7'/><path d='M8 4v4l2.500 1.800'/>",
    };
    html! {
        svg.icon viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" { (PreEscaped(drawing)) }
    }
}

/// How something is.
pub(super) fn state(status: Status) -> Markup {
    let (class, drawing, text) = match status {
        Status::Reachable => ("good", Icon::Good, "Reachable"),
        Status::Unreachable => ("bad", Icon::Bad, "Unreachable"),
        Status::NeverSeen => ("waiting", Icon::Waiting, "Never seen"),
    };
    html! { span.state.(class) { (icon(drawing)) (text) } }
}

/// What the script says aloud when something is like this from now on; empty for what it does not.
pub(super) const fn announced(status: Status) -> &'static str {
    match status {
        Status::Reachable => "reachable",
        Status::Unreachable => "unreachable",
        Status::NeverSeen => "never seen",
    }
}

/// A time, as long ago or ahead as it is from `now`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: SystemTime,
    pub(super) now: SystemTime,
}

impl Render for Moment {
    fn render(&self) -> Markup {
        let Self { at, now } = *self;
        html! {
            time datetime=(rfc3339(at)) title=(Utc(at)) {
                @match now.duration_since(at) {
                    Ok(ago) => { (Rounded(ago).to_string()) " ago" }
                    Err(ahead) => { "in " (Rounded(ahead.duration()).to_string()) }
                }
            }
        }
    }
}

/// A time as the API writes it.
pub(super) fn written_moment(text: &str, now: SystemTime) -> Markup {
    let at = OffsetDateTime::parse(text, &Rfc3339);
    moment(at.ok().map(SystemTime::from), now)
}

/// A time, if there is one.
pub(super) fn moment(at: Option<SystemTime>, now: SystemTime) -> Markup {
    match at {
        Some(at) => Moment { at, now }.render(),
        None => nothing(),
    }
}

/// When a certificate ends, if one was seen.
pub(super) fn expiry(at: Option<SystemTime>, now: SystemTime) -> Markup {
    match at {
        Some(at) if at <= now => html! { span.state.bad { (icon(Icon::Bad)) "Expired" } },
        Some(at) => html! { "ends " (Moment { at, now }) },
        None => nothing(),
    }
}

/// What stands in a cell without a value.
pub(super) fn nothing() -> Markup {
    html! { span.nothing { span aria-hidden="true" { "–" } span.unseen { "none" } } }
}

/// A text, if there is one.
pub(super) fn or_nothing(text: Option<&str>) -> Markup {
    text.map_or_else(nothing, |text| html! { (text) })
}

/// A table; what it shows is read aloud before it.
pub(super) fn table(
    shows: &str,
    columns: &[&str],
    rows: impl IntoIterator<Item = Markup>,
) -> Markup {
    html! {
        table role="table" {
            caption.unseen { (shows) }
            thead role="rowgroup" {
                tr role="row" {
                    @for column in columns {
                        th scope="col" role="columnheader" { (column) }
                    }
                }
            }
            tbody role="rowgroup" {
                @for row in rows { (row) }
            }
        }
    }
}

/// A cell of a table; where there is little room its column's name stands beside it.
pub(super) fn cell(column: &str, content: &Markup) -> Markup {
    html! { td role="cell" data-column=(column) { (content) } }
}

/// The cell that names its row.
pub(super) fn name_cell(content: &Markup) -> Markup {
    html! { th scope="row" role="rowheader" { (content) } }
}

/// Why something was not done.
pub(super) fn refusal(text: &str) -> Markup {
    html! { p.notice.refusal role="alert" { (icon(Icon::Bad)) span { (text) } } }
}

/// A text to be taken along, with a button where the script can copy it.
pub(super) fn copyable(text: &str) -> Markup {
    html! {
        div.copyable {
            pre tabindex="0" { code { (text) } }
            button.quiet type="button" data-copy hidden { "Copy" }
        }
    }
}

/// Removes something after a second click: what it is, where, and the field that names it.
#[derive(Debug)]
pub(super) struct Removal<'a> {
    pub(super) visitor: &'a Visitor,
    /// The button: `Remove`.
    pub(super) verb: &'a str,
    /// What the button is for, which is read aloud: `gateway office`.
    pub(super) what: &'a str,
    /// What happens then.
    pub(super) warning: &'a str,
    pub(super) action: &'a str,
    pub(super) fields: &'a [(&'a str, &'a str)],
}

impl Render for Removal<'_> {
    fn render(&self) -> Markup {
        html! {
            details.removal data-keep={ (self.verb) " " (self.what) } {
                summary { (self.verb) span.unseen { " " (self.what) } }
                form method="post" action=(self.action) {
                    (form_token(self.visitor))
                    @for (name, value) in self.fields {
                        input type="hidden" name=(name) value=(value);
                    }
                    p { (self.warning) }
                    button.danger { (self.verb) " " (self.what) }
                }
            }
        }
    }
}
