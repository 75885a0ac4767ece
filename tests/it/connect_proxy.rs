//! `infisical connect --socks` and `--http-connect`, with curl as the program that uses them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::process::{Process, clean, infisical};
use crate::support::soon;
use crate::support::stack::{GATEWAY, Stack};
use crate::support::targets::{PAGE, Target};

fn connect(stack: &Stack, more: &[&str]) -> Process {
    let mut command = infisical(stack.dir());
    command.args(["connect", GATEWAY, "--domain", &stack.platform.url]);
    command.arg("--token-file").arg(stack.platform.token_file());
    command.args(more);
    Process::spawn("connect", command)
}

/// Both proxies, and their addresses.
async fn proxies(stack: &Stack) -> (Process, [String; 2]) {
    let process = connect(stack, &["--socks=0", "--http-connect=127.0.0.1:0"]);
    let mut addresses = [String::new(), String::new()];
    for (address, name) in addresses.iter_mut().zip(["SOCKS5", "HTTP CONNECT"]) {
        let line = process.wait_for_line(&format!(" for {name}")).await;
        let (_, rest) = line.split_once("Listening on ").expect("an address");
        let (found, _) = rest.split_once(' ').expect("an address");
        *address = found.to_owned();
    }
    (process, addresses)
}

/// The exit code of curl, and what it printed.
async fn curl(stack: &Stack, words: &[&str]) -> (i32, String) {
    let mut command = clean("curl", stack.dir());
    command.args(["--silent", "--show-error", "--max-time", "30"]);
    let process = Process::spawn("curl", {
        command.args(words);
        command
    });
    (process.exit_code().await, process.output())
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reaches_targets_of_its_choice() {
    let stack = Stack::start().await;
    let (_connect, [socks, http]) = proxies(&stack).await;
    let [page, other] = [
        Target::http(stack.host).await,
        Target::http(stack.host).await,
    ];
    let local = Target::http(std::net::Ipv4Addr::LOCALHOST).await;
    for target in [page.address, other.address] {
        let url = format!("http://{target}/which");
        for words in [
            &["--socks5-hostname", &socks, &url][..],
            &["--socks5-hostname", &socks, &url],
            &["--proxytunnel", "--proxy", &http, &url],
        ] {
            let (code, output) = curl(&stack, words).await;
            assert_eq!(code, 0, "{words:?}: {output}");
            assert!(
                output.contains(PAGE) && output.contains("GET /which"),
                "{output}"
            );
        }
    }
    // A name, which the gateway resolves.
    let url = format!("http://localhost:{}/", local.address.port());
    let (code, output) = curl(&stack, &["--socks5-hostname", &socks, &url]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains(PAGE), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_hear_why_there_is_no_connection() {
    let stack = Stack::start().await;
    let (connect, [socks, http]) = proxies(&stack).await;
    let dead = Target::refusing(stack.host);
    for (url, reply, status) in [
        (format!("http://{dead}/"), "(4)", "502"),
        // The policy of the gateway.
        ("http://169.254.169.254/".to_owned(), "(2)", "403"),
    ] {
        let (code, output) = curl(&stack, &["--socks5-hostname", &socks, &url]).await;
        assert_eq!(code, 97, "{output}");
        assert!(output.contains(reply), "{output}");
        let words = ["--proxytunnel", "--proxy", &http, &url];
        let (code, output) = curl(&stack, &words).await;
        assert_eq!(code, 56, "{output}");
        assert!(output.contains(status), "{output}");
    }
    connect.wait_for_line("connection failed").await;

    let mut stream = TcpStream::connect(&http).await.expect("the port");
    let request = format!("CONNECT {dead} HTTP/1.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer))
        .await
        .expect("an answer");
    let reason = format!("gateway {GATEWAY} could not reach {dead}: connection refused");
    assert!(answer.contains(&reason), "{answer}");
    // Without a tunnel it is no proxy.
    let (code, output) = curl(&stack, &["--proxy", &http, "http://db.internal/"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("only CONNECT is served here"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_listen_on_loopback_by_default() {
    let stack = Stack::start().await;
    for words in [
        &["--socks=0.0.0.0:0"][..],
        &["--socks=0", "--http-connect=[::]:0"],
        &["--socks=0", "--to=db:1"],
        &["--http-connect=0", "--stdio"],
        &["--http-connect=0", "--listen=0"],
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
    let process = connect(&stack, &["--socks=0.0.0.0:0", "--allow-remote"]);
    process.wait_for_line("Listening on 0.0.0.0:").await;
}
