//! The two windows of a channel (RFC 4254 §5.2), and how the one that we grant grows. Pure.
//!
//! A granted byte is a promise to hold it until the reader takes it, so credit is given back when the reader has read, never
//! when the bytes arrive: a reader that stalls stops its own sender, and nobody else. What is granted and not yet used, plus
//! what waits for the reader, never exceeds the window's size.
//!
//! The size starts at [`BASE`] and follows the measured bandwidth-delay product: how much the reader took in one round trip
//! is how fast it is, and twice that product keeps such a reader busy. All growth of a session comes out of one
//! [`Budget`], so the memory that a peer can make us hold is bounded: channels × [`BASE`] + [`BUDGET`].
//! Where the session has an account of a server's memory, windows are sized by that too: when it is
//! used up they begin at [`LEAST`] and do not grow.

use std::time::Duration;

use crate::net::buffers::Lease;

/// Size of a new channel's window, in bytes.
pub(super) const BASE: u32 = 256 * 1024;
/// Size of a new channel's window when the session's account has no more, in bytes: one packet.
pub(super) const LEAST: u32 = 32 * 1024;
/// What all windows of a session may have beyond [`BASE`], in bytes; one channel alone may have it all. At 80 ms of
/// round-trip time it carries 300 MiB/s.
pub(super) const BUDGET: u32 = 24 * 1024 * 1024;
/// So many requests for more than a share are held to it for one that may want it no longer.
const PATIENCE: u8 = 8;
/// Most credit that is held back, so that a large window is given back in good time.
const MAX_HELD_BACK: u32 = 512 * 1024;

/// The peer sent more than it was allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow;

/// What the windows of one session have beyond [`BASE`], together.
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent: u32,
    /// Windows that have any of it.
    sharers: u32,
    /// Somebody did not get what it asked for, so whoever has more than this gives some of it back.
    share: Option<u32>,
    /// How often others were held to that share since.
    held: u8,
    /// What the session holds or has promised to hold beyond the least, of its owner's account.
    pub(super) lease: Lease,
}

impl Budget {
    /// Size of a new window, taken from the account.
    pub(super) fn begin(&mut self) -> u32 {
        LEAST.saturating_add(self.lend(BASE.saturating_sub(LEAST)))
    }

    /// Takes what the account has of `wanted`.
    fn lend(&mut self, wanted: u32) -> u32 {
        let taken = self
            .lease
            .take(usize::try_from(wanted).unwrap_or(usize::MAX));
        u32::try_from(taken).unwrap_or(u32::MAX)
    }

    fn give_back(&mut self, bytes: u32) {
        self.lease
            .give(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    /// A window that has `extra` already wants more. If there is not enough for one that has less than its share, all are held
    /// to theirs until it has asked again, or for a few round trips if it does not.
    fn take(&mut self, wanted: u32, extra: u32) -> u32 {
        let free = BUDGET.saturating_sub(self.spent);
        // One that has nothing yet is counted all the same.
        let sharers = self.sharers.saturating_add(u32::from(extra == 0));
        let even = BUDGET / sharers.max(1);
        let mut most = free;
        match self.share {
            Some(share) if extra.saturating_add(wanted) > share => {
                self.held = self.held.saturating_add(1);
                if self.held < PATIENCE {
                    most = most.min(share.saturating_sub(extra));
                } else {
                    self.share = None;
                }
            }
            _ => (self.share, self.held) = (None, 0),
        }
        if wanted > free && extra < even {
            (self.share, self.held) = (Some(even), 0);
        }
        let taken = self.lend(wanted.min(most));
        if extra == 0 && taken > 0 {
            self.sharers = self.sharers.saturating_add(1);
        }
        self.spent = self.spent.saturating_add(taken);
        taken
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn spent(&self) -> u32 {
        self.spent
    }
}

/// The window that we grant.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    /// What it began with.
    base: u32,
    /// What we are ready to hold.
    size: u32,
    /// What the peer may still send: the number that it knows.
    granted: u32,
    /// Received and not yet read: the number that it does not know.
    unread: u32,
    /// Spent of the session's budget.
    extra: u32,
}

impl ReceiveWindow {
    /// A window of [`BASE`] bytes.
    #[cfg(test)]
    pub(super) fn new() -> Self {
        Self::of(BASE)
    }

    /// A window of `base` bytes, all of it granted.
    pub(super) fn of(base: u32) -> Self {
        Self {
            base,
            size: base,
            granted: base,
            unread: 0,
            extra: 0,
        }
    }

    /// Bytes have come.
    pub(super) fn receive(&mut self, bytes: usize) -> Result<(), Overflow> {
        let bytes = u32::try_from(bytes).map_err(|_| Overflow)?;
        self.granted = self.granted.checked_sub(bytes).ok_or(Overflow)?;
        // Cannot overflow: granted + unread ≤ size held before.
        self.unread = self.unread.saturating_add(bytes);
        Ok(())
    }

    /// The reader took bytes.
    pub(super) fn read(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.unread = self.unread.saturating_sub(bytes);
    }

    fn held_back(&self) -> u32 {
        self.size
            .saturating_sub(self.granted)
            .saturating_sub(self.unread)
    }

    /// True if there is enough to give back to be worth a message.
    pub(super) fn is_adjustment_due(&self) -> bool {
        let enough = (self.size / 2).min(MAX_HELD_BACK);
        self.held_back() >= enough
    }

    /// What to give back, all at once; 0 if it is not worth it.
    pub(super) fn adjust(&mut self, budget: &mut Budget) -> u32 {
        // What was promised beyond it is settled when the peer has used it, so `extra` says nothing of the size.
        if let Some(share) = budget.share {
            self.size = self.size.min(self.base.saturating_add(share));
        }
        self.settle(budget);
        if !self.is_adjustment_due() {
            return 0;
        }
        let bytes = self.held_back();
        self.granted = self.granted.saturating_add(bytes);
        bytes
    }

    /// A round trip took `round_trip` while `bytes` came; the fastest one so far took `fastest`. Grows the window if it
    /// keeps the reader waiting.
    pub(super) fn grow(
        &mut self,
        bytes: u64,
        round_trip: Duration,
        fastest: Duration,
        budget: &mut Budget,
    ) {
        // A window that was not nearly used up was no hindrance.
        if bytes.saturating_mul(3) < u64::from(self.size).saturating_mul(2) {
            return;
        }
        let product =
            u128::from(bytes).saturating_mul(fastest.as_nanos()) / round_trip.as_nanos().max(1);
        let double = self.size.saturating_mul(2);
        let wanted = u32::try_from(product.saturating_mul(2))
            .unwrap_or(u32::MAX)
            .min(double)
            .min(self.base.saturating_add(BUDGET));
        let more = wanted.saturating_sub(self.size);
        if more == 0 {
            return;
        }
        let more = budget.take(more, self.extra);
        self.size = self.size.saturating_add(more);
        self.extra = self.extra.saturating_add(more);
    }

    /// The channel has ended: what it had of the budget is free, whatever was granted.
    pub(super) fn release(&mut self, budget: &mut Budget) {
        (self.size, self.granted, self.unread) = (0, 0, 0);
        self.settle(budget);
        budget.give_back(std::mem::take(&mut self.base).saturating_sub(LEAST));
    }

    /// Gives back to the budget what neither size nor promise need any more.
    fn settle(&mut self, budget: &mut Budget) {
        let needed = self
            .size
            .max(self.granted.saturating_add(self.unread))
            .saturating_sub(self.base);
        let back = self.extra.saturating_sub(needed);
        if back > 0 {
            self.extra = needed;
            budget.spent = budget.spent.saturating_sub(back);
            budget.give_back(back);
            if self.extra == 0 {
                budget.sharers = budget.sharers.saturating_sub(1);
            }
        }
    }

    /// What the peer may still send.
    pub(super) fn granted(&self) -> u32 {
        self.granted
    }

    /// What waits for the reader.
    pub(super) fn unread(&self) -> u32 {
        self.unread
    }

    /// What it began with.
    #[cfg(any(test, fuzzing))]
    pub(super) fn base(&self) -> u32 {
        self.base
    }

    /// What is promised or held, and what the window has of the budget.
    #[cfg(any(test, fuzzing))]
    pub(super) fn promised(&self) -> (u32, u32) {
        (self.granted.saturating_add(self.unread), self.extra)
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> u32 {
        self.size
    }
}

/// The window that the peer grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SendWindow {
    credit: u32,
    max_packet: u32,
}

impl SendWindow {
    /// Both numbers are the peer's; no packet carries more than `ceiling` bytes of data even if the peer would take them.
    pub(super) fn new(credit: u32, max_packet: u32, ceiling: u32) -> Self {
        Self {
            credit,
            max_packet: max_packet.min(ceiling),
        }
    }

    /// The peer grants more; a window beyond 2^32 − 1 is an error (RFC 4254 §5.2).
    pub(super) fn adjust(&mut self, bytes: u32) -> Result<(), Overflow> {
        self.credit = self.credit.checked_add(bytes).ok_or(Overflow)?;
        Ok(())
    }

    /// Takes credit for at most `wanted` bytes of one packet; gives how much.
    pub(super) fn take(&mut self, wanted: u32) -> u32 {
        let taken = wanted.min(self.credit).min(self.max_packet);
        self.credit = self.credit.saturating_sub(taken);
        taken
    }

    /// Largest packet's data, in bytes.
    pub(super) fn max_packet(&self) -> u32 {
        self.max_packet
    }
}

#[cfg(test)]
mod tests {
    use super::{BASE, BUDGET, Budget, Overflow, ReceiveWindow, SendWindow};
    use std::time::Duration;

    const FAST: Duration = Duration::from_micros(100);
    const FAR: Duration = Duration::from_millis(80);

    /// The peer uses up what it has, and the reader takes it all: so many round trips.
    fn busy(window: &mut ReceiveWindow, budget: &mut Budget, round_trip: Duration, times: u32) {
        for _ in 0..times {
            let bytes = window.granted;
            window.receive(bytes as usize).expect("granted");
            window.read(bytes as usize);
            window.grow(bytes.into(), round_trip, round_trip.min(FAR), budget);
            window.adjust(budget);
        }
    }

    #[test]
    fn credit_is_given_back_for_what_was_read_only() {
        let mut budget = Budget::default();
        let mut window = ReceiveWindow::new();
        window.receive(BASE as usize).expect("granted");
        assert_eq!(window.adjust(&mut budget), 0);
        window.read(1000);
        assert_eq!(window.adjust(&mut budget), 0, "not worth a message");
        window.read(BASE as usize - 1000);
        assert_eq!(window.adjust(&mut budget), BASE);
        assert_eq!(window.adjust(&mut budget), 0);
    }

    #[test]
    fn one_byte_too_many_is_an_overflow() {
        let mut window = ReceiveWindow::new();
        window.receive(BASE as usize).expect("granted");
        assert_eq!(window.receive(1), Err(Overflow));
        assert_eq!(ReceiveWindow::new().receive(usize::MAX), Err(Overflow));
    }

    #[test]
    fn a_far_reader_gets_a_window_that_fills_the_path_and_a_near_one_does_not() {
        let mut budget = Budget::default();
        let mut far = ReceiveWindow::new();
        busy(&mut far, &mut budget, FAR, 8);
        assert_eq!(far.size(), BASE + BUDGET, "all of it, in 8 round trips");
        far.release(&mut budget);
        assert_eq!(budget.spent(), 0);
        // The same rate, measured through full queues on a near path.
        let mut near = ReceiveWindow::new();
        for _ in 0..50 {
            near.grow(u64::from(near.size()), FAR, FAST, &mut budget);
        }
        assert_eq!(near.size(), BASE);
    }

    #[test]
    fn a_slow_reader_and_an_idle_one_stay_small() {
        let mut budget = Budget::default();
        let mut window = ReceiveWindow::new();
        for _ in 0..50 {
            window.grow(u64::from(BASE / 2), FAR, FAR, &mut budget);
        }
        assert_eq!((window.size(), budget.spent()), (BASE, 0));
    }

    #[test]
    fn the_budget_is_never_exceeded_and_is_shared_in_the_end() {
        let mut budget = Budget::default();
        let mut windows: Vec<ReceiveWindow> = (0..4).map(|_| ReceiveWindow::new()).collect();
        for _ in 0..100 {
            for window in &mut windows {
                busy(window, &mut budget, FAR, 1);
                assert!(budget.spent() <= BUDGET);
            }
        }
        for window in &windows {
            assert!(window.size() >= BUDGET / 8, "{window:?}");
        }
        for window in &mut windows {
            window.release(&mut budget);
        }
        assert_eq!((budget.spent(), budget.sharers), (0, 0));
    }

    /// A reader that takes a packet at a time, so that its window is never empty, until credit for so many bytes has come.
    fn trickle(window: &mut ReceiveWindow, budget: &mut Budget, bytes: u32) {
        const PACKET: u32 = 32 * 1024;
        let mut credit = 0;
        while credit < bytes {
            assert!(window.granted >= PACKET, "stuck: {window:?} {budget:?}");
            window.receive(PACKET as usize).expect("granted");
            window.read(PACKET as usize);
            if window.is_adjustment_due() {
                credit += window.adjust(budget);
            }
        }
    }

    #[test]
    fn who_has_all_of_the_budget_shares_it_with_who_comes_later() {
        let mut budget = Budget::default();
        let mut windows: Vec<ReceiveWindow> = (0..5).map(|_| ReceiveWindow::new()).collect();
        busy(&mut windows[0], &mut budget, FAR, 8);
        assert_eq!(windows[0].size(), BASE + BUDGET);
        for _ in 0..100 {
            for window in &mut windows {
                trickle(window, &mut budget, BASE);
                window.grow(window.size().into(), FAR, FAR, &mut budget);
                assert!(budget.spent() <= BUDGET);
            }
        }
        for window in &windows {
            assert!(window.size() >= BASE + BUDGET / 10, "{window:?}");
        }
    }

    #[test]
    fn a_window_that_is_made_smaller_gets_no_smaller_than_its_share() {
        let mut budget = Budget::default();
        let mut window = ReceiveWindow::new();
        busy(&mut window, &mut budget, FAR, 8);
        budget.sharers = 4;
        let share = BUDGET / 4;
        budget.share = Some(share);
        trickle(&mut window, &mut budget, 4 * BUDGET);
        assert_eq!(window.size(), BASE + share);
        assert_eq!(budget.spent(), share);
    }

    #[test]
    fn a_packet_takes_what_credit_and_its_size_allow() {
        let mut window = SendWindow::new(100, 40, 60);
        assert_eq!((window.max_packet(), window.take(1000)), (40, 40));
        assert_eq!(window.take(10), 10);
        assert_eq!(window.take(1000), 40);
        assert_eq!(window.take(1000), 10);
        assert_eq!(window.take(1000), 0);
        assert_eq!(window.adjust(5), Ok(()));
        assert_eq!(window.take(1000), 5);
        assert_eq!(window.adjust(u32::MAX), Ok(()));
        assert_eq!(window.adjust(1), Err(Overflow));
        assert_eq!(SendWindow::new(1, u32::MAX, 60).max_packet(), 60);
    }
}
