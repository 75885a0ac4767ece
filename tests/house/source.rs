//! Rust source as the rules see it: code with comments and strings blanked out, and the strings
//! beside it.
//!
//! This is a reader of well-formed, formatted code, not a parser: the compiler refuses the rest.

use std::path::Path;

/// One file of the program.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the repository, with `/`: `src/cli/mod.rs`, `crates/runtime/src/net/dial.rs`.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// As written, but comments and literals are spaces; line numbers are those of the text.
    pub(crate) code: String,
    /// What stands between the quotes of each string literal, with its line.
    pub(crate) strings: Vec<(usize, String)>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, strings) = blank(text);
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            strings,
        }
    }

    /// How many lines the file has without its inline test modules.
    pub(crate) fn lines_without_tests(&self) -> usize {
        let tokens = tokens(&self.code);
        let word = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
        let mut lines = self.text.lines().count();
        for at in 0..tokens.len() {
            let attribute: Vec<&str> = (at..at + 7).map(word).collect();
            if attribute != ["#", "[", "cfg", "(", "test", ")", "]"] {
                continue;
            }
            // Up to the brace that opens the module, then to the one that closes it.
            let Some(start) = (at + 7..tokens.len()).find(|i| matches!(word(*i), "{" | ";")) else {
                continue;
            };
            let mut depth = 0_usize;
            for (line, token) in tokens.iter().skip(start) {
                match *token {
                    "{" => depth += 1,
                    "}" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 {
                    let first = tokens.get(at).map_or(*line, |(first, _)| *first);
                    lines = lines.saturating_sub(line - first + 1);
                    break;
                }
            }
        }
        lines
    }
}

/// Every `.rs` file under `root/src` and the `src` of each crate but the tests' own, in the order
/// of their paths.
pub(crate) fn load(root: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "crates"] {
        crate::documents::walk(root, &root.join(folder), &mut files);
    }
    files.sort();
    let is_program = |path: &String| {
        let of_tests = path.starts_with("crates/test-support/");
        path.contains("src/") && path.ends_with(".rs") && !of_tests
    };
    let rust = files.into_iter().filter(is_program);
    rust.map(|path| Source::new(&path, &crate::documents::read(root, &path)))
        .collect()
}

/// Words, and single characters for all else, each with its line.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            let (token, after) = rest.split_at(length);
            tokens.push((number + 1, token));
            rest = after.trim_start();
        }
    }
    tokens
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Replaces comments and literals by spaces, and gives the string literals with their lines.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let mut code = String::with_capacity(text.len());
    let mut strings = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.chars().next_back().is_some_and(is_word);
        let (length, inner) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (block_comment(rest), None)
        } else if let Some((length, inner)) = string(rest).filter(|_| !after_word || first == '"') {
            (length, Some(inner))
        } else if let Some(length) = character(rest) {
            (length, None)
        } else {
            code.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        };
        if let Some(inner) = inner {
            let line = code.matches('\n').count() + 1;
            strings.push((line, inner.to_owned()));
        }
        let (gone, left) = rest.split_at(length);
        code.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = left;
    }
    (code, strings)
}

/// The length of the block comment, nested ones included, at the start of `text`.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length and the inside of the string literal, raw or not, at the start of `text`.
fn string(text: &str) -> Option<(usize, &str)> {
    let body = text.trim_start_matches(['b', 'c']);
    let kind = text.len() - body.len();
    if kind > 1 {
        return None;
    }
    if let Some(raw) = body.strip_prefix('r') {
        let opened = raw.trim_start_matches('#');
        let hashes = raw.get(..raw.len() - opened.len())?;
        let inside = opened.strip_prefix('"')?;
        let end = inside.find(&format!("\"{hashes}"))?;
        let length = kind + 1 + 2 * hashes.len() + 2 + end;
        return Some((length, inside.get(..end)?));
    }
    let inside = body.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    Some((kind + end + 2, inside.get(..end)?))
}

/// The length of the character literal at the start of `text`; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        // The character after the backslash may itself be a quote.
        let first = escape.chars().next()?.len_utf8();
        let end = escape.get(first..)?.find('\'')?;
        return Some(2 + first + end + 1);
    }
    let length = inside.chars().next()?.len_utf8();
    inside
        .get(length..)?
        .starts_with('\'')
        .then_some(length + 2)
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "a /* crate::x /* y */ z */ \"crate::b\\\"\" r#\"crate::\"c\"# 'c' '\\'' b\"d\"\n// e\nf<'g>";
        let source = Source::new("src/x.rs", text);
        let words: Vec<&str> = source.code.split_whitespace().collect();
        assert_eq!(words, ["a", "f<'g>"]);
        let strings: Vec<&str> = source.strings.iter().map(|(_, s)| s.as_str()).collect();
        assert_eq!(strings, ["crate::b\\\"", "crate::\"c", "d"]);
    }

    #[test]
    fn an_inline_test_module_does_not_count() {
        let text = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn g() { \"}\"; }\n}\nfn h() {}\n";
        assert_eq!(Source::new("src/a.rs", text).lines_without_tests(), 3);
        let declared = "#[cfg(test)]\nmod cert_tests;\nfn f() {}\n";
        assert_eq!(Source::new("src/a.rs", declared).lines_without_tests(), 1);
    }
}
