//! Access rules: what a client reaches through a real gateway, and what it is refused.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::support::process::{Process, infisical};
use crate::support::stack::{GATEWAY, Stack};
use crate::support::targets::Target;
use crate::support::write_private;

const CLIENT: &str = "alice";

struct Lab {
    stack: Stack,
    echo: Target,
    /// Of the echo, in a form that only resolvers know: to everyone else it is a name.
    name: String,
}

impl Lab {
    async fn start() -> Self {
        let stack = Stack::start().await;
        // Its heartbeat says that it judges addresses.
        stack
            .gateway
            .wait_for_line("Gateway is reachable by Infisical")
            .await;
        let (code, token) =
            platform(&stack, &["identity", "create", CLIENT, "--role", "client"]).await;
        assert_eq!(code, 0);
        write_private(&stack.dir().join("client-token"), token.trim());
        let echo = Target::echo(stack.host).await;
        let name = format!("0x{:08x}:{}", u32::from(stack.host), echo.address.port());
        Self { stack, echo, name }
    }

    /// `infisical connect` to `target` as the client: its exit code and what it says.
    async fn connect(&self, target: &str) -> (i32, String) {
        let mut command = infisical(self.stack.dir());
        command.args(["connect", GATEWAY, "--to", target, "--stdio"]);
        command.args(["--domain", &self.stack.platform.url]);
        command.arg("--token-file");
        command.arg(self.stack.dir().join("client-token"));
        let mut process = Process::spawn("connect", command);
        drop(process.take_stdin());
        (process.exit_code().await, process.output())
    }

    async fn allow(&self, target: &str) -> i64 {
        let words = [
            "access",
            "allow",
            "--who",
            CLIENT,
            "--gateway",
            GATEWAY,
            "--target",
            target,
        ];
        let (code, said) = platform(&self.stack, &words).await;
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains(&format!("{CLIENT} may reach {target}")),
            "{said}"
        );
        let listed = platform(&self.stack, &["access", "list", "--json"]).await.1;
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let rules = listed["access_rules"].as_array().expect("rules");
        let rule = rules.iter().find(|rule| rule["target"] == target);
        rule.expect("it")["number"].as_i64().expect("a number")
    }

    async fn remove(&self, rule: i64) {
        let (code, said) = platform(&self.stack, &["access", "remove", &rule.to_string()]).await;
        assert_eq!(code, 0, "{said}");
    }

    /// The exit code of `access check`, and the outcome.
    async fn check(&self, target: &str) -> (i32, Value) {
        let words = ["access", "check", "--who", CLIENT, "--gateway", GATEWAY];
        let words = [&words[..], &["--target", target, "--json"]].concat();
        let (code, said) = platform(&self.stack, &words).await;
        let said: Value = serde_json::from_str(&said).expect("JSON");
        (code, said["outcome"].clone())
    }
}

/// `infisical platform …` as the administrator: its exit code and what it prints.
async fn platform(stack: &Stack, words: &[&str]) -> (i32, String) {
    let mut command = infisical(stack.dir());
    command.arg("platform").args(words);
    command.args(["--domain", &stack.platform.url]);
    command.arg("--token-file").arg(stack.platform.token_file());
    let process = Process::spawn("platform", command);
    (process.exit_code().await, process.stdout())
}

#[tokio::test(flavor = "multi_thread")]
async fn client_reaches_only_allowed_targets() {
    let lab = Lab::start().await;
    let address = lab.echo.address.to_string();
    for target in [&address, &lab.name] {
        let (code, said) = lab.connect(target).await;
        assert_eq!(code, 77, "{said}");
        assert!(said.contains("no access rule"), "{said}");
        assert_eq!(lab.check(target).await, (1, json!("denied")));
    }
    let rule = lab.allow(&address).await;
    let (code, said) = lab.connect(&address).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(lab.check(&address).await, (0, json!("allowed")));
    lab.remove(rule).await;
    assert_eq!(lab.connect(&address).await.0, 77);
}

/// What a name stands for only the gateway knows.
#[tokio::test(flavor = "multi_thread")]
async fn gateway_judges_the_addresses_of_names() {
    let lab = Lab::start().await;
    let port = lab.echo.address.port();
    let other = lab.allow("10.0.0.0/8").await;
    assert_eq!(lab.check(&lab.name).await, (0, json!("gateway_decides")));
    let (code, said) = lab.connect(&lab.name).await;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("no access rule of the platform"), "{said}");
    let log = lab.stack.gateway.output();
    assert!(
        log.contains("no access rule of the platform is for this address"),
        "{log}"
    );
    let network = Ipv4Addr::from(u32::from(lab.stack.host) & 0xffff_ff00);
    lab.allow(&format!("{network}/24:{port}")).await;
    let (code, said) = lab.connect(&lab.name).await;
    assert_eq!(code, 0, "{said}");
    lab.remove(other).await;
    assert_eq!(lab.connect(&lab.name).await.0, 0);
}
