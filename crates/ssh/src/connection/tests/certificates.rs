//! Certificates in the course of a session: what is judged, when, and what each side learns.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ssh_key::certificate::CertType;

use super::pair::{CLIENT, Pair, SERVER};
use super::script::ServerScript;
use super::support::{USER, certified, host_policy, ms, options, server};
use crate::clock::Clock;
use crate::connection::Connection;
use crate::{Algorithms, Error};

/// A time of day before [`END`], and one behind it.
fn before() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(END - 1)
}

fn behind() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(END)
}

const END: u64 = 1_000_000;

#[test]
fn new_host_key_must_be_certified_too() {
    let first = certified(4, 1, CertType::Host, END);
    for (second, is_good) in [
        (first.clone(), true),
        (certified(5, 1, CertType::Host, END), true),
        (certified(5, 9, CertType::Host, END), false),
        (certified(5, 1, CertType::User, END), false),
        (certified(5, 1, CertType::Host, END - 1), false),
    ] {
        let mut server = ServerScript::new(before);
        server.exchange(&first).expect("certified");
        let result = server.exchange(&second);
        match result {
            Ok(()) => assert!(is_good),
            Err(error) => assert!(
                !is_good && matches!(error, Error::Certificate(_)),
                "{error:?}"
            ),
        }
    }
    let result = ServerScript::new(behind).exchange(&first);
    assert!(matches!(result, Err(Error::Certificate(_))), "{result:?}");
}

#[test]
fn expired_client_certificate_is_refused_with_reason() {
    let now = Instant::now();
    let mut far = options(Algorithms::server());
    far.clock = Clock::showing(behind);
    let user = certified(3, 2, CertType::User, END);
    let client = Connection::client(
        USER.to_owned(),
        user,
        host_policy(),
        options(Algorithms::client()),
        now,
    );
    let mut pair = Pair::of(client.expect("a client"), server(far, now), now);
    pair.run(ms(1000));
    assert!(matches!(
        pair.sides[CLIENT].end,
        Some(Error::AuthenticationRefused)
    ));
    let refusal = pair.sides[SERVER].connection.take_refusal();
    let refusal = refusal.flatten().expect("a reason").to_string();
    assert!(
        refusal.starts_with("it expired at 1970-01-12 13:46:40 UTC"),
        "{refusal}"
    );
}
