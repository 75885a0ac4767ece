//! A gateway hands its service over to a successor: the program as its file is now, without a gap.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::load_generator::during;
use crate::support::eventually;
use crate::support::fake_platform::Answer;
use crate::support::go::{DeployedRelay, program};
use crate::support::lab::{GATEWAY, Lab, REGISTER_GATEWAY};
use crate::support::manager::Manager;
use crate::support::process::Process;
use crate::support::ready_file;
use crate::support::session::{Way, echoes};
use crate::support::targets::Target;

/// A gateway under a service manager that only listens, started from a file of its own.
struct Service {
    gateway: Process,
    manager: Manager,
    program: PathBuf,
}

/// A process that is no child of the test; killed when dropped.
struct Successor(Pid);

impl Successor {
    /// The one that `said` names as the main process.
    fn of(said: &str) -> Self {
        let pid = said.lines().find_map(|line| line.strip_prefix("MAINPID="));
        let pid = pid.expect("a main process").parse().expect("a number");
        Self(Pid::from_raw(pid))
    }

    fn is_gone(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0));
        // A process that no one has waited for yet has ended all the same.
        stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
    }

    async fn end(&self) {
        kill(self.0, Signal::SIGTERM).expect("a process");
        eventually("the end of the successor", || async {
            self.is_gone().then_some(()).ok_or("it runs")
        })
        .await;
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        match kill(self.0, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => eprintln!("cannot end the successor: {error}"),
        }
    }
}

impl Service {
    async fn start(lab: &Lab) -> Self {
        let command = lab.gateway_command().command(lab.dir());
        Self::of(command, lab.dir()).await
    }

    /// `command`, executed from a file in `dir`.
    async fn of(command: Command, dir: &Path) -> Self {
        let program = dir.join("program");
        install(&program);
        let mut own = Command::new(&program);
        own.args(command.get_args()).env_clear();
        for (name, value) in command.get_envs() {
            own.envs(value.map(|value| (name, value)));
        }
        own.current_dir(dir);
        own.env("RUNTIME_DIRECTORY", dir);
        own.env("WATCHDOG_USEC", "200000");
        let manager = Manager::listen(&dir.join("notify"), &mut own);
        let gateway = Process::spawn("gateway", own);
        manager.wait_for("READY=1");
        gateway.wait_for_line("Gateway started successfully").await;
        Self {
            gateway,
            manager,
            program,
        }
    }

    /// Puts another file in the program's place and asks for a hand-over.
    fn upgrade(&self) {
        install(&self.program);
        self.gateway.signal(Signal::SIGURG);
    }
}

/// A session through `way`, from its first byte to its last.
async fn session(way: Way) -> std::io::Result<()> {
    let mut stream = way.tcp().await?;
    echoes(&mut stream, b"hello").await
}

/// The program at `path`, in the place of one that may run.
fn install(path: &Path) {
    let _ = std::fs::remove_file(path);
    let built = env!("CARGO_BIN_EXE_infisical");
    if std::fs::hard_link(built, path).is_err() {
        std::fs::copy(built, path).expect("copied");
    }
}

/// Asserts that `successor` has no socket of `first`.
fn assert_inherits_no_socket(first: Pid, successor: Pid) {
    let sockets = |pid: Pid| -> Option<BTreeSet<PathBuf>> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        Some(
            links
                .filter(|link| link.to_string_lossy().starts_with("socket:"))
                .collect(),
        )
    };
    let Some((first, successor)) = sockets(first).zip(sockets(successor)) else {
        eprintln!("SKIPPED: only root sees the descriptors of the program");
        return;
    };
    let shared: Vec<_> = first.intersection(&successor).collect();
    assert!(!first.is_empty() && !successor.is_empty());
    assert!(shared.is_empty(), "{shared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn successor_serves_before_the_first_process_ends() {
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let service = Service::start(&lab).await;
    let manager = &service.manager;
    let echo = Target::echo(lab.host).await;
    let mut open = lab.way(echo.address).tcp().await.expect("a way");
    echoes(&mut open, b"before").await.expect("an echo");

    service.upgrade();
    let said = manager.wait_for("MAINPID=");
    let successor = Successor::of(&said);
    // Only the main process may speak, and the successor tells everything again.
    assert!(
        !said.contains("READY=1") && !said.contains("STOPPING=1"),
        "{said}"
    );
    let said = manager.wait_for("READY=1");
    assert!(said.contains("STATUS=connected to "), "{said}");
    manager.wait_for("WATCHDOG=1");
    assert!(service.gateway.is_running(), "it has a session");

    assert_inherits_no_socket(service.gateway.pid(), successor.0);

    echoes(&mut open, b"the old one").await.expect("not cut");
    let mut new = lab.way(echo.address).tcp().await.expect("a way");
    echoes(&mut new, b"the new one").await.expect("an echo");
    drop(open);
    assert!(service.gateway.ended().await.success());
    echoes(&mut new, b"alone").await.expect("not cut");
    assert!(!ready_file(&lab.dir().join("online")).await.is_empty());
    assert!(
        lab.dir().join("status.sock").exists(),
        "it is the successor's"
    );

    let said = manager.wait_for("WATCHDOG=1");
    assert!(!said.contains("STOPPING=1"), "{said}");
    drop(new);
    successor.end().await;
    manager.wait_for("STOPPING=1");
    assert!(!lab.dir().join("online").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_successor_leaves_the_first_serving() {
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let config = lab.dir().join(format!("gateway-{GATEWAY}.conf"));
    let service = Service::start(&lab).await;
    let manager = &service.manager;
    let echo = Target::echo(lab.host).await;
    let mut session = lab.way(echo.address).tcp().await.expect("a way");
    echoes(&mut session, b"before").await.expect("an echo");

    let good = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, format!("{good}no setting\n")).expect("written");
    service.upgrade();
    let line = service.gateway.wait_for_line("not handed over").await;
    assert!(line.contains("the new process failed"), "{line}");
    echoes(&mut session, b"after").await.expect("not cut");
    let said = manager.wait_for("WATCHDOG=1");
    assert!(!said.contains("MAINPID="), "{said}");

    // A program that cannot even be executed.
    std::fs::write(&config, good).expect("written");
    std::fs::remove_file(&service.program).expect("removed");
    let mark = service.gateway.mark();
    service.gateway.signal(Signal::SIGURG);
    let line = service
        .gateway
        .wait_for_line_after(mark, "not handed over")
        .await;
    assert!(line.contains("cannot execute"), "{line}");
    echoes(&mut session, b"still").await.expect("not cut");

    drop(session);
    service.upgrade();
    let _successor = Successor::of(&manager.wait_for("MAINPID="));
    manager.wait_for("READY=1");
    assert!(service.gateway.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_upgrades_lose_no_new_session() {
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let service = Service::start(&lab).await;
    let echo = Target::echo(lab.host).await;
    let way = lab.way(echo.address);
    let upgrades = async {
        let mut successors: Vec<Successor> = Vec::new();
        for _ in 0..10 {
            install(&service.program);
            let main = successors
                .last()
                .map_or_else(|| service.gateway.pid(), |last| last.0);
            kill(main, Signal::SIGURG).expect("a process");
            let said = tokio::task::block_in_place(|| service.manager.wait_for("MAINPID="));
            successors.push(Successor::of(&said));
            tokio::task::block_in_place(|| service.manager.wait_for("READY=1"));
        }
        successors
    };
    let (successors, figures) = during(2, move || session(way.clone()), upgrades).await;
    figures.print("ten upgrades");
    assert_eq!(figures.failures(), Vec::<&String>::new());
    assert!(figures.opened() > 10, "{}", figures.opened());
    let (last, before) = successors.split_last().expect("ten");
    for process in before {
        eventually("the end of a process before", || async {
            process.is_gone().then_some(()).ok_or("it runs")
        })
        .await;
    }
    assert!(!last.is_gone());
}

/// What an upgrade without a hand-over costs.
#[tokio::test(flavor = "multi_thread")]
async fn plain_restart_costs_clients_attempts_only() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let way = lab.way(echo.address);
    let restart = async {
        gateway.signal(Signal::SIGTERM);
        assert_eq!(gateway.exit_code().await, 0);
        let again = lab.gateway_command().spawn(lab.dir());
        again.wait_for_line("Gateway started successfully").await;
        again
    };
    let (_gateway, figures) = during(300, move || session(way.clone()), restart).await;
    figures.print("plain restart");
    assert_eq!(figures.failures(), Vec::<&String>::new());
}

/// A deployed relay closes the second connection of a gateway (protocol.md §3).
#[tokio::test(flavor = "multi_thread")]
async fn deployed_relay_gets_the_successor_afterwards() {
    let Some(program) = program() else { return };
    let stack = DeployedRelay::start(program, &[]).await;
    stack.gateway.kill().await;
    stack.relay.wait_for_line("closed").await;
    let service = Service::of(stack.gateway_command(), stack.dir()).await;
    let echo = Target::echo(stack.host).await;
    let (mark, way) = (stack.relay.mark(), stack.way(&echo).await);
    let upgrade = async {
        service.upgrade();
        let said = tokio::task::block_in_place(|| service.manager.wait_for("MAINPID="));
        stack
            .relay
            .wait_for_line_after(mark, "second connection")
            .await;
        tokio::task::block_in_place(|| service.manager.wait_for("READY=1"));
        Successor::of(&said)
    };
    let (_successor, figures) = during(300, move || session(way.clone()), upgrade).await;
    figures.print("upgrade with a deployed relay");
    assert_eq!(figures.failures(), Vec::<&String>::new());
    assert!(service.gateway.ended().await.success());
    let mut session = stack.way(&echo).await.tcp().await.expect("a way");
    echoes(&mut session, b"through the new one")
        .await
        .expect("an echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn successor_ends_with_the_first_process() {
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let service = Service::start(&lab).await;
    // It comes no further than that.
    let platform = &lab.platform;
    let never = Arc::default();
    let held = Answer::error(503, "later", "req-1").held(&never);
    platform.always(REGISTER_GATEWAY, held);
    let before = platform.requests(REGISTER_GATEWAY).len();
    service.upgrade();
    platform.asked(REGISTER_GATEWAY, before + 1).await;
    service.gateway.kill().await;
    // Both have the same output.
    eventually("the end of the successor", || async {
        service
            .gateway
            .has_ended_output()
            .then_some(())
            .ok_or("it runs")
    })
    .await;
}
