//! The Ansible role of packaging/examples, run from this machine on a container. In place of ssh a
//! script enters the container.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::deb;
use crate::image::Release;
use crate::lab::Lab;
use crate::runner::Unsupported;
use crate::service::{self, GATEWAY, UNIT};

pub(in crate::cases) fn boot(release: Release) -> Lab {
    if !ansible().is_file() {
        std::panic::panic_any(Unsupported("there is no Ansible (make test-tools)"));
    }
    deb::boot(release)
}

fn ansible() -> PathBuf {
    let tools = std::env::var_os("TOOLS").map_or_else(|| "target/dist-tools".into(), PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(tools).join("checks/bin/ansible-playbook")
}

/// A program that runs its last argument in the container, as ssh runs it on a machine.
fn ssh(lab: &Lab, directory: &Path) -> PathBuf {
    let command = lab.container.command(["sh", "-c"]);
    let quoted = |word: &std::ffi::OsStr| format!(" '{}'", word.to_string_lossy());
    let mut script = "#!/bin/sh\nfor last; do :; done\nexec env -i".to_owned();
    for (name, value) in command.get_envs() {
        let value = value.unwrap_or_default().to_string_lossy();
        script.push_str(&format!(" '{}={value}'", name.to_string_lossy()));
    }
    script.push_str(&quoted(command.get_program()));
    script.extend(command.get_args().map(quoted));
    script.push_str(" \"$last\"\n");
    let path = directory.join("ssh");
    std::fs::write(&path, script).expect("written");
    let runnable = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&path, runnable).expect("a mode");
    path
}

/// Runs the playbook; gives what Ansible counts of it.
#[track_caller]
fn play(lab: &Lab, more: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let key = deb::repository(lab.container.release()).join("key.gpg");
    let mut variables = vec![
        (
            "ansible_ssh_executable".to_owned(),
            ssh(lab, directory.path()).display().to_string(),
        ),
        (
            "infisical_gateway_repository".to_owned(),
            format!("file:{}", deb::REPOSITORY),
        ),
        (
            "infisical_gateway_key".to_owned(),
            key.display().to_string(),
        ),
        ("infisical_gateway_domain".to_owned(), lab.domain.to_owned()),
    ];
    let more = more.iter();
    variables.extend(more.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let playbook = "packaging/examples/ansible/playbook.yml";
    let mut command = Command::new(ansible());
    command.args(["--inventory", "container,"]);
    for (name, value) in &variables {
        command.arg("--extra-vars").arg(format!("{name}={value}"));
    }
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(playbook));
    for (name, value) in [
        ("LC_ALL", "C.UTF-8"),
        ("ANSIBLE_SSH_TRANSFER_METHOD", "piped"),
        ("ANSIBLE_NOCOLOR", "1"),
        ("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3"),
    ] {
        command.env(name, value);
    }
    let output = command.env("HOME", directory.path()).output();
    let output = output.expect("ansible-playbook");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    said
}

pub(in crate::cases) fn role_makes_a_gateway_a_service(lab: &mut Lab) {
    // No other repository can be reached.
    lab.container.write("/etc/apt/sources.list", "", 0o644);
    let token = lab.container.read(&service::token_file(lab, GATEWAY));
    play(lab, &[("infisical_gateway_token", token.trim())]);
    lab.assert_session(GATEWAY);
    assert_eq!(lab.container.property(UNIT, "DynamicUser"), "yes");
}

pub(in crate::cases) fn second_run_changes_nothing(lab: &mut Lab) {
    let before = service::invocation(&lab.container, UNIT);
    let token = lab.container.read(&service::token_file(lab, GATEWAY));
    for more in [&[("infisical_gateway_token", token.trim())][..], &[]] {
        let said = play(lab, more);
        assert!(said.contains("changed=0"), "{said}");
    }
    assert_eq!(service::invocation(&lab.container, UNIT), before);
}
