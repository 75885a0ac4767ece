//! The table that the bench prints: each figure beside its goal and beside the deployed programs'
//! figure.

use std::fmt::Write as _;

/// Where a figure should be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// One line. Anyone who has neither a goal nor a deployed figure is there for information.
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    /// `None`: nothing came within the deadline.
    value: Option<f64>,
    goal: Option<Goal>,
    deployed: Option<f64>,
}

impl Row {
    pub(crate) fn new(
        what: impl Into<String>,
        unit: &'static str,
        value: impl Into<Option<f64>>,
    ) -> Self {
        Self {
            what: what.into(),
            unit,
            value: value.into(),
            goal: None,
            deployed: None,
        }
    }

    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    pub(crate) fn deployed(mut self, figure: f64) -> Self {
        self.deployed = Some(figure);
        self
    }

    fn is_met(&self) -> Option<bool> {
        // The one who stalls has missed every goal, written or not.
        let Some(value) = self.value else {
            return Some(false);
        };
        Some(match self.goal? {
            Goal::AtMost(limit) => value <= limit,
            Goal::AtLeast(limit) => value >= limit,
        })
    }

    /// How many times as good as the deployed figure. Less is better where the goal is a maximum.
    fn ratio(&self) -> Option<f64> {
        let (value, deployed) = (self.value?, self.deployed?);
        Some(match self.goal? {
            Goal::AtMost(_) => deployed / value,
            Goal::AtLeast(_) => value / deployed,
        })
    }

    fn line(&self) -> String {
        let mut line = format!("  {:<42}", self.what);
        let (value, unit) = match self.value {
            Some(value) => (figure(value), self.unit),
            None => ("stalled".to_owned(), ""),
        };
        let goal = match self.goal {
            Some(Goal::AtMost(limit)) => format!("<= {}", figure(limit)),
            Some(Goal::AtLeast(limit)) => format!(">= {}", figure(limit)),
            None => String::new(),
        };
        let deployed = self.deployed.map(figure).unwrap_or_default();
        let ratio = self.ratio().map(times).unwrap_or_default();
        let verdict = match self.is_met() {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        let _ = write!(
            line,
            "{value:>9} {unit:<9}{goal:>9}{deployed:>10}{ratio:>9}  {verdict}"
        );
        line.trim_end().to_owned()
    }
}

/// Prints rows as they come, and counts the goals.
#[derive(Default)]
pub(crate) struct Report {
    met: usize,
    missed: usize,
}

impl Report {
    /// A group of rows.
    pub(crate) fn section(&self, title: &str) {
        println!(
            "\n{title:<44}{:>9} {:<9}{:>9}{:>10}{:>9}",
            "value", "", "goal", "deployed", "better"
        );
    }

    pub(crate) fn row(&mut self, row: &Row) {
        match row.is_met() {
            Some(true) => self.met += 1,
            Some(false) => self.missed += 1,
            None => {}
        }
        println!("{}", row.line());
    }

    /// A line that is no figure.
    pub(crate) fn note(&self, text: &str) {
        println!("  {text}");
    }

    /// What ended a group of rows early. Whatever goals it had were not met.
    pub(crate) fn failed(&mut self, error: &anyhow::Error) {
        self.missed += 1;
        self.note(&format!("FAILED: {error:#}"));
    }

    pub(crate) fn end(&self) {
        println!("\ngoals met: {}, missed: {}", self.met, self.missed);
    }
}

/// A figure with about three digits.
pub(crate) fn figure(value: f64) -> String {
    if value.abs() < 10.0 {
        format!("{value:.2}")
    } else if value.abs() < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A ratio.
pub(crate) fn times(ratio: f64) -> String {
    if ratio.is_finite() {
        format!("{} x", figure(ratio))
    } else {
        "-".to_owned()
    }
}

/// The median; `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The value that a share of all values does not exceed; `None` without values.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index between 0 and the last one"
    )]
    let at = (to_f64(last as u64) * share).round() as usize;
    values.get(at.min(last)).copied()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn to_f64(n: u64) -> f64 {
    n as f64
}
