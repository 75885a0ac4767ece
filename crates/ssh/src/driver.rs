//! Puts a [`Connection`] on a stream: one task reads and opens, one seals and writes, so that the
//! cryptography of both directions runs beside each other. Between them is the connection's state,
//! locked for a moment at a time and never while waiting.
//!
//! - *reader*: bytes → opened packets → the state; wakes readers and writers of channels; keeps the
//!   timers.
//! - *writer*: a batch out of the state → sealed packets → one write. It never waits for more to
//!   send, and while it writes more gathers.
//!
//! Each ends the session when it ends, for whatever reason. After the disconnect message has been
//! written the reader goes on until the peer has closed its side: a connection that is closed with
//! bytes unread makes the kernel throw away what is still on its way to the peer.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot, watch};

use super::Error;
use super::connection::{ChannelId, Connection, Event};
use super::input::{Incoming, Input};
use super::msg;
use super::output::Output;
use super::packet::pool;
use super::socket::{Unsent, Writer};
use super::transport::Change;
use crate::net::handshake_cpu::HandshakeCpu;
use crate::net::yield_budget::YieldBudget;
use crate::scope::Scope;

/// Limit for the disconnect message.
pub(super) const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How far the session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Neither side is sure of the other.
    Handshake,
    /// A client knows whom it speaks with, and is held.
    Keyed,
    /// Channels may be opened.
    Open,
    /// Nothing comes or goes any more.
    Ended,
}

/// What the two tasks, the session and its channels share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// There may be something to write; heard by the writer.
    transmit: Notify,
    /// The peer is to be heard again, or a timer has changed; heard by the reader.
    resume: Notify,
    /// A channel may wait to be accepted; heard by the session.
    pub(super) incoming: Notify,
    /// Heard by the session.
    phase: watch::Sender<Phase>,
}

/// What is locked.
pub(super) struct State {
    pub(super) connection: Connection,
    wakers: Vec<Wakers>,
    openings: HashMap<ChannelId, oneshot::Sender<Result<(), Error>>>,
    pings: HashMap<u64, oneshot::Sender<()>>,
    pub(super) incoming: VecDeque<ChannelId>,
    /// Why it ended.
    end: Option<Error>,
}

/// Who waits for a channel.
#[derive(Default)]
struct Wakers {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Whom to wake once the lock is released.
#[derive(Default)]
pub(super) struct ToWake {
    wakers: Vec<Waker>,
    has_incoming: bool,
    is_keyed: bool,
    is_authenticated: bool,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something to write.
    pub(super) fn transmit(&self) {
        self.transmit.notify_one();
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn is_ended(&self) -> bool {
        *self.phase.borrow() == Phase::Ended
    }

    pub(super) fn subject(&self) -> Option<String> {
        self.lock().connection.subject().map(str::to_owned)
    }

    fn wake(&self, to_wake: &mut ToWake) {
        to_wake.wakers.drain(..).for_each(Waker::wake);
        if std::mem::take(&mut to_wake.has_incoming) {
            self.incoming.notify_one();
        }
        if std::mem::take(&mut to_wake.is_keyed) {
            self.advance(Phase::Keyed);
        }
        if std::mem::take(&mut to_wake.is_authenticated) {
            self.advance(Phase::Open);
        }
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_later = *phase < to;
            *phase = to.max(*phase);
            is_later
        });
    }

    /// The session is over because of `error`, unless it is already: the peer is notified if it can
    /// be, and all who wait are woken.
    fn end(&self, error: Error) {
        let mut wakers = Vec::new();
        {
            let mut state = self.lock();
            if state.end.is_none() {
                state.connection.fail(&error);
                state.end = Some(error);
            }
            let all = state.wakers.iter_mut();
            wakers.extend(all.flat_map(|w| [w.reader.take(), w.writer.take()]));
            // The one who waits for an answer learns that none will come.
            state.openings.clear();
            state.pings.clear();
            state.incoming.clear();
        }
        wakers.into_iter().flatten().for_each(Waker::wake);
        self.advance(Phase::Ended);
        self.incoming.notify_one();
        self.transmit.notify_one();
        self.resume.notify_one();
    }

    /// Why it ended, once.
    pub(super) fn take_end(&self) -> Error {
        // What is taken stays ended.
        let mut state = self.lock();
        match &mut state.end {
            Some(end) => std::mem::replace(end, Error::Closed),
            None => Error::Closed,
        }
    }
}

impl State {
    /// Passes on what happened.
    fn settle(&mut self, to_wake: &mut ToWake) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Keyed => to_wake.is_keyed = true,
                Event::Authenticated => to_wake.is_authenticated = true,
                Event::Incoming(id) => {
                    self.incoming.push_back(id);
                    to_wake.has_incoming = true;
                }
                Event::Opened(id) => self.answer(id, Ok(())),
                Event::Refused(id, error) => self.answer(id, Err(error)),
                Event::Readable(id) => {
                    let waker = self.wakers_of(id).and_then(|w| w.reader.take());
                    to_wake.wakers.extend(waker);
                }
                Event::Writable(id) => {
                    let waker = self.wakers_of(id).and_then(|w| w.writer.take());
                    to_wake.wakers.extend(waker);
                }
                Event::Closed(id) => {
                    self.incoming.retain(|other| *other != id);
                    if let Some(wakers) = self.wakers_of(id) {
                        to_wake.wakers.extend(wakers.reader.take());
                        to_wake.wakers.extend(wakers.writer.take());
                    }
                }
                Event::Answered(number) => {
                    if let Some(ping) = self.pings.remove(&number) {
                        let _ = ping.send(());
                    }
                }
            }
        }
    }

    fn answer(&mut self, id: ChannelId, result: Result<(), Error>) {
        if let Some(opening) = self.openings.remove(&id) {
            let _ = opening.send(result);
        }
    }

    fn wakers_of(&mut self, id: ChannelId) -> Option<&mut Wakers> {
        self.wakers.get_mut(usize::try_from(id.0).ok()?)
    }

    fn wakers_made(&mut self, id: ChannelId) -> &mut Wakers {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        if index >= self.wakers.len() {
            self.wakers
                .resize_with(index.saturating_add(1), Wakers::default);
        }
        #[expect(clippy::indexing_slicing, reason = "made just above")]
        &mut self.wakers[index]
    }

    /// The reader of a channel waits.
    pub(super) fn wait_to_read(&mut self, id: ChannelId, waker: &Waker) {
        set(&mut self.wakers_made(id).reader, waker);
    }

    /// The writer of a channel waits.
    pub(super) fn wait_to_write(&mut self, id: ChannelId, waker: &Waker) {
        set(&mut self.wakers_made(id).writer, waker);
    }

    /// No one waits for the channel any more.
    pub(super) fn forget(&mut self, id: ChannelId) {
        self.openings.remove(&id);
        if let Some(wakers) = self.wakers_of(id) {
            *wakers = Wakers::default();
        }
    }

    /// Resolves when the channel is open or refused.
    pub(super) fn await_opening(&mut self, id: ChannelId) -> oneshot::Receiver<Result<(), Error>> {
        let (sender, receiver) = oneshot::channel();
        self.openings.insert(id, sender);
        receiver
    }

    /// Resolves when the ping of this number is answered.
    pub(super) fn await_answer(&mut self, number: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.pings.insert(number, sender);
        receiver
    }

    /// No one waits for the ping any more.
    pub(super) fn forget_ping(&mut self, number: u64) {
        self.pings.remove(&number);
    }
}

fn set(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(old) if old.will_wake(waker) => {}
        _ => *slot = Some(waker.clone()),
    }
}

/// The present, as the connection counts it; a test may have paused it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Starts both tasks in a scope of their own; its cancellation ends them at once.
pub(super) fn start<R, W>(
    reader: R,
    writer: W,
    connection: Connection,
    cpu: HandshakeCpu,
) -> (Arc<Shared>, Scope)
where
    R: AsyncRead + Unpin + Send + 'static,
    W: Writer,
{
    let input = Input::new(connection.is_client());
    let (phase, _) = watch::channel(Phase::Handshake);
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            connection,
            wakers: Vec::new(),
            openings: HashMap::new(),
            pings: HashMap::new(),
            incoming: VecDeque::new(),
            end: None,
        }),
        transmit: Notify::new(),
        resume: Notify::new(),
        incoming: Notify::new(),
        phase,
    });
    let scope = Scope::new("ssh session");
    let ending = EndsSession(Some(Arc::clone(&shared)));
    let (theirs, cut) = (Arc::clone(&shared), scope.clone());
    let mut reader = reader;
    scope.spawn("reader", async move {
        let error = cut.run(read(&mut reader, input, cpu, &theirs)).await;
        theirs.end(error.unwrap_or(Error::Closed));
        drop(ending);
        let draining = tokio::time::timeout(DISCONNECT_TIMEOUT, drain(reader));
        let _ = cut.run(draining).await;
    });
    let mut ending = EndsSession(Some(Arc::clone(&shared)));
    let (theirs, cut) = (Arc::clone(&shared), scope.clone());
    scope.spawn("writer", async move {
        match cut.run(write(writer, &theirs)).await {
            // The reader says why, when the peer has closed its side.
            Some(Ok(())) => ending.disarm(),
            Some(Err(error)) => {
                // The reader may be about to learn why, from the peer's disconnect message.
                let mut phase = theirs.phase();
                let ended = phase.wait_for(|phase| *phase == Phase::Ended);
                let _ = tokio::time::timeout(DISCONNECT_TIMEOUT, ended).await;
                theirs.end(error);
                // A reader of a connection that cannot be written to would wait for nothing.
                cut.cancel();
            }
            None => {}
        }
    });
    (shared, scope)
}

/// Ends the session when its task is gone, even by a panic.
struct EndsSession(Option<Arc<Shared>>);

impl EndsSession {
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for EndsSession {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.end(Error::Closed);
        }
    }
}

/// Takes in what the peer still sends, until it closes its side: a connection that is closed with
/// bytes unread makes the kernel discard our disconnect message.
async fn drain<R: AsyncRead + Unpin>(mut reader: R) {
    let mut nowhere = [0; 4096];
    while matches!(reader.read(&mut nowhere).await, Ok(1..)) {}
}

async fn read<R: AsyncRead + Unpin>(
    reader: &mut R,
    mut input: Input,
    cpu: HandshakeCpu,
    shared: &Shared,
) -> Error {
    // Until the peer has authenticated.
    let mut cpu = Some(cpu);
    let mut is_interrupted = false;
    let mut to_wake = ToWake::default();
    let timer = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(timer);
    let mut budget = YieldBudget::default();
    loop {
        budget.next().await;
        let (timeout, is_listening, has_output) = {
            let state = shared.lock();
            let connection = &state.connection;
            (
                connection.poll_timeout(),
                connection.is_listening(),
                connection.has_output(),
            )
        };
        // Not for each read: what is read by channels makes its own credit.
        if has_output {
            shared.transmit();
        }
        if let Some(timeout) = timeout.map(tokio::time::Instant::from_std)
            && timer.deadline() != timeout
        {
            timer.as_mut().reset(timeout);
        }
        let result = tokio::select! {
            // What came while the peer was not heard is heard first.
            () = std::future::ready(()), if is_listening && is_interrupted => {
                handle_input(&mut input, &mut cpu, shared, &mut to_wake, &mut is_interrupted).await
            }
            read = reader.read(input.space()), if is_listening && !is_interrupted => match read {
                Ok(0) => Err(Error::Closed),
                Ok(bytes) => {
                    input.filled(bytes);
                    budget.moved(bytes);
                    handle_input(&mut input, &mut cpu, shared, &mut to_wake, &mut is_interrupted)
                        .await
                }
                Err(error) => Err(Error::Io(error)),
            },
            () = &mut timer => {
                let mut state = shared.lock();
                let result = state.connection.handle_timeout(now());
                state.settle(&mut to_wake);
                result
            }
            () = shared.resume.notified() => Ok(()),
        };
        shared.wake(&mut to_wake);
        if let Err(error) = result {
            return error;
        }
    }
}

/// Handles what has been read, until the peer is not to be heard any more: then it was interrupted.
async fn handle_input(
    input: &mut Input,
    cpu: &mut Option<HandshakeCpu>,
    shared: &Shared,
    to_wake: &mut ToWake,
    is_interrupted: &mut bool,
) -> Result<(), Error> {
    *is_interrupted = false;
    while let Some(incoming) = input.next()? {
        let handled = match cpu {
            None => handle(incoming, shared, to_wake),
            Some(cpu) => {
                let permit = match &incoming {
                    Incoming::Packet { payload, .. } if is_exchange(payload) => {
                        Some(cpu.permit().await)
                    }
                    _ => None,
                };
                let handled = cpu.measure(|| handle(incoming, shared, to_wake));
                drop(permit);
                handled
            }
        };
        // At once: on another core they can begin with this packet while we open the next.
        shared.wake(to_wake);
        *is_interrupted = !handled.is_listening;
        if handled.is_authenticated {
            input.trust();
            *cpu = None;
        }
        if let Some(change) = handled.change? {
            input.set_keys(&change)?;
        }
        if *is_interrupted {
            break;
        }
    }
    Ok(())
}

/// True if a server has to exchange keys and to sign for this packet.
fn is_exchange(payload: &[u8]) -> bool {
    payload.first() == Some(&msg::KEX_EXCHANGE_INIT)
}

/// What became of something that came.
struct HandledInput {
    change: Result<Option<Change>, Error>,
    is_listening: bool,
    is_authenticated: bool,
}

fn handle(incoming: Incoming, shared: &Shared, to_wake: &mut ToWake) -> HandledInput {
    let now = now();
    let mut state = shared.lock();
    let change = match incoming {
        Incoming::Version(version) => {
            let handled = state.connection.handle_version(version, now);
            handled.map(|()| None)
        }
        Incoming::Packet { payload, sequence } => {
            state.connection.handle_packet(payload, sequence, now)
        }
    };
    state.settle(to_wake);
    HandledInput {
        change,
        is_listening: state.connection.is_listening(),
        is_authenticated: state.connection.is_authenticated(),
    }
}

async fn write<W: Writer>(mut writer: W, shared: &Shared) -> Result<(), Error> {
    let mut output = Output::new();
    let mut unsent = Unsent::new(now());
    let mut to_wake = ToWake::default();
    let mut batch = Vec::new();
    let mut wire: Vec<Vec<u8>> = Vec::new();
    let mut budget = YieldBudget::default();
    loop {
        budget.next().await;
        let (is_finished, was_deaf, path) = {
            let mut state = shared.lock();
            let was_deaf = !state.connection.is_listening();
            state.connection.poll_transmit(&mut batch, now());
            state.settle(&mut to_wake);
            let path = state.connection.path();
            (state.connection.is_finished(), was_deaf, path)
        };
        shared.wake(&mut to_wake);
        if was_deaf {
            shared.resume.notify_one();
        }
        if batch.is_empty() {
            if is_finished {
                return writer.shutdown().await.map_err(Error::Io);
            }
            writer.flush().await.map_err(Error::Io)?;
            shared.transmit.notified().await;
            continue;
        }
        for outgoing in batch.drain(..) {
            wire.extend(output.seal(outgoing)?);
        }
        write_all(&mut writer, &wire).await.map_err(Error::Io)?;
        let bytes = wire.iter().map(Vec::len).sum();
        if let Some(limit) = unsent.written(bytes, path, now()) {
            writer.limit_unsent(limit);
        }
        budget.moved(bytes);
        wire.drain(..).for_each(pool::give);
    }
}

/// Packets in one call of writev(2).
const SLICES: usize = 64;

async fn write_all<W: AsyncWrite + Unpin>(writer: &mut W, wire: &[Vec<u8>]) -> io::Result<()> {
    let (mut first, mut offset) = (0, 0);
    while let Some(current) = wire.get(first) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let head = current.get(offset..).unwrap_or_default();
        let rest = wire.iter().skip(first).skip(1).map(Vec::as_slice);
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(std::iter::once(head).chain(rest)) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        let mut written = writer.write_vectored(slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        // Past what has been written.
        while let Some(current) = wire.get(first) {
            let left = current.len().saturating_sub(offset);
            if written < left {
                offset = offset.saturating_add(written);
                break;
            }
            written = written.saturating_sub(left);
            (first, offset) = (first.saturating_add(1), 0);
        }
    }
    Ok(())
}
