//! Both ends of channels, used as a program uses them: no one tries again before a wake-up.
//! What is read is compared with what was written.

use std::collections::VecDeque;
use std::sync::LazyLock;

use super::pair::Pair;
use super::support::Random;
use crate::connection::{ChannelId, Event, Reading, Room, data_packet};
use crate::packet::Payload;
use crate::wire::Write as _;

/// What is written repeatedly. Its length divides nothing.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(0);
    (0..65_521)
        .map(|_| random.next().to_le_bytes()[0])
        .collect()
});

fn pattern(offset: usize, length: usize) -> &'static [u8] {
    let rest = &PATTERN[offset % PATTERN.len()..];
    &rest[..length.min(rest.len())]
}

/// One side of a channel.
pub(super) struct End {
    pub(super) id: ChannelId,
    pub(super) is_open: bool,
    /// Someone holds it.
    pub(super) is_held: bool,
    pub(super) is_finished: bool,
    pub(super) may_write: bool,
    may_read: bool,
    pub(super) written: usize,
    pub(super) read: usize,
    unread: VecDeque<Payload>,
    pub(super) reading: Reading,
}

impl End {
    fn new(id: ChannelId, is_open: bool) -> Self {
        Self {
            id,
            is_open,
            is_held: true,
            is_finished: false,
            may_write: true,
            may_read: true,
            written: 0,
            read: 0,
            unread: VecDeque::new(),
            reading: Reading::Pending,
        }
    }
}

/// A channel.
pub(super) struct Link {
    opener: usize,
    pub(super) ends: [Option<End>; 2],
    /// Where what is written begins, for each writer.
    begin: [usize; 2],
    is_refused: bool,
}

/// The channels of a pair.
#[derive(Default)]
pub(super) struct Apps {
    pub(super) links: Vec<Link>,
    /// Waiting to be accepted: the side and the number.
    pub(super) waiting: Vec<(usize, ChannelId)>,
    pub(super) answers: usize,
}

impl Apps {
    /// Asks for a channel.
    pub(super) fn open(&mut self, pair: &mut Pair, side: usize) -> usize {
        let connection = &mut pair.sides[side].connection;
        let id = connection.open(("localhost", 0), ("192.0.2.1", 40_000));
        let mut ends = [None, None];
        ends[side] = Some(End::new(id.expect("a number"), false));
        let number = self.links.len();
        self.links.push(Link {
            opener: side,
            ends,
            begin: [number * 7919, number * 104_729 + 13],
            is_refused: false,
        });
        number
    }

    /// A channel that both sides use.
    pub(super) fn connect(&mut self, pair: &mut Pair, side: usize) -> usize {
        let link = self.open(pair, side);
        for _ in 0..2 {
            pair.run(pair.wires[0].delay * 2);
            self.listen(pair);
            while let Some((side, id)) = self.waiting.pop() {
                self.accept(pair, side, id);
            }
        }
        assert!(
            self.links[link]
                .ends
                .iter()
                .flatten()
                .all(|end| end.is_open)
        );
        link
    }

    /// The link whose end on `side` has this number.
    fn find(&mut self, side: usize, id: ChannelId) -> Option<&mut End> {
        let ends = self.links.iter_mut().filter_map(|l| l.ends[side].as_mut());
        ends.filter(|end| end.is_held).find(|end| end.id == id)
    }

    pub(super) fn accept(&mut self, pair: &mut Pair, side: usize, id: ChannelId) {
        let channels = &pair.sides[side].connection.channels;
        let theirs = channels.peer(id).map(ChannelId);
        // Of all that had this number only the last one can be meant.
        let link = self.links.iter_mut().rev().find(|link| {
            let asked = link.ends[1 - side]
                .as_ref()
                .map(|end| (end.id, end.is_open));
            link.opener != side
                && link.ends[side].is_none()
                && !link.is_refused
                && asked == theirs.map(|id| (id, false))
        });
        link.expect("someone asked").ends[side] = Some(End::new(id, true));
        assert!(pair.sides[side].connection.accept(id));
    }

    /// Takes note of what happened.
    pub(super) fn listen(&mut self, pair: &mut Pair) {
        for side in 0..2 {
            while let Some(event) = pair.sides[side].events.pop_front() {
                match event {
                    Event::Keyed | Event::Authenticated => {}
                    Event::Answered(_) => self.answers += 1,
                    Event::Incoming(id) => self.waiting.push((side, id)),
                    Event::Opened(id) => self.find(side, id).expect("asked").is_open = true,
                    Event::Refused(id, _) => {
                        let link = self.links.iter_mut().find(|link| {
                            let end = link.ends[side].as_ref();
                            end.is_some_and(|end| end.is_held && end.id == id)
                        });
                        let link = link.expect("asked");
                        assert!(link.ends[1 - side].is_none());
                        link.is_refused = true;
                        link.ends[side].as_mut().expect("asked").is_held = false;
                        pair.sides[side].connection.release(id);
                    }
                    Event::Readable(id) => {
                        if let Some(end) = self.find(side, id) {
                            end.may_read = true;
                        }
                    }
                    Event::Writable(id) => {
                        if let Some(end) = self.find(side, id) {
                            end.may_write = true;
                        }
                    }
                    Event::Closed(id) => {
                        self.waiting.retain(|other| *other != (side, id));
                        if let Some(end) = self.find(side, id) {
                            (end.may_read, end.may_write) = (true, true);
                        }
                    }
                }
            }
        }
    }

    fn end(&mut self, link: usize, side: usize) -> Option<(&mut End, [usize; 2])> {
        let link = &mut self.links[link];
        let end = link.ends[side].as_mut();
        end.filter(|end| end.is_open && end.is_held)
            .map(|end| (end, link.begin))
    }

    /// Writes at most `wanted` bytes in one packet; how many.
    pub(super) fn write(
        &mut self,
        pair: &mut Pair,
        link: usize,
        side: usize,
        wanted: usize,
    ) -> usize {
        let Some((end, begin)) = self.end(link, side) else {
            return 0;
        };
        if end.is_finished || !end.may_write {
            return 0;
        }
        let connection = &mut pair.sides[side].connection;
        match connection.reserve(end.id, wanted) {
            Room::Bytes { length, recipient } => {
                assert!(length > 0 && length <= wanted);
                let mut packet = data_packet(recipient, length);
                let mut done = 0;
                while done < length {
                    let part = pattern(begin[side] + end.written + done, length - done);
                    packet.put(part);
                    done += part.len();
                }
                end.written += length;
                connection.submit(end.id, packet);
                length
            }
            Room::Pending => {
                end.may_write = false;
                0
            }
            Room::Closed => {
                end.is_finished = true;
                0
            }
        }
    }

    /// Writes all that there is room for, `limit` at most.
    pub(super) fn write_all(&mut self, pair: &mut Pair, link: usize, side: usize, limit: usize) {
        let mut left = limit;
        while left > 0 {
            match self.write(pair, link, side, left) {
                0 => break,
                written => left -= written,
            }
        }
    }

    /// Reads at most `limit` bytes of what is there.
    pub(super) fn read(&mut self, pair: &mut Pair, link: usize, side: usize, limit: usize) {
        let Some((end, begin)) = self.end(link, side) else {
            return;
        };
        let connection = &mut pair.sides[side].connection;
        if end.unread.is_empty() && end.may_read {
            match connection.take_received(end.id, &mut end.unread) {
                Reading::Data => assert!(!end.unread.is_empty()),
                Reading::Pending => end.may_read = false,
                reading => end.reading = reading,
            }
        }
        let mut used = 0;
        while let Some(first) = end.unread.front_mut() {
            let length = first.len().min(limit - used);
            if length == 0 {
                break;
            }
            let mut done = 0;
            while done < length {
                let due = pattern(begin[1 - side] + end.read + done, length - done);
                assert!(
                    first[done..].starts_with(due),
                    "other bytes than were written"
                );
                done += due.len();
            }
            end.read += length;
            used += length;
            first.advance(length);
            if first.is_empty() {
                end.unread.pop_front();
            }
        }
        if used > 0 {
            connection.read(end.id, used);
        }
    }

    pub(super) fn finish(&mut self, pair: &mut Pair, link: usize, side: usize) {
        if let Some((end, _)) = self.end(link, side) {
            end.is_finished = true;
            pair.sides[side].connection.finish(end.id);
        }
    }

    /// The one who holds it lets go, even while it is opening.
    pub(super) fn release(&mut self, pair: &mut Pair, link: usize, side: usize) {
        if let Some(end) = &mut self.links[link].ends[side]
            && end.is_held
        {
            end.is_held = false;
            end.unread.clear();
            pair.sides[side].connection.release(end.id);
        }
    }

    pub(super) fn release_all(&mut self, pair: &mut Pair) {
        for link in 0..self.links.len() {
            for side in 0..2 {
                self.release(pair, link, side);
            }
        }
    }

    /// Everything that was written comes to its end: all is read, each writer finishes, and all is
    /// let go.
    pub(super) fn complete(&mut self, pair: &mut Pair) {
        for _ in 0..2000 {
            while let Some((side, id)) = self.waiting.pop() {
                self.accept(pair, side, id);
            }
            let mut is_complete = true;
            for link in 0..self.links.len() {
                for side in 0..2 {
                    self.finish(pair, link, side);
                    self.read(pair, link, side, usize::MAX);
                    if let Some(end) = &self.links[link].ends[side] {
                        is_complete &= !end.is_held || has_ended(end.reading);
                    }
                }
            }
            if is_complete {
                break;
            }
            pair.run(super::support::ms(20));
            self.listen(pair);
        }
        for side in &pair.sides {
            assert!(side.end.is_none(), "{:?}", side.end);
        }
        for (number, link) in self.links.iter().enumerate() {
            for side in 0..2 {
                let Some(end) = link.ends[side].as_ref().filter(|end| end.is_held) else {
                    continue;
                };
                assert!(has_ended(end.reading), "side {side} of link {number}");
                let writer = link.ends[1 - side].as_ref();
                let written = writer.map_or(0, |writer| writer.written);
                assert_eq!(end.read, written, "side {side} of link {number}");
            }
        }
        self.release_all(pair);
        pair.run(super::support::ms(2000));
        self.listen(pair);
    }
}

/// The peer sends no more, whether it said so by EOF or by CLOSE alone.
fn has_ended(reading: Reading) -> bool {
    matches!(reading, Reading::Ended | Reading::Closed)
}
