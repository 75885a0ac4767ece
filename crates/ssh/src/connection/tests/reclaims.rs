//! Credit that idle channels give back: between ours, from a peer that does not know the request,
//! and from one that answers what it likes.

use super::pair::{CLIENT, SERVER};
use super::script::Script;
use crate::connection::channel::ChannelId;
use crate::connection::channels::RECLAIM;
use crate::connection::liveness::Purpose;
use crate::connection::window::BASE;
use crate::msg::{self, Message};
use crate::{Error, msg::REQUEST_SUCCESS};

/// A session in which the peer has opened a channel and granted this much.
fn with_credit(window: u32) -> Script {
    let mut script = Script::authenticated(CLIENT);
    let open = Message::ChannelOpen {
        kind: b"direct-tcpip",
        sender: 7,
        window,
        max_packet: 32 * 1024,
        specific: b"",
    };
    script.tell(&open).expect("asked");
    assert!(script.connection.accept(ChannelId(0)));
    script.hear();
    script
}

/// The peer asks for credit of a channel: the payloads of the answer.
fn asked(script: &mut Script, specific: &[u8]) -> Vec<Vec<u8>> {
    let request = Message::GlobalRequest {
        name: RECLAIM,
        want_reply: true,
        specific,
    };
    script.tell(&request).expect("answered");
    script.hear()
}

fn numbers(all: &[u32]) -> Vec<u8> {
    all.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn success(bytes: u32) -> Vec<u8> {
    [vec![REQUEST_SUCCESS], numbers(&[bytes])].concat()
}

#[test]
fn unused_credit_returns_except_on_new_channels() {
    let mut script = with_credit(BASE + 1000);
    assert_eq!(asked(&mut script, &numbers(&[0, 600])), [success(600)]);
    assert_eq!(asked(&mut script, &numbers(&[0, 600])), [success(400)]);
    assert_eq!(asked(&mut script, &numbers(&[0, 600])), [success(0)]);
    assert_eq!(
        asked(&mut script, &numbers(&[99, 600])),
        [success(0)],
        "no channel"
    );
}

#[test]
fn unreadable_credit_request_is_refused() {
    let mut script = with_credit(2 * BASE);
    for specific in [numbers(&[]), numbers(&[0]), numbers(&[0, 1, 2])] {
        assert_eq!(asked(&mut script, &specific), [vec![msg::REQUEST_FAILURE]]);
    }
}

/// A session that asks its peer for the credit of channel 0, and gets this answer.
fn answered(answer: &Message<'_>) -> (Script, Result<(), Error>) {
    let mut script = with_credit(BASE);
    let channels = &mut script.connection.channels;
    let granted = channels.enlarge(ChannelId(0), 2 * BASE);
    let asked = channels.ask_back(ChannelId(0));
    assert!(asked.packet.payload().ends_with(&granted.to_be_bytes()));
    let purpose = Purpose::Reclaim(asked.channel, asked.number);
    assert!(script.connection.liveness.ask(purpose, script.now));
    let handled = script.tell(answer).map(drop);
    (script, handled)
}

#[test]
fn only_credit_that_was_granted_comes_back() {
    let back = |bytes: u32| {
        let specific = numbers(&[bytes]);
        let (script, handled) = answered(&Message::RequestSuccess {
            specific: &specific,
        });
        let spent = script.connection.channels.totals().budget;
        handled.map(|()| spent)
    };
    assert_eq!(back(2 * BASE).expect("all"), 0);
    assert_eq!(back(BASE).expect("half"), BASE);
    assert_eq!(back(0).expect("none"), 2 * BASE);
    assert!(matches!(back(2 * BASE + 1), Err(Error::Protocol(_))));
    let (_, handled) = answered(&Message::RequestSuccess { specific: b"" });
    assert!(matches!(handled, Err(Error::Protocol(_))), "no number");
}

#[test]
fn peer_without_the_request_is_asked_once() {
    let (script, handled) = answered(&Message::RequestFailure);
    handled.expect("it may");
    assert!(!script.connection.channels.can_reclaim());
    // One with another identification is not asked at all.
    let channels = &mut Script::server().connection.channels;
    assert!(!channels.can_reclaim());
    assert!(
        Script::authenticated(SERVER)
            .connection
            .channels
            .can_reclaim()
    );
}
