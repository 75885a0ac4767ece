//! packaging/examples, read by the programs that they are for. The Ansible role is also run, by
//! `tests/system`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::chart_values::{texts, yaml_reader};
use crate::tools::{find, ok, root, run, tools};

const PROGRAM: &str = env!("CARGO_BIN_EXE_infisical");

/// Judges the YAML document on standard input by a schema, and gives the document as JSON.
const JUDGE: &str = "import json, jsonschema, sys, yaml\n\
    document = yaml.safe_load(sys.stdin)\n\
    jsonschema.Draft4Validator(json.load(open(sys.argv[1]))).validate(document)\n\
    print(json.dumps(document))";

/// As much of the library of Nixpkgs as the module needs.
const NIX_CONFIGURATION: &str = r#"
{ module }:
let
  stubs = {
    mkEnableOption = text: text;
    mkOption = option: option;
    mkIf = condition: value: value;
    types = { path = 0; str = 0; listOf = type: type; };
    escapeShellArgs = builtins.concatStringsSep " ";
  };
  options = (module { config = { }; lib = stubs; pkgs = { }; }).options.services.infisical-gateway;
in
module {
  config.services.infisical-gateway = {
    enable = true;
    version = options.version.default;
    domain = options.domain.default;
    extraArguments = options.extraArguments.default ++ [ "--log-format=plain" ];
    source = "/source";
    name = "office";
    tokenFile = "/keys/token";
  };
  lib = stubs;
  pkgs = {
    autoPatchelfHook = "hook";
    stdenv = { cc.cc.lib = "lib"; mkDerivation = attributes: "/nix/store/program"; };
  };
}
"#;

fn example(name: &str) -> PathBuf {
    root().join("packaging/examples").join(name)
}

/// cloud-init's own schema, of its package.
fn cloud_init_schema() -> Option<PathBuf> {
    let below =
        "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json";
    let places = [tools().join("cloud-init"), PathBuf::from("/")];
    let found = places.into_iter().map(|place| place.join(below));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: user data is not checked, there is no cloud-init (make test-tools)");
    }
    found
}

fn judge(python: &Path, schema: &Path, document: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-c", JUDGE]).arg(schema);
    command.stdin(std::fs::File::open(document).expect("it"));
    command
}

#[test]
fn cloud_init_knows_the_user_data() {
    let (Some(python), Some(schema)) = (yaml_reader(), cloud_init_schema()) else {
        return;
    };
    let wrong = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(wrong.path(), "#cloud-config\nruncmd: 1\n").expect("written");
    let refused = run(&mut judge(&python, &schema, wrong.path()));
    assert!(!refused.status.success(), "the schema takes anything");

    let path = example("cloud-init.yaml");
    let text = std::fs::read_to_string(&path).expect("it");
    assert!(text.starts_with("#cloud-config\n"));
    let document = ok(&mut judge(&python, &schema, &path));
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let install = texts(&document["runcmd"][0]);
    assert_eq!(install[0], document["packages"][0]);
    let token = document["write_files"][0]["path"].as_str().expect("text");
    assert!(install.contains(&format!("--token-file={token}").as_str()));
    // Help is given for arguments that are understood.
    ok(Command::new(PROGRAM).args(&install[1..]).arg("--help"));
}

#[test]
fn ansible_understands_the_playbook() {
    let Some(ansible) = find("ansible-playbook") else {
        return;
    };
    let home = tempfile::tempdir().expect("a directory");
    let mut check = Command::new(ansible);
    check.args(["--syntax-check", "--inventory", "localhost,"]);
    check.env("HOME", home.path()).env("LC_ALL", "C.UTF-8");
    ok(check.arg(example("ansible/playbook.yml")));
}

#[test]
fn nix_evaluates_the_module() {
    let Some(nix) = find("nix-instantiate") else {
        return;
    };
    let module = example("nixos.nix");
    ok(Command::new(&nix).arg("--parse").arg(&module));

    let directory = tempfile::tempdir().expect("a directory");
    let configuration = directory.path().join("configuration.nix");
    std::fs::write(&configuration, NIX_CONFIGURATION).expect("written");
    let expression = format!(
        "(import {} {{ module = import {}; }}).config.systemd.services.infisical-gateway",
        configuration.display(),
        module.display()
    );
    let mut evaluate = Command::new(&nix);
    evaluate.args(["--eval", "--strict", "--json", "--store", "dummy://"]);
    let service = ok(evaluate.arg("--expr").arg(expression));
    let service: Value = serde_json::from_str(&service).expect("JSON");
    let command = service["serviceConfig"]["ExecStart"].as_str();
    let command = command.expect("text");
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!(
        words[..4],
        [
            "/nix/store/program/bin/infisical-gateway",
            "gateway",
            "start",
            "office"
        ]
    );
    let token = directory.path().join("token");
    std::fs::write(&token, "example-enrollment-token\n").expect("written");
    let mut check = Command::new(PROGRAM);
    check.env_clear().env("HOME", directory.path());
    check.args(["gateway", "check", "office"]);
    for word in &words[4..] {
        check.arg(word.replace("%d/enrollment-token", token.to_str().expect("text")));
    }
    check
        .arg("--config")
        .arg(directory.path().join("none.conf"));
    let said = ok(&mut check);
    assert!(said.contains("Nothing is wrong"), "{said}");
}
