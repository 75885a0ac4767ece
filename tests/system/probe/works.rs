//! What the program needs, and a sandbox may take by mistake.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::JOURNAL_LINE;
use super::refused::directory;
use crate::peer;

type Named = (&'static str, Box<dyn FnOnce() -> io::Result<()>>);

/// How long an answer from this machine may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything, the message that ends the start last.
pub(super) fn all(configuration: &str) -> Vec<Named> {
    let configuration = configuration.to_owned();
    vec![
        (
            "reading its configuration",
            Box::new(move || readable(configuration)),
        ),
        (
            "reading the system's certificates",
            Box::new(|| readable("/etc/ssl/certs/ca-certificates.crt")),
        ),
        (
            "reading the resolver's configuration",
            Box::new(|| readable("/etc/resolv.conf")),
        ),
        (
            "writing its runtime directory",
            Box::new(|| writable(&directory("RUNTIME_DIRECTORY"))),
        ),
        (
            "writing its state directory",
            Box::new(|| writable(&directory("STATE_DIRECTORY"))),
        ),
        ("writing /tmp", Box::new(|| writable(Path::new("/tmp")))),
        ("threads", Box::new(threads)),
        ("enough descriptors", Box::new(descriptors)),
        ("resolving a name", Box::new(resolve)),
        (
            "asking the local resolver",
            Box::new(|| ask("127.0.0.53:53")),
        ),
        ("UDP", Box::new(|| ask(peer::DNS))),
        ("TCP", Box::new(echo)),
        ("the journal", Box::new(journal)),
        ("the service manager", Box::new(notify)),
    ]
}

fn readable(path: impl AsRef<Path>) -> io::Result<()> {
    File::open(path)?.read_exact(&mut [0])
}

fn writable(folder: &Path) -> io::Result<()> {
    let (path, other) = (folder.join("probe"), folder.join("probe-renamed"));
    fs::write(&path, "x")?;
    fs::rename(&path, &other)?;
    fs::remove_file(&other)
}

fn threads() -> io::Result<()> {
    for _ in 0..16 {
        let thread = std::thread::Builder::new().spawn(|| ())?;
        thread.join().map_err(|_| io::Error::other("it panicked"))?;
    }
    Ok(())
}

/// As many as this machine allows: given, or to be taken. A sandbox may refuse even to ask for a
/// limit.
fn descriptors() -> io::Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let mut values = line.unwrap_or_default().split_whitespace();
    if values.next() == values.next() {
        return Ok(());
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

fn resolve() -> io::Result<()> {
    let mut found = (peer::NAME, 80).to_socket_addrs()?;
    let there = found.any(|address| address.ip().is_loopback());
    there
        .then_some(())
        .ok_or_else(|| io::Error::other("another address"))
}

fn ask(server: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(&peer::question(4711, peer::NAME))?;
    let mut answer = [0; 1500];
    let count = socket.recv(&mut answer)?;
    let good = peer::is_answer(&answer[..count], 4711);
    good.then_some(())
        .ok_or_else(|| io::Error::other("a bad answer"))
}

fn echo() -> io::Result<()> {
    let mut stream = TcpStream::connect(peer::ECHO)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

/// One entry in the native protocol.
fn journal() -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let entry = format!("PRIORITY=6\nMESSAGE={JOURNAL_LINE}\n");
    socket.send_to(entry.as_bytes(), "/run/systemd/journal/socket")?;
    Ok(())
}

/// The start of the unit fails without it.
fn notify() -> io::Result<()> {
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?;
    UnixDatagram::unbound()?.send_to(b"READY=1\nSTATUS=probed\n", path)?;
    Ok(())
}
