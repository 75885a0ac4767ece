//! A journald that only listens, and other places for lines where no one may read.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::process::clean;

/// Starts its arguments where `/run/systemd/journal` is the first of them, and nothing else is
/// below `/run`; standard error is the second.
const WITH_JOURNAL: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                            mount --bind \"$0\" /run/systemd/journal && exec 2>>\"$1\" && \
                            shift && exec \"$@\"";

/// A journald that only listens, for one program.
pub struct Journald {
    socket: UnixDatagram,
    /// Where its socket is.
    pub directory: PathBuf,
}

/// One entry: fields in order, names as they came.
pub type Entry = Vec<(String, String)>;

impl Journald {
    /// Listens in `dir`.
    pub fn listen(dir: &Path) -> Self {
        let directory = dir.join("journal");
        fs::create_dir(&directory).expect("a directory");
        let socket = UnixDatagram::bind(directory.join("socket")).expect("a socket");
        // Asked for entries only when all are there. The kernel keeps ten at least, and these
        // programs say less.
        socket.set_nonblocking(true).expect("a choice");
        Self { socket, directory }
    }

    /// Sends it as much as the kernel keeps, so that anyone who sends more waits.
    pub fn fill(&self) {
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("a choice");
        let full = loop {
            if let Err(error) = sender.send_to(b"MESSAGE=x\n", self.directory.join("socket")) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
    }

    /// The first entry with `field`; the program has ended, so all of them are there.
    pub fn entry_with(&self, field: &str, value: &str) -> Entry {
        loop {
            let mut buffer = vec![0; 1 << 20];
            let length = self.socket.recv(&mut buffer).expect("an entry");
            let entry = parse(&buffer[..length]);
            if get(&entry, field) == Some(value) {
                return entry;
            }
        }
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

/// The value of the only field of that name.
pub fn get<'a>(entry: &'a Entry, field: &str) -> Option<&'a str> {
    let mut values = entry.iter().filter(|(name, _)| name == field);
    let (_, value) = values.next()?;
    assert!(values.next().is_none(), "{field} is there twice");
    Some(value)
}

/// True if this user may make mounts of its own; says so otherwise.
pub fn may_mount() -> bool {
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

/// `command` with `journal` as the directory of journald's socket, and with standard error at the
/// end of the file `stderr`, which it takes for the journal.
pub fn as_service(command: &Command, dir: &Path, journal: &Path, stderr: &Path) -> Command {
    let metadata = File::create(stderr)
        .and_then(|file| file.metadata())
        .expect("a file");
    let mut service = clean("unshare", dir);
    service
        .args(["--map-root-user", "--mount", "sh", "-c", WITH_JOURNAL])
        .args([journal, stderr])
        .arg(command.get_program())
        .args(command.get_args())
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", metadata.dev(), metadata.ino()),
        );
    service
}

/// `command` with standard error at the end of the file or pipe `stderr`.
pub fn into(command: &Command, dir: &Path, stderr: &Path) -> Command {
    let mut redirected = clean("sh", dir);
    redirected
        .args(["-c", "exec 2>>\"$0\" && exec \"$@\""])
        .arg(stderr)
        .arg(command.get_program())
        .args(command.get_args());
    redirected
}

/// A named pipe that takes nothing more, and whose reader does not read.
pub struct FullPipe {
    pub path: PathBuf,
    _reader: File,
}

impl FullPipe {
    pub fn make(path: &Path) -> Self {
        nix::unistd::mkfifo(path, Mode::S_IRWXU).expect("a pipe");
        let open = |options: &mut OpenOptions| {
            options
                .custom_flags(OFlag::O_NONBLOCK.bits())
                .open(path)
                .expect("opened")
        };
        let reader = open(OpenOptions::new().read(true));
        let mut writer = open(OpenOptions::new().write(true));
        // By pages, then by bytes: the last of them is what makes it full for a line, however
        // short.
        for piece in [&[b'x'; 4096][..], b"x"] {
            let full = loop {
                if let Err(error) = writer.write_all(piece) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::WouldBlock);
        }
        Self {
            path: path.to_owned(),
            _reader: reader,
        }
    }
}
