//! A client and a server on a wire, and time that passes only when nothing else happens.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::support::{client, options, server};
use super::wire::Wire;
use crate::connection::{Connection, Event, Options};
use crate::input::{Incoming, Input};
use crate::output::Output;
use crate::{Algorithms, Error};

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// What a driver holds of one side.
pub(super) struct Side {
    pub(super) connection: Connection,
    input: Input,
    output: Output,
    /// Sealed and not yet written.
    pending: VecDeque<u8>,
    /// What happened and was not looked at.
    pub(super) events: VecDeque<Event>,
    /// Why it ended.
    pub(super) end: Option<Error>,
    /// How often keys to open with have changed.
    pub(super) exchanges: u32,
}

impl Side {
    fn new(connection: Connection) -> Self {
        Self {
            input: Input::new(connection.is_client()),
            connection,
            output: Output::new(),
            pending: VecDeque::new(),
            events: VecDeque::new(),
            end: None,
            exchanges: 0,
        }
    }

    fn settle(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            self.events.push_back(event);
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        if self.end.is_none() {
            self.connection.fail(&error);
            self.end = Some(error);
        }
    }

    fn write(&mut self, wire: &mut Wire, now: Instant) -> bool {
        if self.pending.is_empty() {
            let mut batch = Vec::new();
            self.connection.poll_transmit(&mut batch, now);
            for outgoing in batch {
                let bytes = self.output.seal(outgoing).expect("sealed");
                self.pending.extend(bytes.unwrap_or_default());
            }
            self.settle();
            if self.pending.is_empty() && self.connection.is_finished() && !wire.is_closed() {
                wire.close();
                return true;
            }
        }
        let taken = wire.put(self.pending.make_contiguous(), now);
        self.pending.drain(..taken);
        taken > 0
    }

    fn read(&mut self, wire: &mut Wire, now: Instant) -> bool {
        if self.end.is_some() || !self.connection.is_listening() {
            return false;
        }
        let taken = wire.take(self.input.space(), now);
        let result = if taken > 0 {
            self.input.filled(taken);
            self.handle_input(now)
        } else if wire.is_over() {
            Err(Error::Closed)
        } else {
            return false;
        };
        if let Err(error) = result {
            self.fail(error);
        }
        true
    }

    fn handle_input(&mut self, now: Instant) -> Result<(), Error> {
        while let Some(incoming) = self.input.next()? {
            let change = match incoming {
                Incoming::Version(version) => {
                    self.connection
                        .handle_version(version, now)
                        .expect("random numbers");
                    None
                }
                Incoming::Packet { payload, sequence } => {
                    let change = self.connection.handle_packet(payload, sequence, now);
                    self.settle();
                    if self.connection.is_authenticated() {
                        self.input.trust();
                    }
                    change?
                }
            };
            if let Some(change) = change {
                self.input.set_keys(&change)?;
                self.exchanges += 1;
            }
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) -> bool {
        let is_due = self.connection.poll_timeout().is_some_and(|at| at <= now);
        if self.end.is_some() || !is_due {
            return false;
        }
        if let Err(error) = self.connection.handle_timeout(now) {
            self.fail(error);
        }
        self.settle();
        true
    }
}

/// See the module.
pub(super) struct Pair {
    pub(super) sides: [Side; 2],
    /// From the side of the same number to the other.
    pub(super) wires: [Wire; 2],
    pub(super) now: Instant,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with(options(Algorithms::client()), options(Algorithms::server()))
    }

    pub(super) fn with(near: Options, far: Options) -> Self {
        let now = Instant::now();
        Self::of(client(near, now), server(far, now), now)
    }

    pub(super) fn of(client: Connection, server: Connection, now: Instant) -> Self {
        Self {
            sides: [Side::new(client), Side::new(server)],
            wires: [Wire::new(), Wire::new()],
            now,
        }
    }

    /// Both sides authenticated.
    pub(super) fn authenticated() -> Self {
        let mut pair = Self::new();
        pair.authenticate();
        pair
    }

    pub(super) fn authenticate(&mut self) {
        self.run(Duration::from_secs(5));
        for side in &mut self.sides {
            assert!(side.end.is_none(), "{:?}", side.end);
            assert!(matches!(
                side.events.pop_front(),
                Some(Event::Authenticated)
            ));
        }
    }

    /// Whatever can happen without waiting happens.
    pub(super) fn settle(&mut self) {
        let mut turns = 0_u32;
        while self.turn() {
            turns += 1;
            assert!(turns < 10_000_000, "it never comes to rest");
        }
    }

    fn turn(&mut self) -> bool {
        let mut has_moved = false;
        for (index, side) in self.sides.iter_mut().enumerate() {
            has_moved |= side.handle_timeout(self.now);
            has_moved |= side.write(&mut self.wires[index], self.now);
            has_moved |= side.read(&mut self.wires[1 - index], self.now);
        }
        if self
            .wires
            .iter()
            .any(|wire| wire.cut_at.is_some() && wire.is_closed())
        {
            // A connection breaks both ways.
            self.wires.iter_mut().for_each(Wire::close);
        }
        has_moved
    }

    /// The next moment at which something happens by itself.
    pub(super) fn next(&self) -> Option<Instant> {
        let arrivals = self.wires.iter().filter_map(Wire::due);
        let living = self.sides.iter().filter(|side| side.end.is_none());
        let timeouts = living.filter_map(|side| side.connection.poll_timeout());
        arrivals.chain(timeouts).filter(|at| *at > self.now).min()
    }

    /// So much time passes.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            match self.next() {
                Some(next) if next <= end => self.now = next,
                _ => break,
            }
        }
        self.now = end;
        self.settle();
    }

    /// Both sides are over, and hold nothing.
    pub(super) fn assert_over(&self) {
        for (index, side) in self.sides.iter().enumerate() {
            assert!(side.end.is_some(), "side {index} does not know");
            let totals = side.connection.channels.totals();
            assert_eq!(totals, super::Totals::default(), "side {index}");
        }
    }
}
