//! A connection of ours and an honest peer, between them the fuzzer: it delivers what the peer
//! says, changed or not, says things itself, lets time pass, and does what the program may do.
//! Whatever it does, nothing panics, what is held stays bounded, and two honest sides come to no
//! error.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Script, clock, host_identity, host_policy, user_identity, user_policy};
use crate::cipher::Cipher;
use crate::clock::Clock;
use crate::connection::{ChannelId, Connection, Event, Options, Reading, Room, data_packet};
use crate::kex::Method;
use crate::packet::{Opened, Opener, Packet, Payload, Sealer};
use crate::transport::{Outgoing, version};
use crate::wire::Write as _;
use crate::{Algorithms, DisconnectReason, Error, Keepalive, RekeyLimits};

use super::messages;

/// What the driver may have read before it looks whether the connection wants to hear more.
const READ_AHEAD: usize = 256 * 1024;
/// More steps find nothing that fewer do not.
const MAX_STEPS: u32 = 400;

/// Script: flags, then steps; see [`Run::step`].
pub fn connection(data: &[u8]) {
    let mut script = Script::new(data);
    let mut run = Run::new(script.u8());
    for _ in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        run.step(&mut script);
        run.settle();
    }
    run.end();
}

/// A connection and what its driver, session and streams know of it.
struct Side {
    connection: Connection,
    /// Packets that came.
    sequence: u32,
    /// Payloads for it.
    inbox: VecDeque<Vec<u8>>,
    /// Opened by the peer, to be accepted or refused.
    incoming: Vec<ChannelId>,
    /// Asked for, and not answered.
    opening: Vec<ChannelId>,
    /// Open and not let go of.
    held: Vec<ChannelId>,
    /// Reserved, and not submitted.
    reserved: Vec<(ChannelId, Packet)>,
    /// Taken, and not told to be read.
    taken: Vec<(ChannelId, usize)>,
    /// Since it last wanted to hear.
    unheard: usize,
    /// Only then the program has a session to use.
    is_authenticated: bool,
    error: Option<Error>,
}

struct Run {
    ours: Side,
    peer: Side,
    now: Instant,
    /// What was delivered last.
    last: Vec<u8>,
    /// No one has said or lost anything but the two.
    is_honest: bool,
}

impl Run {
    /// Flags: 1 we are the server, 2 and 4 how far the connection has come, 8 keys are exchanged
    /// repeatedly, 16 channels are open.
    fn new(flags: u8) -> Self {
        let rekey = if flags & 8 == 0 {
            RekeyLimits::DEFAULT
        } else {
            RekeyLimits {
                packets: 20,
                ..RekeyLimits::DEFAULT
            }
        };
        let options = Options {
            algorithms: Algorithms {
                kex: vec![Method::Curve25519Sha256],
                ciphers: vec![Cipher::Aes128Gcm],
                macs: Vec::new(),
            },
            keepalive: Keepalive::DEFAULT,
            rekey,
            clock: Clock::showing(clock),
        };
        let now = Instant::now();
        let client = Connection::client(
            super::USER.to_owned(),
            user_identity().clone(),
            host_policy().clone(),
            options.clone(),
            now,
        );
        let server =
            Connection::server(host_identity().clone(), user_policy().clone(), options, now);
        let client = Side::new(client.expect("a client"));
        let server = Side::new(server.expect("a server"));
        let (ours, peer) = if flags & 1 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        let mut run = Self {
            ours,
            peer,
            now,
            last: vec![2],
            is_honest: true,
        };
        run.begin(flags);
        run
    }

    /// An honest beginning, as far as the flags say.
    fn begin(&mut self, flags: u8) {
        let exchanges: usize = match flags >> 1 & 3 {
            0 => 0,
            1 => 4,
            2 => 8,
            _ => 64,
        };
        for _ in 0..exchanges {
            self.transmit();
            self.peer_hears();
            self.deliver_next();
        }
        if flags & 0x16 == 0x16 {
            for _ in 0..2 {
                self.local_open();
                self.peer_opens();
            }
            self.talk();
            while let Some(id) = self.ours.incoming.pop() {
                self.ours.accept(id);
            }
            self.talk();
            assert_eq!(self.ours.held.len(), 4, "an honest beginning fails");
        }
        self.settle();
    }

    /// Everything that either side has said is heard.
    fn talk(&mut self) {
        for _ in 0..64 {
            self.transmit();
            self.peer_hears();
            self.deliver_next();
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.u8() % 16 {
            // The peer is heard, as it is or not.
            0 | 1 => self.deliver_next(),
            2 => {
                if let Some(mut payload) = self.ours.inbox.pop_front() {
                    messages::mutate(&mut payload, script);
                    self.inject(&payload);
                }
            }
            3 => {
                let payload = self.ours.inbox.pop_front();
                self.is_honest &= payload.is_none();
            }
            // Someone else is.
            4 => {
                let length = usize::from(script.u8());
                let payload = script.bytes(length).to_vec();
                self.inject(&payload);
            }
            5 => {
                let payload = messages::made(script);
                self.inject(&payload);
            }
            6 => {
                let payload = self.last.clone();
                for _ in 0..=u32::from(script.u8()) * 8 {
                    self.inject(&payload);
                }
            }
            // The peer hears us, or the network loses what we say.
            7 | 8 => {
                self.transmit();
                self.peer_hears();
            }
            9 => {
                let mut lost = Vec::new();
                self.ours.connection.poll_transmit(&mut lost, self.now);
                self.is_honest &= lost.is_empty();
            }
            10 => self.pass(Duration::from_millis(u64::from(script.u16()))),
            11 => self.local(script),
            12 => self.ours.write(script),
            13 => self.ours.read(script),
            14 => self.peer_opens(),
            _ => {
                self.peer.write(script);
                self.peer_says();
            }
        }
    }

    /// What the program does.
    fn local(&mut self, script: &mut Script<'_>) {
        let now = self.now;
        match script.u8() % 10 {
            0 | 1 => self.local_open(),
            2 | 3 => {
                if let Some(id) = self.ours.incoming.pop() {
                    self.ours.accept(id);
                }
            }
            4 => {
                if let Some(id) = self.ours.incoming.pop() {
                    self.ours.connection.refuse(id);
                }
            }
            5 => {
                if let Some(id) = self.ours.pick(script) {
                    self.ours.submit(id);
                    self.ours.connection.finish(id);
                }
            }
            6 => {
                if let Some(id) = self.ours.pick(script) {
                    self.ours.submit(id);
                    self.ours.connection.close(id);
                }
            }
            7 => {
                if let Some(id) = self.ours.pick(script) {
                    self.ours.release(id);
                }
            }
            8 => {
                // The one who asked for a channel goes away.
                if let Some(id) = self.ours.opening.pop() {
                    self.ours.connection.release(id);
                }
                self.ours.ping(now);
            }
            _ => match script.u8() {
                0..=15 => self
                    .ours
                    .connection
                    .disconnect(DisconnectReason::BY_APPLICATION, "going"),
                16..=63 => self.ours.connection.stop_accepting(),
                _ => {
                    self.ours.ping(now);
                }
            },
        }
    }

    fn local_open(&mut self) {
        self.ours.open();
    }

    fn peer_opens(&mut self) {
        self.peer.open();
        self.peer_says();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        if self.ours.error.is_none() {
            let result = self.ours.connection.handle_timeout(now);
            self.ours.note(result);
        }
        if self.peer.error.is_none() {
            let result = self.peer.connection.handle_timeout(now);
            self.peer.note(result);
        }
        // Silence ends a connection, and that is no error of either side.
        self.is_honest = false;
    }

    fn inject(&mut self, payload: &[u8]) {
        self.is_honest = false;
        self.deliver(payload);
    }

    fn deliver_next(&mut self) {
        if let Some(payload) = self.ours.inbox.pop_front() {
            self.deliver(&payload);
        }
    }

    fn deliver(&mut self, payload: &[u8]) {
        self.last = payload.to_vec();
        if self.ours.wants_to_hear(payload.len()) {
            self.ours.hear(payload, self.now);
        }
    }

    /// One batch of what we say goes to the peer.
    fn transmit(&mut self) {
        self.ours.say(&mut self.peer.inbox, self.now);
        self.peer_says();
    }

    fn peer_says(&mut self) {
        self.peer.say(&mut self.ours.inbox, self.now);
    }

    /// The peer hears all that there is for it, and does what an honest peer does.
    fn peer_hears(&mut self) {
        while let Some(payload) = self.peer.inbox.pop_front() {
            self.peer.hear(&payload, self.now);
            while let Some(id) = self.peer.incoming.pop() {
                self.peer.accept(id);
            }
            for id in self.peer.held.clone() {
                self.peer.take(id, usize::MAX);
                if self.peer.connection.is_closed(id) {
                    self.peer.release(id);
                }
            }
        }
        self.peer_says();
    }

    /// Between two steps all is in order.
    fn settle(&mut self) {
        self.ours.settle();
        self.peer.settle();
        self.ours.connection.check();
        self.peer.connection.check();
        if self.is_honest {
            for side in [&self.ours, &self.peer] {
                let is_fine = matches!(side.error, None | Some(Error::Disconnected { .. }));
                assert!(is_fine, "two honest sides fail: {:?}", side.error);
            }
        }
    }

    /// The program lets go of everything and disconnects: then nothing is left, and it comes to an
    /// end.
    fn end(&mut self) {
        let side = &mut self.ours;
        for id in side.held.clone() {
            side.release(id);
        }
        for id in std::mem::take(&mut side.opening) {
            side.connection.release(id);
        }
        side.connection
            .disconnect(DisconnectReason::BY_APPLICATION, "the end");
        self.settle();
        self.is_honest = false;
        let side = &mut self.ours;
        if side.error.is_none() {
            side.note(Err(Error::Protocol("the end".to_owned())));
        }
        let mut batch = Vec::new();
        for _ in 0..16 {
            side.connection.poll_transmit(&mut batch, self.now);
        }
        assert!(side.connection.is_finished(), "it does not end");
        assert!(batch.len() < 512, "an end with many words");
        self.settle();
    }
}

impl Side {
    fn new(mut connection: Connection) -> Self {
        connection
            .handle_version(version::OURS.to_owned(), Instant::now())
            .expect("random numbers");
        Self {
            connection,
            sequence: 0,
            inbox: VecDeque::new(),
            incoming: Vec::new(),
            opening: Vec::new(),
            held: Vec::new(),
            reserved: Vec::new(),
            taken: Vec::new(),
            unheard: 0,
            is_authenticated: false,
            error: None,
        }
    }

    /// As the driver: a reader that is not wanted may have read much already.
    fn wants_to_hear(&mut self, bytes: usize) -> bool {
        if self.connection.is_listening() {
            self.unheard = 0;
        }
        // The least that a packet takes on the wire.
        self.unheard += bytes.max(12) + 4;
        self.unheard <= READ_AHEAD
    }

    fn hear(&mut self, bytes: &[u8], now: Instant) {
        if self.error.is_some() {
            return;
        }
        let Some(payload) = payload(bytes) else {
            return;
        };
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        match self.connection.handle_packet(payload, sequence, now) {
            Ok(None) => {}
            Ok(Some(change)) => {
                if change.reset_sequence {
                    self.sequence = 0;
                }
            }
            Err(error) => self.note(Err(error)),
        }
        self.settle();
    }

    fn note(&mut self, result: Result<(), Error>) {
        if let Err(error) = result
            && self.error.is_none()
        {
            self.connection.fail(&error);
            self.error = Some(error);
        }
    }

    /// One batch.
    fn say(&mut self, to: &mut VecDeque<Vec<u8>>, now: Instant) {
        let mut batch = Vec::new();
        self.connection.poll_transmit(&mut batch, now);
        for outgoing in batch {
            if let Outgoing::Packet(packet) = outgoing {
                to.push_back(packet.payload().to_vec());
            }
        }
    }

    fn settle(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Incoming(id) => self.incoming.push(id),
                Event::Opened(id) => {
                    self.opening.retain(|other| *other != id);
                    self.held.push(id);
                }
                Event::Refused(id, _) => {
                    self.opening.retain(|other| *other != id);
                    self.connection.release(id);
                }
                Event::Closed(id) => self.incoming.retain(|other| *other != id),
                Event::Authenticated => self.is_authenticated = true,
                Event::Keyed | Event::Readable(_) | Event::Writable(_) | Event::Answered(_) => {}
            }
        }
    }

    fn pick(&self, script: &mut Script<'_>) -> Option<ChannelId> {
        let index = usize::from(script.u8());
        self.held.get(index.checked_rem(self.held.len())?).copied()
    }

    fn open(&mut self) {
        if self.is_authenticated
            && let Ok(id) = self.connection.open(("localhost", 0), ("192.0.2.1", 1))
        {
            self.opening.push(id);
        }
    }

    fn ping(&mut self, now: Instant) {
        if self.is_authenticated {
            let _ = self.connection.ping(now);
        }
    }

    fn accept(&mut self, id: ChannelId) {
        if self.connection.accept(id) {
            self.held.push(id);
        }
    }

    /// A stream that is closed or let go of is not just being written to.
    fn submit(&mut self, id: ChannelId) {
        while let Some(place) = self.reserved.iter().position(|(other, _)| *other == id) {
            let (id, packet) = self.reserved.swap_remove(place);
            self.connection.submit(id, packet);
        }
    }

    fn release(&mut self, id: ChannelId) {
        self.submit(id);
        self.held.retain(|other| *other != id);
        self.taken.retain(|(other, _)| *other != id);
        self.connection.release(id);
    }

    /// Reserves room, or fills what is reserved already.
    fn write(&mut self, script: &mut Script<'_>) {
        if script.u8().is_multiple_of(4)
            && let Some((id, packet)) = self.reserved.pop()
        {
            return self.connection.submit(id, packet);
        }
        let Some(id) = self.pick(script) else { return };
        if self.reserved.iter().any(|(other, _)| *other == id) {
            return;
        }
        let wanted = usize::from(script.u16()) + 1;
        if let Room::Bytes { length, recipient } = self.connection.reserve(id, wanted) {
            assert!(length > 0 && length <= wanted, "room for {length}");
            let mut packet = data_packet(recipient, length);
            packet.put(&vec![b'x'; length]);
            if script.u8().is_multiple_of(4) {
                self.reserved.push((id, packet));
            } else {
                self.connection.submit(id, packet);
            }
        }
    }

    fn read(&mut self, script: &mut Script<'_>) {
        if let Some(id) = self.pick(script) {
            self.take(id, usize::from(script.u16()));
        }
    }

    /// Takes what has come, and has read so much of what was taken.
    fn take(&mut self, id: ChannelId, read: usize) {
        let mut into = VecDeque::new();
        let reading = self.connection.take_received(id, &mut into);
        assert_eq!(reading == Reading::Data, !into.is_empty());
        let bytes: usize = into.iter().map(|data| data.len()).sum();
        self.taken.push((id, bytes));
        for (other, left) in &mut self.taken {
            if *other == id {
                let now = read.min(*left);
                *left -= now;
                self.connection.read(id, now);
            }
        }
        self.taken.retain(|(_, left)| *left > 0);
    }
}

/// A payload as it comes from the wire; none if no packet can hold it.
fn payload(bytes: &[u8]) -> Option<Payload> {
    let mut packet = Packet::from_payload(bytes);
    Sealer::new().seal(&mut packet).ok()?;
    match Opener::new().open(packet.wire()) {
        Ok(Opened::Packet { payload, .. }) => Some(payload),
        other => panic!("a packet of ours is not opened: {other:?}"),
    }
}

/// What two honest sides say to each other, from the beginning to the end of a channel.
#[cfg(any(test, feature = "testing"))]
pub(super) fn recorded() -> Vec<Vec<u8>> {
    let mut run = Run::new(0);
    let mut said = Vec::new();
    for step in 0..40 {
        match step {
            20 => run.local_open(),
            24 => {
                // The first channel, four bytes, at once.
                run.ours.write(&mut Script::new(&[1, 0, 0, 3, 1]));
            }
            28 => run.ours.held.clone().into_iter().for_each(|id| {
                run.ours.connection.finish(id);
                run.ours.release(id);
            }),
            36 => run
                .ours
                .connection
                .disconnect(DisconnectReason::BY_APPLICATION, "done"),
            _ => {}
        }
        run.ours.say(&mut run.peer.inbox, run.now);
        said.extend(run.peer.inbox.iter().cloned());
        run.peer_hears();
        said.extend(run.ours.inbox.iter().cloned());
        while !run.ours.inbox.is_empty() {
            run.deliver_next();
        }
        run.settle();
    }
    said
}
