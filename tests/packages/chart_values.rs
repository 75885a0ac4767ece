//! Objects that the chart makes of values, as JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::tools::{find, ok, root};

/// A version whose features the chart may use.
pub(crate) const KUBERNETES: &str = "1.34";
/// Tells JSON from YAML, each document in a line of its own.
const AS_JSON: &str = "import json, sys, yaml\n\
    for document in yaml.safe_load_all(sys.stdin):\n    \
        if document: print(json.dumps(document))";

pub(crate) fn chart() -> PathBuf {
    root().join("packaging/helm/infisical-gateway")
}

/// The files of values in the chart's directory `ci`.
pub(crate) fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(chart().join("ci")).expect("a directory");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it").path()).collect();
    files.sort();
    assert!(files.len() > 3, "{files:?}");
    files
}

pub(crate) fn named(name: &str) -> PathBuf {
    chart().join("ci").join(format!("{name}-values.yaml"))
}

/// `helm template` of the release `office`.
pub(crate) fn template(helm: &Path, words: &[&str]) -> Command {
    template_of(helm, &chart(), words)
}

/// The same of a chart in another place.
pub(crate) fn template_of(helm: &Path, chart: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(helm);
    command.args(["template", "office"]).arg(chart);
    command.args(["--namespace", "private", "--kube-version", KUBERNETES]);
    command.args(words);
    command
}

/// The objects of a file of values, each by its kind and name; nothing without the tools.
pub(crate) fn render(values: &Path) -> Option<BTreeMap<String, Value>> {
    let (helm, python) = (find("helm")?, yaml_reader()?);
    let values = values.to_str().expect("text");
    let rendered = ok(&mut template(&helm, &["--values", values]));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), rendered).expect("written");
    let mut read = Command::new(python);
    read.args(["-c", AS_JSON]).stdin(file.reopen().expect("it"));
    let documents = ok(&mut read);
    let objects = documents.lines().map(|line| {
        let object: Value = serde_json::from_str(line).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let name = text(&object["metadata"]["name"]);
        (format!("{}/{name}", text(&object["kind"])), object)
    });
    Some(objects.collect())
}

/// A Python with a reader of YAML: that of the tools.
pub(crate) fn yaml_reader() -> Option<PathBuf> {
    let beside = find("kubernetes-validate")?;
    Some(beside.with_file_name("python3"))
}

/// The one object of this kind.
#[track_caller]
pub(crate) fn only<'a>(objects: &'a BTreeMap<String, Value>, kind: &str) -> &'a Value {
    let prefix = format!("{kind}/");
    let mut found = objects
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix))
        .map(|(_, object)| object);
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no {kind}: {objects:?}"));
    assert!(found.next().is_none(), "several {kind}");
    first
}

/// The pods' template, and its only container.
#[track_caller]
pub(crate) fn pod(objects: &BTreeMap<String, Value>) -> (&Value, &Value) {
    let pod = &only(objects, "StatefulSet")["spec"]["template"]["spec"];
    let containers = pod["containers"].as_array().expect("a list");
    assert_eq!(containers.len(), 1);
    (pod, &containers[0])
}

/// The texts of a list.
pub(crate) fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .map(|value| value.as_str().expect("text"))
        .collect()
}
