//! What fuzzers begin with: recorded exchanges, and a few of each kind.

use ssh_key::LineEnding;
use ssh_key::certificate::CertType;

use super::wire::{sealer, suite};
use super::{Script, certificate, connection, host_identity, key, messages, user_identity};
use crate::kex::{Initiator, Method, respond};
use crate::msg;
use crate::packet::Packet;

/// The name of a target and what it reads.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds: Vec<(&str, Vec<u8>)> = Vec::new();
    let recorded = connection::recorded();
    let mut messages: Vec<Vec<u8>> = recorded.clone();
    messages.extend((0..32).map(|kind| messages::made(&mut Script::new(&[kind, 1, 3, 3, 3, 3]))));
    messages.sort();
    messages.dedup_by_key(|payload| payload.first().copied());
    assert!(messages.len() > 25, "every message");
    seeds.extend(
        messages
            .into_iter()
            .map(|m| ("ssh_msg_roundtrip", short(m))),
    );

    for line in [
        "SSH-2.0-x\r\n",
        "hello\nSSH-1.99-x\n",
        "SSH-2.0-\u{e9}\n",
        "GET /",
    ] {
        let mut data = vec![1, 3];
        data.extend_from_slice(line.as_bytes());
        data.extend(sealed(0, &[2, 0, 0, 0, 0]));
        data.extend(sealed(0, &[21]));
        seeds.push(("ssh_version", data));
    }
    for number in 0..16 {
        let mut data = vec![number, 6];
        data.extend(sealed(number, &[94, 0, 0, 0, 0, 0, 0, 0, 1, 7]));
        seeds.push(("ssh_packet", data));
        seeds.push(("ssh_packet", vec![number | 0x80, 0, 5, 1, 21, 1, 2, 3]));
    }
    for (method, number) in [
        (Method::MlKem768X25519Sha256, 0),
        (Method::Curve25519Sha256, 1),
        (Method::EcdhNistP256, 3),
        (Method::DhGroup14Sha256, 4),
    ] {
        let client = Initiator::try_new(method).expect("a half");
        let (server, _) = respond(method, client.public()).expect("an answer");
        seeds.push(("ssh_kex", [&[0, number], client.public()].concat()));
        seeds.push(("ssh_kex", [&[1, number][..], &server].concat()));
    }
    let is_reply = |m: &&Vec<u8>| m.first() == Some(&msg::KEX_EXCHANGE_REPLY);
    for reply in recorded.iter().filter(is_reply) {
        seeds.push(("ssh_kex", [&[2][..], reply].concat()));
    }
    let old = include_str!("../../fixtures/sha1-cert.pub");
    let old = ssh_key::Certificate::from_openssh(old.trim()).expect("a certificate");
    let foreign = certificate(9, 9, CertType::User, "x", "y");
    for certificate in [
        host_identity().certificate(),
        user_identity().certificate(),
        &old,
        &foreign,
    ] {
        seeds.push(("ssh_cert", certificate.to_bytes().expect("bytes")));
        let line = certificate.to_openssh().expect("a line");
        seeds.push(("ssh_keys", format!("\u{1}{line}").into_bytes()));
    }
    let public = key(1).public_key().to_openssh().expect("a line");
    seeds.push(("ssh_keys", format!("\0{public} comment").into_bytes()));
    let rsa = include_str!("../../fixtures/sha1-ca.pub");
    seeds.push(("ssh_keys", format!("\0{rsa}").into_bytes()));
    let private = key(1).to_openssh(LineEnding::LF).expect("a key");
    seeds.push(("ssh_keys", format!("\u{2}{}", &*private).into_bytes()));

    seeds.extend(SCRIPTS.iter().map(|s| ("ssh_connection", s.to_vec())));
    seeds
}

/// Conversations: flags, then steps.
const SCRIPTS: [&[u8]; 10] = [
    // An honest exchange, message by message, from either side.
    &[0, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7],
    &[1, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7],
    // Data both ways, read, and the end.
    &[
        0x16, 12, 1, 0, 16, 0, 1, 7, 15, 1, 0, 16, 0, 1, 0, 13, 0, 255, 255, 7, 11, 5, 0, 7, 0, 11,
        7, 0, 7, 0,
    ],
    &[
        0x17, 12, 1, 1, 255, 0, 1, 7, 15, 1, 1, 255, 0, 1, 0, 13, 1, 255, 255, 7, 11, 6, 1, 7, 0,
        11, 7, 0, 7, 0,
    ],
    // Keys exchanged again while data go.
    &[
        0x1e, 12, 1, 0, 4, 0, 1, 7, 0, 15, 1, 0, 4, 0, 1, 0, 12, 1, 0, 4, 0, 1, 7, 0, 0, 0, 7, 7,
        0, 0, 15, 1, 1, 4, 0, 1, 0,
    ],
    // Requests without end, early and late.
    &[0x02, 5, 31, 0, 6, 255, 6, 255, 7],
    &[0x17, 5, 16, 0, 5, 1, 6, 255, 6, 255, 7, 10, 30, 0],
    // A channel of someone else's making, refused and opened.
    &[
        0x07, 5, 19, 0, 0, 3, 7, 5, 5, 19, 0, 0, 3, 6, 5, 11, 2, 11, 4, 7, 0,
    ],
    // A message changed, time passing.
    &[0x01, 2, 0, 9, 0, 1, 10, 255, 255, 10, 255, 255],
    &[
        0x05, 5, 10, 0, 14, 2, 0, 0, 10, 0, 200, 7, 5, 11, 0, 14, 2, 1, 7,
    ],
];

fn sealed(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Packet::from_payload(payload);
    let result = sealer(suite(number)).seal(&mut packet);
    result.expect("sealed");
    packet.into_bytes()
}

/// A corpus has no use for kilobytes of the same.
fn short(mut payload: Vec<u8>) -> Vec<u8> {
    payload.truncate(4096);
    payload
}
