//! docs/json.md: each command that has `--json` prints exactly the fields that stand there.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::process::{Process, infisical};
use crate::support::session::echoes;
use crate::support::stack::{GATEWAY, RELAY, Stack};
use crate::support::targets::Target;

const PAGE: &str = include_str!("../../docs/json.md");

/// The commands of the page, each with the object that stands there.
fn documented() -> Vec<(String, Value)> {
    let sections = PAGE.split("\n## ").skip(1);
    let section = |section: &'static str| {
        let (commands, text) = section.split_once('\n').expect("a heading");
        let (_, block) = text.split_once("```json\n").expect("an object");
        let (block, _) = block.split_once("```").expect("its end");
        let shape: Value = serde_json::from_str(block).expect("JSON");
        let commands = commands.split(", ");
        commands.map(move |command| (command.to_owned(), shape.clone()))
    };
    sections.flat_map(section).collect()
}

/// The commands that have `--json`, as docs/commands.md has them.
fn offered() -> BTreeSet<String> {
    let commands = include_str!("../../docs/commands.md");
    let sections = commands.split("\n## infisical ").skip(1);
    let offers = sections.filter(|section| section.contains(" --json"));
    let names = offers.map(|section| section.lines().next().unwrap_or_default().to_owned());
    names.collect()
}

/// Every path of fields, with `[]` for the elements of lists. `null` stands for any value.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = format!("{path}.{name}");
                found.insert(path.clone());
                fields(value, &path, found);
            }
        }
        Value::Array(list) => {
            for value in list {
                fields(value, &format!("{path}[]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fails unless `found` has the fields of `shape`; a list may be empty, a value unknown.
fn assert_shape(command: &str, shape: &Value, found: &Value) {
    let [mut expected, mut actual] = [BTreeSet::new(), BTreeSet::new()];
    fields(shape, "", &mut expected);
    fields(found, "", &mut actual);
    let unknown: Vec<_> = actual.difference(&expected).collect();
    assert!(
        unknown.is_empty(),
        "{command}: docs/json.md lacks {unknown:?}"
    );
    let is_inside_absent = |path: &String| {
        let outer = path.rsplit_once("[]").map(|(outer, _)| outer.to_owned());
        let outer = outer.or_else(|| path.rsplit_once('.').map(|(outer, _)| outer.to_owned()));
        outer.is_some_and(|outer| {
            let pointer = outer.replace("[]", "/0").replace('.', "/");
            let value = found.pointer(&pointer);
            value.is_none_or(|value| value.is_null() || value.as_array().is_some_and(Vec::is_empty))
        })
    };
    let missing = expected.difference(&actual);
    let missing: Vec<_> = missing.filter(|path| !is_inside_absent(path)).collect();
    assert!(missing.is_empty(), "{command} lacks {missing:?}: {found}");
    for name in shape.as_object().expect("an object").keys() {
        assert!(found.get(name).is_some(), "{command} lacks {name}: {found}");
    }
    assert_eq!(found["version"], 1, "{command}");
}

#[test]
fn every_json_command_is_documented() {
    let documented: BTreeSet<String> = documented().into_iter().map(|(name, _)| name).collect();
    assert!(documented.len() > 10, "{documented:?}");
    assert_eq!(documented, offered());
}

/// What is added to the words of a command.
fn more(stack: &Stack, command: &str) -> Vec<String> {
    let url = stack.platform.url.clone();
    let token = stack.platform.token_file().display().to_string();
    let config = |path: &std::path::Path| vec!["--config".to_owned(), path.display().to_string()];
    if command.starts_with("platform ") {
        let mut words = vec!["--domain".to_owned(), url, "--token-file".to_owned(), token];
        if command == "platform access check" {
            let which = ["--who=alice", "--gateway", GATEWAY, "--target=a:1"];
            words.extend(which.map(str::to_owned));
        }
        return words;
    }
    let mut words = match command {
        "login" => vec!["--status".to_owned(), "--domain".to_owned(), url.clone()],
        "gateway check" | "gateway doctor" => config(&stack.gateway_command.config),
        "relay check" | "relay doctor" => config(&stack.relay_command.config),
        "gateway policy check" => {
            let mut words = config(&stack.gateway_command.config);
            words.push("localhost:5432".to_owned());
            words
        }
        _ => Vec::new(),
    };
    match command {
        "gateway check" | "gateway doctor" | "gateway egress" => words.push(GATEWAY.to_owned()),
        "relay check" | "relay doctor" => {
            words.extend(["--name", RELAY].map(str::to_owned));
            words.push(format!("--host={}", stack.host));
        }
        _ => return words,
    }
    words.extend(["--domain".to_owned(), url]);
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_print_the_documented_fields() {
    let stack = Stack::start().await;
    for process in [&stack.gateway, &stack.relay] {
        process.wait_for_line("is reachable by Infisical").await;
    }
    stack
        .platform
        .enrollment_token("gateway", "edge-2", None)
        .await;
    let echo = Target::echo(stack.host).await;
    let mut client = stack.way(&echo).await.tcp().await.expect("a way");
    echoes(&mut client, b"hello").await.expect("an echo");
    let client = stack.platform.token_with("alice", &["client"]).await;
    assert!(!client.is_empty());
    for (command, shape) in documented() {
        let mut process = infisical(stack.dir());
        process.args(command.split(' ')).arg("--json");
        process.args(more(&stack, &command));
        let process = Process::spawn("command", process);
        process.exit().await;
        let (text, output) = (process.stdout(), process.output());
        let found = serde_json::from_str(&text);
        let found: Value = found.unwrap_or_else(|error| panic!("{command}: {error}: {output}"));
        assert_shape(&command, &shape, &found);
        for secret in &stack.secrets {
            assert!(!text.contains(secret), "{command} shows a secret");
        }
    }
}

/// What is wrong has the same shape, and is said to people too.
#[tokio::test(flavor = "multi_thread")]
async fn failed_check_has_the_same_fields() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = infisical(dir.path());
    command.args(["gateway", "check", "edge", "--json"]);
    command.env("INFISICAL_RELAY_NAME", "Bad Name!");
    let process = Process::spawn("check", command);
    assert_eq!(process.exit_code().await, 78);
    let found: Value = serde_json::from_str(&process.stdout()).expect("JSON");
    let documented = documented();
    let (_, shape) = documented
        .iter()
        .find(|(command, _)| command == "gateway check")
        .expect("its shape");
    assert_shape("gateway check", shape, &found);
    assert_eq!(found["ok"], false, "{found}");
    let problems = found["problems"].as_array().expect("a list");
    assert!(!problems.is_empty(), "{found}");
    assert!(
        process.output().contains("INFISICAL_RELAY_NAME"),
        "{}",
        process.output()
    );
}
