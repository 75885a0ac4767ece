//! Where lines go: the journal's socket, with every field; a stream that journald reads; a file
//! that logrotate moves. And that none of them is waited for.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use infisical_runtime::events;
use nix::sys::signal::Signal;

use crate::support::journald::{FullPipe, Journald, as_service, get, into, may_mount};
use crate::support::lab::{GATEWAY_CONNECTED, Lab, RELAY};
use crate::support::manager::Manager;
use crate::support::process::{Process, clean, infisical};
use crate::support::session::echoes;
use crate::support::targets::Target;
use crate::support::{eventually, mode, write_private};

/// Runs the program with `arguments` to its end, with `journal` as the directory of journald's
/// socket and standard error as a service has it; gives its exit code and what standard error
/// received.
fn run_as_service(dir: &Path, journal: &Path, arguments: &[&OsStr]) -> (Option<i32>, String) {
    let stderr = dir.join("stderr");
    let mut command = infisical(dir);
    command.args(arguments);
    let status = as_service(&command, dir, journal, &stderr)
        .status()
        .expect("started");
    (status.code(), fs::read_to_string(stderr).expect("text"))
}

/// Arguments that name `wrong` lines of a configuration file as mistakes.
fn mistakes(dir: &Path, wrong: usize) -> (PathBuf, Vec<String>) {
    let config = dir.join("wrong.conf");
    write_private(&config, &"x\n".repeat(wrong));
    let words = ["relay", "start", "--name", "r", "--host", "h", "--config"];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.push(config.display().to_string());
    (config, words)
}

#[test]
fn event_reaches_the_journal_with_every_field() {
    if !may_mount() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let journald = Journald::listen(dir.path());
    let (_, words) = mistakes(dir.path(), 2);
    let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    let (code, stderr) = run_as_service(dir.path(), &journald.directory, &words);
    assert_eq!((code, stderr.as_str()), (Some(78), ""));
    let entry = journald.entry_with("MESSAGE_ID", events::FAILED.id);
    assert_eq!(get(&entry, "PRIORITY"), Some("3"));
    assert_eq!(get(&entry, "SYSLOG_IDENTIFIER"), Some("infisical"));
    let error = get(&entry, "ERROR").expect("the error");
    assert!(
        error.starts_with("wrong configuration, 2 problems:\n  - "),
        "{error}"
    );
    let message = get(&entry, "MESSAGE").expect("a message");
    assert_eq!(message, format!("{} error={error}", events::FAILED));
}

#[test]
fn oversized_entry_reaches_the_journal_shortened() {
    if !may_mount() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let journald = Journald::listen(dir.path());
    let (_, words) = mistakes(dir.path(), 20_000);
    let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    let (code, _) = run_as_service(dir.path(), &journald.directory, &words);
    assert_eq!(code, Some(78));
    let entry = journald.entry_with("MESSAGE_ID", events::FAILED.id);
    assert_eq!(get(&entry, "PRIORITY"), Some("3"));
    let message = get(&entry, "MESSAGE").expect("a message");
    assert!(
        message.contains("20000 problems:") && message.ends_with("(shortened)"),
        "{message}"
    );
}

#[test]
fn without_journal_socket_lines_have_priority() {
    if !may_mount() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let no_one = dir.path().join("unknown");
    fs::create_dir(&no_one).expect("a directory");
    let (_, words) = mistakes(dir.path(), 2);
    let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    let (code, stderr) = run_as_service(dir.path(), &no_one, &words);
    assert_eq!(code, Some(78));
    assert!(stderr.contains(events::FAILED.text), "{stderr}");
    let mut errors = stderr
        .lines()
        .skip_while(|line| !line.contains(events::FAILED.text));
    assert!(errors.all(|line| line.starts_with("<3>")), "{stderr}");
}

#[test]
fn json_format_applies_to_the_journal() {
    if !may_mount() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let journald = Journald::listen(dir.path());
    let (_, mut words) = mistakes(dir.path(), 2);
    words.push("--log-format=json".to_owned());
    let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    let (code, stderr) = run_as_service(dir.path(), &journald.directory, &words);
    assert_eq!(code, Some(78));
    let last = stderr.lines().last().expect("a line");
    let last = last.strip_prefix("<3>").expect("its priority");
    let last: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(last["message_id"], events::FAILED.id);
}

#[test]
fn journal_mentions_the_log_file() {
    if !may_mount() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let journald = Journald::listen(dir.path());
    let log = dir.path().join("log");
    let (_, mut words) = mistakes(dir.path(), 2);
    words.push(format!("--log-file={}", log.display()));
    let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    let (code, stderr) = run_as_service(dir.path(), &journald.directory, &words);
    assert_eq!(code, Some(78));
    assert!(
        stderr.starts_with("<3>infisical: wrong configuration"),
        "{stderr}"
    );
    journald.entry_with("FILE", &log.display().to_string());
    let text = fs::read_to_string(&log).expect("the log");
    assert!(text.contains(events::FAILED.text), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_log_file_ends_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("absent/log");
    let mut command = infisical(dir.path());
    command
        .args(["gateway", "start", "edge", "--log-file"])
        .arg(&path);
    let process = Process::spawn("gateway", command);
    // Not 78: the directory may come, and a service that ends with 78 stays down.
    assert_eq!(process.exit_code().await, 69);
    let expected = format!("infisical: cannot log to {}: ", path.display());
    assert!(process.output().contains(&expected), "{}", process.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_log_file_is_reopened_on_sigusr1() {
    let lab = Lab::new().await;
    let (log, moved) = (
        lab.dir().join("gateway.log"),
        lab.dir().join("gateway.log.1"),
    );
    let mut command = lab.gateway_command();
    // In the configuration file, which is read after logging has begun.
    let keys = fs::read_to_string(&command.config).expect("the file");
    write_private(
        &command.config,
        &format!("{keys}INFISICAL_LOG_FILE={}\n", log.display()),
    );
    command.more.clear();
    let gateway = command.spawn(lab.dir());
    wait_for(&log, events::NOT_CONNECTED.text).await;
    assert_eq!(mode(&log), 0o640);
    fs::rename(&log, &moved).expect("moved");
    gateway.signal(Signal::SIGUSR1);
    wait_for(&log, "").await;
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code().await, 0);
    wait_for(&log, "stopping").await;
    let output = gateway.output();
    assert!(!output.contains(events::NOT_CONNECTED.text), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_logs_on_after_logrotate() {
    let Some(logrotate) = ["/usr/sbin/logrotate", "/usr/bin/logrotate"]
        .into_iter()
        .find(|path| Path::new(path).exists())
    else {
        eprintln!("SKIPPED: logrotate is not installed");
        return;
    };
    let lab = Lab::new().await;
    let logs = lab.dir().join("logs");
    let bin = lab.dir().join("bin");
    fs::create_dir(&logs).expect("a directory");
    fs::create_dir(&bin).expect("a directory");
    let log = logs.join("gateway.log");
    let mut command = lab.gateway_command();
    command.more.push(format!("--log-file={}", log.display()));
    let gateway = command.spawn(lab.dir());
    wait_for(&log, events::NOT_CONNECTED.text).await;

    // The packaged file, for logs of the test; its service manager knows one unit only, as most
    // machines do.
    let packaged = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/packaging/etc/logrotate.d/infisical"
    );
    let packaged = fs::read_to_string(packaged).expect("the packaged file");
    assert!(packaged.contains("/var/log/infisical/*.log"), "{packaged}");
    let config = lab.dir().join("logrotate.conf");
    write_private(
        &config,
        &packaged.replace("/var/log/infisical", &logs.display().to_string()),
    );
    let manager = format!(
        "#!/bin/sh\n[ \"$1 $2 $3\" = 'kill -s USR1' ] || exit 1\ncase $4 in\n\
         infisical-gateway.service) kill -s USR1 {} ;;\n*) exit 5 ;;\nesac\n",
        gateway.pid()
    );
    let systemctl = bin.join("systemctl");
    fs::write(&systemctl, manager).expect("written");
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").expect("a path")
    );
    let rotated = clean(logrotate, lab.dir())
        .env("PATH", path)
        .args(["--force", "--state"])
        .arg(lab.dir().join("state"))
        .arg(&config)
        .output()
        .expect("logrotate");
    let said = String::from_utf8_lossy(&rotated.stderr);
    assert!(rotated.status.success() && said.is_empty(), "{said}");

    wait_for(&log, "").await;
    let moved = fs::read_to_string(logs.join("gateway.log.1")).expect("the old one");
    assert!(moved.contains(events::NOT_CONNECTED.text), "{moved}");
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code().await, 0);
    wait_for(&log, events::STOPPING.text).await;
}

/// Root must not be led away from the logs by what a service can put into its own directory.
#[test]
fn logrotate_leaves_foreign_files_behind_links_alone() {
    let Some(logrotate) = ["/usr/sbin/logrotate", "/usr/bin/logrotate"]
        .into_iter()
        .find(|path| Path::new(path).exists())
    else {
        eprintln!("SKIPPED: logrotate is not installed");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let logs = dir.path().join("log");
    let (own, named) = (logs.join("infisical"), logs.join("infisical-edge"));
    let foreign = logs.join("other");
    for directory in [&own, &named, &foreign] {
        fs::create_dir_all(directory).expect("a directory");
    }
    let victims = [foreign.join("audit.log"), foreign.join("linked.log")];
    for log in victims
        .iter()
        .chain([&own.join("a.log"), &named.join("b.log")])
    {
        fs::write(log, "lines\n").expect("written");
    }
    // What a service can do in its own directory: links to directories, to files, and second names.
    symlink(&foreign, own.join("x")).expect("a link");
    symlink(&foreign, named.join("x")).expect("a link");
    symlink(&foreign, own.join("x.log")).expect("a link");
    symlink(&victims[0], own.join("y.log")).expect("a link");
    fs::hard_link(&victims[1], named.join("z.log")).expect("a second name");

    let packaged = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/packaging/etc/logrotate.d/infisical"
    );
    let packaged = fs::read_to_string(packaged).expect("the packaged file");
    let config = dir.path().join("logrotate.conf");
    let text = packaged
        .replace("/var/log/", &format!("{}/", logs.display()))
        .replace("systemctl", "false")
        .replace("    delaycompress\n", "");
    write_private(&config, &text);
    // Whether it takes what it skips for a failure is its own affair.
    clean(logrotate, dir.path())
        .args(["--force", "--state"])
        .arg(dir.path().join("state"))
        .arg(&config)
        .output()
        .expect("logrotate");
    let left: Vec<_> = fs::read_dir(&foreign).expect("a directory").collect();
    assert_eq!(left.len(), 2, "{left:?}");
    for victim in &victims {
        assert_eq!(fs::read_to_string(victim).expect("untouched"), "lines\n");
    }
    for (rotated, gone) in [
        (own.join("a.log.1.gz"), "a.log"),
        (named.join("b.log.1.gz"), "b.log"),
    ] {
        assert!(rotated.exists(), "{}", rotated.display());
        assert!(!rotated.with_file_name(gone).exists(), "{gone}");
    }
}

/// Starts the lab's gateway, its output as `redirected` makes it; a session works, pings come, and
/// it ends when it is asked to.
async fn serves(
    lab: &Lab,
    redirected: impl FnOnce(&std::process::Command) -> std::process::Command,
) {
    let relay = lab.relay().await;
    let mut command = redirected(&lab.gateway_command().command(lab.dir()));
    let manager = Manager::listen(&lab.dir().join("notify"), &mut command);
    command.env("WATCHDOG_USEC", "200000");
    let gateway = Process::spawn("gateway", command);
    manager.wait_for(&format!("STATUS=connected to {RELAY}, "));
    relay.wait_for_line(GATEWAY_CONNECTED).await;
    let echo = Target::echo(lab.host).await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        // Each is a debug line or more.
        let mut session = lab.way(echo.address).tcp().await.expect("a way");
        echoes(&mut session, b"hello").await.expect("an echo");
        sessions.push(session);
    }
    manager.wait_for(&format!("STATUS=connected to {RELAY}, 20 sessions"));
    manager.wait_for("WATCHDOG=1");
    drop(sessions);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_journal_stops_nothing() {
    if !may_mount() {
        return;
    }
    let lab = Lab::new().await;
    let journald = Journald::listen(lab.dir());
    journald.fill();
    let stderr = lab.dir().join("stderr");
    serves(&lab, |command| {
        as_service(command, lab.dir(), &journald.directory, &stderr)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_standard_error_stops_nothing() {
    let lab = Lab::new().await;
    let pipe = FullPipe::make(&lab.dir().join("pipe"));
    serves(&lab, |command| into(command, lab.dir(), &pipe.path)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_log_file_falls_back_to_stderr() {
    let lab = Lab::new().await;
    let pipe = FullPipe::make(&lab.dir().join("pipe"));
    let stderr = lab.dir().join("stderr");
    serves(&lab, |command| {
        let mut command = into(command, lab.dir(), &stderr);
        command.arg("--log-file").arg(&pipe.path);
        command
    })
    .await;
    let text = fs::read_to_string(&stderr).expect("text");
    assert!(text.contains(events::GATEWAY_STARTED.text), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_last_lines_do_not_delay_exit() {
    let dir = tempfile::tempdir().expect("a directory");
    let pipe = FullPipe::make(&dir.path().join("pipe"));
    let (_, words) = mistakes(dir.path(), 2);
    let mut command = infisical(dir.path());
    command.args(words);
    let process = Process::spawn("relay", into(&command, dir.path(), &pipe.path));
    assert_eq!(process.exit_code().await, 78);
}

async fn wait_for(log: &Path, text: &str) {
    eventually(&format!("{text:?} in {}", log.display()), || async {
        let found = fs::read_to_string(log).map_err(|error| error.to_string())?;
        found.contains(text).then_some(()).ok_or(found)
    })
    .await;
}
