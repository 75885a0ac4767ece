//! What a peer may do before it is authenticated, and what it may not.

use super::pair::{CLIENT, Pair, SERVER};
use super::script::{Proposal, Script};
use super::support::ms;
use crate::Error;
use crate::input::Input;
use crate::msg::{AuthMethod, Message};
use crate::packet::Packet;
use crate::transport::{Change, version};

fn nothing(_: &mut Script) -> Result<(), Error> {
    Ok(())
}

fn ignored(script: &mut Script) -> Result<(), Error> {
    script.tell(&Message::Ignore).map(drop)
}

fn assert_protocol_error(result: &Result<Option<Change>, Error>, of: &str) {
    assert!(matches!(result, Err(Error::Protocol(_))), "{of}: no error");
}

#[test]
fn a_handshake_succeeds_byte_by_byte() {
    let mut pair = Pair::new();
    for wire in &mut pair.wires {
        (wire.piece, wire.capacity) = (1, 1);
    }
    pair.authenticate();
}

#[test]
fn strict_key_exchange_resets_numbers() {
    let mut script = Script::server();
    ignored(&mut script).expect("it cannot be known yet");
    assert!(script.exchange(&Proposal::STRICT, nothing).is_err());

    let mut script = Script::server();
    assert!(script.exchange(&Proposal::STRICT, ignored).is_err());

    let mut script = Script::server();
    let change = script.exchange(&Proposal::STRICT, nothing).expect("keys");
    assert!(change.reset_sequence);
    ignored(&mut script).expect("allowed from now on");
    let again = script.exchange(&Proposal::LAX, ignored).expect("keys");
    assert!(again.reset_sequence, "once strict, always strict");
}

#[test]
fn without_strict_kex_numbers_go_on() {
    let mut script = Script::server();
    ignored(&mut script).expect("allowed");
    let change = script.exchange(&Proposal::LAX, ignored).expect("keys");
    assert!(!change.reset_sequence);
}

#[test]
fn terrapin_algorithms_need_strict_key_exchange() {
    let chacha = "chacha20-poly1305@openssh.com";
    let etm = "hmac-sha2-256-etm@openssh.com";
    for (cipher, mac) in [(chacha, "hmac-sha2-256"), ("aes128-ctr", etm)] {
        let lax = Proposal {
            cipher,
            mac,
            ..Proposal::LAX
        };
        let error = Script::server().exchange(&lax, nothing).err();
        assert!(
            matches!(error, Some(Error::NoCommonAlgorithm { .. })),
            "{error:?}"
        );
        let strict = Proposal {
            cipher,
            mac,
            ..Proposal::STRICT
        };
        assert!(Script::server().exchange(&strict, nothing).is_ok());
    }
    let lax = Proposal {
        cipher: "aes128-ctr",
        ..Proposal::LAX
    };
    assert!(Script::server().exchange(&lax, nothing).is_ok());
}

/// The lists that a server proposes: key exchanges, ciphers, MACs.
fn proposed(heard: &[Vec<u8>]) -> [String; 3] {
    let Ok(Message::KexInit(proposal)) = Message::parse(&heard[0]) else {
        panic!("no proposal: {heard:?}");
    };
    let lists = [
        proposal.kex,
        proposal.ciphers.server_to_client,
        proposal.macs.client_to_server,
    ];
    lists.map(str::to_owned)
}

const OLD: [&str; 3] = [
    "diffie-hellman-group14-sha256",
    "aes128-ctr",
    "hmac-sha2-256",
];

fn has_old(lists: &[String; 3]) -> [bool; 3] {
    let has = |list: &str, name| list.split(',').any(|one| one == name);
    std::array::from_fn(|list| has(&lists[list], OLD[list]))
}

/// Deployed gateways have nothing better, and are not kept waiting.
#[test]
fn unknown_peers_are_offered_older_algorithms() {
    for version in ["SSH-2.0-Go", "SSH-2.0-script", "SSH-2.0-OpenSSH_6.6"] {
        let heard = Script::server_of(version).hear();
        assert_eq!(has_old(&proposed(&heard)), [true; 3], "{version}");
    }
}

#[test]
fn our_own_client_is_offered_modern_algorithms() {
    let heard = Script::server_of(version::OURS).hear();
    assert_eq!(has_old(&proposed(&heard)), [false; 3]);
}

#[test]
fn openssh_gets_older_algorithms_only_if_needed() {
    let both = "aes256-ctr,aes128-gcm@openssh.com";
    let etm = "hmac-sha2-256,hmac-sha2-256-etm@openssh.com";
    let modern = "diffie-hellman-group14-sha256,curve25519-sha256,kex-strict-c-v00@openssh.com";
    for (kex, cipher, mac, expected) in [
        (modern, both, etm, [false; 3]),
        (OLD[0], "aes256-ctr", OLD[2], [true; 3]),
        (modern, "aes256-ctr", etm, [false, true, false]),
        (modern, both, "hmac-sha2-512", [false; 3]),
        // Not strict: what Terrapin breaks would be no better.
        (
            OLD[0],
            "chacha20-poly1305@openssh.com,aes128-ctr",
            etm,
            [true; 3],
        ),
        (
            "curve25519-sha256",
            "aes128-gcm@openssh.com",
            etm,
            [false; 3],
        ),
    ] {
        let proposal = Proposal {
            kex,
            cipher,
            mac,
            ..Proposal::STRICT
        };
        let mut script = Script::server_of("SSH-2.0-OpenSSH_9.6");
        assert!(script.hear().is_empty(), "it waits");
        script.propose(&proposal).expect("answered");
        let lists = proposed(&script.hear());
        assert_eq!(has_old(&lists), expected, "{proposal:?}: {lists:?}");
    }
    let silent = Script::server_of("SSH-2.0-OpenSSH_9.6");
    let wait = silent.connection.poll_timeout().expect("a deadline");
    assert!(wait > silent.now, "it does not spin while it waits");
}

#[test]
fn wrong_guess_is_ignored_right_one_taken() {
    let wrong = Proposal {
        kex: "ecdh-sha2-nistp256,curve25519-sha256",
        method: "ecdh-sha2-nistp256",
        is_guess: true,
        ..Proposal::STRICT
    };
    let guess = Message::KexExchangeInit { public: b"guessed" };
    Script::server()
        .exchange(&wrong, |script| script.tell(&guess).map(drop))
        .expect("passed over");
    // KEX_DH_GEX_REQUEST (RFC 4419), which this engine does not know.
    let group = Packet::from_payload(&[34, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 8, 0]);
    let wrong = Proposal {
        kex: "diffie-hellman-group-exchange-sha256,ecdh-sha2-nistp256",
        ..wrong
    };
    Script::server()
        .exchange(&wrong, |script| script.say(group).map(drop))
        .expect("passed over");
    let twice = Script::server().exchange(&wrong, |script| {
        script.tell(&guess)?;
        script.tell(&guess).map(drop)
    });
    assert!(twice.is_err(), "one packet only");
    // The same exchange is the server's first as well, so the guess is right and counts.
    let right = Proposal {
        kex: "mlkem768x25519-sha256",
        method: "mlkem768x25519-sha256",
        is_guess: true,
        ..Proposal::STRICT
    };
    Script::server().exchange(&right, nothing).expect("taken");
    let result = Script::server().exchange(&right, |script| script.tell(&guess).map(drop));
    assert!(result.is_err(), "a right guess is not passed over");
}

#[test]
fn unexpected_messages_end_the_first_exchange() {
    let public = [7; 32];
    let misplaced = [
        Message::NewKeys.packet(),
        Message::KexExchangeInit { public: &public }.packet(),
        Message::ServiceRequest {
            name: b"ssh-userauth",
        }
        .packet(),
        Message::GlobalRequest {
            name: b"x",
            want_reply: true,
            specific: b"",
        }
        .packet(),
        Message::ChannelEof { recipient: 0 }.packet(),
        Message::Unknown.packet(),
    ];
    for packet in misplaced {
        let number = packet.payload()[0];
        assert_protocol_error(&Script::server().say(packet), &number.to_string());
    }
    let mut script = Script::server();
    let twice = script.exchange(&Proposal::LAX, |script| {
        script.exchange(&Proposal::LAX, nothing).map(drop)
    });
    assert!(twice.is_err(), "a second proposal in an exchange");
}

#[test]
fn nothing_is_accepted_before_authentication() {
    let open = Message::ChannelOpen {
        kind: b"direct-tcpip",
        sender: 0,
        window: 1,
        max_packet: 1,
        specific: b"",
    };
    let data = Message::ChannelData {
        recipient: 0,
        data: b"x",
    };
    let request = Message::GlobalRequest {
        name: b"keepalive@openssh.com",
        want_reply: true,
        specific: b"",
    };
    for message in [open, data, request, Message::UserauthSuccess] {
        let mut script = Script::server();
        script.exchange(&Proposal::STRICT, nothing).expect("keys");
        assert_protocol_error(&script.tell(&message), &format!("{message:?}"));
    }
}

#[test]
fn keys_are_not_exchanged_repeatedly_before_authentication() {
    let mut script = Script::server();
    let exchanges = (0..10).take_while(|_| script.exchange(&Proposal::STRICT, nothing).is_ok());
    assert_eq!(exchanges.count(), 8);
}

/// Says what a client says until it is sent away, and waits for each answer; how often it could.
fn until_sent_away(method: AuthMethod<'_>) -> usize {
    let mut script = Script::server();
    script.exchange(&Proposal::STRICT, nothing).expect("keys");
    script
        .tell(&Message::ServiceRequest {
            name: b"ssh-userauth",
        })
        .expect("accepted");
    let request = Message::UserauthRequest {
        user: b"x",
        service: b"ssh-connection",
        method,
    };
    for count in 0..100 {
        script.hear();
        if let Err(error) = script.tell(&request) {
            assert!(matches!(error, Error::NotAuthenticated), "{error:?}");
            return count;
        }
        script.now += ms(100);
        script.connection.handle_timeout(script.now).expect("alive");
        assert_eq!(script.numbers(), [51]);
    }
    100
}

#[test]
fn excessive_requests_end_authentication() {
    assert_eq!(until_sent_away(AuthMethod::Other), 3);
    let attempt = AuthMethod::PublicKey {
        algorithm: b"ssh-ed25519-cert-v01@openssh.com",
        key: b"none",
        signature: Some(b"none"),
    };
    assert_eq!(until_sent_away(attempt), 5);
}

#[test]
fn client_ignoring_its_refusal_is_disconnected() {
    let mut script = Script::server();
    script.exchange(&Proposal::STRICT, nothing).expect("keys");
    script
        .tell(&Message::ServiceRequest {
            name: b"ssh-userauth",
        })
        .expect("accepted");
    let request = Message::UserauthRequest {
        user: b"x",
        service: b"ssh-connection",
        method: AuthMethod::PublicKey {
            algorithm: b"",
            key: b"",
            signature: None,
        },
    };
    script.tell(&request).expect("to be refused in a while");
    assert_protocol_error(&script.tell(&request), "a second request");
}

#[test]
fn unknown_messages_get_bounded_answers() {
    let mut script = Script::server();
    script.exchange(&Proposal::STRICT, nothing).expect("keys");
    script.hear();
    script.sequence = 77;
    script.tell(&Message::Unknown).expect("answered");
    assert_eq!(script.hear(), [[3, 0, 0, 0, 77]]);
    let flood = (0..100_000)
        .take_while(|_| script.tell(&Message::Unknown).is_ok())
        .count();
    assert!(flood <= super::super::MAX_CONTROL, "{flood}");
}

#[test]
fn impossible_lengths_end_the_connection() {
    for length in [0_u32, 1, 4, 35_001, 35_004, u32::MAX] {
        for victim in [CLIENT, SERVER] {
            let mut pair = Pair::new();
            let [a, b, c, d] = length.to_be_bytes();
            let wire = &mut pair.wires[1 - victim];
            wire.put(b"SSH-2.0-x\r\n", pair.now);
            wire.put(&[a, b, c, d, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], pair.now);
            pair.settle();
            let end = &pair.sides[victim].end;
            assert!(matches!(end, Some(Error::Protocol(_))), "{length}: {end:?}");
        }
    }
}

#[test]
fn malformed_messages_never_panic() {
    let mut open = Script::authenticated(SERVER);
    for number in 0..=255 {
        for length in [0, 1, 4, 5, 16, 40] {
            for filling in [0, 1, 0xff] {
                let mut payload = vec![number];
                payload.resize(1 + length, filling);
                let _ = Script::server().say(Packet::from_payload(&payload));
                let _ = open.say(Packet::from_payload(&payload));
                open.hear();
            }
        }
    }
}

#[test]
fn receive_buffer_is_small_before_authentication() {
    let mut input = Input::new(false);
    let largest = |input: &mut Input| {
        let mut largest = 0;
        for _ in 0..8 {
            let space = input.space().len();
            largest = largest.max(space);
            input.filled(space);
        }
        largest
    };
    assert!(largest(&mut input) <= 64 * 1024);
    let mut input = Input::new(false);
    input.trust();
    assert!(largest(&mut input) > 64 * 1024, "and large afterwards");
}
