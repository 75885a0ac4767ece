//! Which module may know which (ARCHITECTURE.md, "Layers"), and which library stays behind which folder.

use crate::source::Source;

/// What everything may use.
/// The crates below.
const BASE: &[&str] = &[
    "backoff",
    "clock",
    "error",
    "events",
    "health",
    "log_throttle",
    "names",
    "net",
    "scope",
    "secret",
    "threads",
    "trust",
    "unit_name",
    "words",
];
/// Row 5.
const PLUMBING: &[&str] = &["config"];
/// Row 4.
const OUTSIDE: &[&str] = &["api", "host", "pki", "ssh"];
/// Row 3: they never know of each other.
const ROLES: &[&str] = &["connect", "dev", "gateway", "install", "platform", "relay"];

/// Exceptions: a module and the one path beside its own row that it may use.
const BESIDE: &[(&str, &str)] = &[
    // Certificates and keys arrive in the API's types.
    ("pki", "api::types"),
];

/// A library, and the only folders whose code may name it.
const KEPT_IN: &[(&str, &[&str])] = &[
    // Another SSH is for tests alone.
    ("russh", &["crates/ssh/src/session_tests.rs"]),
    ("rusqlite", &["crates/platform/src/"]),
    (
        "axum",
        &[
            "crates/platform/src/",
            "src/dev/",
            "crates/relay/src/register_tests.rs",
        ],
    ),
];

/// Each use of a module that the user's row does not allow.
pub(crate) fn upward_or_sideways(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    // Cargo keeps the order of the crates.
    for source in sources.iter().filter(|s| s.path.starts_with("src/")) {
        let module = source.module();
        let Some(own) = module.first() else {
            continue; // main.rs and lib.rs may know all.
        };
        let Some(allowed) = allowed(own) else {
            wrong.push(format!("{}: `{own}` is in no row", source.path));
            continue;
        };
        for mention in source.mentions() {
            let (line, path) = (mention.line, mention.path.join("::"));
            let first = mention.path.first().map_or("", String::as_str);
            let beside = |(from, to): &(&str, &str)| {
                from == own && (path == *to || path.starts_with(&format!("{to}::")))
            };
            if first != own && !allowed.contains(&first) && !BESIDE.iter().any(beside) {
                wrong.push(format!(
                    "{}:{line}: `{own}` must not use `crate::{path}`",
                    source.path
                ));
            }
        }
    }
    wrong
}

/// Each mention of a library outside the folders that keep it.
pub(crate) fn escaped_libraries(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (library, folders) in KEPT_IN {
        for source in sources {
            if folders.iter().any(|folder| source.path.starts_with(folder)) {
                continue;
            }
            for line in source.lines_with(library) {
                wrong.push(format!(
                    "{}:{line}: `{library}` is named outside {}",
                    source.path,
                    folders.join(", ")
                ));
            }
        }
    }
    wrong
}

/// What the rows below `module` hold; `None` for a module that is in no row.
fn allowed(module: &str) -> Option<Vec<&'static str>> {
    // Fuzzers look into every row, and nobody looks at them.
    let below: &[&[&str]] = if module == "cli" || module == "fuzzing" {
        &[ROLES, OUTSIDE, PLUMBING, BASE]
    } else if ROLES.contains(&module) {
        &[OUTSIDE, PLUMBING, BASE]
    } else if OUTSIDE.contains(&module) {
        &[PLUMBING, BASE]
    } else if PLUMBING.contains(&module) {
        &[BASE]
    } else if BASE.contains(&module) {
        &[]
    } else {
        return None;
    };
    Some(below.concat())
}

#[cfg(test)]
mod tests {
    use super::{escaped_libraries, upward_or_sideways};
    use crate::source::Source;

    fn wrong(path: &str, text: &str) -> usize {
        upward_or_sideways(&[Source::new(path, text)]).len()
    }

    #[test]
    fn a_row_may_use_what_is_below_it() {
        assert_eq!(wrong("src/cli/gateway.rs", "use crate::gateway::run;"), 0);
        assert_eq!(
            wrong("src/gateway/mod.rs", "use crate::{net, scope::Scope};"),
            0
        );
        assert_eq!(
            wrong("src/gateway/a/b.rs", "use super::super::link::Link;"),
            0
        );
        assert_eq!(wrong("src/lib.rs", "pub use crate::cli::run;"), 0);
    }

    #[test]
    fn roles_do_not_know_each_other() {
        assert_eq!(
            wrong("src/gateway/mod.rs", "use crate::relay::Registry;"),
            1
        );
        assert_eq!(wrong("src/dev/mod.rs", "use super::platform::run;"), 1);
        assert_eq!(
            wrong("src/relay/mod.rs", "use crate::{net, gateway::Link};"),
            1
        );
        assert_eq!(
            wrong("src/connect/mod.rs", "fn f() { crate::platform::f() }"),
            1
        );
    }

    #[test]
    fn nothing_knows_what_is_above_it() {
        assert_eq!(wrong("src/config/env.rs", "use crate::ssh::Error;"), 1);
        assert_eq!(wrong("src/config/mod.rs", "use crate::api;"), 1);
        assert_eq!(wrong("src/pki/mod.rs", "use crate::cli;"), 1);
        assert_eq!(wrong("src/relay/mod.rs", "use crate::*;"), 1);
    }

    #[test]
    fn pki_knows_the_types_of_the_api_and_no_more() {
        assert_eq!(
            wrong("src/pki/tls.rs", "use crate::api::types::ClientPki;"),
            0
        );
        assert_eq!(
            wrong("src/pki/tls.rs", "use crate::api::{types, Client};"),
            1
        );
        assert_eq!(wrong("src/pki/tls.rs", "use crate::api::typesetting;"), 1);
        assert_eq!(wrong("src/host/unit.rs", "use crate::api::types::X;"), 1);
    }

    #[test]
    fn a_module_without_a_row_is_an_error() {
        assert_eq!(wrong("src/utils.rs", ""), 1);
    }

    #[test]
    fn a_library_outside_its_folder_is_an_error() {
        let bad = [
            Source::new("src/relay/gateways.rs", "fn f(h: russh::server::Handle) {}"),
            Source::new(
                "crates/ssh/src/server.rs",
                "use russh::server; use rusqlite::Row;",
            ),
            Source::new("src/net/listen.rs", "// russh\nlet s = \"axum\";"),
        ];
        assert_eq!(escaped_libraries(&bad).len(), 3);
    }
}
