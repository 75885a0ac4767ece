//! What a person at a terminal reads: few lines, colours only where they are wanted.

use std::fmt;
use std::io::{IsTerminal as _, Write};
use std::time::{Duration, Instant};

/// Writes lines for a person. That no one reads them is no reason to fail.
pub(crate) struct Console {
    out: Box<dyn Write + Send>,
    coloured: bool,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("coloured", &self.coloured)
            .finish_non_exhaustive()
    }
}

/// How a part of a line looks on a terminal (ECMA-48 SGR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Good,
    Bad,
    Dim,
    Strong,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Dim => "2",
            Self::Strong => "1",
        }
    }
}

impl Console {
    /// Standard output, coloured if it is a terminal and `no_color` is not set (no-color.org).
    pub(crate) fn stdout(no_color: bool) -> Self {
        let out = std::io::stdout();
        let coloured = out.is_terminal() && !no_color;
        Self::new(Box::new(out), coloured)
    }

    /// Anything else.
    pub(crate) fn new(out: Box<dyn Write + Send>, coloured: bool) -> Self {
        Self { out, coloured }
    }

    fn paint(&self, paint: Paint, text: impl fmt::Display) -> String {
        if self.coloured {
            format!("\x1b[{}m{text}\x1b[0m", paint.code())
        } else {
            text.to_string()
        }
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }

    /// Something works: `✓ what   detail   (1.2 s)`.
    pub(super) fn done(&mut self, what: &str, detail: impl fmt::Display, since: Instant) {
        let mark = self.paint(Paint::Good, "✓");
        let what = self.paint(Paint::Strong, format_args!("{what:<9}"));
        let took = self.paint(Paint::Dim, format_args!("({})", took(since.elapsed())));
        self.line(&format!("{mark} {what} {detail} {took}"));
    }

    /// Something does not.
    pub(super) fn failed(&mut self, what: impl fmt::Display) {
        let mark = self.paint(Paint::Bad, "✗");
        self.line(&format!("{mark} {what}"));
    }

    /// A sentence above what follows.
    pub(super) fn heading(&mut self, text: impl fmt::Display) {
        let text = self.paint(Paint::Strong, text);
        self.line(&format!("\n{text}"));
    }

    /// A command to copy.
    pub(super) fn command(&mut self, text: impl fmt::Display) {
        self.line(&format!("    {text}"));
    }

    /// Something to know, less important.
    pub(super) fn remark(&mut self, text: impl fmt::Display) {
        let text = self.paint(Paint::Dim, text);
        self.line(&format!("  {text}"));
    }
}

/// A duration as a person says it.
fn took(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::{Console, took};
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(coloured: bool) -> String {
        let shared = Shared::default();
        let mut console = Console::new(Box::new(shared.clone()), coloured);
        console.done("relay", "127.0.0.1", Instant::now());
        console.failed("no");
        let bytes = shared.0.lock().expect("lock").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn colours_appear_only_where_they_are_wanted() {
        assert!(written(true).contains("\x1b[32m✓\x1b[0m"));
        let plain = written(false);
        assert!(!plain.contains('\x1b'), "{plain:?}");
        assert!(plain.contains("relay"), "{plain:?}");
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(took(Duration::from_micros(12_345)), "12 ms");
        assert_eq!(took(Duration::from_millis(1_250)), "1.2 s");
    }
}
