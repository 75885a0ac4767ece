//! Documents against what they describe: tests, settings, commands, the state machine.

use std::collections::BTreeSet;
use std::path::Path;

/// Where nothing of ours lies.
const NOT_OURS: &[&str] = &[".git", "target"];

/// The greatest length of ARCHITECTURE.md in bytes: it is read as a whole.
const MAX_ARCHITECTURE: usize = 15_000;

/// Collects the files below `folder`, as paths relative to `root`.
pub(crate) fn walk(root: &Path, folder: &Path, files: &mut Vec<String>) {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    for entry in entries.map_while(Result::ok) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if !NOT_OURS.iter().any(|not| name == *not) {
                walk(root, &path, files);
            }
        } else if name != ".git" {
            let below = path.strip_prefix(root).unwrap_or(&path);
            files.push(below.to_string_lossy().into_owned());
        }
    }
}

/// The text of a file; bytes that are no text become question marks.
pub(crate) fn read(root: &Path, path: &str) -> String {
    let bytes = std::fs::read(root.join(path))
        .unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Which of `files` are not as generated; with `UPDATE_GENERATED` in the environment, they are
/// written instead.
pub(crate) fn outdated(root: &Path, files: &[(&str, String)]) -> Vec<String> {
    let differ = |(path, text): &&(&str, String)| read(root, path) != *text;
    let mut wrong = Vec::new();
    for (path, text) in files.iter().filter(differ) {
        if std::env::var_os("UPDATE_GENERATED").is_none() {
            wrong.push(format!(
                "{path}: run `UPDATE_GENERATED=1 cargo test --test house`"
            ));
        } else if let Err(error) = std::fs::write(root.join(path), text) {
            wrong.push(format!("{path}: {error}"));
        }
    }
    wrong
}

/// The lines of the first fenced block of `document` that opens with `fence`.
pub(crate) fn fenced<'a>(document: &'a str, fence: &str) -> Vec<&'a str> {
    let mut lines = document.lines().skip_while(|line| *line != fence);
    lines.next();
    lines.take_while(|line| !line.starts_with("```")).collect()
}

/// What is wrong with the length of ARCHITECTURE.md, and with its state diagram: it is a copy of
/// the one in the documentation of the state machine, `state`, which a test compares with the code.
pub(crate) fn architecture(page: &str, state: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if page.len() > MAX_ARCHITECTURE {
        wrong.push(format!(
            "ARCHITECTURE.md: {} bytes, {MAX_ARCHITECTURE} at most",
            page.len()
        ));
    }
    let docs: Vec<&str> = state
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let diagram = docs.join("\n");
    let diagram = fenced(&diagram, "```mermaid");
    if diagram.is_empty() || fenced(page, "```mermaid") != diagram {
        wrong.push("ARCHITECTURE.md: the diagram is not that of state.rs".to_owned());
    }
    wrong
}

/// Tests that a chapter of a document names and no file has. A name of a test is a
/// word in backquotes with two underscores at least.
pub(crate) fn missing_tests(
    name: &str,
    page: &str,
    chapter: &str,
    sources: &[String],
) -> Vec<String> {
    let chapter = page.lines().skip_while(|line| *line != chapter);
    let lines = chapter.skip(1).take_while(|line| !line.starts_with("## "));
    let names: Vec<&str> = lines
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|word| word.matches('_').count() > 1)
        .collect();
    if names.is_empty() {
        return vec![format!("{name}: no row names a test")];
    }
    let missing = names.into_iter().filter(|test| {
        let function = format!("fn {test}(");
        !sources.iter().any(|source| source.contains(&function))
    });
    missing
        .map(|test| format!("{name}: there is no test {test:?}"))
        .collect()
}

/// What is wrong with the README's first commands: they are `make demo` and `make test`, and the
/// Makefile has every target that the README runs.
pub(crate) fn first_commands(readme: &str, makefile: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let targets: BTreeSet<&str> = targets(makefile).collect();
    let first: Vec<&str> = fenced(readme, "```sh")
        .into_iter()
        .filter_map(|line| line.strip_prefix("make "))
        .filter_map(|rest| rest.split_whitespace().next())
        .collect();
    if first != ["demo", "test"] {
        wrong.push(format!("README.md: the first commands are {first:?}"));
    }
    for line in readme.lines() {
        let command = line.strip_prefix("make ").unwrap_or_default();
        let words = command
            .split_whitespace()
            .filter(|word| !word.contains('='));
        for target in words.take_while(|word| *word != "#") {
            if !targets.contains(target) {
                wrong.push(format!("README.md: the Makefile has no target {target:?}"));
            }
        }
    }
    wrong
}

/// Words of `document` that look like flags (`--x`) or variables (`INFISICAL_X`) and are not in
/// `known`.
pub(crate) fn unknown_settings(document: &str, known: &BTreeSet<String>) -> Vec<String> {
    let words = document.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
    let flag = |word: &&str| word.len() > 2 && word.starts_with("--") && !word.starts_with("---");
    let settings = words.filter(|word| flag(word) || word.starts_with("INFISICAL_"));
    settings
        .filter(|word| !known.contains(*word))
        .map(|word| format!("{word} is no setting of the program"))
        .collect()
}

/// Where the tables of docs/configuration.md and the table of variables differ. Each row is a line
/// of its own, under the heading of who acts on the setting, in the order of the source.
pub(crate) fn settings(page: &str) -> Vec<String> {
    use infisical_config::env::{TABLE, Used, aliases};
    let mut expected = Vec::new();
    for (heading, used) in [
        ("### Gateways and relays", Used::ByAll),
        ("### Gateways only", Used::ByGateways),
        ("### Relays only", Used::ByRelays),
        ("### Without effect in this version", Used::ByNone),
    ] {
        for v in TABLE.iter().filter(|variable| variable.used == used) {
            let (name, key, meaning) = (v.name, v.toml_key(), v.meaning);
            let default = if v.default.is_empty() {
                "–"
            } else {
                v.default
            };
            let flags: Vec<String> = v.flags.iter().map(|f| format!("`{}`", f.name)).collect();
            let flags = match flags.as_slice() {
                [] => "–".to_owned(),
                some => some.join(", "),
            };
            let row = format!("| `{name}` | `{key}` | {flags} | {default} | {meaning} |");
            expected.push((heading, row));
        }
    }
    for (old, now) in aliases() {
        expected.push(("### Other names", format!("| `{old}` | `{}` |", now.name)));
    }
    let mut found = Vec::new();
    let mut heading = "";
    for line in page.lines() {
        if line.starts_with('#') {
            heading = line;
        } else if heading.starts_with("### ") && line.starts_with("| `") {
            found.push((heading, line.to_owned()));
        }
    }
    let lacks = expected.iter().filter(|row| !found.contains(row));
    let lacks =
        lacks.map(|(heading, row)| format!("docs/configuration.md: {heading:?} lacks:\n{row}"));
    let invents = found.iter().filter(|row| !expected.contains(row));
    let invents =
        invents.map(|(heading, row)| format!("docs/configuration.md: {heading:?} invents:\n{row}"));
    let mut wrong: Vec<String> = lacks.chain(invents).collect();
    if wrong.is_empty() && found != expected {
        wrong.push("docs/configuration.md: the rows are not in the order of the source".to_owned());
    }
    wrong
}

/// Targets of the Makefile that `make help` does not explain.
pub(crate) fn unexplained_targets(makefile: &str) -> Vec<String> {
    let rules = makefile.lines().filter(|line| target(line).is_some());
    rules
        .filter(|line| !line.contains(" ## "))
        .map(|line| format!("Makefile: {line:?} has no `## ` help"))
        .collect()
}

fn targets(makefile: &str) -> impl Iterator<Item = &str> {
    makefile.lines().filter_map(target)
}

/// The target of a rule's first line.
fn target(line: &str) -> Option<&str> {
    let (target, rest) = line.split_once(':')?;
    let plain = !target.is_empty() && target.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    (plain && !rest.starts_with('=')).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::{
        MAX_ARCHITECTURE, architecture, first_commands, missing_tests, settings,
        unexplained_targets, unknown_settings,
    };

    #[test]
    fn architecture_is_short_and_has_the_diagram() {
        let state = "//! A.\n//!\n//! ```mermaid\n//! a\n//!     b\n//! ```\n";
        let page = "x\n```mermaid\na\n    b\n```\n";
        assert!(architecture(page, state).is_empty());
        assert_eq!(architecture(&page.replace('b', "c"), state).len(), 1);
        assert_eq!(architecture("x", "//! A.\n").len(), 1);
        let long = format!("{page}{}", "x".repeat(MAX_ARCHITECTURE));
        assert_eq!(architecture(&long, state).len(), 1);
    }

    #[test]
    fn the_invariants_name_tests_that_exist() {
        let page =
            "`x_y_z`\n## Invariants\n| a `b` | `it_holds_always`, `not_there_yet` |\n## C\n`c_d_e`";
        let sources = ["fn it_holds_always() {}".to_owned()];
        assert_eq!(missing_tests("a", page, "## Invariants", &sources).len(), 1);
        assert_eq!(
            missing_tests("a", "## Invariants\n", "## Invariants", &sources).len(),
            1
        );
    }

    const MAKEFILE: &str = "A := b\ndemo: build ## Show\n\tx: y\ntest: ## Test\nbuild: ## Build\n";

    #[test]
    fn the_first_commands_are_demo_and_test() {
        let good = "x\n```sh\nmake demo\nmake test\n```\n```sh\nmake build A=b\n```\n";
        assert!(first_commands(good, MAKEFILE).is_empty());
        let other = "```sh\nmake build\nmake test\n```\n";
        assert_eq!(first_commands(other, MAKEFILE).len(), 1);
        let unknown = "```sh\nmake demo\nmake test\n```\n```sh\nmake cake\n```\n";
        assert_eq!(first_commands(unknown, MAKEFILE).len(), 1);
    }

    #[test]
    fn settings_must_exist() {
        let known = ["--to", "INFISICAL_TOKEN"].map(str::to_owned).into();
        let page = "| --- |\n`--to HOST`, `--from`, INFISICAL_TOKEN=x, `INFISICAL_TOKENS` -- so";
        assert_eq!(unknown_settings(page, &known).len(), 2);
    }

    #[test]
    fn settings_are_told_as_they_are() {
        let nothing = settings("").len();
        assert!(nothing > 20);
        let page = "### Gateways only\n| `INFISICAL_X` | `x` | – | no such thing |\n";
        assert_eq!(settings(page).len(), nothing + 1);
    }

    #[test]
    fn every_target_has_its_help() {
        assert!(unexplained_targets(MAKEFILE).is_empty());
        assert_eq!(unexplained_targets("build: x\n\ty\n").len(), 1);
    }
}
