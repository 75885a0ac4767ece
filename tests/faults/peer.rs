//! What this binary does as a child on one of the machines: an echo, a DNS server, or the proxy between gateway and relay.
//! It says `ready` once it serves, and serves until it is killed.

mod proxy;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;

/// Where the echo is, on its machine.
pub(crate) const ECHO_PORT: u16 = 7000;

/// Serves until it is killed.
pub(crate) fn run(role: &[&str]) -> ExitCode {
    match role {
        ["echo"] => echo(),
        ["dns", address, names @ ..] => dns(address.parse().expect("an address"), names),
        ["proxy", listen, to] => proxy::run(
            listen.parse().expect("an address"),
            to.parse().expect("an address"),
        ),
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
fn dns(address: SocketAddr, names: &[&str]) {
    let names: Vec<(Vec<u8>, Ipv4Addr)> = names
        .iter()
        .map(|name| {
            let (name, address) = name.split_once('=').expect("NAME=ADDRESS");
            (encoded(name), address.parse().expect("an address"))
        })
        .collect();
    let socket = UdpSocket::bind(address).expect("the DNS server's port");
    println!("ready");
    let mut buffer = [0; 1500];
    while let Ok((count, client)) = socket.recv_from(&mut buffer) {
        if let Some(answer) = answer(&buffer[..count], &names) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The answer to a query for an address (RFC 1035 §4.1): that of a name we know, no such name for anything else.
fn answer(query: &[u8], names: &[(Vec<u8>, Ipv4Addr)]) -> Option<Vec<u8>> {
    let question = query.get(12..)?;
    let end = question.iter().position(|byte| *byte == 0)? + 1;
    let (name, kind) = (question.get(..end)?, question.get(end..end + 2)?);
    let name = name.to_ascii_lowercase();
    let known = names.iter().find(|(known, _)| *known == name);
    let address = known.map(|(_, address)| address).filter(|_| kind == [0, 1]);
    let mut message = query.get(..2)?.to_vec();
    // An authoritative answer, recursion available; one question, and one answer if there is one.
    let code = if known.is_some() { 0x80 } else { 0x83 };
    message.extend([0x85, code, 0, 1, 0, u8::from(address.is_some())]);
    message.extend([0; 4]);
    message.extend(question.get(..end + 4)?);
    if let Some(address) = address {
        // The name as in the question, an address, class internet, for a second, four bytes.
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        message.extend(address.octets());
    }
    Some(message)
}

/// A name as labels.
fn encoded(name: &str) -> Vec<u8> {
    let mut labels = Vec::new();
    for label in name.split('.') {
        labels.push(u8::try_from(label.len()).expect("a label is short"));
        labels.extend(label.bytes());
    }
    labels.push(0);
    labels
}
