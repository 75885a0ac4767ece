//! The checks as a person reads them.

use std::fmt::Write as _;

use super::super::print::filled;
use super::super::status::Colours;
use super::layer::{Check, Outcome, shown};

/// Width of the column of outcomes.
const OUTCOMES: usize = 11;
/// Width of the column of layers.
const LAYERS: usize = 23;

/// A line for each check, then the cause of the first failure and what to change.
pub(super) fn render(checks: &[Check], colours: Colours, width: usize) -> String {
    let mut text = String::new();
    for check in checks {
        let (word, colour, detail) = match &check.outcome {
            Outcome::Good(detail) => ("ok", "32", detail),
            Outcome::Failed(fault) => ("failed", "31", &fault.detail),
            Outcome::Skipped { because, .. } => ("not checked", "33", because),
        };
        let word = colours.paint(colour, &format!("{word:OUTCOMES$}"));
        let first = detail.lines().next().unwrap_or_default();
        let (title, detail) = (check.layer.title, shown(first));
        let head = format!("{word}  {title:LAYERS$}  ");
        text.push_str(&filled(&head, &detail, width));
        text.push('\n');
    }
    match super::first_fault(checks) {
        None => text.push_str("\nNothing is wrong.\n"),
        Some(fault) => {
            let (cause, fix) = (shown(&fault.cause), shown(&fault.fix));
            let cause = filled("Cause:  ", &cause, width);
            let fix = filled("Change: ", &fix, width);
            // Writing to a string does not fail.
            let _ = write!(text, "\n{cause}\n{fix}\n");
        }
    }
    text
}
