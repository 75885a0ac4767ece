//! The rules of the house that the compiler does not know: what belongs where, and that the
//! documents tell the truth. Each rule is a function from texts to complaints, shown beside it to
//! complain about a small bad example; the tests here apply them to the repository.

#![expect(clippy::panic, reason = "a test that cannot read its input has failed")]

mod catalogue;
mod chart;
mod commands;
mod constants;
mod documents;
mod memory;
mod source;
mod units;
mod words;

use std::collections::BTreeSet;
use std::path::Path;

use source::Source;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program's source; never empty, or every rule would be kept.
fn sources() -> Vec<Source> {
    let sources = source::load(root());
    assert!(
        sources.iter().any(|source| source.path == "src/lib.rs") && sources.len() > 20,
        "the source was not found: {} files",
        sources.len()
    );
    sources
}

/// Every text of the repository, with its path.
fn files() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    documents::walk(root(), root(), &mut paths);
    paths.sort();
    assert!(paths.iter().any(|path| path == "Cargo.toml"), "{paths:?}");
    let read = |path: String| {
        let text = documents::read(root(), &path);
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn files_are_short() {
    assert_none(&words::too_long(&sources()));
}

#[test]
fn files_begin_with_their_purpose() {
    assert_none(&words::unexplained(&sources()));
}

#[test]
fn contract_lines_are_spelled_in_one_place() {
    assert_none(&words::contract_lines(&sources()));
}

#[test]
fn contract_lines_are_those_of_the_protocol() {
    let ours = infisical_runtime::events::CATALOGUE.iter();
    let ours = ours.take(words::CONTRACT.len());
    let ours: Vec<&str> = ours.map(|entry| entry.event.text).collect();
    assert_eq!(ours, words::CONTRACT);
}

#[test]
fn event_files_are_generated_from_the_catalogue() {
    let (journal, page) = (
        "packaging/usr/lib/systemd/catalog/infisical.catalog",
        "docs/events.md",
    );
    let table = catalogue::table(&documents::read(root(), page));
    assert_none(&catalogue::unknown_ids(&table));
    assert_none(&documents::outdated(
        root(),
        &[(journal, catalogue::journal()), (page, table)],
    ));
}

/// The page at `path` with `table` between the marks of that name.
fn with_table(path: &str, name: &str, table: &str) -> String {
    let page = documents::read(root(), path);
    let [begin, end] = ["begin", "end"].map(|mark| format!("<!-- {name}: {mark} -->"));
    let (head, rest) = page
        .split_once(&format!("{begin}\n"))
        .unwrap_or_else(|| panic!("{path} has not {begin}"));
    let (_, tail) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("{path} has not {end}"));
    format!("{head}{begin}\n{table}{end}{tail}")
}

#[test]
fn conditions_are_generated_from_the_catalogue() {
    let path = "docs/troubleshooting.md";
    let table = infisical_agent::status::condition::markdown();
    let text = with_table(path, "conditions", &table);
    assert_none(&documents::outdated(root(), &[(path, text)]));
}

#[test]
fn chart_has_described_values_and_our_version() {
    let folder = "packaging/helm/infisical-gateway";
    let values = documents::read(root(), &format!("{folder}/values.yaml"));
    assert_none(&chart::undescribed(&values));
    let path = "docs/kubernetes.md";
    let text = with_table(path, "values", &chart::table(&values));
    assert!(text.contains("| `gateway.enrollment.method` |"), "{text}");
    assert_none(&documents::outdated(root(), &[(path, text)]));
    let chart = documents::read(root(), &format!("{folder}/Chart.yaml"));
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        format!("\nversion: {version}\n"),
        format!("\nappVersion: \"{version}\"\n"),
    ] {
        assert!(chart.contains(&line), "Chart.yaml has not{line}");
    }
}

#[test]
fn commands_page_is_the_programs_help() {
    let page = commands::page();
    for part in [
        "## infisical gateway systemd install",
        "Global options:",
        "Examples:",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_none(&documents::outdated(root(), &[("docs/commands.md", page)]));
}

#[test]
fn nothing_mentions_one_machine() {
    let files = files();
    let texts = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()));
    assert_none(&words::machine_paths(texts));
}

#[test]
fn replaced_words_are_not_used() {
    let files = files();
    let texts = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()));
    let list = documents::read(root(), "tests/house/replaced_words.txt");
    assert_none(&words::replaced_words(&list, texts));
}

#[test]
fn test_names_have_three_to_seven_words() {
    let files = files();
    let texts = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()));
    assert_none(&words::test_names(texts));
}

#[test]
fn one_folder_knows_the_database() {
    let sources = sources();
    let inside = sources
        .iter()
        .filter(|source| source.path.contains("/store/sqlite/"));
    assert!(inside.count() > 5, "the database's code is elsewhere");
    assert_none(&words::of_database(&sources));
}

#[test]
fn scripts_are_short() {
    let files = files();
    let texts = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()));
    assert_none(&words::long_scripts(texts));
}

#[test]
fn architecture_is_short_with_the_state_diagram() {
    let page = documents::read(root(), "ARCHITECTURE.md");
    let state = documents::read(root(), "crates/gateway/src/connection/state.rs");
    assert_none(&documents::architecture(&page, &state));
}

#[test]
fn the_invariants_name_tests_that_exist() {
    let rust = files()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs"));
    let sources: Vec<String> = rust.map(|(_, text)| text).collect();
    for (name, chapter) in [
        ("ARCHITECTURE.md", "## Invariants"),
        ("docs/invariants.md", "# Invariants"),
        ("docs/security.md", "## Threat model"),
    ] {
        let page = documents::read(root(), name);
        assert_none(&documents::missing_tests(name, &page, chapter, &sources));
    }
}

#[test]
fn the_readme_begins_with_commands_that_exist() {
    let readme = documents::read(root(), "README.md");
    let makefile = documents::read(root(), "Makefile");
    assert_none(&documents::first_commands(&readme, &makefile));
}

/// Every flag of every command, and every variable.
fn settings() -> BTreeSet<String> {
    use clap::CommandFactory as _;
    let mut known = BTreeSet::from(["--help".to_owned(), "--version".to_owned()]);
    let mut commands = vec![infisical::cli::Cli::command()];
    while let Some(command) = commands.pop() {
        let flags = command.get_arguments().filter_map(clap::Arg::get_long);
        known.extend(flags.map(|flag| format!("--{flag}")));
        commands.extend(command.get_subcommands().cloned());
    }
    known.extend(
        infisical_config::env::TABLE
            .iter()
            .map(|v| v.name.to_owned()),
    );
    known
}

#[test]
fn the_documents_name_settings_that_exist() {
    let known = settings();
    assert!(known.contains("--domain") && known.contains("INFISICAL_TOKEN"));
    for document in ["README.md", "ARCHITECTURE.md", "docs/operations.md"] {
        let text = documents::read(root(), document);
        assert_none(&documents::unknown_settings(&text, &known));
    }
    let older = infisical_config::env::aliases().map(|(old, _)| old.to_owned());
    let known = known.into_iter().chain(older).collect();
    let changes = documents::read(root(), "CHANGELOG.md");
    assert_none(&documents::unknown_settings(&changes, &known));
    let page = documents::read(root(), "docs/configuration.md");
    // The beginning of every name.
    let page = page.replace("`INFISICAL_`", "");
    assert_none(&documents::unknown_settings(&page, &known));
}

#[test]
fn configuration_page_has_every_setting() {
    let page = documents::read(root(), "docs/configuration.md");
    assert_none(&documents::settings(&page));
}

#[test]
fn configuration_examples_agree_in_either_form() {
    use infisical_config::file::{Form, parse};
    let page = documents::read(root(), "docs/configuration.md");
    let read = |fence, form| {
        let text = documents::fenced(&page, fence).join("\n");
        assert_eq!(Form::of(&text), form);
        let entries = parse(&text).unwrap_or_else(|wrong| panic!("{fence}: {wrong:?}"));
        let pair = |entry: infisical_config::file::Entry| (entry.key.name, entry.value);
        entries.into_iter().map(pair).collect::<Vec<_>>()
    };
    let lines = read("```ini", Form::KeyValue);
    assert!(lines.len() > 2);
    assert_eq!(lines, read("```toml", Form::Toml));
}

#[test]
fn make_help_explains_every_target() {
    assert_none(&documents::unexplained_targets(&documents::read(
        root(),
        "Makefile",
    )));
}

fn unit(path: &str) -> String {
    documents::read(root(), &format!("systemd/{path}"))
}

#[test]
fn the_four_units_are_one() {
    let (gateway, relay) = (
        unit("infisical-gateway.service"),
        unit("infisical-relay.service"),
    );
    assert_none(&units::relay_against_gateway(&gateway, &relay));
    for (role, only) in [("gateway", gateway), ("relay", relay)] {
        let template = unit(&format!("infisical-{role}@.service"));
        assert_none(&units::template_against_unit(role, &only, &template));
        for (name, text) in [("", only), ("@", template)] {
            let drop_in = unit(&format!(
                "infisical-{role}{name}.service.d/dynamic-user.conf"
            ));
            assert_none(&units::forgotten_mounts(&text, &drop_in));
        }
    }
}

#[test]
fn numbers_agree_wherever_they_stand() {
    let sources = sources();
    let read = |path: &str| documents::read(root(), path);
    assert_none(&constants::disagreements(&sources, &read));
    let operations = read("docs/operations.md");
    assert_none(&constants::thread_budget(&operations));
    let gateway = unit("infisical-gateway.service");
    assert_none(&constants::unit_on_page(&gateway, &operations));
    let wait_online = unit("infisical-gateway-wait-online.service");
    assert_none(&constants::impatient_unit(&wait_online));
    for role in ["gateway", "relay"] {
        let stop = constants::longest_stop(&sources, role);
        let stop = stop.unwrap_or_else(|| panic!("the {role}'s constants were not found"));
        for name in ["", "@"] {
            let path = format!("infisical-{role}{name}.service");
            assert_none(&constants::unit_disagreements(&path, &unit(&path), stop));
        }
    }
}

#[test]
fn units_allow_the_memory_of_the_limits() {
    let sources = sources();
    for (role, names) in [
        ("gateway", &["", "@"][..]),
        ("relay", &["", "@"]),
        ("platform", &[""]),
    ] {
        let bound = memory::bound(&sources, role);
        let bound = bound.unwrap_or_else(|| panic!("the {role}'s limits were not found"));
        println!("{role}: {bound} MiB");
        for name in names {
            let path = format!("infisical-{role}{name}.service");
            assert_none(&memory::unit_disagreements(&path, &unit(&path), bound));
        }
    }
}

#[test]
fn names_are_resolved_in_one_place() {
    assert_none(&constants::other_resolvers(&sources()));
}

#[test]
fn systemd_accepts_the_installed_units() {
    let Some(version) = units::analyzer() else {
        println!("SKIPPED: units are not verified, systemd-analyze is not installed");
        return;
    };
    assert_none(&units::complaints(version));
}

#[test]
fn the_sandbox_is_as_tight_as_promised() {
    // Offline analysis came with 250.
    let Some(version) = units::analyzer().filter(|version| version.0 >= 250) else {
        println!("SKIPPED: units are not scored, systemd-analyze is not installed or too old");
        return;
    };
    assert_none(&units::exposed(version));
}
