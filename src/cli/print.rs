//! What commands print on standard output: plain text and tables.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use super::exit::{Code, Failure};
use super::progress;

/// Writes to standard output, which may be a full disk, or a pipe without a reader.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    let written = progress::suspended(|| {
        output.write_all(text.as_bytes())?;
        output.flush()
    });
    written.map_err(output_failed)
}

/// The version of every JSON shape (docs/json.md). It changes when a field changes its meaning or
/// goes; new fields come without.
const JSON_VERSION: u32 = 1;

/// The object that `--json` prints: its version, and `fields`.
pub(crate) fn json_object<const N: usize>(fields: [(&str, Value); N]) -> String {
    let version = ("version", Value::from(JSON_VERSION));
    let fields = std::iter::once(version).chain(fields);
    let object: Map<_, _> = fields
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    format!("{}\n", Value::Object(object))
}

/// The first failure of [`line()`].
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes a line to standard output. A failure is kept for [`finish`]: what is being done, such as
/// an installation, must not stop halfway because of it.
pub(crate) fn line(text: &str) {
    let mut output = io::stdout().lock();
    let written = progress::suspended(|| {
        writeln!(output, "{text}")?;
        output.flush()
    });
    if let Err(error) = written {
        let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
    }
}

/// What became of the lines that were written.
pub(crate) fn finish() -> anyhow::Result<()> {
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    failed
        .take()
        .map_or(Ok(()), |error| Err(output_failed(error)))
}

/// Writes the help or the version that a command line asks for.
///
/// # Errors
/// As for everything on standard output: a closed pipe ends the program without a message.
pub fn print_help(help: &clap::Error) -> anyhow::Result<()> {
    help.print()
        .and_then(|()| io::stdout().flush())
        .map_err(output_failed)
}

/// What a failed write to standard output means for the program. The reader of a pipe that has
/// gone, such as `head`, has what it wanted: the program ends like one that SIGPIPE kills.
pub(crate) fn output_failed(error: io::Error) -> anyhow::Error {
    let code = match error.kind() {
        io::ErrorKind::BrokenPipe => Code::ClosedPipe,
        _ => Code::Unavailable,
    };
    let error = anyhow::Error::new(error).context("cannot write to standard output");
    Failure::of(code, error).into()
}

/// The width for lines on standard output: that of the terminal, or no bound.
pub(crate) fn width() -> usize {
    match io::stdout().is_terminal() {
        true => textwrap::termwidth(),
        false => usize::MAX,
    }
}

/// `head` and `text` in lines of at most `width` columns, each below the begin of `text`. A longer
/// word stays whole, so that a name can be copied and a secret is found.
pub(crate) fn filled(head: &str, text: &str, width: usize) -> String {
    // Colours take no columns.
    let indent = " ".repeat(textwrap::core::display_width(head));
    let options = textwrap::Options::new(width)
        .initial_indent(head)
        .subsequent_indent(&indent)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(text, options)
}

/// Lines of columns, each as wide as its widest cell.
pub(crate) fn table<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned))
        .chain(rows)
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{filled, table};

    #[test]
    fn long_text_stays_beside_its_head() {
        let text = "one two three";
        assert_eq!(filled("  a: ", text, usize::MAX), "  a: one two three");
        assert_eq!(filled("  a: ", text, 13), "  a: one two\n     three");
        assert_eq!(filled("a: ", "un-broken", 5), "a: un-broken");
        let red = "\x1b[31ma\x1b[0m: ";
        assert_eq!(filled(red, "b c", 4), format!("{red}b\n   c"));
    }

    #[test]
    fn table_has_straight_columns() {
        let rows = [["a", "bbbbb"], ["cccc", "d"]].map(|row| row.map(str::to_owned));
        let text = table(["X", "LONG"], rows.into_iter());
        assert_eq!(text, "X     LONG\na     bbbbb\ncccc  d\n");
        let wide = table(["é", "b"], [["ö", "c"].map(str::to_owned)].into_iter());
        assert_eq!(wide, "é  b\nö  c\n");
        assert_eq!(table(["ONLY"], std::iter::empty()), "ONLY\n");
    }
}
