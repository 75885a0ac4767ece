//! Where lines go: the journal's socket, with every field; a stream that journald reads; a file that logrotate moves.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use infisical::events;
use nix::sys::signal::Signal;
use socket2::{MsgHdrMut, SockRef};

use crate::support::lab::Lab;
use crate::support::process::{Process, clean, infisical};
use crate::support::{eventually, mode, write_private};

/// Starts its arguments where `/run/systemd/journal` is the first of them, and nothing else is below `/run`.
const WITH_JOURNAL: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                            mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";

/// A journald that only listens, for one program.
struct Journald {
    socket: UnixDatagram,
    directory: PathBuf,
}

/// One entry: fields in order, names as they came.
type Entry = Vec<(String, String)>;

impl Journald {
    fn listen(dir: &Path) -> Self {
        let directory = dir.join("journal");
        fs::create_dir(&directory).expect("a directory");
        let socket = UnixDatagram::bind(directory.join("socket")).expect("a socket");
        // Asked for entries only when all are there. The kernel keeps ten at least, and these programs say less.
        socket.set_nonblocking(true).expect("a choice");
        Self { socket, directory }
    }

    /// The first entry with `field`; the program has ended, so all of them are there.
    fn entry_with(&self, field: &str, value: &str) -> Entry {
        loop {
            let entry = parse(&self.receive());
            if get(&entry, field) == Some(value) {
                return entry;
            }
        }
    }

    /// One datagram, or the file that came with an empty one.
    fn receive(&self) -> Vec<u8> {
        let socket = SockRef::from(&self.socket);
        let mut nothing = [MaybeUninit::uninit(); 1];
        let flags = nix::libc::MSG_PEEK | nix::libc::MSG_TRUNC;
        let length = socket
            .recv_with_flags(&mut nothing, flags)
            .expect("an entry");
        if length > 0 {
            let mut entry = vec![0; length];
            self.socket.recv(&mut entry).expect("an entry");
            return entry;
        }
        let mut control = [MaybeUninit::uninit(); 64];
        let mut message = MsgHdrMut::new().with_control(&mut control);
        socket.recvmsg(&mut message, 0).expect("a file");
        if message.control_len() == 0 {
            return Vec::new();
        }
        // Which descriptor it became cannot be read without `unsafe`, but there is no other of this kind.
        let is_it = |path: &PathBuf| {
            let name = fs::read_link(path).unwrap_or_default();
            name.to_string_lossy()
                .starts_with("/memfd:tracing-journald")
        };
        let files = fs::read_dir("/proc/self/fd").expect("descriptors");
        let mut paths = files.map_while(Result::ok).map(|file| file.path());
        fs::read(paths.find(is_it).expect("the file")).expect("its content")
    }
}

/// Both forms of a field: `NAME=value`, and `NAME`, length, value.
fn parse(mut bytes: &[u8]) -> Entry {
    let mut entry = Vec::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8(bytes[..end].to_vec()).expect("text");
        bytes = &bytes[end + 1..];
        if let Some((name, value)) = line.split_once('=') {
            entry.push((name.to_owned(), value.to_owned()));
            continue;
        }
        let (length, rest) = bytes.split_at(8);
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let (value, rest) = rest.split_at(usize::try_from(length).expect("a length"));
        entry.push((line, String::from_utf8(value.to_vec()).expect("text")));
        bytes = rest.strip_prefix(b"\n").expect("the end of the value");
    }
    entry
}

fn get<'a>(entry: &'a Entry, field: &str) -> Option<&'a str> {
    let mut values = entry.iter().filter(|(name, _)| name == field);
    let (_, value) = values.next()?;
    assert!(values.next().is_none(), "{field} is there twice");
    Some(value)
}

/// True if this user may make mounts of its own; says so otherwise.
fn may_mount() -> bool {
    let may = Command::new("unshare")
        .args([
            "--map-root-user",
            "--mount",
            "mount",
            "-t",
            "tmpfs",
            "none",
            "/run",
        ])
        .output()
        .is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("SKIPPED: this user may not mount anything, so there is no journal to make");
    }
    may
}

/// Runs the program with `arguments` to its end, with `journal` as the directory of journald's socket and standard error as a
/// service has it; gives its exit code and what standard error received.
fn run_as_service(dir: &Path, journal: &Path, arguments: &[&OsStr]) -> (Option<i32>, String) {
    let path = dir.join("stderr");
    let stderr = File::create(&path).expect("a file");
    let metadata = stderr.metadata().expect("metadata");
    let status = clean("unshare", dir)
        .args(["--map-root-user", "--mount", "sh", "-c", WITH_JOURNAL])
        .arg(journal)
        .arg(env!("CARGO_BIN_EXE_infisical"))
        .args(arguments)
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", metadata.dev(), metadata.ino()),
        )
        .stderr(stderr)
        .status()
        .expect("started");
    (status.code(), fs::read_to_string(path).expect("text"))
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
fn an_event_reaches_the_journal_with_its_id_its_priority_and_every_field() {
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
fn an_entry_larger_than_a_datagram_reaches_the_journal_whole() {
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
    let error = get(&entry, "ERROR").expect("the error");
    assert!(
        error.len() > 500_000 && error.contains("line 20000: "),
        "{}",
        error.len()
    );
}

#[test]
fn without_the_journals_socket_lines_have_their_priority() {
    if !may_mount() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let nobody = dir.path().join("nobody");
    fs::create_dir(&nobody).expect("a directory");
    let (_, words) = mistakes(dir.path(), 2);
    let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    let (code, stderr) = run_as_service(dir.path(), &nobody, &words);
    assert_eq!(code, Some(78));
    assert!(stderr.contains(events::FAILED.text), "{stderr}");
    let mut errors = stderr
        .lines()
        .skip_while(|line| !line.contains(events::FAILED.text));
    assert!(errors.all(|line| line.starts_with("<3>")), "{stderr}");
}

#[test]
fn whoever_asks_for_json_gets_it_in_the_journal_too() {
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
fn with_a_log_file_the_journal_says_so_and_how_it_ended() {
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
async fn a_log_file_that_cannot_be_written_ends_the_start_and_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("absent/log");
    let mut command = infisical(dir.path());
    command
        .args(["gateway", "start", "edge", "--log-file"])
        .arg(&path);
    let process = Process::spawn("gateway", command);
    assert_eq!(process.exit_code().await, 78);
    let expected = format!("infisical: cannot log to {}: ", path.display());
    assert!(process.output().contains(&expected), "{}", process.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_file_that_was_moved_away_is_made_again_on_sigusr1() {
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
async fn logrotate_moves_a_log_and_the_gateway_goes_on_in_a_new_one() {
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

    // The packaged file, for logs of the test; its service manager knows one unit only, as most machines do.
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

async fn wait_for(log: &Path, text: &str) {
    eventually(&format!("{text:?} in {}", log.display()), || async {
        let found = fs::read_to_string(log).map_err(|error| error.to_string())?;
        found.contains(text).then_some(()).ok_or(found)
    })
    .await;
}
