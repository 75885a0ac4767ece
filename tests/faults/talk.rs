//! Conversations in which every byte is known beforehand, so that one that is lost, repeated, moved
//! or another session's shows: the client's side, and a target that takes part.

use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::lab::{Lab, PATIENCE};
use crate::net::Machine;
use crate::probe::block_on;
use crate::support::noise::Noise;
use crate::support::process::clean;
use crate::support::session::Way;
use crate::support::stack::GATEWAY;
use crate::support::targets::Target;
use crate::support::tls::Inner;

/// Bytes that are made and compared at once.
const BLOCK: usize = 16 << 10;
/// What takes nothing for so long is full.
const FULL: Duration = Duration::from_secs(1);
/// The longest message that goes there and back at once.
const MAX_MESSAGE: u64 = 64 << 10;

/// Sessions being opened at once; a relay bounds newcomers.
const OPENING: usize = 64;

/// The target sends back what follows.
const ECHO: u8 = 1;
/// Both sides send their noise at once, and the target says at the end whether it heard the
/// client's.
const EXCHANGE: u8 = 2;
/// The target panics.
const PANIC: u8 = 3;
/// The target reads nothing any more.
const STALL: u8 = 4;
/// What it says if it did hear the client's.
const HEARD: u8 = 0x2a;

/// The client's side of one conversation.
pub(crate) struct Talk<S> {
    stream: S,
    /// Makes its bytes different from those of all others.
    number: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    pub(crate) fn new(stream: S, number: u64) -> Self {
        Self { stream, number }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Sends `length` bytes and waits until they are back; gives how long that took.
    pub(crate) async fn round_trip(&mut self, length: u16) -> io::Result<Duration> {
        let mut message = vec![0; usize::from(length)];
        Noise::new(self.number).fill(&mut message);
        let begin = Instant::now();
        self.ask(ECHO, u64::from(length)).await?;
        self.stream.write_all(&message).await?;
        self.stream.flush().await?;
        let mut back = vec![0; message.len()];
        self.stream.read_exact(&mut back).await?;
        if back != message {
            return Err(wrong("the client", self.number));
        }
        Ok(begin.elapsed())
    }

    /// Sends `length` bytes and reads as many others, both at once.
    pub(crate) async fn exchange(&mut self, length: u64) -> io::Result<()> {
        self.ask(EXCHANGE, length).await?;
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        tokio::try_join!(
            say(&mut writer, self.number, length),
            hear(&mut reader, "the client", !self.number, length)
        )?;
        match self.stream.read_u8().await? {
            HEARD => Ok(()),
            _ => Err(wrong("the target", self.number)),
        }
    }

    /// Asks for `length` bytes and takes none of them; the conversation is of no use any more.
    pub(crate) async fn ask_and_leave(&mut self, length: u64) -> io::Result<()> {
        self.ask(EXCHANGE, length).await?;
        self.stream.flush().await
    }

    /// Has the target read nothing any more, and writes until nothing goes any further; the
    /// conversation is of no use any more.
    pub(crate) async fn fill(&mut self) -> io::Result<()> {
        self.ask(STALL, 0).await?;
        let block = vec![0; BLOCK];
        while let Ok(written) = tokio::time::timeout(FULL, self.stream.write_all(&block)).await {
            written?;
        }
        Ok(())
    }

    /// Makes the other side panic, and waits for the end of the connection.
    pub(crate) async fn panic(mut self) {
        self.ask(PANIC, 0).await.expect("asked");
        self.stream.flush().await.expect("asked");
        let mut rest = Vec::new();
        // However it ends.
        let _ = self.stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "it did not panic");
    }

    /// Ends it, and waits for the target's end, before which nothing more may come.
    pub(crate) async fn end(mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await?;
        if rest.is_empty() {
            Ok(())
        } else {
            Err(io::Error::other("something came after the last answer"))
        }
    }

    async fn ask(&mut self, what: u8, length: u64) -> io::Result<()> {
        let mut request = vec![what];
        request.extend(self.number.to_be_bytes());
        request.extend(length.to_be_bytes());
        self.stream.write_all(&request).await
    }
}

/// A session by each of `ways`, of which each has made a round trip; numbered from `first`.
pub(crate) async fn open_all(ways: Vec<Way>, first: u64) -> Vec<Talk<Inner>> {
    let places = Arc::new(Semaphore::new(OPENING));
    let mut opening = JoinSet::new();
    for (number, way) in (first..).zip(ways) {
        let places = Arc::clone(&places);
        opening.spawn(async move {
            let _place = places.acquire().await.expect("never closed");
            let stream = way.tcp().await.expect("a way");
            let mut talk = Talk::new(stream, number);
            talk.round_trip(256).await.expect("a round trip");
            talk
        });
    }
    opening.join_all().await
}

/// Where a target that talks is, on its machine.
pub(crate) const PORT: u16 = 7001;

/// Starts a target that talks on this machine.
pub(crate) fn start(lab: &Lab, machine: Machine) {
    let this = std::env::current_exe().expect("this binary's path");
    let mut command = clean(this, lab.dir());
    command.arg("talk");
    let target = lab.spawn("talk", &lab.net.on(machine, &command));
    lab.wait_line(&target, 0, "ready", PATIENCE);
}

/// A way to it through the gateway; good for five minutes.
pub(crate) fn way(lab: &Lab) -> Way {
    lab.ask(lab.platform().way(GATEWAY, "127.0.0.1", PORT))
}

/// What this binary does as that target.
pub(crate) fn serve() -> ExitCode {
    block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await;
        let listener = listener.expect("the target's port");
        println!("ready");
        let mut conversations = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            conversations.spawn(answer(stream));
            // Those that have ended are of no interest.
            while conversations.try_join_next().is_some() {}
        }
    });
    ExitCode::FAILURE
}

/// A target that talks, in this process; it runs until dropped.
pub(crate) async fn target(host: Ipv4Addr) -> Target {
    Target::serve(host, answer).await
}

/// The target's side of one conversation.
pub(crate) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    loop {
        let what = match stream.read_u8().await {
            Ok(what) => what,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        };
        let number = stream.read_u64().await?;
        let length = stream.read_u64().await?;
        match what {
            ECHO if length <= MAX_MESSAGE => {
                let mut message = vec![0; usize::try_from(length).map_err(io::Error::other)?];
                stream.read_exact(&mut message).await?;
                stream.write_all(&message).await?;
            }
            EXCHANGE => {
                let (mut reader, mut writer) = tokio::io::split(&mut stream);
                tokio::try_join!(
                    say(&mut writer, !number, length),
                    hear(&mut reader, "the target", number, length)
                )?;
                stream.write_u8(HEARD).await?;
            }
            STALL => std::future::pending().await,
            PANIC => panic!("on purpose"),
            _ => return Err(wrong("the target", number)),
        }
        stream.flush().await?;
    }
    stream.shutdown().await
}

/// Sends `length` bytes that belong to `seed`.
async fn say<W: AsyncWrite + Unpin>(writer: &mut W, seed: u64, length: u64) -> io::Result<()> {
    let mut noise = Noise::new(seed);
    let mut block = vec![0; BLOCK];
    let mut left = usize::try_from(length).map_err(io::Error::other)?;
    while left > 0 {
        let part = &mut block[..left.min(BLOCK)];
        noise.fill(part);
        writer.write_all(part).await?;
        left -= part.len();
    }
    writer.flush().await
}

/// Reads as many, and compares each.
async fn hear<R: AsyncRead + Unpin>(
    reader: &mut R,
    who: &str,
    seed: u64,
    length: u64,
) -> io::Result<()> {
    let mut noise = Noise::new(seed);
    let (mut expected, mut block) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut left = usize::try_from(length).map_err(io::Error::other)?;
    while left > 0 {
        let count = left.min(BLOCK);
        noise.fill(&mut expected[..count]);
        reader.read_exact(&mut block[..count]).await?;
        if block[..count] != expected[..count] {
            return Err(wrong(who, seed));
        }
        left -= count;
    }
    Ok(())
}

/// Bytes that are not those of the conversation: never to be excused by a fault.
#[derive(Debug, thiserror::Error)]
#[error("{who} heard a wrong byte in conversation {seed}")]
pub(crate) struct Wrong {
    who: String,
    seed: u64,
}

fn wrong(who: &str, seed: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        Wrong {
            who: who.to_owned(),
            seed,
        },
    )
}

/// True if bytes were wrong, rather than missing because the connection ended.
pub(crate) fn is_wrong(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Wrong>())
}
