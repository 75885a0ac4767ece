//! The two windows of a channel (RFC 4254 §5.2), and how the one that we grant grows. Pure.
//!
//! A granted byte is a promise to hold it until the reader takes it, so credit is given back when
//! the reader has read, never when the bytes arrive: a reader that stalls stops its own sender
//! only. What is granted and not yet used, plus what waits for the reader, never exceeds the
//! window's size.
//!
//! The size starts at [`BASE`] and follows the measured bandwidth-delay product (see [`Round`]).
//! All growth of a session comes out of one [`Budget`], so the memory that a peer can make us hold
//! is bounded: channels × [`BASE`] + [`BUDGET`]. Where the session has an account of a server's
//! memory, windows are sized by that too: when it is used up they begin at [`LEAST`] and do not
//! grow.
//!
//! Windows share the budget by a dynamic threshold, as the ports of a switch share its memory: none
//! may have more of it than is left for those that come later. One busy channel gets half of it,
//! two a third each, n an n+1st each, without any of them being counted; a window above the
//! threshold gets smaller as its credit is used up. The part of an idle channel, which uses none
//! up, is asked back (see `reclaim`).

use std::time::Duration;

use crate::net::buffers::Lease;

/// Size of a new channel's window, in bytes.
pub(super) const BASE: u32 = 256 * 1024;
/// Size of a new channel's window when the session's account has no more, in bytes: one packet.
pub(super) const LEAST: u32 = 32 * 1024;
/// What all windows of a session may have beyond [`BASE`], in bytes. One channel alone gets half of
/// it, which carries 400 MiB/s at a round-trip time of 80 ms; and what stalled ones hold of it
/// leaves enough for others on the same path.
pub(super) const BUDGET: u32 = 64 * 1024 * 1024;
/// Credit is given back when a quarter of the window has been read, within these bounds: not so
/// often that it costs time, and in good time for a path that carries the window's size and no
/// more.
const MIN_HELD_BACK: u32 = BASE / 2;
/// See [`MIN_HELD_BACK`].
const MAX_HELD_BACK: u32 = 512 * 1024;
/// A path that takes so long, there and back, is not short.
const FAR: Duration = Duration::from_millis(2);
/// A path that takes no longer is short.
const NEAR: Duration = Duration::from_micros(500);

/// The peer sent, or gave back, more than it was allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow;

/// What the windows of one session have beyond [`BASE`], together.
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent: u32,
    /// A window got less than it could have used since [`Self::take_shortage`] was last asked.
    is_short: bool,
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

    /// What is left, which is also the most that any one window may have.
    fn free(&self) -> u32 {
        BUDGET.saturating_sub(self.spent)
    }

    /// A window that has `extra` already wants more.
    fn take(&mut self, wanted: u32, extra: u32) -> u32 {
        // So much that it has no more afterwards than is left then.
        let most = self.free().saturating_sub(extra) / 2;
        let taken = self.lend(wanted.min(most));
        self.is_short |= taken < wanted;
        self.spent = self.spent.saturating_add(taken);
        taken
    }

    /// True if a window got less than it could have used since this was last asked.
    pub(super) fn take_shortage(&mut self) -> bool {
        std::mem::take(&mut self.is_short)
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn spent(&self) -> u32 {
        self.spent
    }
}

/// What came in one round trip, and how large windows are to be for it.
///
/// What came divided by the time that it took is how fast the readers are, and that rate times the
/// round trip of the path alone is what has to be on its way to keep them busy. Windows get twice
/// as much, so that queues, which make the measured round trip longer than the path's, are never
/// longer than the path; and [`BASE`] on top, for credit is given back, and packets are sent, a
/// batch at a time: all of it on a path of [`FAR`] or more, none up to [`NEAR`], where [`BASE`]
/// alone is as much as any reader needs, and more than that only leaves the processor's caches.
///
/// A queue in front of the credit that we give back, of what we send ourselves, is no less in the
/// way of the data than the path is, and cannot be told from one of theirs. So while we send, a
/// window whose channel gets faster grows by as much (see [`ReceiveWindow::keep_pace`]): it is the
/// window that held the channel back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub round_trip: Duration,
    /// What the path alone takes of it.
    pub path: Duration,
    /// Bytes that came on all channels, and how many channels that was.
    pub total: u64,
    pub channels: u64,
    /// We were sending too: part of the queue may be of that, in front of the credit that we give
    /// back.
    pub is_sending: bool,
}

impl Round {
    /// How large the window of a channel is to be on which `bytes` came: as its own rate wants it,
    /// or as the channels' average rate does, so that one that came later catches up.
    pub(super) fn wanted(&self, bytes: u64) -> u64 {
        let gain = if self.is_sending { 4 } else { 2 };
        let average = self.total / self.channels.max(1);
        let product = u128::from(bytes.max(average)).saturating_mul(self.path.as_nanos())
            / self.round_trip.as_nanos().max(1);
        let part = self.path.min(FAR).saturating_sub(NEAR).as_nanos();
        let on_top = u128::from(BASE).saturating_mul(part) / FAR.saturating_sub(NEAR).as_nanos();
        let wanted = product.saturating_mul(gain).saturating_add(on_top);
        u64::try_from(wanted).unwrap_or(u64::MAX)
    }

    /// How fast `bytes` came, in bytes per second; 0 where that says nothing about windows.
    pub(super) fn rate(&self, bytes: u64) -> u64 {
        if !self.is_sending || self.path < FAR {
            return 0;
        }
        let second = u128::from(bytes).saturating_mul(1_000_000_000);
        u64::try_from(second / self.round_trip.as_nanos().max(1)).unwrap_or(u64::MAX)
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
    /// The highest rate at which data came with no larger window than this, in bytes per second.
    best_rate: u64,
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
            best_rate: 0,
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
        let quarter = self.size / 4;
        self.held_back()
            >= quarter
                .max(MIN_HELD_BACK.min(self.size / 2))
                .min(MAX_HELD_BACK)
    }

    /// What to give back, all at once; 0 if it is not worth it.
    pub(super) fn adjust(&mut self, budget: &mut Budget) -> u32 {
        // What is above the threshold goes by halves, for others give some up at the same time.
        // What was promised already is settled when the peer has used it.
        let surplus = self.extra.saturating_sub(budget.free()) / 2;
        let extra = self.extra.saturating_sub(surplus);
        self.shrink(self.base.saturating_add(extra));
        self.settle(budget);
        if !self.is_adjustment_due() {
            return 0;
        }
        let bytes = self.held_back();
        self.granted = self.granted.saturating_add(bytes);
        bytes
    }

    /// Data came at `rate`, in bytes per second: how large the window is to be if that is more than
    /// ever before.
    pub(super) fn keep_pace(&mut self, rate: u64) -> u64 {
        let before = self.best_rate;
        self.best_rate = before.max(rate);
        if before == 0 || rate <= before {
            return 0;
        }
        let wanted = u128::from(self.size).saturating_mul(rate.into()) / u128::from(before);
        u64::try_from(wanted).unwrap_or(u64::MAX)
    }

    fn shrink(&mut self, size: u32) {
        if size < self.size {
            (self.size, self.best_rate) = (size, 0);
        }
    }

    /// `bytes` came in a round trip. Grows the window to `wanted` bytes, but not beyond twice its
    /// size, if it was used up.
    pub(super) fn grow(&mut self, bytes: u64, wanted: u64, budget: &mut Budget) {
        // Half of it may be on its way, as credit or as data, when the round begins or ends.
        if bytes < u64::from(self.size / 2) {
            return;
        }
        let double = self.size.saturating_mul(2);
        let most = double.min(self.base.saturating_add(BUDGET));
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).min(most);
        let more = wanted.saturating_sub(self.size);
        if more == 0 {
            return;
        }
        let more = budget.take(more, self.extra);
        self.size = self.size.saturating_add(more);
        self.extra = self.extra.saturating_add(more);
    }

    /// Makes the window of an idle channel small again: how much of the credit that the peer has it
    /// is to be asked for. What it answers comes to [`Self::reclaimed`].
    pub(super) fn reclaim(&mut self) -> u32 {
        self.shrink(self.base);
        self.extra.min(self.granted.saturating_sub(self.base))
    }

    /// The peer has given credit back.
    pub(super) fn reclaimed(&mut self, bytes: u32, budget: &mut Budget) -> Result<(), Overflow> {
        self.granted = self.granted.checked_sub(bytes).ok_or(Overflow)?;
        self.settle(budget);
        Ok(())
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
        self.extra = self.extra.saturating_sub(back);
        budget.spent = budget.spent.saturating_sub(back);
        budget.give_back(back);
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
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn base(&self) -> u32 {
        self.base
    }

    /// What is promised or held, and what the window has of the budget.
    #[cfg(any(test, feature = "testing"))]
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
    /// Both numbers are the peer's; no packet carries more than `ceiling` bytes of data even if the
    /// peer would take them.
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

    /// The peer asks for credit back that it has granted; gives how much it gets. The credit of a
    /// new channel stays.
    pub(super) fn give_back(&mut self, wanted: u32) -> u32 {
        let given = wanted.min(self.credit.saturating_sub(BASE));
        self.credit = self.credit.saturating_sub(given);
        given
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
    use super::{BASE, BUDGET, Budget, NEAR, Overflow, ReceiveWindow, Round, SendWindow};
    use std::time::Duration;

    const FAST: Duration = Duration::from_micros(100);
    const LONG: Duration = Duration::from_millis(80);

    /// What the window of a channel wants on which so many bytes came, and none on others.
    fn alone(bytes: u32, round_trip: Duration, path: Duration) -> u64 {
        let round = Round {
            round_trip,
            path,
            total: bytes.into(),
            channels: 1,
            is_sending: false,
        };
        round.wanted(bytes.into())
    }

    #[test]
    fn later_channel_catches_up_in_window() {
        let mut round = Round {
            round_trip: 2 * LONG,
            path: LONG,
            total: 1000,
            channels: 4,
            is_sending: false,
        };
        let base = u64::from(BASE);
        assert_eq!(round.wanted(10), base + 250);
        assert_eq!(round.wanted(700), base + 700);
        round.is_sending = true;
        assert_eq!(round.wanted(10), base + 500);
        (round.path, round.round_trip) = (NEAR, NEAR);
        assert_eq!(round.wanted(0), 1000);
    }

    /// The peer uses up what it has, and the reader takes it all: so many round trips.
    fn busy(window: &mut ReceiveWindow, budget: &mut Budget, round_trip: Duration, times: u32) {
        for _ in 0..times {
            let bytes = window.granted;
            window.receive(bytes as usize).expect("granted");
            window.read(bytes as usize);
            window.grow(
                bytes.into(),
                alone(bytes, round_trip, round_trip.min(LONG)),
                budget,
            );
            window.adjust(budget);
        }
    }

    #[test]
    fn window_grows_behind_our_own_queue() {
        // The queue is seven times as long as the path.
        let mut round = Round {
            round_trip: 8 * LONG,
            path: LONG,
            total: 0,
            channels: 1,
            is_sending: true,
        };
        let mut budget = Budget::default();
        let mut window = ReceiveWindow::new();
        let rounds = |window: &mut ReceiveWindow, budget: &mut Budget, round: &mut Round| {
            for _ in 0..10 {
                // The path carries 8 MiB in a round trip.
                let bytes = window.granted.min(8 << 20);
                window.receive(bytes as usize).expect("granted");
                window.read(bytes as usize);
                round.total = bytes.into();
                let wanted = round.wanted(round.total);
                let wanted = wanted.max(window.keep_pace(round.rate(round.total)));
                window.grow(bytes.into(), wanted, budget);
                window.adjust(budget);
            }
        };
        rounds(&mut window, &mut budget, &mut round);
        let size = window.size();
        assert!((8 << 20..16 << 20).contains(&size), "{size}");
        // That is enough: it stays as it is.
        rounds(&mut window, &mut budget, &mut round);
        assert_eq!(window.size(), size);
        // Made small, it has to find out again.
        window.reclaim();
        assert_eq!(window.keep_pace(u64::MAX), 0);
    }

    #[test]
    fn credit_returns_only_for_read_bytes() {
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
    fn far_readers_window_fills_the_path() {
        let mut budget = Budget::default();
        let mut far = ReceiveWindow::new();
        busy(&mut far, &mut budget, LONG, 8);
        assert_eq!(far.size(), BASE + BUDGET / 2, "its part, in 8 round trips");
        assert!(budget.take_shortage());
        far.release(&mut budget);
        assert_eq!(budget.spent(), 0);
        // The same rate, measured through full queues on a near path.
        let mut near = ReceiveWindow::new();
        for _ in 0..50 {
            let size = near.size();
            near.grow(size.into(), alone(size, LONG, FAST), &mut budget);
        }
        assert_eq!(near.size(), BASE);
    }

    #[test]
    fn slow_and_idle_windows_stay_small() {
        let mut budget = Budget::default();
        let mut window = ReceiveWindow::new();
        for _ in 0..50 {
            let bytes = BASE / 2 - 1;
            window.grow(bytes.into(), alone(bytes, LONG, LONG), &mut budget);
        }
        assert_eq!((window.size(), budget.spent()), (BASE, 0));
    }

    #[test]
    fn equal_windows_get_equal_parts() {
        for count in 1..=64_u32 {
            let mut budget = Budget::default();
            let mut windows: Vec<_> = (0..count).map(|_| ReceiveWindow::new()).collect();
            for _ in 0..200 {
                for window in &mut windows {
                    busy(window, &mut budget, LONG, 1);
                    assert!(budget.spent() <= BUDGET);
                }
            }
            let part = BUDGET / (count + 1);
            for window in &windows {
                let extra = window.size() - BASE;
                assert!(extra >= part * 9 / 10, "{extra} of {count}");
                assert!(extra <= part * 11 / 10, "{extra} of {count}");
            }
            for window in &mut windows {
                window.release(&mut budget);
            }
            assert_eq!(budget.spent(), 0);
        }
    }

    /// A reader that takes a packet at a time, so that its window is never empty, until credit for
    /// so many bytes has come.
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
    fn large_window_shrinks_for_others() {
        let mut budget = Budget::default();
        let mut windows: Vec<ReceiveWindow> = (0..5).map(|_| ReceiveWindow::new()).collect();
        busy(&mut windows[0], &mut budget, LONG, 8);
        assert_eq!(windows[0].size(), BASE + BUDGET / 2);
        for _ in 0..100 {
            for window in &mut windows {
                trickle(window, &mut budget, BASE);
                let size = window.size();
                window.grow(size.into(), alone(size, LONG, LONG), &mut budget);
                assert!(budget.spent() <= BUDGET);
            }
        }
        for window in &windows {
            assert!(window.size() >= BASE + BUDGET / 7, "{window:?}");
            assert!(window.size() <= BASE + BUDGET / 5, "{window:?}");
        }
    }

    #[test]
    fn idle_credit_is_reused_by_others() {
        let mut budget = Budget::default();
        let mut idle = ReceiveWindow::new();
        busy(&mut idle, &mut budget, LONG, 8);
        // Some of it is on its way when the peer is asked.
        let asked = idle.reclaim();
        assert_eq!(asked, BUDGET / 2);
        assert_eq!(idle.adjust(&mut budget), 0, "nothing is granted meanwhile");
        idle.receive(1000).expect("granted");
        let mut send = SendWindow::new(BASE + BUDGET / 2 - 1000, 1, 1);
        let given = send.give_back(asked);
        assert_eq!(given, BUDGET / 2 - 1000);
        idle.reclaimed(given, &mut budget).expect("it has it");
        idle.read(1000);
        idle.adjust(&mut budget);
        assert_eq!(idle.promised(), (BASE, 0));
        assert_eq!(budget.spent(), 0);
        assert_eq!(idle.reclaimed(BASE + 1, &mut budget), Err(Overflow));
        // It can grow again.
        busy(&mut idle, &mut budget, LONG, 8);
        assert_eq!(idle.size(), BASE + BUDGET / 2);
    }

    #[test]
    fn new_channels_credit_is_not_reclaimed() {
        let mut send = SendWindow::new(BASE + 10, 1, 1);
        assert_eq!((send.give_back(u32::MAX), send.give_back(1)), (10, 0));
        assert_eq!(SendWindow::new(5, 1, 1).give_back(5), 0);
    }

    #[test]
    fn packet_size_follows_credit_and_limit() {
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
