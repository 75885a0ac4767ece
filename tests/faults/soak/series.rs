//! The memory of one program over many restarts, sessions or faults, and whether it grows with
//! them.

use std::fmt::{self, Write as _};

use nix::unistd::Pid;

use crate::figures::Figures;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Gateway,
    Relay,
    Platform,
}

/// In the order in which they are reported.
pub(super) const PROGRAMS: [Program; 3] = [Program::Gateway, Program::Relay, Program::Platform];

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Relay => "relay",
            Self::Platform => "platform",
        }
    }
}

/// Growth in MiB, of all that is judged, that a few pages touched late explain.
const TOUCHED_LATE: f64 = 0.25;
/// Looks below which nothing is judged.
const FEW: usize = 30;

/// Looks at one program.
pub(super) struct Series {
    program: Program,
    /// What is counted.
    each: &'static str,
    /// Growth that is no leak worth the name, in MiB for a thousand.
    most: f64,
    /// The count, and the resident memory in MiB.
    looks: Vec<(f64, f64)>,
    /// What had happened before each.
    after: Vec<&'static str>,
}

impl Series {
    pub(super) fn new(program: Program, each: &'static str, most: f64) -> Self {
        Self {
            program,
            each,
            most,
            looks: Vec::new(),
            after: Vec::new(),
        }
    }

    /// A look after so many, the last of which was `after`.
    pub(super) fn take(&mut self, count: u64, after: &'static str, pid: Pid) {
        self.after.push(after);
        let memory = Figures::of(pid).memory as f64 / f64::from(1 << 20);
        self.looks.push((count as f64, memory));
    }

    /// Every look, a line each, for anyone who wants to draw them.
    pub(super) fn lines(&self) -> String {
        let mut lines = String::new();
        for ((count, memory), after) in self.looks.iter().zip(&self.after) {
            let _ = writeln!(
                lines,
                "{}\t{}\t{count}\t{memory:.3}\t{after}",
                self.program, self.each
            );
        }
        lines
    }

    /// What came after the warm-up.
    fn judged(&self) -> &[(f64, f64)] {
        &self.looks[self.looks.len() / 3..]
    }

    /// Growth for a thousand in MiB by least squares, and its standard error.
    fn slope(&self) -> Option<(f64, f64)> {
        let looks = self.judged();
        if looks.len() < FEW {
            return None;
        }
        let count = looks.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| looks.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|look| look.0), mean(|look| look.1));
        let spread: f64 = looks.iter().map(|look| (look.0 - x).powi(2)).sum();
        let slope = looks
            .iter()
            .map(|look| (look.0 - x) * (look.1 - y))
            .sum::<f64>()
            / spread;
        let left = |look: &(f64, f64)| (look.1 - y - slope * (look.0 - x)).powi(2);
        let error = (looks.iter().map(left).sum::<f64>() / (count - 2.0) / spread).sqrt();
        Some((slope * 1000.0, error * 1000.0))
    }

    /// True if it grows by more than the noise explains.
    pub(super) fn grows(&self) -> bool {
        let (Some(first), Some(last)) = (self.judged().first(), self.judged().last()) else {
            return false;
        };
        self.slope().is_some_and(|(slope, error)| {
            let all = slope * (last.0 - first.0) / 1000.0;
            slope - 2.0 * error > self.most && all > TOUCHED_LATE
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.judged().first().map_or(0.0, |look| look.1);
        let last = self.judged().last().map_or(0.0, |look| look.1);
        let looks = self.looks.len();
        write!(
            f,
            "| {} | {} | {looks} | {first:.1}, {last:.1} MiB | ",
            self.program, self.each
        )?;
        match self.slope() {
            Some((slope, error)) => {
                let verdict = if self.grows() { " **grows**" } else { "" };
                write!(f, "{slope:.2} ± {error:.2} MiB{verdict} |")
            }
            None => f.write_str("too few to tell |"),
        }
    }
}
