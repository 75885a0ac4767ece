//! Sockets other than those of a client, and the sockets of others.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

use nix::libc;

use super::{Named, add, directory, refusal};
use crate::peer;
use crate::probe::{Attempt, SOCKETS, sys};

/// Sockets that the service may use.
const OURS: &[&str] = &[
    "/run/systemd/notify",
    "/run/systemd/journal/dev-log",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
    "/run/systemd/resolve/io.systemd.Resolve",
    // Its own.
    "/run/infisical-gateway/status.sock",
];

/// Sockets other than those of a client: what they are, family, type, protocol.
const SOCKET_KINDS: &[(&str, i32, i32, i32)] = &[
    ("raw", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
    (
        "raw IPv6",
        libc::AF_INET6,
        libc::SOCK_RAW,
        libc::IPPROTO_ICMPV6,
    ),
    ("packet", libc::AF_PACKET, libc::SOCK_RAW, 0),
    (
        "netlink",
        libc::AF_NETLINK,
        libc::SOCK_RAW,
        libc::NETLINK_ROUTE,
    ),
    ("kernel crypto", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
    ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
];

pub(super) fn network(all: &mut Vec<Named>) {
    for (what, family, kind, protocol) in SOCKET_KINDS {
        add(all, format!("make a {what} socket"), move || {
            let numbers = [*family as usize, *kind as usize, *protocol as usize];
            sys::plain(libc::SYS_socket, &numbers).map(drop)
        });
    }
    add(all, "change an address by netlink", change_address);
    add(all, "listen for TCP", || {
        TcpListener::bind("127.0.0.1:0").map(drop)
    });
    add(all, "listen for TCP without a port", || {
        let numbers = [libc::AF_INET as usize, libc::SOCK_STREAM as usize, 0];
        let socket = sys::plain(libc::SYS_socket, &numbers)?;
        sys::plain(libc::SYS_listen, &[socket, 1]).map(drop)
    });
    add(all, "listen at a path", || {
        UnixListener::bind(directory("RUNTIME_DIRECTORY").join("socket")).map(drop)
    });
}

/// Gives the loopback one more of its own addresses.
fn change_address() -> Attempt {
    const RTM_NEWADDR: u16 = 20;
    const REQUEST_WITH_ANSWER: u16 = 0x1 | 0x4;
    const INET: u8 = 2;
    const ADDRESS: [u8; 4] = [127, 0, 0, 77];
    let numbers = [libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE];
    let socket = sys::plain(libc::SYS_socket, &numbers.map(|number| number as usize))?;
    // `struct nlmsghdr`, `struct ifaddrmsg`, and the address as local one and as the link's
    // (rtnetlink(7)).
    let mut request = 40_u32.to_ne_bytes().to_vec();
    request.extend(RTM_NEWADDR.to_ne_bytes());
    request.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([INET, 32, 0, libc::RT_SCOPE_HOST]);
    request.extend(1_u32.to_ne_bytes());
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        request.extend(8_u16.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(ADDRESS);
    }
    let length = request.len();
    sys::with_bytes(libc::SYS_sendto, &[socket], &mut request, &[length])?;
    let mut answer = [0; 512];
    let length = answer.len();
    sys::with_bytes(libc::SYS_recvfrom, &[socket], &mut answer, &[length])?;
    // `struct nlmsgerr`: the negative error, or 0.
    let [.., a, b, c, d] = answer[..20] else {
        return Err(refusal());
    };
    match i32::from_ne_bytes([a, b, c, d]) {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(-error)),
    }
}

pub(super) fn sockets(all: &mut Vec<Named>) {
    let list = fs::read_to_string(SOCKETS).expect("the list of sockets");
    for path in list.lines().map(str::to_owned) {
        if OURS.contains(&path.as_str()) {
            continue;
        }
        add(all, format!("connect to {path}"), move || connect(&path));
    }
    add(all, "connect to an abstract socket", || {
        let address = SocketAddr::from_abstract_name(peer::ABSTRACT)?;
        UnixStream::connect_addr(&address).map(drop)
    });
}

/// As whatever the socket is.
fn connect(path: &str) -> Attempt {
    const WRONG_TYPE: i32 = libc::EPROTOTYPE;
    match UnixStream::connect(path) {
        Err(error) if error.raw_os_error() == Some(WRONG_TYPE) => {
            UnixDatagram::unbound()?.connect(path)
        }
        outcome => outcome.map(drop),
    }
}
