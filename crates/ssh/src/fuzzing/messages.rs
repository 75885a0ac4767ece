//! Messages that a fuzzer makes, or makes out of others.

use super::Script;
use crate::msg::{AuthMethod, Directions, KexInit, Message};

/// Names that mean something to someone, and lists of them.
const NAMES: [&str; 16] = [
    "",
    "ssh-userauth",
    "ssh-connection",
    "direct-tcpip",
    "session",
    "keepalive@openssh.com",
    "tcpip-forward",
    "curve25519-sha256",
    "curve25519-sha256,kex-strict-c-v00@openssh.com,ext-info-c",
    "curve25519-sha256,kex-strict-s-v00@openssh.com",
    "ssh-ed25519-cert-v01@openssh.com",
    "ssh-ed25519,rsa-sha2-256",
    "aes128-gcm@openssh.com",
    "none",
    super::USER,
    "none,zlib",
];

/// Numbers at the edges of windows and packets.
const NUMBERS: [u32; 12] = [
    0,
    1,
    2,
    9,
    1000,
    32 * 1024,
    32 * 1024 + 1,
    256 * 1024,
    256 * 1024 + 1,
    1 << 31,
    u32::MAX - 1,
    u32::MAX,
];

/// A well-formed message.
pub(super) fn made(script: &mut Script<'_>) -> Vec<u8> {
    let kind = script.u8() % 32;
    let recipient = channel(script);
    let message = match kind {
        0 => Message::Disconnect {
            reason: number(script),
            description: name(script).as_bytes(),
        },
        1 => Message::Ignore,
        2 => Message::Unimplemented {
            sequence: number(script),
        },
        3 => Message::ServiceRequest {
            name: name(script).as_bytes(),
        },
        4 => Message::ServiceAccept {
            name: name(script).as_bytes(),
        },
        5 => Message::ExtInfo {
            server_sig_algs: Some(name(script)),
        },
        6 => Message::KexInit(proposal(script)),
        7 => Message::NewKeys,
        8 => Message::KexExchangeInit {
            public: script.bytes(32),
        },
        9 => Message::KexExchangeReply {
            host_key: &super::host_identity().blob,
            public: script.bytes(32),
            signature: script.bytes(83),
        },
        10 | 11 => Message::UserauthRequest {
            user: name(script).as_bytes(),
            service: name(script).as_bytes(),
            method: method(script),
        },
        12 => Message::UserauthFailure {
            partial_success: script.u8() & 1 == 1,
        },
        13 => Message::UserauthSuccess,
        14 => Message::UserauthBanner,
        15 => Message::UserauthPkOk {
            algorithm: name(script).as_bytes(),
            key: &super::user_identity().blob,
        },
        16 => Message::GlobalRequest {
            name: name(script).as_bytes(),
            want_reply: script.u8() & 1 == 1,
            specific: &[],
        },
        17 => Message::RequestSuccess { specific: &[] },
        18 => Message::RequestFailure,
        19 | 20 => Message::ChannelOpen {
            kind: script
                .one_of(&["direct-tcpip", "direct-tcpip", "session"])
                .as_bytes(),
            sender: channel(script),
            window: number(script),
            max_packet: number(script),
            specific: &[],
        },
        21 => Message::ChannelOpenConfirmation {
            recipient,
            sender: channel(script),
            window: number(script),
            max_packet: number(script),
        },
        22 => Message::ChannelOpenFailure {
            recipient,
            reason: number(script),
            description: name(script).as_bytes(),
        },
        23 => Message::ChannelWindowAdjust {
            recipient,
            bytes: number(script),
        },
        24 | 25 => return data(recipient, script, false),
        26 => return data(recipient, script, true),
        27 => Message::ChannelEof { recipient },
        28 => Message::ChannelClose { recipient },
        29 => Message::ChannelRequest {
            recipient,
            want_reply: script.u8() & 1 == 1,
        },
        30 => Message::ChannelAnswer {
            recipient,
            success: script.u8() & 1 == 1,
        },
        _ => Message::Unknown,
    };
    message.packet().payload().to_vec()
}

fn data(recipient: u32, script: &mut Script<'_>, is_extended: bool) -> Vec<u8> {
    let length = number(script).min(34_000);
    let data = vec![b'y'; length as usize];
    let message = if is_extended {
        Message::ChannelExtendedData {
            recipient,
            data: &data,
        }
    } else {
        Message::ChannelData {
            recipient,
            data: &data,
        }
    };
    message.packet().payload().to_vec()
}

fn name<'a>(script: &mut Script<'a>) -> &'a str {
    match script.u8() {
        0xff => {
            let length = usize::from(script.u8());
            std::str::from_utf8(script.bytes(length)).unwrap_or_default()
        }
        other => NAMES[usize::from(other) % NAMES.len()],
    }
}

fn number(script: &mut Script<'_>) -> u32 {
    match script.u8() {
        0xff => script.u32(),
        other => NUMBERS[usize::from(other) % NUMBERS.len()],
    }
}

/// Mostly one of the first, which are those that are there.
fn channel(script: &mut Script<'_>) -> u32 {
    match script.u8() {
        0xff => script.u32(),
        other => u32::from(other % 6),
    }
}

fn method<'a>(script: &mut Script<'a>) -> AuthMethod<'a> {
    let flags = script.u8();
    if flags & 1 == 1 {
        return AuthMethod::Other;
    }
    AuthMethod::PublicKey {
        algorithm: b"ssh-ed25519-cert-v01@openssh.com",
        key: if flags & 2 == 0 {
            &super::user_identity().blob
        } else {
            &super::host_identity().blob
        },
        signature: (flags & 4 == 0).then(|| script.bytes(83)),
    }
}

fn proposal<'a>(script: &mut Script<'a>) -> KexInit<'a> {
    let flags = script.u8();
    let both = |list| Directions {
        client_to_server: list,
        server_to_client: list,
    };
    let mut or = |flag: u8, usual: &'a str| {
        if flags & flag == 0 {
            usual
        } else {
            name(script)
        }
    };
    KexInit {
        cookie: [9; 16],
        kex: or(1, "curve25519-sha256"),
        host_key: or(2, "ssh-ed25519-cert-v01@openssh.com"),
        ciphers: both(or(4, "aes128-gcm@openssh.com")),
        macs: both(or(8, "")),
        compressions: both(or(16, "none")),
        first_kex_packet_follows: flags & 32 != 0,
    }
}

/// A message with something wrong in it.
pub(super) fn mutate(payload: &mut Vec<u8>, script: &mut Script<'_>) {
    let place = usize::from(script.u16()) % payload.len().max(1);
    match script.u8() % 5 {
        0 => {
            if let Some(byte) = payload.get_mut(place) {
                *byte ^= script.u8().max(1);
            }
        }
        1 => payload.truncate(place),
        2 => {
            let length = usize::from(script.u8());
            payload.extend_from_slice(script.bytes(length));
        }
        3 => {
            // A length or number that is not what it was.
            let number = number(script).to_be_bytes();
            for (byte, new) in payload.iter_mut().skip(place).zip(number) {
                *byte = new;
            }
        }
        _ => payload.insert(place, script.u8()),
    }
}
