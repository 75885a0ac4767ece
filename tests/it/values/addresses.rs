//! `--to` and `--listen`: forms that people type, accepted or answered with the right one.

use std::path::Path;
use std::process::Command;

use super::{MARK, run};
use crate::support::process::{Process, infisical};
use crate::support::session::echoes;
use crate::support::stack::{GATEWAY, Stack};
use crate::support::targets::Target;

fn connect(home: &Path, to: &str) -> Command {
    let mut command = infisical(home);
    command.args(["connect", "edge-1", "--to", to]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_target_is_answered_with_correct_form() {
    let dir = tempfile::tempdir().expect("a directory");
    for (to, part) in [
        ("postgres://db:5432", "db:5432"),
        (
            "postgres://u:hunter2@db.internal/app",
            "here db.internal:5432",
        ),
        ("https://[2001:db8::1]/", "here [2001:db8::1]:443"),
        ("db", "write HOST:PORT"),
        ("[db]", "write HOST:PORT"),
        ("::1:5432", "[::1]:5432"),
        ("root@db:22", "without a user name"),
        ("db:5432/app", "without a path"),
        ("[%h]:%p", "was not replaced"),
        ("b\u{fc}ro:22", "xn--"),
    ] {
        let mut command = connect(dir.path(), to);
        command.arg("--stdio");
        let (code, output) = run(command, b"").await;
        assert_eq!(code, 64, "{to}: {output}");
        let is_named = output.contains("--to") && output.contains(part);
        assert!(is_named, "{to}: {output}");
        assert!(!output.contains(MARK), "{to}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_local_address_gets_correct_form() {
    let dir = tempfile::tempdir().expect("a directory");
    for (listen, part) in [
        ("*:5432", "0.0.0.0:5432"),
        ("::1:5432", "[::1]:5432"),
        ("65536", "from 0 to 65535"),
        ("127.0.0.1", "ADDR:PORT"),
        (
            "db.internal:5432",
            "an IP address of this machine or localhost",
        ),
        ("tcp://127.0.0.1:5432", "without a scheme"),
    ] {
        let mut client = connect(dir.path(), "db:5432");
        client.args(["--listen", listen]);
        let mut platform = infisical(dir.path());
        platform.args(["platform", "start", "--listen", listen]);
        for command in [client, platform] {
            let (code, output) = run(command, b"").await;
            assert_eq!(code, 64, "{listen}: {output}");
            let is_named = output.contains("--listen") && output.contains(part);
            assert!(is_named, "{listen}: {output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn port_alone_and_brackets_are_understood() {
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let to = format!("[{}]:{}", echo.address.ip(), echo.address.port());
    for listen in ["0", ":0", "localhost:0"] {
        let mut command = infisical(stack.dir());
        command.args(["connect", GATEWAY, "--to", &to, "--listen", listen]);
        command.args(["--domain", &stack.platform.url]);
        command.arg("--token-file").arg(stack.platform.token_file());
        let client = Process::spawn("connect", command);
        let line = client.wait_for_line("Listening on 127.0.0.1:").await;
        let (_, address) = line.rsplit_once(' ').expect("an address");
        let connected = tokio::net::TcpStream::connect(address).await;
        let mut stream = connected.expect("connected");
        echoes(&mut stream, b"hello").await.expect("an echo");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn platform_listens_on_a_port_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    for listen in ["0", ":0", "localhost:0"] {
        let ready = dir.path().join(listen.replace(':', "-"));
        let mut command = infisical(dir.path());
        command.args(["platform", "start", "--listen", listen]);
        command.arg("--state-dir").arg(dir.path().join("state"));
        command.arg("--ready-file").arg(&ready);
        let platform = Process::spawn("platform", command);
        let url = crate::support::ready_file(&ready).await;
        assert!(url.starts_with("http://127.0.0.1:"), "{listen}: {url}");
        platform.kill().await;
    }
}
