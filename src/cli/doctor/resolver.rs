//! Why a name does not resolve: the system's resolver does not tell, so the DNS servers of
//! /etc/resolv.conf are asked once more, each by a question of its own (RFC 1035 §4).

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Which DNS servers the system's resolver asks.
const SERVERS: &str = "/etc/resolv.conf";
/// It asks no more of them (resolv.conf(5)).
const MAX_SERVERS: usize = 3;
/// The port of DNS.
const PORT: u16 = 53;
/// How long a DNS server may take.
const ANSWER: Duration = Duration::from_secs(1);
/// Longest answer over UDP without extensions (RFC 1035 §2.3.4).
const MAX_ANSWER: usize = 512;

/// What a DNS server does with a question, the most telling first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reply {
    NoSuchName,
    NoAddress,
    Found,
    Refused,
    Failed,
    Closed,
    Silent,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("the name does not exist (NXDOMAIN)"),
            Self::NoAddress => f.write_str("the name has no IPv4 address"),
            Self::Found => f.write_str("an answer with addresses"),
            Self::Refused => f.write_str("it refuses to answer (REFUSED)"),
            Self::Failed => f.write_str("it fails (SERVFAIL)"),
            Self::Closed => write!(f, "nothing listens on port {PORT}"),
            Self::Silent => write!(f, "no answer in {} s", ANSWER.as_secs()),
        }
    }
}

/// Why a name does not resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diagnosis {
    /// Which DNS servers were asked, and what each does.
    pub(super) asked: String,
    pub(super) cause: String,
    pub(super) fix: String,
}

/// Asks every DNS server of this machine for `host`.
pub(super) async fn diagnose(host: &str) -> Diagnosis {
    let servers = servers(&fs::read_to_string(SERVERS).unwrap_or_default());
    let questions = servers.iter().map(|server| async move {
        let asked = ask(SocketAddr::new(*server, PORT), host);
        let reply = match timeout(ANSWER, asked).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Reply::Closed,
            Ok(Err(_)) | Err(_) => Reply::Silent,
        };
        (*server, reply)
    });
    judge(host, &join_all(questions).await)
}

fn judge(host: &str, replies: &[(IpAddr, Reply)]) -> Diagnosis {
    let asked = replies
        .iter()
        .map(|(server, reply)| format!("DNS server {server}: {reply}"));
    let asked: Vec<String> = asked.collect();
    let telling = replies.iter().min_by_key(|(_, reply)| *reply);
    let local = (Ipv4Addr::LOCALHOST.into(), Reply::Silent);
    let (server, reply) = telling.map_or(local, |both| *both);
    let (cause, fix) = match reply {
        Reply::NoSuchName => (
            format!("The name {host} does not exist in DNS."),
            format!("Correct the host, or create the name; to try it: getent ahosts {host}"),
        ),
        Reply::NoAddress => (
            format!("The name {host} has no address in DNS."),
            format!(
                "Add an address to the name, or correct the host; to try it: getent ahosts {host}"
            ),
        ),
        Reply::Found => (
            "The DNS server knows the name, but the system's lookup fails.".to_owned(),
            format!(
                "Repair /etc/nsswitch.conf or the local resolver; to try it: getent ahosts {host}"
            ),
        ),
        Reply::Refused => (
            format!("The resolver {server} refuses to answer this machine."),
            format!("Let {server} answer this machine, or name another DNS server in {SERVERS}."),
        ),
        Reply::Failed => (
            format!("The resolver {server} cannot find out about {host}."),
            format!("Repair {server} or its way to the name's own DNS servers."),
        ),
        Reply::Closed => (
            format!("No resolver listens at {server}, which {SERVERS} names."),
            format!("Start the resolver at {server}, or name another DNS server in {SERVERS}."),
        ),
        Reply::Silent => (
            "The resolver of this machine does not answer.".to_owned(),
            format!(
                "Start the DNS server {server}, or open UDP port {PORT} to it, or name another in {SERVERS}."
            ),
        ),
    };
    Diagnosis {
        asked: asked.join(", "),
        cause,
        fix,
    }
}

/// The servers that `text` names; without one, the local one.
fn servers(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        // An IPv6 address may have a zone, which the kernel finds by itself for all but link-local
        // ones.
        let address = words.next().filter(|_| is_server)?;
        address.split('%').next()?.parse().ok()
    });
    let named: Vec<IpAddr> = named.take(MAX_SERVERS).collect();
    match named.is_empty() {
        true => vec![Ipv4Addr::LOCALHOST.into()],
        false => named,
    }
}

/// Asks `server` for the IPv4 addresses of `host`.
async fn ask(server: SocketAddr, host: &str) -> io::Result<Reply> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let Some(question) = question(id, host) else {
        return Ok(Reply::NoSuchName);
    };
    socket.send(&question).await?;
    let mut answer = [0; MAX_ANSWER];
    loop {
        let n = socket.recv(&mut answer).await?;
        if let Some(reply) = answer.get(..n).and_then(|answer| reply(id, answer)) {
            return Ok(reply);
        }
    }
}

/// A question for the IPv4 addresses of `host`; `None` if no name can be so.
fn question(id: [u8; 2], host: &str) -> Option<Vec<u8>> {
    // One question, recursion desired.
    let mut bytes = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok();
        bytes.push(length.filter(|length| (1..=63).contains(length))?);
        bytes.extend(label.bytes());
    }
    // The root, type A, class IN.
    bytes.extend([0, 0, 1, 0, 1]);
    Some(bytes)
}

/// What the answer to the question `id` says; `None` if it is none.
fn reply(id: [u8; 2], answer: &[u8]) -> Option<Reply> {
    let [first, second, flags, code, _, _, count @ ..] = answer else {
        return None;
    };
    let [high, low, ..] = count else {
        return None;
    };
    if [*first, *second] != id || flags & 0x80 == 0 {
        return None;
    }
    Some(match code & 0xf {
        0 if [*high, *low] == [0, 0] => Reply::NoAddress,
        0 => Reply::Found,
        3 => Reply::NoSuchName,
        5 => Reply::Refused,
        _ => Reply::Failed,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::net::UdpSocket;

    use super::{Reply, ask, judge, question, reply, servers};

    #[test]
    fn servers_are_those_of_resolv_conf() {
        let text = "# x\nsearch example\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\n\
                    nameserver nonsense\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        let expected = ["10.0.0.1", "fe80::1", "10.0.0.2"];
        let expected = expected.map(|address| address.parse::<IpAddr>().expect("an address"));
        assert_eq!(servers(text), expected);
        assert_eq!(servers(""), [Ipv4Addr::LOCALHOST]);
    }

    #[test]
    fn answer_is_read_by_its_code() {
        for (flags, code, count, expected) in [
            (0x81, 0x83, 0, Some(Reply::NoSuchName)),
            (0x81, 0x80, 0, Some(Reply::NoAddress)),
            (0x81, 0x80, 1, Some(Reply::Found)),
            (0x81, 0x85, 0, Some(Reply::Refused)),
            (0x81, 0x82, 0, Some(Reply::Failed)),
            // A question is no answer.
            (0x01, 0x00, 0, None),
        ] {
            let answer = [7, 8, flags, code, 0, 1, 0, count];
            assert_eq!(reply([7, 8], &answer), expected);
            assert_eq!(reply([7, 9], &answer), None);
        }
        assert_eq!(reply([7, 8], &[7, 8, 0x81]), None);
        assert_eq!(question([7, 8], "a..b"), None);
    }

    #[test]
    fn most_telling_server_is_the_cause() {
        let address = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
        let all = [
            (address(1), Reply::Silent),
            (address(2), Reply::Refused),
            (address(3), Reply::NoSuchName),
        ];
        let mut causes = Vec::new();
        for end in 1..=all.len() {
            let some = all.get(..end).expect("some");
            causes.push(judge("db.example", some).cause);
        }
        assert!(
            causes
                .first()
                .is_some_and(|cause| cause.contains("does not answer"))
        );
        assert!(
            causes
                .get(1)
                .is_some_and(|cause| cause.contains("10.0.0.2 refuses"))
        );
        assert!(
            causes
                .get(2)
                .is_some_and(|cause| cause.contains("does not exist"))
        );
        let asked = judge("db.example", &all).asked;
        assert!(
            asked.starts_with("DNS server 10.0.0.1: no answer in 1 s, DNS"),
            "{asked}"
        );
    }

    #[tokio::test]
    async fn server_is_asked_for_the_name() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("bound");
        let address = server.local_addr().expect("an address");
        let serving = async {
            let mut question = [0; 512];
            let (n, peer) = server.recv_from(&mut question).await.expect("a question");
            let mut answer = question.get(..n).expect("bytes").to_vec();
            assert!(
                answer.ends_with(b"\x02db\x07example\0\0\x01\0\x01"),
                "{answer:?}"
            );
            answer.splice(2..4, [0x81, 0x85]);
            server.send_to(&answer, peer).await.expect("sent");
        };
        let (reply, ()) = tokio::join!(ask(address, "db.example"), serving);
        assert_eq!(reply.expect("an answer"), Reply::Refused);
    }
}
