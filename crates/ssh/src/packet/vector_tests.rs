//! Packets sealed by another implementation (`vectors.py`).

use super::support::{frame, keys_from, open, suites};
use super::{Opener, Packet, Sealer};
use crate::cipher::{Cipher, Keys, Mac, Sealing, Suite};

const VECTORS: &str = include_str!("vectors.txt");
const PAYLOADS: [&[u8]; 3] = [b"\x5eHello, tunnel", b"\x15", &{
    let mut bytes = [94; 100];
    let mut step = 1;
    while step < bytes.len() {
        bytes[step] = bytes[step - 1] + 1;
        step += 1;
    }
    bytes
}];

struct Vector {
    suite: Suite,
    sequence: u32,
    packets: Vec<Vec<u8>>,
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<_> = VECTORS
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let cipher = Cipher::from_name(words.next().unwrap()).unwrap();
            let mac = Mac::from_name(words.next().unwrap());
            Vector {
                suite: Suite { cipher, mac },
                sequence: words.next().unwrap().parse().unwrap(),
                packets: words.map(unhex).collect(),
            }
        })
        .collect();
    for suite in suites() {
        assert!(
            vectors.iter().any(|vector| vector.suite == suite),
            "no vector for {suite:?}"
        );
    }
    vectors
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    let steps = std::iter::successors(Some(seed), |byte| Some(byte.wrapping_add(7)));
    steps.take(length).collect()
}

/// Those of `vectors.py`.
fn keys(suite: Suite) -> Keys {
    let iv = match suite.cipher.iv_length() {
        12 => [&pattern(11, 200)[..], &[0xff]].concat(),
        16 => [&[1][..], &[0xff; 15]].concat(),
        _ => Vec::new(),
    };
    keys_from(
        iv,
        pattern(suite.cipher.key_length(), 1),
        pattern(suite.mac.map_or(0, Mac::key_length), 77),
    )
}

#[test]
fn packets_of_another_implementation_are_opened() {
    for vector in vectors() {
        let mut opener = Opener::new();
        opener
            .set_keys(vector.suite, &keys(vector.suite), true)
            .unwrap();
        opener.tally().sequence = vector.sequence;
        assert_eq!(vector.packets.len(), PAYLOADS.len());
        for (packet, payload) in vector.packets.iter().zip(PAYLOADS) {
            assert_eq!(open(&mut opener, packet), payload, "{:?}", vector.suite);
        }
    }
}

/// Where the padding is not random, down to the last byte.
#[test]
fn packets_are_those_of_another_implementation() {
    for vector in vectors() {
        let keys = keys(vector.suite);
        let mut sealer = Sealer::new();
        sealer.set_keys(vector.suite, &keys, true).unwrap();
        sealer.tally().sequence = vector.sequence;
        let mut cipher = Sealing::new(vector.suite, &keys).unwrap();
        let mut sequence = vector.sequence;
        for (expected, payload) in vector.packets.iter().zip(PAYLOADS) {
            let mut packet = Packet::from_payload(payload);
            if vector.suite.cipher.is_aead() {
                sealer.seal(&mut packet).unwrap();
                assert_eq!(packet.wire(), expected, "{:?}", vector.suite);
            } else {
                let mut bytes = frame(vector.suite.layout(), payload);
                cipher.seal(sequence, &mut bytes).unwrap();
                assert_eq!(&bytes, expected, "{:?}", vector.suite);
                sequence = sequence.wrapping_add(1);
            }
        }
    }
}
