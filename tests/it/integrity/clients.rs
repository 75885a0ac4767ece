//! Clients that are not ours: Go and Node with their own TLS, curl, psql. An honest one never sees
//! nor causes a reset that it would not with plain TCP, and a broken connection is an error for
//! each.

use std::path::{Path, PathBuf};
use std::process::Command;

use infisical_runtime::events;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

use super::transfer::{BYTES, End, Received, Services, bytes, reset_now};
use crate::support::go;
use crate::support::process::{Process, clean};
use crate::support::session::Way;
use crate::support::stack::Stack;
use crate::support::targets::Target;
use crate::support::{soon, write_private};

/// Where a foreign client finds its certificates.
fn write_way(stack: &Stack, name: &str, way: &Way) -> String {
    let path = stack.dir().join(name);
    let leaf =
        |pem: &crate::support::x509::Pem| json!({"certificate": pem.certificate, "key": pem.key});
    let way = json!({
        "relay": format!("{}:8443", stack.host),
        "relayLeaf": leaf(&way.relay),
        "relayAnchors": way.relay_anchors,
        "gatewayLeaf": leaf(&way.gateway),
        "gatewayAnchors": way.gateway_anchors,
    });
    write_private(&path, &way.to_string());
    path.to_str().expect("UTF-8").to_owned()
}

/// A Go client of `target` that sends `text`.
async fn go_client(stack: &Stack, target: &Target, text: &str, flags: &[&str]) -> Option<Process> {
    let program = go::program()?;
    let way = write_way(stack, "go-way.json", &stack.way(target).await);
    let host = stack.host.to_string();
    let mut command = clean(program, stack.dir());
    command.args(["client", "-way", &way, "-host", &host, "-send", text]);
    command.args(flags);
    Some(Process::spawn("go client", command))
}

/// A Node client of `target` that sends `text` and then ends as `how` says.
async fn node_client(stack: &Stack, target: &Target, text: &str, how: &str) -> Option<Process> {
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("SKIPPED: node is not installed");
        return None;
    }
    let way = write_way(stack, "node-way.json", &stack.way(target).await);
    let mut command = clean("node", stack.dir());
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/interop/node/client.js"
    ));
    command.args([&way, &stack.host.to_string(), text, how]);
    Some(Process::spawn("node client", command))
}

/// The line in which a client says what it had.
async fn received(client: &Process) -> String {
    client.wait_for_line("received ").await
}

#[tokio::test(flavor = "multi_thread")]
async fn go_client_sees_the_targets_reset() {
    for flags in [
        &[][..],
        &["-half-close"],
        &["-tls12"],
        &["-tls12", "-half-close"],
    ] {
        let stack = Stack::start().await;
        let services = Services::start(stack.host).await;
        let Some(client) = go_client(&stack, &services.source, "x", flags).await else {
            return;
        };
        client.wait_for_line(&format!("so far {BYTES}")).await;
        services.reset();
        let end = received(&client).await;
        let expected = format!("received {BYTES} remote error: tls: internal error");
        assert_eq!(end, expected, "{flags:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn go_client_sees_gateway_or_relay_loss() {
    for is_relay in [false, true] {
        let stack = Stack::start().await;
        let services = Services::start(stack.host).await;
        let Some(client) = go_client(&stack, &services.source, "x", &[]).await else {
            return;
        };
        client.wait_for_line(&format!("so far {BYTES}")).await;
        let lost = if is_relay {
            &stack.relay
        } else {
            &stack.gateway
        };
        lost.signal(Signal::SIGKILL);
        let end = received(&client).await;
        assert!(end.starts_with(&format!("received {BYTES} ")), "{end}");
        assert!(!end.ends_with(" EOF"), "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_client_sees_the_targets_reset() {
    let stack = Stack::start().await;
    let services = Services::start(stack.host).await;
    let Some(client) = node_client(&stack, &services.source, "x", "read").await else {
        return;
    };
    client.wait_for_line(&format!("so far {BYTES}")).await;
    services.reset();
    let end = received(&client).await;
    assert!(end.starts_with(&format!("received {BYTES} ")), "{end}");
    assert!(end.contains("alert internal error"), "{end}");
}

/// However it ends after its last byte, the target sees an orderly end: clients close without
/// `close_notify`.
#[tokio::test(flavor = "multi_thread")]
async fn leaving_foreign_clients_end_in_order() {
    let stack = Stack::start().await;
    let mut services = Services::start(stack.host).await;
    let all = Received {
        bytes: 5,
        end: End::Orderly,
    };
    for how in ["end", "destroy", "exit"] {
        let Some(_client) = node_client(&stack, &services.sink, "hello", how).await else {
            break;
        };
        assert_eq!(services.next_end().await, all, "node: {how}");
    }
    for flags in [&["-half-close"][..], &["-exit"]] {
        let Some(_client) = go_client(&stack, &services.sink, "hello", flags).await else {
            break;
        };
        assert_eq!(services.next_end().await, all, "go: {flags:?}");
    }
}

/// The relay passes the loss of a client on, and the gateway that of a client without an orderly
/// end: half an upload must not look whole.
#[tokio::test(flavor = "multi_thread")]
async fn lost_foreign_client_resets_the_target() {
    let stack = Stack::start().await;
    let mut services = Services::start(stack.host).await;
    // A client that has read everything, so that the kernel does not reset by itself.
    let Some(_client) = go_client(&stack, &services.sink, "hello", &["-reset"]).await else {
        return;
    };
    assert_eq!(services.next_end().await.end, End::Reset);
}

/// A target that answers and ends: the client has the answer and an orderly end.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_clients_get_answer_and_orderly_end() {
    let stack = Stack::start().await;
    let target = Target::serve(stack.host, |mut stream| async move {
        let mut question = [0; 5];
        stream.read_exact(&mut question).await?;
        stream.write_all(&bytes()).await?;
        stream.shutdown().await?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.map(drop)
    })
    .await;
    for flags in [&[][..], &["-tls12"], &["-half-close"]] {
        let Some(client) = go_client(&stack, &target, "hello", flags).await else {
            break;
        };
        let end = received(&client).await;
        assert_eq!(end, format!("received {BYTES} EOF"), "{flags:?}");
    }
    for how in ["read", "end"] {
        let Some(client) = node_client(&stack, &target, "hello", how).await else {
            break;
        };
        assert_eq!(
            received(&client).await,
            format!("received {BYTES} end"),
            "{how}"
        );
    }
    assert_nothing_failed(&stack);
}

/// The measured fault: an HTTP/1.0 body without a length, cut in the middle, was a complete file
/// for curl.
#[tokio::test(flavor = "multi_thread")]
async fn curl_rejects_a_cut_body() {
    let stack = Stack::start().await;
    let target = Target::serve(stack.host, |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await?;
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await?;
        stream.write_all(&bytes()).await?;
        if request.starts_with(b"GET /whole") {
            return Ok(());
        }
        infisical_runtime::net::reset::delivered(&stream).await;
        reset_now(&stream);
        Ok(())
    })
    .await;
    let (forwarder, address) = stack.connect(&target.address.to_string()).await;
    for (path, code) in [("cut", 56), ("whole", 0)] {
        let file = stack.dir().join(path);
        let mut command = clean("curl", stack.dir());
        command.args(["--silent", "--output"]).arg(&file);
        command.arg(format!("http://{address}/{path}"));
        let curl = Process::spawn("curl", command);
        assert_eq!(soon("curl", curl.exit_code()).await, code, "{path}");
        let length = std::fs::metadata(&file).expect("the file").len();
        assert_eq!(usize::try_from(length).expect("a size"), BYTES, "{path}");
    }
    assert!(forwarder.is_running());
}

/// One connection for several requests, which the client then closes.
#[tokio::test(flavor = "multi_thread")]
async fn curl_keeps_and_ends_a_connection() {
    let stack = Stack::start().await;
    let (told, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let target = Target::serve(stack.host, move |stream| {
        let told = told.clone();
        async move {
            let mut stream = tokio::io::BufReader::new(stream);
            let mut requests = 0;
            let end = loop {
                let mut line = String::new();
                match stream.read_line(&mut line).await {
                    Ok(0) => break End::Orderly,
                    Ok(_) if line == "\r\n" => {
                        requests += 1;
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        stream.write_all(answer).await?;
                    }
                    Ok(_) => {}
                    Err(error) => break End::Other(error.to_string()),
                }
            };
            let _ = told.send((requests, end));
            Ok(())
        }
    })
    .await;
    let (_forwarder, address) = stack.connect(&target.address.to_string()).await;
    let mut command = clean("curl", stack.dir());
    let url = format!("http://{address}/");
    command.args(["--silent", "--show-error", &url, &url, &url]);
    let curl = Process::spawn("curl", command);
    assert_eq!(curl.exit_code().await, 0);
    let connection = soon("the end", ended.recv()).await.expect("a connection");
    assert_eq!(connection, (3, End::Orderly));
    assert_nothing_failed(&stack);
}

/// Each session was completed.
fn assert_nothing_failed(stack: &Stack) {
    let output = stack.gateway.output();
    let is_end = |line: &&str| line.contains(events::SESSION_ENDED.text);
    for line in output.lines().filter(is_end) {
        assert!(line.contains("outcome=completed"), "{line}");
    }
}

/// A PostgreSQL client and server, each of which ends as it always does.
#[tokio::test(flavor = "multi_thread")]
async fn psql_talks_to_postgres_without_failure() {
    let stack = Stack::start().await;
    let Some((_directory, _server, port)) = postgres().await else {
        return;
    };
    let (forwarder, address) = stack.connect(&format!("127.0.0.1:{port}")).await;
    for _ in 0..3 {
        let mut command = clean("psql", stack.dir());
        command.args(["--host", &address.ip().to_string()]);
        command.args(["--port", &address.port().to_string()]);
        command.args(["--username", "test", "--dbname", "postgres", "--no-psqlrc"]);
        command.args(["--tuples-only", "--no-align", "--command"]);
        command.arg("select sum(n) from generate_series(1, 100000) n");
        let psql = Process::spawn("psql", command);
        assert_eq!(soon("psql", psql.exit_code()).await, 0);
        assert_eq!(psql.stdout(), "5000050000");
    }
    let ended = |lines: &[String]| {
        let copied = lines.iter().filter(|l| l.contains("connection copied"));
        (copied.count() == 3).then_some(())
    };
    forwarder.wait_for("three ends", ended).await;
    let output = forwarder.output();
    assert!(!output.contains("connection failed"), "{output}");
    assert_nothing_failed(&stack);
}

/// The path of a program of PostgreSQL's server, which Debian keeps out of the search path.
fn server_program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.into_iter().flatten().flatten();
    let mut programs = versions.map(|version| version.path().join("bin").join(name));
    let installed = programs.find(|program| program.is_file());
    installed.unwrap_or_else(|| name.into())
}

/// A server of its own, its directory and its port; `None`, visibly, where it is not installed.
async fn postgres() -> Option<(tempfile::TempDir, Process, u16)> {
    let version = |program: &Path| Command::new(program).arg("--version").output();
    let (postgres, initdb) = (server_program("postgres"), server_program("initdb"));
    for program in [Path::new("psql"), &postgres, &initdb] {
        if version(program).is_err() {
            eprintln!("SKIPPED: {} is not installed", program.display());
            return None;
        }
    }
    let owned = tempfile::tempdir().expect("a directory");
    let directory = owned.path();
    // The server refuses to run as root.
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        let unprivileged = nix::unistd::Uid::from_raw(65534);
        nix::unistd::chown(directory, Some(unprivileged), None).expect("chown");
    }
    let unprivileged = |program: &Path| {
        let mut command = clean(program, directory);
        if is_root {
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
        }
        command
    };
    let data = directory.join("data");
    let mut command = unprivileged(&initdb);
    command.args(["--no-sync", "--auth=trust", "--username=test", "-D"]);
    let made = command.arg(&data).output().expect("initdb");
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr).trim().to_owned();
        eprintln!("SKIPPED: initdb cannot be used here: {why}");
        return None;
    }
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let mut command = unprivileged(&postgres);
    command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
    command.arg("-k").arg(directory).args(["-c", "fsync=off"]);
    let server = Process::spawn("postgres", command);
    server.wait_for_line("ready to accept connections").await;
    Some((owned, server, port))
}

/// A Redis client on Redis' own protocol, whose `quit` is answered and followed by both ends.
#[tokio::test(flavor = "multi_thread")]
async fn redis_cli_leaves_without_a_failure() {
    for program in ["redis-server", "redis-cli"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("SKIPPED: {program} is not installed");
            return;
        }
    }
    let stack = Stack::start().await;
    let free = std::net::TcpListener::bind((stack.host, 0)).expect("a free port");
    let target = free.local_addr().expect("an address");
    drop(free);
    let mut command = clean("redis-server", stack.dir());
    command.args(["--port", &target.port().to_string(), "--save", ""]);
    command.args(["--bind", &target.ip().to_string(), "--protected-mode", "no"]);
    let server = Process::spawn("redis-server", command);
    server.wait_for_line("Ready to accept connections").await;
    let (forwarder, address) = stack.connect(&target.to_string()).await;
    for (command, answer) in [
        (&["set", "key", "value"][..], "OK"),
        (&["get", "key"], "value"),
    ] {
        let mut client = clean("redis-cli", stack.dir());
        client.args(["-h", &address.ip().to_string()]);
        client
            .args(["-p", &address.port().to_string()])
            .args(command);
        let client = Process::spawn("redis-cli", client);
        assert_eq!(client.exit_code().await, 0);
        assert_eq!(client.stdout(), answer);
    }
    assert!(!forwarder.output().contains("connection failed"));
    assert_nothing_failed(&stack);
}
