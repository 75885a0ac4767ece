//! Rules on single files: sizes, the sentence at the top, and words: those that belong in one place
//! only, and those that are not used.

use crate::source::Source;

/// Lines of code after which a file is too long to be one thing. Tests do not count.
const MOST_LINES: usize = 800;
/// Lines after which a shell script should have been a program.
const MOST_SHELL: usize = 50;
/// Words of a test's name.
const TEST_NAME: std::ops::RangeInclusive<usize> = 3..=7;

/// The lines of protocol.md §6 that scripts and the documentation wait for, in the order of the
/// catalogue of events, which has them first.
pub(crate) const CONTRACT: &[&str] = &[
    "Starting gateway",
    "Connecting to relay server",
    "Relay connection established for gateway",
    "Successfully registered relay and received certificates from API",
    "Successfully connected relay and received certificates via v2 API",
    "SSH server listening on :2222 for gateways",
    "TLS server listening on :8443 for clients",
    "Gateway started successfully",
    "Successfully registered gateway and received certificates",
    "Gateway is reachable by Infisical",
    "Relay server started successfully",
    "Relay is reachable by Infisical",
];

/// Where the catalogue of events is.
const EVENTS: &str = "crates/runtime/src/events.rs";

/// Files that are too long.
pub(crate) fn too_long(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        let lines = source.lines_without_tests();
        if lines > MOST_LINES {
            wrong.push(format!(
                "{}: {lines} lines, {MOST_LINES} at most",
                source.path
            ));
        }
    }
    wrong
}

/// Files that do not say at the top what they are for. A file of tests says it with its name.
pub(crate) fn unexplained(sources: &[Source]) -> Vec<String> {
    let silent = sources
        .iter()
        .filter(|s| !s.path.ends_with("_tests.rs") && !s.text.starts_with("//! "));
    silent
        .map(|source| {
            format!(
                "{}: does not begin with `//! ` and its purpose",
                source.path
            )
        })
        .collect()
}

/// Contract lines that a file other than the catalogue of events spells, in whatever case.
pub(crate) fn contract_lines(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| source.path != EVENTS) {
        for (at, text) in &source.strings {
            let text = text.to_lowercase();
            let is_contract = |line: &&str| text.contains(&line.to_lowercase());
            if CONTRACT.iter().any(is_contract) {
                let path = &source.path;
                wrong.push(format!("{path}:{at}: spells a contract line of {EVENTS}"));
            }
        }
    }
    wrong
}

/// Files that mention a directory of one particular machine.
pub(crate) fn machine_paths<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    // In pieces, or this file would be the first to be found.
    let needles = [concat!("/wo", "rk/"), concat!("/tmp", "/wt")];
    let mut wrong = Vec::new();
    for (path, text) in files {
        for (at, line) in text.lines().enumerate() {
            if let Some(needle) = needles.iter().find(|needle| line.contains(**needle)) {
                wrong.push(format!("{path}:{}: mentions {needle}", at + 1));
            }
        }
    }
    wrong
}

/// Where the platform's database is.
const DATABASE: &str = "crates/platform/src/store/sqlite/";
/// What only code of the database says: its library, and SQL.
const OF_DATABASE: &[&str] = &[
    "rusqlite",
    "PRAGMA",
    "user_version",
    "AUTOINCREMENT",
    "rowid",
    "INSERT ",
    "UPDATE ",
    "DELETE FROM",
    "CREATE TABLE",
    "SELECT ",
    "Transaction",
];

/// Mentions of the database in the platform outside of the one folder that knows it.
pub(crate) fn of_database(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    let of_platform = |source: &&Source| {
        source.path.starts_with("crates/platform/src/") && !source.path.starts_with(DATABASE)
    };
    for source in sources.iter().filter(of_platform) {
        for (at, line) in source.code.lines().enumerate() {
            let strings = source.strings.iter().filter(|(line, _)| *line == at + 1);
            let texts = strings.map(|(_, text)| text.as_str()).chain([line]);
            for text in texts {
                if let Some(word) = OF_DATABASE.iter().find(|word| text.contains(**word)) {
                    let (path, at) = (&source.path, at + 1);
                    wrong.push(format!("{path}:{at}: {word} belongs in {DATABASE}"));
                }
            }
        }
    }
    wrong
}

/// Shell scripts that should be programs.
pub(crate) fn long_scripts<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let scripts = files.filter(|(_, text)| {
        let first = text.lines().next().unwrap_or_default();
        first.starts_with("#!") && first.ends_with("sh")
    });
    scripts
        .filter(|(_, text)| text.lines().count() > MOST_SHELL)
        .map(|(path, _)| format!("{path}: more than {MOST_SHELL} lines of shell"))
        .collect()
}

/// Tests whose names do not say a behaviour in 3 to 7 words: functions with the attribute, and
/// cases that `tests/system` and `tests/faults` list themselves.
pub(crate) fn test_names<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, text) in files.filter(|(path, _)| path.ends_with(".rs")) {
        let source = Source::new(path, text);
        let mut is_test = false;
        for (at, (line, code)) in text.lines().zip(source.code.lines()).enumerate() {
            let code = code.trim_start();
            is_test |= code.starts_with("#[test]") || code.starts_with("#[tokio::test");
            let function = code
                .split_once("fn ")
                .and_then(|(_, rest)| rest.split_once('('));
            let of_system =
                path.starts_with("tests/system/cases/") && code.contains("(lab: &mut Lab)");
            let case = line.trim_start().strip_prefix("name: \"");
            let case = case.filter(|_| path.starts_with("tests/faults/cases/"));
            let name = match (function, case.and_then(|rest| rest.split_once('"'))) {
                (Some((name, _)), _) if is_test || of_system && code.starts_with("pub(super)") => {
                    name
                }
                (_, Some((name, _))) => name,
                _ => continue,
            };
            is_test = false;
            if !TEST_NAME.contains(&name.split('_').count()) {
                wrong.push(format!(
                    "{path}:{}: {name}, use {TEST_NAME:?} words",
                    at + 1
                ));
            }
        }
    }
    wrong
}

/// A word that is not used, and where.
#[derive(Debug, PartialEq, Eq)]
struct Replaced<'a> {
    /// In all texts and within identifiers, in any case; otherwise an identifier.
    is_prose: bool,
    word: String,
    instead: &'a str,
    /// Files that have this text may use the word.
    unless: Option<&'a str>,
}

fn replaced(list: &str) -> impl Iterator<Item = Replaced<'_>> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let (kind, rest) = line.split_once("  ")?;
        let (word, instead) = rest.trim_start().split_once("  ")?;
        let (instead, unless) = match instead.split_once("  unless ") {
            Some((instead, text)) => (instead, Some(text)),
            None => (instead, None),
        };
        Some(Replaced {
            is_prose: kind == "prose",
            word: word.to_owned(),
            instead: instead.trim_start(),
            unless,
        })
    })
}

/// Files whose words are checked: sources, documents, units, scripts. History is left as it was.
fn is_checked(path: &str) -> bool {
    let ends = [
        ".rs", ".md", ".service", ".target", ".conf", ".sh", ".catalog",
    ];
    let is_script = matches!(path, "Makefile" | ".ci/run");
    path != "CHANGELOG.md" && (is_script || ends.iter().any(|end| path.ends_with(end)))
}

/// Where `files` have words of `list`.
pub(crate) fn replaced_words<'a>(
    list: &str,
    files: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<String> {
    let words: Vec<Replaced<'_>> = replaced(list).collect();
    let mut wrong = Vec::new();
    for (path, text) in files.filter(|(path, _)| is_checked(path)) {
        let is_rust = path.ends_with(".rs");
        let source = Source::new(path, text);
        let lower = text.to_lowercase().replace('_', " ");
        let may_have = |word: &&Replaced<'_>| {
            let text_of_its_kind = if word.is_prose { &lower } else { text };
            text_of_its_kind.contains(&word.word)
                && !word.unless.is_some_and(|other| text.contains(other))
        };
        let words: Vec<&Replaced<'_>> = words.iter().filter(may_have).collect();
        let mut check = |at: usize, prose: &str, code: &str| {
            let prose = prose.to_lowercase().replace('_', " ");
            for word in &words {
                let text = if word.is_prose { &prose } else { code };
                if has_word(text, &word.word) {
                    let Replaced { word, instead, .. } = word;
                    wrong.push(format!("{path}:{at}: {word:?}, use: {instead}"));
                }
            }
        };
        for (at, (line, code)) in text.lines().zip(source.code.lines()).enumerate() {
            if is_rust {
                check(at + 1, &format!("{code} {}", comment(line)), code);
            } else {
                // Of names only those that are marked as such: many are words of every day.
                let names: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
                check(at + 1, line, &names.join(" "));
            }
        }
        if is_rust {
            let ours = |(_, text): &&(usize, String)| !CONTRACT.contains(&text.as_str());
            for (at, text) in source.strings.iter().filter(ours) {
                check(*at, text, "");
            }
        }
    }
    wrong
}

/// The comment of a line of Rust.
fn comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return line;
    }
    line.split_once(" // ").map_or("", |(_, comment)| comment)
}

/// True if `text` has `word` with nothing of a word beside it.
fn has_word(text: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text.get(at + word.len()..);
        let after = after.and_then(|text| text.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::{EVENTS, MOST_LINES, MOST_SHELL};
    use crate::source::Source;

    #[test]
    fn long_file_is_an_error_except_tests() {
        let long = "fn f();\n".repeat(MOST_LINES + 1);
        assert_eq!(super::too_long(&[Source::new("src/a.rs", &long)]).len(), 1);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert!(super::too_long(&[Source::new("src/a.rs", &tests)]).is_empty());
    }

    #[test]
    fn file_without_a_purpose_is_an_error() {
        let sources = [
            Source::new("src/a.rs", "//! Why.\n"),
            Source::new("src/b.rs", "// Why.\n"),
            Source::new("src/c.rs", "//!\n"),
            Source::new("src/c_tests.rs", "use super::c;\n"),
        ];
        assert_eq!(super::unexplained(&sources).len(), 2);
    }

    #[test]
    fn a_contract_line_belongs_in_events() {
        let found = |path, text| super::contract_lines(&[Source::new(path, text)]).len();
        assert_eq!(found(EVENTS, "\"Gateway started successfully\""), 0);
        assert_eq!(
            found("src/a.rs", "info!(\"gateway started successfully now\")"),
            1
        );
        assert_eq!(
            found("src/a.rs", "/// Gateway started successfully\nfn f() {}"),
            0
        );
    }

    #[test]
    fn database_outside_its_folder_is_found() {
        let found = |path: &str, text: &str| super::of_database(&[Source::new(path, text)]).len();
        let platform = "crates/platform/src/routes/a.rs";
        for bad in [
            "use rusqlite::Row;",
            "call(\"PRAGMA x\");",
            "run(\"SELECT a FROM b\");",
        ] {
            assert_eq!(found(platform, bad), 1, "{bad}");
            let database = format!("{}a.rs", super::DATABASE);
            assert_eq!(found(&database, bad), 0, "{bad}");
            assert_eq!(found("src/a.rs", bad), 0);
        }
        assert_eq!(found(platform, "// As rusqlite does.\nfn f() {}"), 0);
    }

    #[test]
    fn directory_of_one_machine_is_an_error() {
        let bad = concat!("a\ncd /wo", "rk/main\n");
        assert_eq!(super::machine_paths([("a", bad)].into_iter()).len(), 1);
        let good = "/var/lib/infisical";
        assert!(super::machine_paths([("a", good)].into_iter()).is_empty());
    }

    #[test]
    fn short_and_long_test_names_are_found() {
        let found = |path, text| super::test_names([(path, text)].into_iter()).len();
        let long = "#[test]\n#[ignore = \"x\"]\nfn a_name_of_more_than_seven_words_is_long() {}\n";
        assert_eq!(found("src/a.rs", long), 1);
        assert_eq!(
            found("src/a.rs", "#[tokio::test]\nasync fn two_words() {}"),
            1
        );
        assert_eq!(
            found(
                "src/a.rs",
                "#[test]\nfn it_is_right() { f() }\nfn helper() {}"
            ),
            0
        );
        assert_eq!(found("tests/faults/cases/a.rs", "    name: \"short\","), 1);
        assert_eq!(
            found(
                "tests/system/cases/a.rs",
                "pub(super) fn short(lab: &mut Lab) {"
            ),
            1
        );
    }

    #[test]
    fn replaced_words_are_found_as_whole_words() {
        let list = "# a list\n\nprose  old word  new word\nname   Older  Newer  unless lib::\n";
        let found = |path, text| super::replaced_words(list, [(path, text)].into_iter()).len();
        assert_eq!(
            found("src/a.rs", "/// An Old word.\nfn f() {} // old word"),
            2
        );
        assert_eq!(
            found("src/a.rs", "let a = \"bold words\"; // bold words"),
            0
        );
        assert_eq!(
            found("src/a.rs", "fn an_old_word() { say(\"old word\") }"),
            2
        );
        assert_eq!(found("src/a.rs", "use lib::Older;"), 0);
        assert_eq!(found("src/a.rs", "struct Older; struct OlderToo;"), 1);
        assert_eq!(found("docs/a.md", "old word; a test `an_old_word`"), 1);
        assert_eq!(found("CHANGELOG.md", "old word"), 0);
        assert_eq!(found("Makefile", "# old word"), 1);
    }

    #[test]
    fn a_long_script_is_an_error() {
        let long = format!("#!/bin/sh\n{}", ":\n".repeat(MOST_SHELL));
        assert_eq!(
            super::long_scripts([("a", long.as_str())].into_iter()).len(),
            1
        );
        let short = "#!/usr/bin/env bash\n:\n";
        assert!(super::long_scripts([("a", short)].into_iter()).is_empty());
    }
}
