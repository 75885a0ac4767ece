//! Rules on single files: sizes, the sentence at the top, and words that belong in one place only.

use crate::source::Source;

/// Lines of code after which a file is too long to be one thing. Tests do not count.
const MOST_LINES: usize = 800;
/// Lines after which a shell script should have been a program.
const MOST_SHELL: usize = 50;

/// The lines of protocol.md §6 that scripts and the documentation wait for.
pub(crate) const CONTRACT: &[(&str, &str)] = &[
    ("GATEWAY_STARTED", "Gateway started successfully"),
    (
        "GATEWAY_REGISTERED",
        "Successfully registered gateway and received certificates",
    ),
    ("GATEWAY_REACHABLE", "Gateway is reachable by Infisical"),
    ("RELAY_STARTED", "Relay server started successfully"),
    ("RELAY_REACHABLE", "Relay is reachable by Infisical"),
    ("GATEWAY_STARTING", "Starting gateway"),
    ("GATEWAY_CONNECTING", "Connecting to relay server"),
    (
        "GATEWAY_TUNNEL_UP",
        "Relay connection established for gateway",
    ),
    (
        "RELAY_REGISTERED",
        "Successfully registered relay and received certificates from API",
    ),
    (
        "RELAY_CONNECTED",
        "Successfully connected relay and received certificates via v2 API",
    ),
    (
        "RELAY_SSH_LISTENING",
        "SSH server listening on :2222 for gateways",
    ),
    (
        "RELAY_TLS_LISTENING",
        "TLS server listening on :8443 for clients",
    ),
];

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

/// Contract lines that `events.rs` lacks, or that another file spells, in whatever case.
pub(crate) fn contract_lines(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, line) in CONTRACT {
        let mut spelled = 0;
        for source in sources {
            for (at, text) in &source.strings {
                if source.path == "crates/runtime/src/events.rs" && text == line {
                    spelled += 1;
                } else if text.to_lowercase().contains(&line.to_lowercase()) {
                    wrong.push(format!(
                        "{}:{at}: spells a contract line, use events::{name}",
                        source.path
                    ));
                }
            }
        }
        if spelled != 1 {
            wrong.push(format!(
                "crates/runtime/src/events.rs: {line:?} is there {spelled} times"
            ));
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

#[cfg(test)]
mod tests {
    use super::{CONTRACT, MOST_LINES, MOST_SHELL};
    use crate::source::Source;

    fn events() -> Source {
        let lines: String = CONTRACT
            .iter()
            .map(|(_, l)| format!("\"{l}\";\n"))
            .collect();
        Source::new("crates/runtime/src/events.rs", &lines)
    }

    #[test]
    fn a_long_file_is_an_error_and_long_tests_are_not() {
        let long = "fn f();\n".repeat(MOST_LINES + 1);
        assert_eq!(super::too_long(&[Source::new("src/a.rs", &long)]).len(), 1);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert!(super::too_long(&[Source::new("src/a.rs", &tests)]).is_empty());
    }

    #[test]
    fn a_file_without_a_purpose_is_an_error() {
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
        assert!(super::contract_lines(&[events()]).is_empty());
        let missing = Source::new(
            "crates/runtime/src/events.rs",
            "\"Gateway started succesfully\"",
        );
        assert_eq!(super::contract_lines(&[missing]).len(), CONTRACT.len());
        let again = Source::new("src/a.rs", "info!(\"gateway started successfully now\")");
        assert_eq!(super::contract_lines(&[events(), again]).len(), 1);
        let told = Source::new("src/a.rs", "/// Gateway started successfully\nfn f() {}");
        assert!(super::contract_lines(&[events(), told]).is_empty());
    }

    #[test]
    fn a_directory_of_one_machine_is_an_error() {
        let bad = concat!("a\ncd /wo", "rk/main\n");
        assert_eq!(super::machine_paths([("a", bad)].into_iter()).len(), 1);
        let good = "/var/lib/infisical";
        assert!(super::machine_paths([("a", good)].into_iter()).is_empty());
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
