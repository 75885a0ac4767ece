//! Packets that no honest peer sends.

use super::support::{Random, keys, open, pair, raw, seal, suites};
use super::{Error, MAX_PACKET_LENGTH, Opened, Opener};
use crate::cipher::{Cipher, Layout, Sealing, Suite};

/// The most that [`Opener`] may ever ask for.
fn limit() -> usize {
    4 + usize::try_from(MAX_PACKET_LENGTH).unwrap() + 64
}

/// What becomes of a packet with a right code that says what it should not.
fn judge(suite: Option<Suite>, packet: &[u8]) -> Error {
    let mut opener = Opener::new();
    let mut wire = packet.to_vec();
    if let Some(suite) = suite {
        opener.set_keys(suite, &keys(suite, 1), true).unwrap();
        // Only whole blocks can be encrypted, whatever the length says.
        let apart = if suite.layout().length_apart { 4 } else { 0 };
        let encrypted = (wire.len() - apart).next_multiple_of(suite.layout().block);
        wire.resize(apart + encrypted, 0);
        let mut cipher = Sealing::new(suite, &keys(suite, 1)).unwrap();
        cipher.seal(0, &mut wire).unwrap();
    }
    opener.open(&wire).unwrap_err()
}

fn layouts() -> impl Iterator<Item = (Option<Suite>, Layout)> {
    let sealed = suites().into_iter();
    [(None, Layout::PLAIN)]
        .into_iter()
        .chain(sealed.map(|suite| (Some(suite), suite.layout())))
}

/// A length in whole blocks, of about so many bytes.
fn whole(layout: Layout, blocks: u32) -> u32 {
    let length = blocks * u32::try_from(layout.block).unwrap();
    if layout.length_apart {
        length
    } else {
        length - 4
    }
}

#[test]
fn lengths_out_of_range_are_refused_early() {
    for (suite, _) in layouts() {
        for length in [0, 1, 4, MAX_PACKET_LENGTH + 1, 0x0100_0000, u32::MAX] {
            let mut packet = raw(length, 4, b"x");
            packet.truncate(64);
            packet.resize(64, 0);
            let error = judge(suite, &packet);
            assert_eq!(error, Error::LengthOutOfRange(length), "{suite:?}");
        }
    }
}

#[test]
fn lengths_not_in_whole_blocks_are_refused() {
    for (suite, layout) in layouts() {
        let right = whole(layout, 3);
        for off in 1..u32::try_from(layout.block).unwrap() {
            let length = right + off;
            let error = judge(suite, &raw(length, 4, b"x"));
            assert_eq!(error, Error::Alignment(length), "{suite:?}");
        }
    }
}

#[test]
fn wrong_padding_length_is_refused() {
    for (suite, layout) in layouts() {
        let length = whole(layout, 3);
        let longest = u8::try_from(length - 1).unwrap();
        for padding in [0, 1, 3, longest + 1, 255] {
            let error = judge(suite, &raw(length, padding.into(), b"x"));
            assert_eq!(error, Error::Padding(padding), "{suite:?}");
        }
        let error = judge(suite, &raw(length, longest.into(), b"x"));
        assert_eq!(error, Error::Empty, "{suite:?}");
    }
}

#[test]
fn all_permitted_padding_is_accepted() {
    for suite in suites() {
        let length = whole(suite.layout(), 20);
        let mut opener = Opener::new();
        opener.set_keys(suite, &keys(suite, 1), true).unwrap();
        let mut cipher = Sealing::new(suite, &keys(suite, 1)).unwrap();
        let room = usize::try_from(length - 1).unwrap();
        for (sequence, padding) in (0..).zip(4..=room.saturating_sub(1).min(255)) {
            let payload = vec![9; room - padding];
            let mut wire = raw(length, padding, &payload);
            cipher.seal(sequence, &mut wire).unwrap();
            assert_eq!(open(&mut opener, &wire), payload);
        }
    }
}

#[test]
fn changed_byte_is_noticed_anywhere() {
    for suite in suites() {
        let wire = seal(&mut pair(suite).0, b"short");
        for at in 0..wire.len() {
            for bit in 0..8 {
                let mut changed = wire.clone();
                changed[at] ^= 1 << bit;
                // A changed length may ask for more; whatever comes then, it is no packet.
                changed.resize(limit(), 0);
                let mut opener = pair(suite).1;
                let error = opener.open(&changed).unwrap_err();
                let is_of_the_length =
                    at < 4 && matches!(error, Error::LengthOutOfRange(_) | Error::Alignment(_));
                assert!(
                    error == Error::Mac || is_of_the_length,
                    "{suite:?}, byte {at}, bit {bit}: {error}"
                );
            }
        }
    }
}

#[test]
fn padding_is_checked_after_the_mac() {
    for suite in suites() {
        let mut wire = raw(whole(suite.layout(), 3), 0, b"x");
        let mut cipher = Sealing::new(suite, &keys(suite, 1)).unwrap();
        cipher.seal(0, &mut wire).unwrap();
        *wire.last_mut().unwrap() ^= 1;
        assert_eq!(pair(suite).1.open(&wire).unwrap_err(), Error::Mac);
    }
}

#[test]
fn other_keys_open_nothing() {
    for suite in suites() {
        let mut wire = seal(&mut pair(suite).0, &[5; 100]);
        wire.resize(limit(), 0);
        let mut opener = Opener::new();
        opener.set_keys(suite, &keys(suite, 2), false).unwrap();
        // Some encrypt the length: with other keys it is mostly absurd.
        let error = opener.open(&wire).unwrap_err();
        let hides_length = suite.layout().head > 4 || suite.cipher == Cipher::ChaCha20Poly1305;
        assert!(
            error == Error::Mac || (hides_length && matches!(error, Error::LengthOutOfRange(_))),
            "{suite:?}: {error}"
        );
    }
}

#[test]
fn repeated_or_missing_packet_is_noticed() {
    for suite in suites() {
        let mut sealer = pair(suite).0;
        let packets: [_; 3] = std::array::from_fn(|_| seal(&mut sealer, b"payload"));
        let [first, _, third] = packets;
        for mut wire in [first.clone(), third] {
            let mut opener = pair(suite).1;
            open(&mut opener, &first);
            // Where the length is encrypted, it may turn out longer than it was.
            wire.resize(limit(), 0);
            assert!(opener.open(&wire).is_err(), "{suite:?}");
        }
    }
}

#[test]
fn noise_never_panics_or_overallocates() {
    let seed = Random(std::process::id().into()).next();
    println!("seed {seed}");
    let mut random = Random(seed);
    for (suite, layout) in layouts() {
        for _ in 0..200 {
            let mut opener = Opener::new();
            if let Some(suite) = suite {
                opener.set_keys(suite, &keys(suite, 1), false).unwrap();
            }
            let length = random.below(200);
            let mut input = random.bytes(length);
            // Half of them with a length that looks right, where it can be read.
            if random.below(2) == 0 && input.len() > 5 {
                let blocks = u32::try_from(1 + random.below(10)).unwrap();
                input[..4].copy_from_slice(&whole(layout, blocks).to_be_bytes());
            }
            let mut end = 0;
            loop {
                match opener.open(&input[..end]) {
                    Ok(Opened::Needs(needed)) => {
                        assert!(needed > end && needed <= limit());
                        let more = random.bytes(needed.saturating_sub(input.len()));
                        input.extend_from_slice(&more);
                        // At times less than it asked for.
                        end = end + 1 + random.below(needed - end);
                    }
                    Ok(Opened::Packet { consumed, payload }) => {
                        assert_eq!(suite, None, "noise with a right code");
                        assert!(consumed <= end && payload.len() < consumed);
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
    }
}
