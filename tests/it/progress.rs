//! Progress: a spinner on a terminal, a line elsewhere, on standard error and nowhere else.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::fake_platform::{Answer, FakePlatform};
use crate::support::loopback;
use crate::support::process::{Process, infisical};
use crate::support::{eventually, write_private};

const LIST: &str = "GET /api/v1/embedded/gateways";
const SHOWN: &str = "Waiting for the platform";

/// A platform that lists its gateways when the case lets it.
struct Slow {
    platform: FakePlatform,
    release: Arc<Notify>,
    dir: tempfile::TempDir,
}

impl Slow {
    async fn start() -> Self {
        let platform = FakePlatform::start(SocketAddr::from((loopback::address(), 0))).await;
        let release = Arc::new(Notify::new());
        platform.always(LIST, Answer::ok(&json!([])).held(&release));
        let dir = tempfile::tempdir().expect("a directory");
        write_private(&dir.path().join("token"), "token");
        Self {
            platform,
            release,
            dir,
        }
    }

    /// Lets the platform answer until `process` has ended.
    async fn finish(&self, process: &Process) {
        let look = || async {
            self.release.notify_one();
            (!process.is_running()).then_some(()).ok_or("it runs")
        };
        eventually("its end", look).await;
        assert_eq!(process.exit_code().await, 0);
    }

    fn list(&self, more: &[&str]) -> Command {
        let mut command = infisical(self.dir.path());
        command.args(["platform", "gateway", "list", "--json", "--token-file"]);
        command.arg(self.dir.path().join("token")).args(more);
        command.args(["--domain", &self.platform.url()]);
        command
    }
}

/// A command whose standard error is a terminal.
struct OnTerminal {
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn spawn(mut command: Command) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = openpty(&size, None).expect("a terminal");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.stderr(terminal.slave).spawn().expect("it starts");
        // The terminal ends with the last process that has it, which this must not be.
        drop(command);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut master, kept) = (File::from(terminal.master), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = master.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                kept.lock().expect("not poisoned").push_str(&text);
            }
        });
        Self { child, shown }
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("not poisoned").clone()
    }

    async fn wait_for(&self, part: &str) {
        let look = || async {
            let shown = self.shown();
            shown.contains(part).then_some(()).ok_or(shown)
        };
        eventually(part, look).await;
    }

    /// Waits for its end; gives what it printed.
    fn stdout(mut self) -> String {
        let mut stdout = String::new();
        let pipe = self.child.stdout.as_mut().expect("a pipe");
        pipe.read_to_string(&mut stdout).expect("text");
        assert!(self.child.wait().expect("a child of ours").success());
        stdout
    }
}

fn assert_is_list(stdout: &str) {
    let list: Value = serde_json::from_str(stdout).expect("JSON and nothing else");
    assert_eq!(list["gateways"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn terminal_shows_a_spinner_and_then_nothing() {
    let slow = Slow::start().await;
    let mut command = slow.list(&[]);
    command.env("TERM", "xterm");
    let command = OnTerminal::spawn(command);
    // At least two pictures, each in the place of the one before.
    command.wait_for(&format!("\\ {SHOWN}")).await;
    command.wait_for(&format!("| {SHOWN}")).await;
    assert!(!command.shown().contains('\n'), "{:?}", command.shown());
    slow.release.notify_one();
    let shown = Arc::clone(&command.shown);
    assert_is_list(&command.stdout());
    let cleared = || async {
        let shown = shown.lock().expect("not poisoned").clone();
        shown.ends_with("\r\u{1b}[2K").then_some(()).ok_or(shown)
    };
    eventually("an empty line", cleared).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_terminal_shows_one_line() {
    for variables in [
        &[("TERM", "dumb")][..],
        &[("TERM", "xterm"), ("NO_COLOR", "1")],
    ] {
        let slow = Slow::start().await;
        let mut command = slow.list(&[]);
        command.envs(variables.iter().copied());
        let command = OnTerminal::spawn(command);
        command.wait_for("...\r\n").await;
        slow.release.notify_one();
        let shown = command.shown();
        assert_is_list(&command.stdout());
        assert_eq!(shown, format!("{SHOWN} ...\r\n"), "{variables:?}");
    }
}

/// The quiet ones began to wait before the other one that shows a line after its wait.
#[tokio::test(flavor = "multi_thread")]
async fn quiet_and_json_show_nothing() {
    let slow = Slow::start().await;
    let quiet = Process::spawn("quiet", slow.list(&["--quiet"]));
    let json = Process::spawn("json", slow.list(&["--log-format", "json"]));
    slow.platform.asked(LIST, 2).await;
    let plain = Process::spawn("plain", slow.list(&[]));
    plain.wait_for_line(&format!("{SHOWN} ...")).await;
    for process in [&quiet, &json, &plain] {
        slow.finish(process).await;
        assert_is_list(&process.stdout());
    }
    for silent in [&quiet, &json] {
        assert_eq!(silent.output(), silent.stdout());
    }
}
