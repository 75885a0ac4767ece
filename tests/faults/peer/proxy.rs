//! The proxy between gateway and relay: forwards until a command makes it misbehave, a command on
//! each line of its standard input. It answers each with `done`, and tells of each connection and
//! each flipped bit.

use std::io::BufRead as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::probe::block_on;

/// No bit is to be flipped.
const NOWHERE: u64 = u64::MAX;

/// What becomes of the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fresh {
    Forward,
    Silent,
    Keys,
}

/// One direction of a connection.
#[derive(Default)]
struct Way {
    /// What comes is thrown away.
    stuck: AtomicBool,
    /// What has passed.
    passed: AtomicU64,
    /// In which byte to flip a bit.
    flip_at: AtomicU64,
    flipped: AtomicBool,
}

/// One connection: up is from the gateway to the relay.
#[derive(Default)]
struct Connection {
    up: Way,
    down: Way,
    /// Told to reset it.
    cut: Notify,
}

/// What all connections share with the one who steers.
struct Steering {
    fresh: Fresh,
    delay: Duration,
    /// For the next connection.
    flip_up: u64,
    flip_down: u64,
    connections: Vec<Arc<Connection>>,
}

type Shared = Arc<Mutex<Steering>>;

/// Forwards what comes to `listen` to `to`, until it is killed.
pub(super) fn run(listen: SocketAddr, to: SocketAddr) {
    let shared = Arc::new(Mutex::new(Steering {
        fresh: Fresh::Forward,
        delay: Duration::ZERO,
        flip_up: NOWHERE,
        flip_down: NOWHERE,
        connections: Vec::new(),
    }));
    let listener = TcpListener::bind(listen).expect("the proxy's port");
    listener.set_nonblocking(true).expect("an option");
    let steered = Arc::clone(&shared);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            steered.lock().expect("not poisoned").obey(&line);
            println!("done");
        }
    });
    println!("ready");
    block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let mut connections = JoinSet::new();
        while let Ok((gateway, _)) = listener.accept().await {
            let (connection, fresh) = shared.lock().expect("not poisoned").accept();
            println!("accepted as {fresh:?}");
            let shared = Arc::clone(&shared);
            connections.spawn(serve(gateway, to, connection, fresh, shared));
        }
    });
}

impl Steering {
    fn obey(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| text.parse::<u64>().expect("a number");
        match words.as_slice() {
            ["fresh", "forward"] => self.fresh = Fresh::Forward,
            ["fresh", "silent"] => self.fresh = Fresh::Silent,
            ["fresh", "keys"] => self.fresh = Fresh::Keys,
            ["stick", direction] => {
                for connection in &self.connections {
                    connection
                        .way(direction)
                        .stuck
                        .store(true, Ordering::Relaxed);
                }
            }
            ["cut"] => self.connections.iter().for_each(|c| c.cut.notify_one()),
            ["delay", millis] => self.delay = Duration::from_millis(number(millis)),
            ["flip-next", "up", offset] => self.flip_up = number(offset),
            ["flip-next", "down", offset] => self.flip_down = number(offset),
            ["flip-soon", direction, after] => {
                for connection in &self.connections {
                    let way = connection.way(direction);
                    let at = way.passed.load(Ordering::Relaxed) + number(after);
                    way.flip_at.store(at, Ordering::Relaxed);
                }
            }
            _ => panic!("no such command: {line:?}"),
        }
    }

    fn accept(&mut self) -> (Arc<Connection>, Fresh) {
        // Those that ended are held by no one else.
        self.connections
            .retain(|connection| Arc::strong_count(connection) > 1);
        let connection = Connection::default();
        let take = |flip: &mut u64| AtomicU64::new(std::mem::replace(flip, NOWHERE));
        let connection = Arc::new(Connection {
            up: Way {
                flip_at: take(&mut self.flip_up),
                ..connection.up
            },
            down: Way {
                flip_at: take(&mut self.flip_down),
                ..connection.down
            },
            cut: connection.cut,
        });
        self.connections.push(Arc::clone(&connection));
        (connection, self.fresh)
    }
}

impl Connection {
    fn way(&self, direction: &str) -> &Way {
        match direction {
            "up" => &self.up,
            "down" => &self.down,
            _ => panic!("no such direction: {direction:?}"),
        }
    }
}

async fn serve(
    gateway: TcpStream,
    to: SocketAddr,
    connection: Arc<Connection>,
    fresh: Fresh,
    shared: Shared,
) {
    if fresh == Fresh::Silent {
        // Held open, and neither read nor answered.
        connection.cut.notified().await;
        return;
    }
    let Ok(relay) = TcpStream::connect(to).await else {
        return;
    };
    for stream in [&gateway, &relay] {
        let _ = stream.set_nodelay(true);
        // Closing with a zero linger time sends RST, and so does a cut; a clean end is said before.
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    let (from_gateway, to_gateway) = gateway.into_split();
    let (from_relay, to_relay) = relay.into_split();
    let only_keys = fresh == Fresh::Keys;
    let both = async {
        tokio::join!(
            pump(
                from_gateway,
                to_relay,
                ("up", &connection.up),
                only_keys,
                &shared
            ),
            pump(
                from_relay,
                to_gateway,
                ("down", &connection.down),
                only_keys,
                &shared
            ),
        )
    };
    tokio::select! {
        _ = both => {}
        () = connection.cut.notified() => {}
    }
    let flipped = |way: &Way| way.flipped.load(Ordering::Relaxed);
    if flipped(&connection.up) || flipped(&connection.down) {
        println!("spoiled connection ended");
    }
}

/// One direction, to its end.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (name, way): (&str, &Way),
    only_keys: bool,
    shared: &Shared,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut keys = only_keys.then(Keys::default);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let data = &mut buffer[..count];
        let delay = shared.lock().expect("not poisoned").delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let first = way.passed.fetch_add(count as u64, Ordering::Relaxed);
        let flip_at = way.flip_at.load(Ordering::Relaxed);
        if let Some(at) = flip_at
            .checked_sub(first)
            .and_then(|at| usize::try_from(at).ok())
            && let Some(byte) = data.get_mut(at)
        {
            *byte ^= 1 << (flip_at % 8);
            way.flipped.store(true, Ordering::Relaxed);
            println!("flipped {name} {flip_at}");
        }
        let pass = keys.as_mut().map_or(count, |keys| keys.take(data));
        let stuck = way.stuck.load(Ordering::Relaxed);
        if !stuck && to.write_all(&data[..pass]).await.is_err() {
            return;
        }
    }
    if way.stuck.load(Ordering::Relaxed) || only_keys {
        // No one is notified of the end either.
        std::future::pending::<()>().await;
    }
    let _ = to.shutdown().await;
}

/// Follows one direction of SSH up to NEWKEYS (RFC 4253 §4.2, §6, §7.3), which is the last that can
/// be read.
#[derive(Default)]
struct Keys {
    /// What is not whole yet.
    rest: Vec<u8>,
    banner_seen: bool,
    over: bool,
}

impl Keys {
    /// How many bytes of `data` come before the end of NEWKEYS.
    fn take(&mut self, data: &[u8]) -> usize {
        if self.over {
            return 0;
        }
        let before = self.rest.len();
        self.rest.extend_from_slice(data);
        let mut at = 0;
        loop {
            let rest = &self.rest[at..];
            if !self.banner_seen {
                let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                    break;
                };
                self.banner_seen = rest.starts_with(b"SSH-");
                at += end + 1;
                continue;
            }
            let Some(length) = rest.first_chunk().map(|b| u32::from_be_bytes(*b) as usize) else {
                break;
            };
            let Some(packet) = rest.get(4..4 + length) else {
                break;
            };
            at += 4 + length;
            if packet.get(1) == Some(&21) {
                self.over = true;
                return at - before;
            }
        }
        self.rest.drain(..at);
        data.len()
    }
}
