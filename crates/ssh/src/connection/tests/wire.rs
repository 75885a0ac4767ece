//! One direction of the wire: a bounded queue of bytes with a delay, which can be cut, stalled and
//! spoilt.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// See the module.
pub(super) struct Wire {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    held: usize,
    /// Bytes that it holds at once.
    pub(super) capacity: usize,
    pub(super) delay: Duration,
    /// Most bytes that a reader gets at once.
    pub(super) piece: usize,
    /// Nothing arrives any more.
    pub(super) is_stalled: bool,
    /// Nothing is written any more.
    is_closed: bool,
    /// Bytes that went in.
    pub(super) carried: usize,
    /// After so many bytes nothing goes in.
    pub(super) cut_at: Option<usize>,
    /// A bit of this byte is turned.
    pub(super) spoilt: Option<usize>,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            held: 0,
            capacity: 256 * 1024,
            delay: Duration::ZERO,
            piece: usize::MAX,
            is_stalled: false,
            is_closed: false,
            carried: 0,
            cut_at: None,
            spoilt: None,
        }
    }

    /// Takes bytes from the front of `bytes`; how many.
    pub(super) fn put(&mut self, bytes: &[u8], now: Instant) -> usize {
        if self.is_closed {
            return bytes.len();
        }
        let room = self.capacity.saturating_sub(self.held);
        let left = self
            .cut_at
            .map_or(usize::MAX, |at| at.saturating_sub(self.carried));
        let taken = bytes.len().min(room).min(left);
        let mut piece = bytes[..taken].to_vec();
        if let Some(at) = self.spoilt
            && let Some(byte) = at
                .checked_sub(self.carried)
                .and_then(|at| piece.get_mut(at))
        {
            *byte ^= 1 << (at % 8);
        }
        self.carried += taken;
        self.held += taken;
        if taken > 0 {
            self.pieces.push_back((now + self.delay, piece));
        }
        if left == taken {
            self.is_closed = true;
        }
        taken
    }

    /// What has arrived, if anything; how much.
    pub(super) fn take(&mut self, into: &mut [u8], now: Instant) -> usize {
        let mut taken = 0;
        let limit = into.len().min(self.piece);
        while let Some((due, piece)) = self.pieces.front_mut()
            && *due <= now
            && taken < limit
            && !self.is_stalled
        {
            let part = piece.len().min(limit - taken);
            into[taken..taken + part].copy_from_slice(&piece[..part]);
            taken += part;
            if part == piece.len() {
                self.pieces.pop_front();
            } else {
                piece.drain(..part);
            }
        }
        self.held -= taken;
        taken
    }

    /// When the next bytes arrive.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.pieces.front().map(|(due, _)| *due);
        first.filter(|_| !self.is_stalled)
    }

    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Nothing will arrive any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_closed && self.pieces.is_empty()
    }
}
