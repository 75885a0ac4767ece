//! The screens in README.md: what the program prints, with times, ids and addresses made constant.
//! `UPDATE_GENERATED=1 cargo test --test it screens` writes them.

use std::net::Ipv4Addr;
use std::path::Path;

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::admin::Platform;
use crate::support::daemon::{GatewayCommand, RelayCommand};
use crate::support::lab::GATEWAY_CONNECTED;
use crate::support::process::{Process, infisical};
use crate::support::targets::Target;
use crate::support::{eventually, loopback, ready_file, write_private};

const RELAY: &str = "eu-1";
const GATEWAY: &str = "office";
const CLIENT: &str = "anna";

/// Layers of which the doctor tells what the machine is like that runs this.
const MACHINE: &[&str] = &[
    "systemd unit ",
    "sandbox of the unit ",
    "disk ",
    "open descriptors ",
    "memory ",
];
/// The column in which a layer begins.
const LAYER: usize = 13;

/// A platform, a relay, a gateway and a client with fixed names.
struct Scene {
    gateway: Process,
    relay: Process,
    platform: Platform,
    host: Ipv4Addr,
    config: String,
    dir: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, host) = (dir.path(), loopback::address());
        let platform = Platform::start(path, host, 0, &[]).await;
        let token = |name: &'static str| {
            let token = platform.identity_token(name);
            async { format!("INFISICAL_TOKEN={}\n", token.await) }
        };
        let keys = token(RELAY).await;
        let relay = RelayCommand::new(path, RELAY, host, &platform.url, &keys).spawn(path);
        let serves = "Relay server started successfully";
        relay.wait_for_line(serves).await;
        let keys = token(GATEWAY).await;
        let gateway = GatewayCommand::new(path, GATEWAY, &platform.url, RELAY, &keys);
        let config = gateway.config.display().to_string();
        let gateway = gateway.spawn(path);
        gateway
            .wait_for_line("Gateway is reachable by Infisical")
            .await;
        relay.wait_for_line(GATEWAY_CONNECTED).await;
        Self {
            gateway,
            relay,
            platform,
            host,
            config,
            dir,
        }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The exit code and the output of `infisical WORDS`.
    async fn run(&self, words: &[&str]) -> (i32, String) {
        let mut command = infisical(self.dir());
        command.args(words).arg("--quiet");
        let process = Process::spawn("command", command);
        (process.exit_code().await, process.output())
    }

    /// The same of `infisical platform WORDS`, as the administrator.
    async fn administrate(&self, words: &[&str]) -> String {
        let token = self.platform.token_file().display().to_string();
        let as_administrator = ["--domain", &self.platform.url, "--token-file", &token];
        let words = [&["platform"], words, &as_administrator].concat();
        let (code, output) = self.run(&words).await;
        assert_eq!(code, 0, "{output}");
        output
    }

    /// `infisical connect` as the client, and where it listens.
    async fn connect(&self, target: &str) -> (Process, String) {
        let token = self.dir().join(CLIENT);
        write_private(&token, &self.platform.token_with(CLIENT, &["client"]).await);
        let ready = self.dir().join("ready");
        let mut command = infisical(self.dir());
        command.args(["connect", GATEWAY, "--to", target, "--quiet"]);
        command.args(["--domain", &self.platform.url]);
        command.arg("--token-file").arg(&token);
        command.arg("--ready-file").arg(&ready);
        let process = Process::spawn("connect", command);
        process.wait_for_line("Listening on").await;
        (process, ready_file(&ready).await)
    }

    /// `output` with the names of the README in place of this machine's.
    fn named(&self, output: &str, more: &[(&str, &str)]) -> String {
        let url = self.platform.url.trim_start_matches("http://");
        let (host, pid) = (self.host.to_string(), self.gateway.pid().to_string());
        let process = (format!("process {pid}"), format!("process: {pid}"));
        let names = [
            (self.config.as_str(), "/etc/infisical/gateway.conf"),
            (url, "127.0.0.1:8080"),
            (host.as_str(), "127.0.0.1"),
            (process.0.as_str(), "process 7142"),
            (process.1.as_str(), "process: 7142"),
        ];
        let names = more.iter().chain(&names);
        let named = names.fold(output.to_owned(), |text, (found, name)| {
            text.replace(found, name)
        });
        named.lines().map(|line| constant(line) + "\n").collect()
    }
}

/// `line` with constant times, ages and ids.
fn constant(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let shape = |word: &str| -> String {
        let word = word.chars().map(|c| match c {
            '0'..='9' => '0',
            'a'..='f' => 'x',
            other => other,
        });
        word.collect()
    };
    let mut constant: Vec<String> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |index| words[index]);
        let after = words.get(index + 1).copied().unwrap_or_default();
        let digits = word.trim_start_matches('(');
        let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
        let new = match shape(word).as_str() {
            "0000-00-00" if before == "(until" => "2026-01-16".to_owned(),
            "0000-00-00" => "2026-01-15".to_owned(),
            "00:00:00" => "09:30:00".to_owned(),
            _ if is_number && after.trim_end_matches([',', ')']) == "s" => {
                word.replace(digits, "5")
            }
            // Those of the platform's own are among them.
            _ if is_number && after == "since" => "3".to_owned(),
            // It differs, so that not all renew at once.
            _ if is_number && before == "in" && after == "h" => "6".to_owned(),
            _ => with_constant_id(word),
        };
        constant.push(new);
    }
    constant.join(" ")
}

/// `word` with a constant id in place of the one that it may be.
fn with_constant_id(word: &str) -> String {
    let id = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let parts: Vec<usize> = id.split('-').map(str::len).collect();
    match parts.as_slice() {
        [8, 4, 4, 4, 12] => word.replace(id, "5f0c2a9e-8d41-4c1b-9a35-2f6f2b1d7e60"),
        _ => word.to_owned(),
    }
}

/// A table whose cells are constant now, with columns as wide as their cells.
fn aligned(table: &str) -> String {
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
        })
        .map(Iterator::collect)
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.len()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<&str>| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Compares the screen called `name` in README.md with `text`, or writes it.
fn assert_screen(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md");
    let [begin, end] = ["begin", "end"].map(|at| format!("<!-- screen {name}: {at} -->\n"));
    let (before, rest) = readme.split_once(&begin).expect("the screen's begin");
    let (old, after) = rest.split_once(&end).expect("the screen's end");
    let new = format!("```console\n{text}```\n");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, format!("{before}{begin}{new}{end}{after}")).expect("written");
    } else {
        assert_eq!(
            old, new,
            "run `UPDATE_GENERATED=1 cargo test --test it screens`"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn screens_of_the_readme_are_real() {
    let scene = Scene::start().await;
    let echo = Target::echo(Ipv4Addr::LOCALHOST).await;
    let port = echo.address.port();
    let target = format!("localhost:{port}");
    let (client, local) = scene.connect(&target).await;
    let names = [
        (target.as_str(), "db.internal:5432"),
        (&echo.address.to_string(), "10.0.0.7:5432"),
        (local.as_str(), "127.0.0.1:15432"),
    ];
    let connect = scene.named(&client.output(), &names);
    let connect_words = "infisical connect office --to db.internal:5432 --listen 127.0.0.1:15432";
    assert_screen("connect", &format!("$ {connect_words}\n{connect}"));

    let mut session = TcpStream::connect(&local).await.expect("the local port");
    session.write_all(b"hello").await.expect("written");
    let mut back = [0; 5];
    session.read_exact(&mut back).await.expect("an echo");
    let (code, sessions) = scene.run(&["gateway", "sessions"]).await;
    assert_eq!(code, 0, "{sessions}");
    let sessions = aligned(&scene.named(&sessions, &names));
    let (code, status) = scene.run(&["gateway", "status"]).await;
    assert_eq!(code, 0, "{status}");
    let status = scene.named(&status, &names);
    assert_screen(
        "status",
        &format!(
            "$ sudo infisical gateway status\n{status}$ sudo infisical gateway sessions\n{sessions}"
        ),
    );
    let list = scene.administrate(&["gateway", "list"]).await;
    let list = aligned(&scene.named(&list, &names));
    assert_screen(
        "list",
        &format!("$ infisical platform gateway list\n{list}"),
    );
    drop((session, client));

    scene.relay.signal(Signal::SIGKILL);
    scene.relay.exit().await;
    let doctor = || async {
        let (_, status) = scene.run(&["gateway", "status"]).await;
        if !(status.contains("trying again") && status.contains("refused")) {
            return Err(status);
        }
        let words = ["gateway", "doctor", GATEWAY, "--config", &scene.config];
        let domain = ["--domain", &scene.platform.url];
        Ok(scene.run(&[&words[..], &domain].concat()).await)
    };
    let (code, found) = eventually("the relay's end", doctor).await;
    assert_eq!(code, 1, "{found}");
    let of_machine = |line: &&str| {
        let layer = line.get(LAYER..).unwrap_or_default();
        MACHINE
            .iter()
            .any(|of_machine| layer.starts_with(of_machine))
    };
    let found: Vec<&str> = found.lines().filter(|line| !of_machine(line)).collect();
    let found = scene.named(&found.join("\n"), &names);
    assert_screen(
        "doctor",
        &format!("$ sudo infisical gateway doctor\n{found}"),
    );
}
