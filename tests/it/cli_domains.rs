//! Domains that the deployed CLI keeps for a person: of its login, and of the project in the
//! current directory. They count at a terminal only, and each at its place.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::process::{Process, as_user, infisical};

/// The user that [`as_user`] becomes.
const USER: u32 = 65534;

/// A person's directories.
struct Person {
    home: tempfile::TempDir,
}

impl Person {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(home.path().join(".infisical/gateways")).expect("made");
        fs::create_dir_all(home.path().join("project/inner")).expect("made");
        Self { home }
    }

    fn write(&self, name: &str, text: &str) {
        crate::support::write_private(&self.home.path().join(name), text);
    }

    /// The output of `gateway check`, as the person, at a terminal or not.
    async fn check(
        &self,
        words: &[&str],
        variables: &[(&str, &str)],
        terminal: bool,
    ) -> Option<String> {
        give(self.home.path());
        let mut command = infisical(self.home.path());
        command.args(["gateway", "check", "edge"]).args(words);
        if terminal {
            command = at_terminal(&command);
            command.env("HOME", self.home.path());
            command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        }
        command.env("INFISICAL_TOKEN", "token");
        command.envs(variables.iter().copied());
        let mut command = as_user(&command)?;
        command.current_dir(self.home.path().join("project/inner"));
        let check = Process::spawn("check", command);
        assert_eq!(check.exit_code().await, 0, "{}", check.output());
        Some(check.output())
    }
}

/// The same command at a terminal, which script(1) makes.
fn at_terminal(command: &Command) -> Command {
    let mut words = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(ToOwned::to_owned));
    let words: Vec<_> = words
        .iter()
        .map(|word| word.to_str().expect("text"))
        .collect();
    let mut script = Command::new("script");
    script
        .args(["-qec", &words.join(" "), "/dev/null"])
        .env_clear();
    script
}

/// Gives everything in `path` to the user.
fn give(path: &Path) {
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(USER), Some(USER)).expect("given");
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("entries") {
                give(&entry.expect("an entry").path());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_login_and_project_have_their_rank() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: without script(1) there is no terminal");
        return;
    }
    let person = Person::new();
    let url = [("INFISICAL_API_URL", "https://variable.example")];
    let flag = ["--domain=https://flag.example"];
    let expect = |output: &str, domain: &str, from: &str| {
        let line = output
            .lines()
            .find(|line| line.contains("_API_URL ") || line.contains("_DOMAIN "));
        let line = line.unwrap_or_default();
        assert!(
            line.contains(domain) && line.contains(from),
            "{domain} {from}: {output}"
        );
    };
    let Some(output) = person.check(&[], &[], true).await else {
        return;
    };
    expect(&output, "https://app.infisical.com/api", "default");
    person.write(
        "project/.infisical.json",
        r#"{"workspaceId": "w", "domain": "ftp://x"}"#,
    );
    let output = person.check(&[], &[], true).await.expect("output");
    expect(&output, "https://app.infisical.com/api", "default");
    assert!(
        output.contains("is ignored: the URL must begin with https:// or http://"),
        "{output}"
    );
    person.write(
        "project/.infisical.json",
        r#"{"domain": "https://project.example"}"#,
    );
    let output = person.check(&[], &[], true).await.expect("output");
    let file = person.home.path().join("project/.infisical.json");
    expect(
        &output,
        "https://project.example/api",
        &format!("domain in {}", file.display()),
    );
    let output = person.check(&[], &url, true).await.expect("output");
    expect(&output, "https://variable.example/api", "environment");
    let login = r#"{"loggedInUserEmail": "a@b.example", "LoggedInUserDomain": "https://login.example/api"}"#;
    person.write(".infisical/infisical-config.json", login);
    let output = person.check(&[], &url, true).await.expect("output");
    expect(
        &output,
        "https://login.example/api",
        "login of the infisical CLI in ",
    );
    let output = person.check(&[], &url, false).await.expect("output");
    expect(&output, "https://variable.example/api", "environment");
    let stored = "INFISICAL_GATEWAY_DOMAIN=https://stored.example\n";
    person.write(".infisical/gateways/edge.conf", stored);
    let output = person.check(&[], &url, true).await.expect("output");
    expect(&output, "https://stored.example/api", "file, line 1");
    let output = person.check(&flag, &url, true).await.expect("output");
    expect(&output, "https://flag.example/api", "--domain");
    // A domain in the role's own file belongs to the tokens in it.
    person.write(
        ".infisical/gateways/edge.conf",
        "INFISICAL_API_URL=https://file.example\n",
    );
    let output = person.check(&[], &[], true).await.expect("output");
    expect(&output, "https://file.example/api", "file, line 1");
}
