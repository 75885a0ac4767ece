//! Packets between two honest ends.

use std::collections::HashSet;

use super::support::{Random, keys, open, pair, seal, suites};
use super::{Error, MAX_PACKET_LENGTH, MAX_PACKETS, Opened, Opener, Packet, Sealer};
use crate::cipher::{Cipher, Mac, Suite};
use crate::wire::Write as _;

const AES: Suite = Suite {
    cipher: Cipher::Aes256Ctr,
    mac: Some(Mac::HmacSha256),
};
const CHACHA: Suite = Suite {
    cipher: Cipher::ChaCha20Poly1305,
    mac: None,
};

/// Short ones of every length, and the longest that a channel sends.
fn payloads() -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random(7);
    (1..=100)
        .chain([4095, 4096, 4097, 32 * 1024, 32 * 1024 + 9])
        .map(move |length| random.bytes(length))
}

#[test]
fn every_suite_opens_what_it_seals() {
    let plain = [(Sealer::new(), Opener::new())];
    for (mut sealer, mut opener) in plain.into_iter().chain(suites().into_iter().map(pair)) {
        for payload in payloads() {
            let wire = seal(&mut sealer, &payload);
            assert_eq!(open(&mut opener, &wire), payload);
        }
        assert_eq!(opener.sequence(), 105);
        assert_eq!(opener.sequence(), sealer.sequence());
        assert_eq!(opener.packets_since_keys(), 105);
        assert_eq!(opener.packets_since_keys(), sealer.packets_since_keys());
    }
}

#[test]
fn packet_opens_with_its_last_byte() {
    let plain = [(Sealer::new(), Opener::new())];
    for (mut sealer, mut opener) in plain.into_iter().chain(suites().into_iter().map(pair)) {
        for length in [1, 14, 100, 3] {
            let payload = Random(3).bytes(length);
            let wire = seal(&mut sealer, &payload);
            for end in 0..wire.len() {
                match opener.open(&wire[..end]).unwrap() {
                    // Never more than there will be, and always more than there is.
                    Opened::Needs(needed) => assert!(needed > end && needed <= wire.len()),
                    Opened::Packet { .. } => panic!("opened without its end"),
                }
            }
            assert_eq!(open(&mut opener, &wire), payload);
        }
    }
}

#[test]
fn two_packets_in_one_buffer_open() {
    for suite in suites() {
        let (mut sealer, mut opener) = pair(suite);
        let first = seal(&mut sealer, b"one");
        let second = seal(&mut sealer, b"the other");
        let both = [&first[..], &second[..]].concat();
        let Opened::Packet { consumed, payload } = opener.open(&both).unwrap() else {
            panic!("the first packet is there");
        };
        assert_eq!(&*payload, b"one");
        assert_eq!(consumed, first.len());
        assert_eq!(open(&mut opener, &both[consumed..]), b"the other");
    }
}

#[test]
fn the_sequence_number_wraps() {
    for suite in suites() {
        let (mut sealer, mut opener) = pair(suite);
        sealer.tally().sequence = u32::MAX;
        opener.tally().sequence = u32::MAX;
        for payload in [b"last", b"zero"] {
            let wire = seal(&mut sealer, payload);
            assert_eq!(open(&mut opener, &wire), payload);
        }
        assert_eq!((sealer.sequence(), opener.sequence()), (1, 1));
    }
}

#[test]
fn sequence_resets_only_on_request() {
    for (reset, next) in [(false, 2), (true, 0)] {
        let (mut sealer, mut opener) = (Sealer::new(), Opener::new());
        for payload in [b"one", b"two"] {
            let wire = seal(&mut sealer, payload);
            open(&mut opener, &wire);
        }
        sealer.set_keys(CHACHA, &keys(CHACHA, 1), reset).unwrap();
        opener.set_keys(CHACHA, &keys(CHACHA, 1), reset).unwrap();
        assert_eq!((sealer.sequence(), opener.sequence()), (next, next));
        assert_eq!(sealer.packets_since_keys(), 0);
        assert_eq!(opener.packets_since_keys(), 0);
        let wire = seal(&mut sealer, b"three");
        assert_eq!(open(&mut opener, &wire), b"three");
    }
}

#[test]
fn wrong_sequence_number_is_a_wrong_mac() {
    for suite in suites().into_iter().filter(|suite| suite.mac.is_some()) {
        let (mut sealer, mut opener) = pair(suite);
        opener.tally().sequence = 1;
        let wire = seal(&mut sealer, b"payload");
        assert_eq!(opener.open(&wire).unwrap_err(), Error::Mac);
    }
}

#[test]
fn key_use_is_limited_in_packets() {
    let (mut sealer, mut opener) = pair(AES);
    sealer.tally().packets = MAX_PACKETS - 1;
    opener.tally().packets = MAX_PACKETS - 1;
    let wire = seal(&mut sealer, b"the last");
    assert_eq!(open(&mut opener, &wire), b"the last");
    let mut packet = Packet::from_payload(b"one more");
    assert_eq!(sealer.seal(&mut packet), Err(Error::KeyExhausted));
    assert_eq!(opener.open(&wire).unwrap_err(), Error::KeyExhausted);
    sealer.set_keys(AES, &keys(AES, 2), false).unwrap();
    assert_eq!(sealer.seal(&mut packet), Ok(()));
}

#[test]
fn sealing_within_the_capacity_moves_nothing() {
    for suite in suites() {
        let (mut sealer, _) = pair(suite);
        for length in (1..=40).chain([32 * 1024]) {
            let mut packet = Packet::with_capacity(94, length);
            packet.put(&vec![0; length - 1]);
            assert_eq!(packet.payload().len(), length);
            let place = packet.wire().as_ptr();
            sealer.seal(&mut packet).unwrap();
            assert_eq!(packet.wire().as_ptr(), place);
        }
    }
}

#[test]
fn a_packet_is_written_like_a_message() {
    let mut packet = Packet::new(94);
    packet.put_u32(1);
    packet.put_string("data");
    assert_eq!(packet.payload(), b"\x5e\0\0\0\x01\0\0\0\x04data");
    let wire = seal(&mut Sealer::new(), packet.payload());
    Sealer::new().seal(&mut packet).unwrap();
    assert_eq!(packet.wire(), wire);
    assert_eq!(packet.wire().len() % 8, 0);
}

#[test]
fn empty_and_oversized_packets_are_not_sealed() {
    let mut sealer = Sealer::new();
    let mut empty = Packet::from_payload(&[]);
    assert_eq!(sealer.seal(&mut empty), Err(Error::Empty));
    let limit = usize::try_from(MAX_PACKET_LENGTH).unwrap();
    let mut long = Packet::from_payload(&vec![0; limit]);
    let error = sealer.seal(&mut long).unwrap_err();
    assert!(matches!(error, Error::LengthOutOfRange(length) if length > MAX_PACKET_LENGTH));
    assert_eq!(sealer.sequence(), 0);
}

#[test]
fn padding_is_random_where_zeros_leak() {
    // The same plaintext and number, and a MAC over the plaintext: only the padding can make a
    // difference. It is taken from a pool, which is filled again several times.
    let mut sealer = pair(AES).0;
    let mut code = || {
        sealer.tally().sequence = 0;
        let wire = seal(&mut sealer, &[7; 40]);
        wire[wire.len() - 32..].to_vec()
    };
    let codes: HashSet<_> = (0..200).map(|_| code()).collect();
    assert_eq!(codes.len(), 200);
}

#[test]
fn keys_of_other_lengths_are_refused() {
    for suite in suites() {
        for change in 0..4 {
            let mut keys = keys(suite, 1);
            let mut changed = suite;
            match change {
                0 => keys.iv.push(0),
                1 => drop(keys.key.pop()),
                2 => keys.mac_key.push(0),
                _ => {
                    changed.mac = match suite.mac {
                        Some(_) => None,
                        None => Some(Mac::HmacSha256),
                    }
                }
            }
            let sealed = Sealer::new().set_keys(changed, &keys, true);
            let opened = Opener::new().set_keys(changed, &keys, true);
            assert_eq!((sealed, opened), (Err(Error::Keys), Err(Error::Keys)));
        }
    }
}

#[test]
fn payload_is_taken_without_copying() {
    for suite in suites() {
        let (mut sealer, mut opener) = pair(suite);
        let wire = seal(&mut sealer, &[&b"head"[..], &[1; 1000]].concat());
        let Opened::Packet { mut payload, .. } = opener.open(&wire).unwrap() else {
            panic!("the packet is there");
        };
        let memory = payload.memory();
        assert!((1004..1100).contains(&memory), "{memory}");
        payload.advance(4);
        assert_eq!(*payload, [1; 1000]);
        payload.advance(2000);
        assert!(payload.is_empty());
        assert_eq!(payload.memory(), memory);
        assert_eq!(format!("{payload:?}"), "Payload(0 bytes)");
    }
}
