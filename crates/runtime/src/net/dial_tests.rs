use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Error, Goal, LookupClass, OUR_SPARE, Seen, connect, connect_speaking, race, spare};
use crate::error::chain;
use crate::net::accept::Acceptor;

/// Generous: of simulated time, or of a wait that ends much sooner.
const BOUND: Duration = Duration::from_secs(60);

/// No one listens there, unless someone else begins to.
async fn refusing() -> SocketAddr {
    listening().await.1
}

async fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Dialled and accepted alike: a target, a relay, a client, a local program.
#[tokio::test]
async fn every_connection_is_probed_while_idle() {
    let (listener, address) = listening().await;
    let mut acceptor = Acceptor::new(listener, 1);
    let host = address.ip().to_string();
    let dialling = connect(&host, address.port(), BOUND);
    let (dialled, accepted) = tokio::join!(dialling, acceptor.accept());
    let dialled = dialled.expect("connected");
    let accepted = accepted.expect("accepted").stream;
    for stream in [&dialled, &accepted] {
        let socket = socket2::SockRef::from(stream);
        assert!(socket.keepalive().expect("an option"));
        let after = socket.tcp_keepalive_time().expect("an option");
        let interval = socket.tcp_keepalive_interval().expect("an option");
        let probes = socket.tcp_keepalive_retries().expect("an option");
        assert_eq!(after + interval * probes, Duration::from_secs(60));
    }
}

/// A listener whose queue is full, so that the kernel drops each further SYN; and what fills the
/// queue.
async fn black_hole() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("bound");
    let listener = socket.listen(1).expect("listening");
    let address = listener.local_addr().expect("bound");
    let mut filling = Vec::new();
    // Two fit; one more shows that the queue is full by not being answered.
    while filling.len() < 10 {
        let next = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
        match next.await {
            Ok(stream) => filling.push(stream.expect("connected")),
            Err(_) => return (listener, filling, address),
        }
    }
    panic!("the queue never fills up");
}

async fn first_to(addresses: &[SocketAddr], goal: Goal) -> Option<SocketAddr> {
    let mut seen = Seen::default();
    let winner = tokio::time::timeout(BOUND, race(addresses, goal, &OUR_SPARE, &mut seen)).await;
    let stream = winner.expect("decided")?;
    Some(stream.peer_addr().expect("connected"))
}

#[tokio::test]
async fn a_refused_connection_names_host_and_port() {
    let port = refusing().await.port();
    let error = connect("127.0.0.1", port, BOUND)
        .await
        .expect_err("refused");
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
}

#[tokio::test]
async fn an_unknown_name_is_a_resolver_error() {
    let error = connect("no-such-host.invalid", 1, Duration::from_secs(20))
        .await
        .expect_err("unknown");
    assert!(matches!(error, Error::Resolve { .. }), "{error:?}");
    assert!(
        error.to_string().contains("no-such-host.invalid"),
        "{error}"
    );
}

#[tokio::test]
async fn next_address_follows_a_refused_one() {
    let (_listener, good) = listening().await;
    let addresses = [refusing().await, good];
    assert_eq!(first_to(&addresses, Goal::Connected).await, Some(good));
}

#[tokio::test]
async fn blackholed_address_barely_delays_the_next() {
    let (_full, _filling, hole) = black_hole().await;
    let (_listener, good) = listening().await;
    assert_eq!(first_to(&[hole, good], Goal::Connected).await, Some(good));
}

#[tokio::test]
async fn either_family_may_win() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: this machine has no IPv6");
        return;
    };
    let v6 = listener.local_addr().expect("bound");
    let (_listener, v4) = listening().await;
    let none = refusing().await;
    assert_eq!(first_to(&[v6, none], Goal::Connected).await, Some(v6));
    assert_eq!(first_to(&[none, v6], Goal::Connected).await, Some(v6));
    let gone = {
        let listener = TcpListener::bind("[::1]:0").await.expect("a port");
        listener.local_addr().expect("bound")
    };
    assert_eq!(first_to(&[gone, v4], Goal::Connected).await, Some(v4));
}

#[tokio::test]
async fn common_refusal_reports_most_telling_error() {
    let (refusing, nowhere) = (refusing().await, "[2001:db8::1]:9".parse());
    let mut seen = Seen::default();
    seen.failed(
        nowhere.expect("an address"),
        io::ErrorKind::NetworkUnreachable.into(),
    );
    // Never, if it waited for a deadline.
    let addresses = [refusing, refusing];
    let lost = tokio::time::timeout(
        BOUND,
        race(&addresses, Goal::Connected, &OUR_SPARE, &mut seen),
    )
    .await;
    assert!(lost.expect("decided").is_none());
    seen.failed(
        "[2001:db8::1]:9".parse().expect("an address"),
        io::ErrorKind::NetworkUnreachable.into(),
    );
    let told = seen.failure.expect("a failure");
    assert_eq!(told.address, refusing);
    assert_eq!(told.source.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn passed_deadline_reports_what_is_known() {
    let (_full, _filling, hole) = black_hole().await;
    let error = connect("127.0.0.1", hole.port(), Duration::from_secs(1))
        .await
        .expect_err("no one answers");
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    let told = chain(&error).to_string();
    assert_eq!(told, format!("no connection to {hole} within 1 s"));
}

/// Answers the connection of that number with a byte, and is silent on all others. Yields how many
/// were open at most until then.
async fn speaks_at(listener: TcpListener, number: usize) -> (TcpStream, usize) {
    let mut open: Vec<TcpStream> = Vec::new();
    let mut most = 0;
    for n in 1.. {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        if n == number {
            stream.write_all(b"S").await.expect("spoken");
            return (stream, most);
        }
        open.retain_mut(|stream| {
            let mut byte = [0];
            let ended = stream.try_read(&mut byte);
            ended.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        });
        open.push(stream);
        most = most.max(open.len());
    }
    unreachable!("there is always a next one");
}

#[tokio::test(start_paused = true)]
async fn fresh_sockets_reach_a_late_speaker() {
    let (listener, address) = listening().await;
    let port = address.port();
    let (winner, spoken) = tokio::join!(
        connect_speaking("127.0.0.1", port, BOUND),
        tokio::time::timeout(BOUND, speaks_at(listener, 20))
    );
    let mut byte = [0];
    let mut winner = winner.expect("the twentieth speaks");
    let (_peer, most) = spoken.expect("it was reached");
    winner.read_exact(&mut byte).await.expect("not yet read");
    assert_eq!(&byte, b"S");
    // The peer hears of the oldest one's end only after it has accepted the newest.
    assert!((7..=9).contains(&most), "{most} open at once");
}

#[tokio::test(start_paused = true)]
async fn silent_address_loses_to_a_speaking_one() {
    let (_silent, first) = listening().await;
    let (listener, second) = listening().await;
    let addresses = [first, second];
    let (winner, _) = tokio::join!(first_to(&addresses, Goal::Speaking), speaks_at(listener, 1));
    assert_eq!(winner, Some(second));
}

#[tokio::test(start_paused = true)]
async fn accepting_mute_peer_is_reported() {
    let (_silent, address) = listening().await;
    let error = connect_speaking("127.0.0.1", address.port(), Duration::from_secs(15))
        .await
        .expect_err("silence");
    assert!(matches!(error, Error::Silent { .. }), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("said nothing within 15 s"), "{told}");
}

#[tokio::test]
async fn peer_that_closes_silently_is_no_peer() {
    let (listener, address) = listening().await;
    let hanging_up = async {
        let _ = listener.accept().await.expect("accepted");
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        result = connect_speaking("127.0.0.1", address.port(), BOUND) => result,
        () = hanging_up => unreachable!("pending"),
    };
    let told = chain(&error.expect_err("no word")).to_string();
    assert!(told.ends_with("closed without a word"), "{told}");
}

#[test]
fn races_for_targets_leave_ours_their_sockets() {
    let (ours, targets) = (spare(LookupClass::Own), spare(LookupClass::Target));
    assert!(!std::ptr::eq(ours, targets));
}
