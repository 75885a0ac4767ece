//! What shells complete: the scripts, in the shells that are installed here.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::process::{as_user, infisical};

/// What `infisical WORDS` prints.
fn output(home: &Path, words: &[&str]) -> String {
    let output = infisical(home).args(words).output().expect("it runs");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Has `shell` run `script`, with the program in its path; `None` where there is no such shell.
fn run(shell: &str, home: &Path, script: &str) -> Option<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_infisical"));
    let programs = program.parent().expect("a directory").display();
    let mut command = Command::new(shell);
    command.env_clear().args(["-c", script]).env("HOME", home);
    command.env("PATH", format!("{programs}:/usr/bin:/bin"));
    if command.output().is_err() {
        eprintln!("SKIPPED: {shell} is not installed");
        return None;
    }
    // Root has its configurations elsewhere.
    let output = as_user(&command)?.output().expect("it runs");
    assert!(output.status.success(), "{shell}: {output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A home with a gateway's configuration, and the script of `shell`.
fn home(shell: &str) -> (tempfile::TempDir, String) {
    let home = tempfile::tempdir().expect("a directory");
    let folder = home.path().join(".infisical/gateways");
    std::fs::create_dir_all(&folder).expect("a directory");
    std::fs::write(folder.join("edge-1.conf"), "").expect("written");
    let readable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(home.path(), readable).expect("its mode");
    let script = output(home.path(), &["completions", shell]);
    (home, script)
}

/// What is completed: words of the command line, the last one unfinished, and what must be offered.
const CASES: &[(&[&str], &str)] = &[
    (&["infisical", "gate"], "gateway"),
    (&["infisical", "platform", "gateway", "re"], "remove"),
    (
        &["infisical", "gateway", "systemd", "install", "--tok"],
        "--token-file",
    ),
    (&["infisical", "relay", "start", "--type", "in"], "instance"),
    (&["infisical", "gateway", "start", "ed"], "edge-1"),
    (&["infisical", "connect", "ed"], "edge-1"),
];

#[test]
fn bash_completes_commands_flags_and_names() {
    let (home, script) = home("bash");
    for (words, expected) in CASES {
        let last = words.last().expect("a word");
        let script = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9\n\
             _clap_complete_infisical infisical {last} ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1
        );
        let Some(offered) = run("bash", home.path(), &script) else {
            return;
        };
        assert!(
            offered.lines().any(|line| line == *expected),
            "{words:?}: {offered}"
        );
    }
}

#[test]
fn fish_completes_commands_flags_and_names() {
    let (home, script) = home("fish");
    for (words, expected) in CASES {
        let script = format!("{script}\ncomplete --do-complete '{}'", words.join(" "));
        let Some(offered) = run("fish", home.path(), &script) else {
            return;
        };
        let mut lines = offered.lines();
        let is_offered = lines.any(|line| line.split('\t').next() == Some(*expected));
        assert!(is_offered, "{words:?}: {offered}");
    }
}

/// Completion needs a terminal; without one the shell shows that it finds the functions, and that
/// the program answers it.
#[test]
fn zsh_loads_the_script_and_is_answered() {
    let (home, script) = home("zsh");
    std::fs::write(home.path().join("_infisical"), script).expect("written");
    for (words, expected) in CASES {
        let script = format!(
            "fpath=($HOME $fpath); autoload -U compinit; compinit -D -u\n\
             _describe() {{ print -l -- ${{(P)@[-1]}} }}\n\
             words=({}); CURRENT={}; $_comps[infisical]",
            words.join(" "),
            words.len()
        );
        let Some(offered) = run("zsh", home.path(), &script) else {
            return;
        };
        let mut lines = offered.lines();
        let is_offered = lines.any(|line| line.split(':').next() == Some(*expected));
        assert!(is_offered, "{words:?}: {offered}");
    }
}

#[test]
fn manual_pages_are_written_for_commands() {
    let to = tempfile::tempdir().expect("a directory");
    output(to.path(), &["man", &to.path().display().to_string()]);
    let page = to.path().join("infisical-gateway-start.1");
    let page = std::fs::read_to_string(page).expect("a page");
    for part in [
        ".TH infisical-gateway-start 1",
        "NOTES AND EXAMPLES",
        "\\-\\-token\\-file",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let mut absent = infisical(to.path());
    absent.args(["man", "/nonexistent"]);
    let refused = absent.output().expect("it runs");
    assert_eq!(refused.status.code(), Some(69));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(
        text.contains("cannot write /nonexistent/infisical"),
        "{text}"
    );
}
