//! The other side, inside the container: an echo as the target behind the gateway, and the DNS
//! server that knows the target's name. The system's resolver is configured to ask it, so that a
//! name that resolves went all the way. It also stands in for the owners of sockets that real
//! machines have and an intruder would like.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::ExitCode;

use crate::support::dns;

/// Where the echo is.
pub(crate) const ECHO: &str = "127.0.0.1:7000";
/// Where the DNS server is.
pub(crate) const DNS: &str = "127.0.0.1:5354";
/// The domain whose names all mean 127.0.0.1, which only the DNS server knows.
pub(crate) const ZONE: &str = "example.org";
/// The platform of anyone who names none, which it takes for this machine too.
pub(crate) const PLATFORM: &str = "app.infisical.com";
/// One of them.
pub(crate) const NAME: &str = "echo.example.org";

/// How long an answer of the DNS server is good, in seconds.
const TTL: u8 = 60;

/// A socket that has no path and belongs to the network namespace.
pub(crate) const ABSTRACT: &str = "infisical-test-peer";

/// Sockets of others; anyone who speaks to one of the real ones has the machine.
const SOCKETS: &[&str] = &[
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/snapd.socket",
];

/// Serves until it is killed.
pub(crate) fn run() -> ExitCode {
    let echo = TcpListener::bind(ECHO).expect("the echo's port");
    let names = UdpSocket::bind(DNS).expect("the DNS server's port");
    let abstract_name = SocketAddr::from_abstract_name(ABSTRACT).expect("a name");
    let abstract_socket = UnixListener::bind_addr(&abstract_name).expect("the abstract socket");
    let sockets: Vec<_> = SOCKETS.iter().map(|path| listen(Path::new(path))).collect();
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).expect("a service manager");
    std::thread::spawn(move || answer_all(&names));
    for client in echo.incoming().map_while(Result::ok) {
        std::thread::spawn(move || echo_one(client));
    }
    drop((sockets, abstract_socket));
    ExitCode::FAILURE
}

fn listen(path: &Path) -> UnixListener {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    // One of the boot before this one, or of a process before this one.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Sends back what comes, and the end when it comes.
fn echo_one(mut client: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        if client.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn answer_all(socket: &UdpSocket) {
    let mut buffer = [0; 1500];
    while let Ok((count, client)) = socket.recv_from(&mut buffer) {
        if let Some(answer) = dns::answer(&buffer[..count], TTL, known) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The question for `name`'s address (RFC 1035 §4.1), with this id.
pub(crate) fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    // Recursion desired, one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(dns::encoded(name));
    message.extend([0, 1, 0, 1]);
    message
}

/// True if `answer` is one to the question with this id, without an error and not empty.
pub(crate) fn is_answer(answer: &[u8], id: u16) -> bool {
    let head = answer.get(..8).unwrap_or_default();
    head.starts_with(&id.to_be_bytes()) && head[2] & 0x80 != 0 && head[3] & 15 == 0 && head[7] > 0
}

/// Names in [`ZONE`], and [`PLATFORM`].
fn known(name: &[u8]) -> Option<Ipv4Addr> {
    let known = name.ends_with(&dns::encoded(ZONE)) || name == dns::encoded(PLATFORM);
    known.then_some(Ipv4Addr::LOCALHOST)
}
