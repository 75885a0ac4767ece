//! What the tests of packets share.

use zeroize::Zeroizing;

use super::{Opened, Opener, Packet, Sealer};
use crate::cipher::{Cipher, Keys, Layout, Mac, Suite};

/// Every cipher with every MAC that goes with it.
pub(super) fn suites() -> Vec<Suite> {
    let mut suites = Vec::new();
    for cipher in Cipher::ALL {
        if cipher.is_aead() {
            suites.push(Suite { cipher, mac: None });
        } else {
            suites.extend(Mac::ALL.map(|mac| Suite {
                cipher,
                mac: Some(mac),
            }));
        }
    }
    assert_eq!(suites.len(), 3 + 3 * 4);
    suites
}

pub(super) fn keys_from(iv: Vec<u8>, key: Vec<u8>, mac_key: Vec<u8>) -> Keys {
    Keys {
        iv: Zeroizing::new(iv),
        key: Zeroizing::new(key),
        mac_key: Zeroizing::new(mac_key),
    }
}

/// Keys of the right lengths; another seed, other keys.
pub(super) fn keys(suite: Suite, seed: u64) -> Keys {
    let mut random = Random(seed + 1);
    keys_from(
        random.bytes(suite.cipher.iv_length()),
        random.bytes(suite.cipher.key_length()),
        random.bytes(suite.mac.map_or(0, Mac::key_length)),
    )
}

/// Both ends with the same keys.
pub(super) fn pair(suite: Suite) -> (Sealer, Opener) {
    let (mut sealer, mut opener) = (Sealer::new(), Opener::new());
    sealer.set_keys(suite, &keys(suite, 1), false).unwrap();
    opener.set_keys(suite, &keys(suite, 1), false).unwrap();
    (sealer, opener)
}

pub(super) fn seal(sealer: &mut Sealer, payload: &[u8]) -> Vec<u8> {
    let mut packet = Packet::from_payload(payload);
    sealer.seal(&mut packet).unwrap();
    packet.into_bytes()
}

/// Opens what must be exactly one packet.
pub(super) fn open(opener: &mut Opener, wire: &[u8]) -> Vec<u8> {
    match opener.open(wire).unwrap() {
        Opened::Packet { consumed, payload } => {
            assert_eq!(consumed, wire.len());
            payload.to_vec()
        }
        Opened::Needs(length) => panic!("{length} bytes are needed, {} are there", wire.len()),
    }
}

/// A packet before encryption, with zeros as padding.
pub(super) fn frame(layout: Layout, payload: &[u8]) -> Vec<u8> {
    let apart = if layout.length_apart { 1 } else { 5 };
    let mut padding = layout.block - (apart + payload.len()) % layout.block;
    if padding < 4 {
        padding += layout.block;
    }
    let length = 1 + payload.len() + padding;
    raw(u32::try_from(length).unwrap(), padding, payload)
}

/// A packet before encryption that says what the test asks for, whatever it holds.
pub(super) fn raw(packet_length: u32, padding_length: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = packet_length.to_be_bytes().to_vec();
    bytes.push(u8::try_from(padding_length).unwrap());
    bytes.extend_from_slice(payload);
    let end = 4 + usize::try_from(packet_length).unwrap();
    if end < 1 << 20 {
        bytes.resize(end.max(bytes.len()), 0);
    }
    bytes
}

/// Numbers that look random (splitmix64), the same for the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}
