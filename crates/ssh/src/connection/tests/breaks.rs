//! Wires that break, stall and spoil what they carry.

use std::time::Duration;

use super::apps::Apps;
use super::pair::{CLIENT, Pair, SERVER};
use super::support::{ms, options};
use crate::msg::Message;
use crate::{Algorithms, Error, Keepalive, RekeyLimits};

use super::script::Script;

/// A short session: a channel, some bytes both ways, and its end. `None` if it broke.
fn short_session(pair: &mut Pair, apps: &mut Apps) -> Option<()> {
    let is_alive = |pair: &Pair| pair.sides.iter().all(|side| side.end.is_none());
    pair.settle();
    apps.listen(pair);
    is_alive(pair).then_some(())?;
    let link = apps.open(pair, SERVER);
    pair.settle();
    apps.listen(pair);
    is_alive(pair).then_some(())?;
    let (side, id) = apps.waiting.pop()?;
    apps.accept(pair, side, id);
    for side in [SERVER, CLIENT] {
        pair.settle();
        apps.listen(pair);
        apps.write(pair, link, side, 100);
    }
    for side in [SERVER, CLIENT] {
        apps.finish(pair, link, side);
        pair.settle();
        apps.listen(pair);
        apps.read(pair, link, 1 - side, 1000);
    }
    apps.release_all(pair);
    pair.settle();
    is_alive(pair).then_some(())
}

#[test]
fn broken_connection_ends_on_both_sides() {
    let mut whole = Pair::new();
    short_session(&mut whole, &mut Apps::default()).expect("not broken");
    for direction in [CLIENT, SERVER] {
        let total = whole.wires[direction].carried;
        assert!(total > 2000);
        // Every byte where messages are short, and some of the long ones.
        let cuts = (0..total).filter(|at| at % 7 == 0 || *at < 40 || *at + 300 > total);
        for at in cuts {
            let mut pair = Pair::new();
            pair.wires[direction].cut_at = Some(at);
            let mut apps = Apps::default();
            let _ = short_session(&mut pair, &mut apps);
            pair.settle();
            apps.listen(&mut pair);
            apps.release_all(&mut pair);
            pair.assert_over();
        }
    }
}

#[test]
fn spoilt_byte_is_noticed_or_harmless() {
    let mut whole = Pair::new();
    short_session(&mut whole, &mut Apps::default()).expect("not spoilt");
    for direction in [CLIENT, SERVER] {
        let total = whole.wires[direction].carried;
        for at in (0..total).step_by(11) {
            let mut pair = Pair::new();
            pair.wires[direction].spoilt = Some(at);
            let mut apps = Apps::default();
            // Whatever is read is compared with what was written.
            let is_through = short_session(&mut pair, &mut apps).is_some();
            pair.run(Duration::from_secs(60));
            apps.listen(&mut pair);
            apps.release_all(&mut pair);
            if !is_through {
                pair.assert_over();
            }
        }
    }
}

#[test]
fn silent_peer_is_given_up_during_rekey() {
    for is_exchanging in [false, true] {
        let mut pair = Pair::authenticated();
        for side in 0..2 {
            // Each hears the other now.
            pair.sides[side].connection.ping(pair.now);
            pair.settle();
        }
        for wire in &mut pair.wires {
            wire.is_stalled = true;
        }
        if is_exchanging {
            for side in &mut pair.sides {
                let later = pair.now + RekeyLimits::DEFAULT.time;
                side.connection
                    .transport
                    .rekey_if_due(later)
                    .expect("proposed");
            }
        }
        pair.run(Keepalive::DEFAULT.interval * 3 - ms(1));
        assert!(pair.sides.iter().all(|side| side.end.is_none()));
        pair.run(ms(1));
        for side in &pair.sides {
            assert!(
                matches!(side.end, Some(Error::KeepaliveTimedOut)),
                "{:?}",
                side.end
            );
        }
    }
}

#[test]
fn a_peer_that_refuses_keepalives_is_alive() {
    for side in [CLIENT, SERVER] {
        let mut script = Script::authenticated(side);
        for _ in 0..1000 {
            script.now = script.connection.poll_timeout().expect("a keepalive");
            script.connection.handle_timeout(script.now).expect("alive");
            if script.numbers() == [crate::msg::GLOBAL_REQUEST] {
                script.now += ms(100);
                script.tell(&Message::RequestFailure).expect("an answer");
            } else {
                break;
            }
        }
        // An hour has passed: it is time for new keys.
        assert!(script.connection.transport.poll_timeout().is_some());
        assert!(!script.connection.transport.may_send());
    }
}

#[test]
fn stalled_rekey_ends_a_talking_session() {
    let mut script = Script::authenticated(CLIENT);
    script.now += RekeyLimits::DEFAULT.time;
    script
        .connection
        .transport
        .rekey_if_due(script.now)
        .expect("proposed");
    let mut time = Duration::ZERO;
    let error = loop {
        script.now += ms(1000);
        time += ms(1000);
        script.tell(&Message::Ignore).expect("allowed");
        if let Err(error) = script.connection.handle_timeout(script.now) {
            break error;
        }
        assert!(time < Duration::from_secs(100));
    };
    assert!(matches!(error, Error::Protocol(_)));
    assert_eq!(time, Duration::from_secs(60));
}

#[test]
fn both_sides_may_rekey_at_once() {
    let mut near = options(Algorithms::client());
    near.rekey.packets = 4;
    let mut far = options(Algorithms::server());
    far.rekey.packets = 4;
    let mut pair = Pair::with(near, far);
    pair.authenticate();
    let mut apps = Apps::default();
    let link = apps.connect(&mut pair, SERVER);
    for _ in 0..50 {
        for side in [CLIENT, SERVER] {
            apps.write(&mut pair, link, side, 1000);
        }
        pair.settle();
        apps.listen(&mut pair);
    }
    apps.complete(&mut pair);
    assert!(pair.sides[CLIENT].exchanges > 20);
}
