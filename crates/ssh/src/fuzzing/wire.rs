//! Bytes of the connection: the identification, packets, messages.

use std::fmt::Debug;

use zeroize::Zeroizing;

use super::Script;
use crate::cipher::{Cipher, Keys, Mac, Suite};
use crate::input::{Incoming, Input};
use crate::msg::Message;
use crate::packet::{Opened, Opener, Packet, Sealer};

/// The identification and what follows it before the first keys, in two ways of arriving: what
/// comes out is the same. Script: flags, bytes per read, then the bytes.
pub fn version(data: &[u8]) {
    let mut script = Script::new(data);
    let may_have_preamble = script.u8() & 1 == 1;
    let step = usize::from(script.u8()) + 1;
    let bytes = script.rest();
    let by_pieces = arrive(bytes, may_have_preamble, step);
    let at_once = arrive(bytes, may_have_preamble, usize::MAX);
    assert_eq!(by_pieces, at_once, "it matters how the bytes arrive");
}

/// Everything that comes out, then the error if there is one.
fn arrive(mut bytes: &[u8], may_have_preamble: bool, step: usize) -> Vec<String> {
    let mut input = Input::new(may_have_preamble);
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let space = input.space();
        assert!(!space.is_empty() && space.len() <= 512 * 1024, "space");
        let count = step.min(space.len()).min(bytes.len());
        let (now, later) = bytes.split_at(count);
        space[..count].copy_from_slice(now);
        input.filled(count);
        bytes = later;
        loop {
            match input.next() {
                Ok(None) => break,
                Ok(Some(Incoming::Version(version))) => out.push(version),
                Ok(Some(Incoming::Packet { payload, sequence })) => {
                    assert!(!payload.is_empty(), "an empty payload");
                    out.push(format!("{sequence}: {:?}", &*payload));
                }
                Err(error) => {
                    out.push(error.to_string());
                    return out;
                }
            }
        }
    }
    out
}

/// Packets under every suite. Script: the suite, and whether the packet is ours; then either bytes
/// per read and the bytes, or where our packet is damaged, how, and its payload.
pub fn packet(data: &[u8]) {
    let mut script = Script::new(data);
    let choice = script.u8();
    let suite = suite(choice & 0x0f);
    if choice & 0x80 == 0 {
        let step = usize::from(script.u8()) + 1;
        let bytes = script.rest();
        assert_eq!(
            open(suite, bytes, step),
            open(suite, bytes, usize::MAX),
            "it matters how the bytes arrive"
        );
    } else {
        damage(suite, &mut script);
    }
}

/// No suite, then all of them.
pub(super) fn suite(number: u8) -> Option<Suite> {
    let aead = Cipher::ALL.into_iter().filter(|cipher| cipher.is_aead());
    let aead = aead.map(|cipher| Suite { cipher, mac: None });
    let ctr = Cipher::ALL.into_iter().filter(|cipher| !cipher.is_aead());
    let ctr = ctr.flat_map(|cipher| {
        Mac::ALL.map(|mac| Suite {
            cipher,
            mac: Some(mac),
        })
    });
    aead.chain(ctr).nth(usize::from(number.checked_sub(1)?))
}

/// The same for each run.
fn keys(suite: Suite) -> Keys {
    let bytes = |length, first: u8| Zeroizing::new(vec![first; length]);
    Keys {
        iv: bytes(suite.cipher.iv_length(), 1),
        key: bytes(suite.cipher.key_length(), 2),
        mac_key: bytes(suite.mac.map_or(0, Mac::key_length), 3),
    }
}

pub(super) fn sealer(suite: Option<Suite>) -> Sealer {
    let mut sealer = Sealer::new();
    if let Some(suite) = suite {
        let taken = sealer.set_keys(suite, &keys(suite), true);
        taken.expect("keys of the right lengths");
    }
    sealer
}

fn opener(suite: Option<Suite>) -> Opener {
    let mut opener = Opener::new();
    if let Some(suite) = suite {
        let taken = opener.set_keys(suite, &keys(suite), true);
        taken.expect("keys of the right lengths");
    }
    opener
}

/// Everything that comes out.
fn open(suite: Option<Suite>, bytes: &[u8], step: usize) -> Vec<Result<Vec<u8>, impl Debug + Eq>> {
    let mut opener = opener(suite);
    let (mut out, mut start, mut end) = (Vec::new(), 0, 0);
    while end < bytes.len() {
        end = bytes.len().min(end.saturating_add(step));
        loop {
            let input = &bytes[start..end];
            match opener.open(input) {
                Ok(Opened::Needs(needed)) => {
                    assert!(needed > input.len(), "it needs what it has");
                    assert!(needed <= 64 * 1024, "it needs {needed} bytes");
                    break;
                }
                Ok(Opened::Packet { consumed, payload }) => {
                    assert!(consumed <= input.len() && !payload.is_empty());
                    assert!(payload.len() < consumed, "a payload out of nothing");
                    start += consumed;
                    out.push(Ok(payload.to_vec()));
                }
                Err(error) => {
                    out.push(Err(error));
                    return out;
                }
            }
        }
    }
    out
}

/// A packet of ours is opened if it is whole, and not if it is not.
fn damage(suite: Option<Suite>, script: &mut Script<'_>) {
    let (place, mask) = (usize::from(script.u16()), script.u8());
    let payload = script.rest();
    let mut packet = Packet::from_payload(payload);
    if sealer(suite).seal(&mut packet).is_err() {
        assert!(payload.is_empty() || payload.len() > 32 * 1024);
        return;
    }
    let mut wire = packet.into_bytes();
    let place = place % wire.len();
    wire[place] ^= mask;
    match opener(suite).open(&wire) {
        Ok(Opened::Packet {
            consumed,
            payload: opened,
        }) if mask == 0 => {
            assert_eq!((consumed, &*opened), (wire.len(), payload));
        }
        Ok(Opened::Packet { .. }) => assert!(suite.is_none(), "a forged packet is believed"),
        Ok(Opened::Needs(_)) | Err(_) => assert_ne!(mask, 0, "a good packet is refused"),
    }
}

/// What was read from a payload is read again from what is written of it.
pub fn msg_roundtrip(payload: &[u8]) {
    let Ok(message) = Message::parse(payload) else {
        return;
    };
    let packet = message.packet();
    let again = Message::parse(packet.payload());
    assert_eq!(again.as_ref(), Ok(&message));
    assert!(packet.payload().len() <= payload.len() + 64, "it grows");
}
