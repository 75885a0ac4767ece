//! What an authenticated peer may do to channels, and what it may not.

use super::pair::{CLIENT, SERVER};
use super::script::Script;
use crate::connection::channels::{LITTLE, Totals};
use crate::connection::window::BASE;
use crate::connection::{ChannelId, Event, MANY_CONTROL, MAX_CONTROL, Reading, Room, data_packet};
use crate::msg::Message;
use crate::wire::Write as _;
use crate::{DisconnectReason, Error, msg};

const DIRECT_TCPIP: &[u8] = b"direct-tcpip";

fn open<'a>(kind: &'a [u8], max_packet: u32, specific: &'a [u8]) -> Message<'a> {
    Message::ChannelOpen {
        kind,
        sender: 5,
        window: 1000,
        max_packet,
        specific,
    }
}

/// A side of a session with a channel of the peer's, which is number 5 there and 0 here.
fn with_channel() -> Script {
    let mut script = Script::authenticated(CLIENT);
    script.tell(&open(DIRECT_TCPIP, 1000, b"")).expect("asked");
    assert!(script.connection.accept(ChannelId(0)));
    script.hear();
    script
}

fn data(length: u32) -> crate::packet::Packet {
    let length = usize::try_from(length).expect("fits");
    let mut packet = data_packet(0, length);
    packet.put(&vec![7; length]);
    packet
}

fn fill(script: &mut Script, bytes: u32) {
    let mut left = bytes;
    while left > 0 {
        let part = left.min(32 * 1024);
        script.say(data(part)).expect("within the window");
        left -= part;
    }
}

#[test]
fn channel_opens_with_any_field_values() {
    let mut four = Vec::new();
    for text in ["localhost", "192.0.2.1"] {
        four.put_string(text);
        four.put_u32(80);
    }
    for specific in [&b""[..], &four, b"\xff\xff\xff\xff", &[0; 3]] {
        let mut script = Script::authenticated(CLIENT);
        script
            .tell(&open(DIRECT_TCPIP, 1000, specific))
            .expect("asked");
        let event = script.connection.poll_event();
        assert!(
            matches!(event, Some(Event::Incoming(ChannelId(0)))),
            "{event:?}"
        );
        assert!(script.connection.accept(ChannelId(0)));
        assert_eq!(script.numbers(), [msg::CHANNEL_OPEN_CONFIRMATION]);
    }
}

#[test]
fn useless_channels_are_refused_without_trace() {
    for (message, reason) in [
        (open(b"session", 1000, b""), 3),
        (open(b"", 1000, b""), 3),
        (open(DIRECT_TCPIP, 0, b""), 4),
    ] {
        let mut script = Script::authenticated(CLIENT);
        script.tell(&message).expect("refused");
        let heard = script.hear();
        assert_eq!(heard[0][..9], [92, 0, 0, 0, 5, 0, 0, 0, reason]);
        assert_eq!(script.connection.channels.totals(), Totals::default());
    }
    let mut script = Script::authenticated(CLIENT);
    for _ in 0..10_000 {
        script
            .tell(&open(DIRECT_TCPIP, 1000, b""))
            .expect("refused, after a while");
        script.hear();
    }
    assert_eq!(script.connection.channels.totals().channels, 256);
}

#[test]
fn requests_are_refused_and_answered_if_wanted() {
    for (name, want_reply, expected) in [
        (&b"tcpip-forward"[..], true, vec![msg::REQUEST_FAILURE]),
        (b"tcpip-forward", false, vec![]),
        (b"keepalive@openssh.com", true, vec![msg::REQUEST_SUCCESS]),
        (b"keepalive@openssh.com", false, vec![]),
    ] {
        let mut script = Script::authenticated(SERVER);
        script
            .tell(&Message::GlobalRequest {
                name,
                want_reply,
                specific: b"",
            })
            .expect("answered");
        assert_eq!(script.numbers(), expected);
    }
    for (want_reply, expected) in [(true, vec![msg::CHANNEL_FAILURE]), (false, vec![])] {
        let mut script = with_channel();
        script
            .tell(&Message::ChannelRequest {
                recipient: 0,
                want_reply,
            })
            .expect("answered");
        assert_eq!(script.numbers(), expected);
    }
}

#[test]
fn peer_that_never_reads_is_cut_off() {
    let mut script = Script::authenticated(SERVER);
    let request = Message::GlobalRequest {
        name: b"x",
        want_reply: true,
        specific: b"",
    };
    let mut count = 0;
    while script.tell(&request).is_ok() {
        count += 1;
        assert_eq!(script.connection.is_listening(), count < MANY_CONTROL);
        assert!(count <= MAX_CONTROL);
    }
    assert_eq!(count, MAX_CONTROL);
}

#[test]
fn peer_is_heard_while_answers_wait() {
    let mut script = Script::authenticated(SERVER);
    script.now += crate::RekeyLimits::DEFAULT.time;
    let due = script.connection.transport.rekey_if_due(script.now);
    due.expect("a proposal");
    let request = Message::GlobalRequest {
        name: b"x",
        want_reply: true,
        specific: b"",
    };
    for _ in 0..2 * MANY_CONTROL {
        script.tell(&request).expect("it does not know yet");
        // Otherwise its part of the exchange would never be read.
        assert!(script.connection.is_listening());
    }
}

#[test]
fn byte_beyond_the_window_is_an_error() {
    let mut script = with_channel();
    fill(&mut script, BASE);
    assert!(matches!(script.say(data(1)), Err(Error::Protocol(_))));
    let mut script = with_channel();
    fill(&mut script, BASE - 1);
    let extended = Message::ChannelExtendedData {
        recipient: 0,
        data: b"xx",
    };
    assert!(script.tell(&extended).is_err(), "they share the window");
}

#[test]
fn excessive_window_credit_is_an_error() {
    let mut script = with_channel();
    let adjust = |bytes| Message::ChannelWindowAdjust {
        recipient: 0,
        bytes,
    };
    script
        .tell(&adjust(u32::MAX - 1000))
        .expect("the largest window");
    assert!(matches!(script.tell(&adjust(1)), Err(Error::Protocol(_))));
}

#[test]
fn extended_data_returns_its_credit() {
    let mut script = with_channel();
    let part = vec![1; 32 * 1024];
    for _ in 0..100 {
        let extended = Message::ChannelExtendedData {
            recipient: 0,
            data: &part,
        };
        script.tell(&extended).expect("within the window");
        script.hear();
    }
    assert_eq!(script.connection.channels.totals().received, 0);
}

#[test]
fn nothing_comes_after_the_end() {
    let ended = Message::ChannelEof { recipient: 0 };
    let closed = Message::ChannelClose { recipient: 0 };
    let mut script = with_channel();
    script.tell(&ended).expect("the end");
    assert!(script.say(data(1)).is_err(), "data after EOF");
    let late = [
        Message::ChannelData {
            recipient: 0,
            data: b"x",
        },
        ended,
        closed.clone(),
        Message::ChannelWindowAdjust {
            recipient: 0,
            bytes: 1,
        },
        Message::ChannelRequest {
            recipient: 0,
            want_reply: true,
        },
    ];
    for message in late {
        let mut script = with_channel();
        script.tell(&closed).expect("closed");
        assert!(script.tell(&message).is_err(), "{message:?} after CLOSE");
    }
}

#[test]
fn unopened_channels_are_not_mentioned() {
    for recipient in [0, 1, 7, u32::MAX] {
        let messages = [
            Message::ChannelData {
                recipient,
                data: b"x",
            },
            Message::ChannelExtendedData {
                recipient,
                data: b"x",
            },
            Message::ChannelEof { recipient },
            Message::ChannelClose { recipient },
            Message::ChannelWindowAdjust {
                recipient,
                bytes: 1,
            },
            Message::ChannelRequest {
                recipient,
                want_reply: true,
            },
            Message::ChannelAnswer {
                recipient,
                success: true,
            },
            Message::ChannelOpenFailure {
                recipient,
                reason: 1,
                description: b"",
            },
            Message::ChannelOpenConfirmation {
                recipient,
                sender: 0,
                window: 1,
                max_packet: 1,
            },
        ];
        let mut script = Script::authenticated(CLIENT);
        for message in &messages {
            let result = script.tell(message);
            assert!(matches!(result, Err(Error::Protocol(_))), "{message:?}");
        }
        // One that waits to be accepted is not open either.
        let mut script = Script::authenticated(CLIENT);
        script.tell(&open(DIRECT_TCPIP, 1000, b"")).expect("asked");
        for message in &messages {
            assert!(script.tell(message).is_err(), "{message:?}");
        }
    }
}

#[test]
fn data_end_with_the_peers_proposal() {
    let mut script = with_channel();
    // As if its keys had been used long enough.
    script.now += crate::RekeyLimits::DEFAULT.time;
    script
        .connection
        .transport
        .rekey_if_due(script.now)
        .expect("a proposal");
    let ours = script.hear();
    assert_eq!(ours[0][0], msg::KEXINIT);
    script
        .say(data(10))
        .expect("it may not know of our proposal yet");
    assert!(script.connection.ping(script.now).is_some());
    assert!(script.numbers().is_empty(), "nothing after our proposal");
    script
        .say(crate::packet::Packet::from_payload(&ours[0]))
        .expect("its own proposal");
    script.tell(&Message::Ignore).expect("the transport's own");
    assert!(script.say(data(10)).is_err());
    let adjust = Message::ChannelWindowAdjust {
        recipient: 0,
        bytes: 1,
    };
    assert!(script.tell(&adjust).is_err());
}

#[test]
fn write_before_close_is_sent_first() {
    let mut script = with_channel();
    let id = ChannelId(0);
    let Room::Bytes { length, recipient } = script.connection.reserve(id, 10) else {
        panic!("there is room");
    };
    script.connection.close(id);
    assert!(script.numbers().is_empty(), "not yet");
    let mut packet = data_packet(recipient, length);
    packet.put(&[7; 10]);
    script.connection.submit(id, packet);
    assert_eq!(script.numbers(), [msg::CHANNEL_DATA, msg::CHANNEL_CLOSE]);
}

#[test]
fn nothing_is_sent_after_the_peers_close() {
    let mut script = with_channel();
    let id = ChannelId(0);
    assert!(matches!(
        script.connection.reserve(id, LITTLE),
        Room::Bytes { .. }
    ));
    script
        .tell(&Message::ChannelClose { recipient: 0 })
        .expect("closed");
    script.connection.submit(id, data_packet(5, 0));
    assert!(matches!(script.connection.reserve(id, 1), Room::Closed));
    assert_eq!(script.numbers(), [msg::CHANNEL_CLOSE]);
    let mut received = std::collections::VecDeque::new();
    let reading = script.connection.take_received(id, &mut received);
    assert_eq!(reading, Reading::Closed);
    script.connection.release(id);
    assert_eq!(script.connection.channels.totals(), Totals::default());
}

#[test]
fn nothing_follows_the_disconnect_message() {
    let mut script = with_channel();
    script
        .connection
        .disconnect(DisconnectReason::BY_APPLICATION, "enough");
    assert_eq!(script.numbers(), [msg::DISCONNECT]);
    assert!(script.connection.is_finished());
    script.connection.fail(&Error::Protocol("late".to_owned()));
    assert!(script.connection.is_finished());
    assert!(script.numbers().is_empty());
}
