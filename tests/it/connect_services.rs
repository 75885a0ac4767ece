//! `infisical connect GATEWAY SERVICE…` and `--all`, with services that an operator has named.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::support::process::{Process, infisical};
use crate::support::stack::{GATEWAY, Stack};
use crate::support::targets::Target;
use crate::support::{ready_file, write_private};

const CLIENT: &str = "alice";

/// `infisical platform …` as the administrator, which must succeed.
async fn platform(stack: &Stack, words: &[&str]) -> String {
    let mut command = infisical(stack.dir());
    command.arg("platform").args(words);
    command.args(["--domain", &stack.platform.url]);
    command.arg("--token-file").arg(stack.platform.token_file());
    let process = Process::spawn("platform", command);
    assert_eq!(process.exit_code().await, 0, "{}", process.output());
    process.stdout()
}

async fn define(stack: &Stack, name: &str, target: SocketAddr, port: u16) {
    let (target, port) = (target.to_string(), port.to_string());
    let words = ["service", "add", name, "--gateway", GATEWAY];
    let more = ["--target", &target, "--local-port", &port];
    platform(stack, &[&words[..], &more].concat()).await;
}

async fn allow(stack: &Stack, target: SocketAddr) {
    let target = target.to_string();
    let words = ["access", "allow", "--who", CLIENT, "--gateway", GATEWAY];
    platform(stack, &[&words[..], &["--target", &target]].concat()).await;
}

/// `infisical connect …` as the client.
fn connect(stack: &Stack, words: &[&str]) -> Process {
    let mut command = infisical(stack.dir());
    command.arg("connect").args(words);
    command.args(["--domain", &stack.platform.url]);
    command.arg("--token-file");
    command.arg(stack.dir().join("client-token"));
    command.arg("--ready-file").arg(stack.dir().join("ready"));
    Process::spawn("connect", command)
}

/// The lines of the ready file, which goes.
async fn ready(stack: &Stack) -> Vec<(SocketAddr, String)> {
    let path = stack.dir().join("ready");
    let text = ready_file(&path).await;
    std::fs::remove_file(&path).expect("removed");
    let line = |line: &str| {
        let (address, name) = line.split_once(' ').expect("an address and a name");
        (address.parse().expect("an address"), name.to_owned())
    };
    text.lines().map(line).collect()
}

/// What an HTTP service at `address` answers.
async fn page(stack: &Stack, address: SocketAddr) -> String {
    let mut command = crate::support::process::clean("curl", stack.dir());
    command.args(["--silent", "--show-error", "--max-time", "30"]);
    command.arg(format!("http://{address}/which"));
    let process = Process::spawn("curl", command);
    assert_eq!(process.exit_code().await, 0, "{}", process.output());
    process.stdout()
}

#[tokio::test(flavor = "multi_thread")]
async fn client_connects_to_services_by_name() {
    let stack = Stack::start().await;
    let words = ["identity", "create", CLIENT, "--role", "client"];
    let token = platform(&stack, &words).await;
    write_private(&stack.dir().join("client-token"), token.trim());
    let [web, wiki] = [
        Target::http(stack.host).await,
        Target::http(stack.host).await,
    ];
    // Another program has the port of one.
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let taken = other.local_addr().expect("bound").port();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    define(&stack, "web", web.address, port).await;
    define(&stack, "wiki", wiki.address, taken).await;

    // Without a rule there is none.
    for words in [&["--all"][..], &[GATEWAY, "--all"], &[GATEWAY, "web"]] {
        let process = connect(&stack, words);
        assert_eq!(process.exit_code().await, 78, "{}", process.output());
        assert!(process.output().contains("that you may reach"));
    }
    allow(&stack, wiki.address).await;
    let process = connect(&stack, &["--all"]);
    let wiki_name = format!("{GATEWAY}/wiki");
    let served = ready(&stack).await;
    assert_eq!(served.len(), 1, "{served:?}");
    assert_eq!(served[0].1, wiki_name);
    assert_ne!(served[0].0.port(), taken);
    let told = process.wait_for_line("instead").await;
    assert!(
        told.contains(&wiki_name) && told.contains(&taken.to_string()),
        "{told}"
    );
    assert!(page(&stack, served[0].0).await.contains("GET /which"));
    drop(process);

    allow(&stack, web.address).await;
    let process = connect(&stack, &[GATEWAY, "wiki", "web", "wiki"]);
    let served = ready(&stack).await;
    let names: Vec<&str> = served.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, [wiki_name.as_str(), &format!("{GATEWAY}/web")]);
    assert_eq!(served[1].0.port(), port);
    for (address, _) in &served {
        assert!(page(&stack, *address).await.contains("GET /which"));
    }
    let table = process.wait_for_line("LOCAL ADDRESS").await;
    assert!(table.contains("TARGET"), "{table}");
    drop(process);

    let unknown = connect(&stack, &[GATEWAY, "postgres"]);
    assert_eq!(unknown.exit_code().await, 78, "{}", unknown.output());
    assert!(unknown.output().contains("these are: web, wiki"));
    let nothing = connect(&stack, &[GATEWAY]);
    assert_eq!(nothing.exit_code().await, 64, "{}", nothing.output());
    assert!(nothing.output().contains("they are: web, wiki"));
    platform(&stack, &["service", "remove", "web", "--gateway", GATEWAY]).await;
    let list = platform(&stack, &["service", "list"]).await;
    assert!(list.contains("wiki") && !list.contains("web "), "{list}");
    let audit = platform(&stack, &["audit", "--kind", "administration"]).await;
    for action in ["add-service", "remove-service"] {
        assert!(audit.contains(action), "{audit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_for_services_are_checked() {
    let stack = Stack::start().await;
    write_private(
        &stack.dir().join("client-token"),
        stack.platform.token.as_str(),
    );
    for (words, text) in [
        (
            &["elsewhere", "web"][..],
            "there is no service web behind gateway elsewhere that you may reach",
        ),
        (
            &[GATEWAY, "--all"],
            "there is no service behind gateway GATEWAY that you may reach",
        ),
        (&["--all"], "there is no service that you may reach"),
    ] {
        let process = connect(&stack, words);
        assert_eq!(process.exit_code().await, 78, "{}", process.output());
        let text = text.replace("GATEWAY", GATEWAY);
        assert!(process.output().contains(&text), "{}", process.output());
    }
    write_private(&stack.dir().join("client-token"), "any");
    for words in [
        &["--all", "--listen=0"][..],
        &[GATEWAY, "--all", "--stdio"],
        &[GATEWAY, "web", "--to=db:1"],
        &[GATEWAY, "web", "--socks=0"],
        &[GATEWAY, "web", "--all"],
        &[GATEWAY],
        &[],
    ] {
        let process = connect(&stack, words);
        assert_eq!(
            process.exit_code().await,
            64,
            "{words:?}: {}",
            process.output()
        );
    }
}
