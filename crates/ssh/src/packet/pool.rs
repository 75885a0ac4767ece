//! Buffers of packets, kept for the next ones.
//!
//! A packet of bulk data is allocated by one thread and freed by another, which an allocator does
//! slowly, and most buffers would be cleared before they are overwritten. The pool belongs to the
//! process: idle sessions keep nothing, and it holds [`KEPT`] buffers of each size at most, about
//! 1.2 MiB together.
//!
//! A buffer that is taken may still hold what another session received. It is overwritten before
//! anything of it is read.

use std::sync::{Mutex, PoisonError};

use super::Packet;

/// Capacities, with all that sealing adds: most messages, a packet with one TLS record, and the
/// largest packet.
const SIZES: [usize; 3] = [
    Packet::SMALL + Packet::OVERHEAD,
    16 * 1024 + 512,
    32 * 1024 + 16 + Packet::OVERHEAD,
];
/// Buffers of each size that wait for packets.
const KEPT: usize = 24;

static POOLS: [Mutex<Vec<Vec<u8>>>; SIZES.len()] = [const { Mutex::new(Vec::new()) }; SIZES.len()];

/// An empty buffer with room for so many bytes.
pub(crate) fn take(bytes: usize) -> Vec<u8> {
    let mut buffer = take_used(bytes);
    buffer.clear();
    buffer
}

/// A buffer of so many bytes, all of which the caller overwrites.
pub(crate) fn take_for_overwriting(bytes: usize) -> Vec<u8> {
    let mut buffer = take_used(bytes);
    // Clears only what was not used before.
    buffer.resize(bytes, 0);
    buffer
}

/// Keeps a buffer for a later packet, or frees it.
pub(crate) fn give(buffer: Vec<u8>) {
    for (size, pool) in SIZES.into_iter().zip(&POOLS) {
        if buffer.capacity() == size {
            let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
            if pool.len() < KEPT {
                pool.push(buffer);
            }
            return;
        }
    }
}

fn take_used(bytes: usize) -> Vec<u8> {
    for (size, pool) in SIZES.into_iter().zip(&POOLS) {
        // What waits in a channel is accounted for by its bytes: no buffer is far larger.
        let least = if size == SIZES[0] { 0 } else { size / 4 * 3 };
        if (least..=size).contains(&bytes) {
            let spare = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
            return spare.unwrap_or_else(|| Vec::with_capacity(size));
        }
    }
    Vec::with_capacity(bytes)
}

#[cfg(test)]
mod tests {
    use super::{KEPT, SIZES, give, take, take_for_overwriting};

    #[test]
    fn buffer_is_little_larger_than_its_packet() {
        for bytes in [
            0, 1, 100, 4096, 9000, 16_406, 20_000, 25_000, 32_768, 32_820,
        ] {
            let (empty, filled) = (take(bytes), take_for_overwriting(bytes));
            assert!(empty.is_empty() && filled.len() == bytes, "{bytes}");
            for buffer in [empty, filled] {
                let capacity = buffer.capacity();
                assert!(
                    (bytes..=bytes / 3 * 4 + SIZES[0]).contains(&capacity),
                    "{bytes}: {capacity}"
                );
                give(buffer);
            }
        }
    }

    #[test]
    fn the_pool_keeps_a_bounded_number() {
        for size in SIZES {
            let many: Vec<_> = (0..KEPT + 8).map(|_| take(size)).collect();
            many.into_iter().for_each(give);
            assert!(
                super::POOLS
                    .iter()
                    .all(|pool| pool.lock().expect("sound").len() <= KEPT)
            );
        }
    }
}
