//! What this binary does as a child on one of the machines: an echo, a target for bulk data, a DNS
//! server, the proxy between gateway and relay, or a long line there. It says `ready` once it
//! serves, and serves until it is killed.

pub(crate) mod bulk;
mod line;
mod proxy;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;

use crate::net::Line;
use crate::support::dns;

/// Where the echo is, on its machine.
pub(crate) const ECHO_PORT: u16 = 7000;

/// How long an answer of the DNS server is good, in seconds.
const TTL: u8 = 1;

/// Serves until it is killed.
pub(crate) fn run(role: &[&str]) -> ExitCode {
    match role {
        ["echo"] => echo(),
        ["dns", address, names @ ..] => serve_names(address.parse().expect("an address"), names),
        ["failing-dns", address, code] => serve_failures(
            address.parse().expect("an address"),
            code.parse().expect("a code"),
        ),
        ["proxy", listen, to] => proxy::run(
            listen.parse().expect("an address"),
            to.parse().expect("an address"),
        ),
        ["bulk"] => bulk::serve(),
        ["line", words @ ..] => line::run(Line::from_words(words)),
        _ => panic!("no such role: {role:?}"),
    }
    ExitCode::FAILURE
}

fn echo() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, ECHO_PORT)).expect("the echo's port");
    println!("ready");
    for client in listener.incoming().map_while(Result::ok) {
        std::thread::spawn(move || echo_one(client));
    }
}

/// Sends back what comes, and the end when it comes.
fn echo_one(mut client: TcpStream) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        if client.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Knows `names`, each as `NAME=ADDRESS`, and nothing else.
fn serve_names(address: SocketAddr, names: &[&str]) {
    let names: Vec<(Vec<u8>, Ipv4Addr)> = names
        .iter()
        .map(|name| {
            let (name, address) = name.split_once('=').expect("NAME=ADDRESS");
            (dns::encoded(name), address.parse().expect("an address"))
        })
        .collect();
    let socket = UdpSocket::bind(address).expect("the DNS server's port");
    println!("ready");
    let mut buffer = [0; 1500];
    while let Ok((count, client)) = socket.recv_from(&mut buffer) {
        let known = |name: &[u8]| {
            let mut names = names.iter();
            names
                .find(|(known, _)| known == name)
                .map(|(_, address)| *address)
        };
        if let Some(answer) = dns::answer(&buffer[..count], TTL, known) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// Answers every query with `code`.
fn serve_failures(address: SocketAddr, code: u8) {
    let socket = UdpSocket::bind(address).expect("the DNS server's port");
    println!("ready");
    let mut buffer = [0; 1500];
    while let Ok((count, client)) = socket.recv_from(&mut buffer) {
        if let Some(answer) = dns::failure(&buffer[..count], code) {
            let _ = socket.send_to(&answer, client);
        }
    }
}
