//! Connections of `infisical connect` whose relay vanishes, and the network says nothing.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::lab::{GatewayPlan, Lab, PATIENCE};
use crate::net::Machine;
use crate::probe::block_on;
use crate::runner::{Case, Outcome};
use crate::talk::{self, Talk};

/// Within which time the local program must see a reset.
const NOTICED: Duration = Duration::from_secs(35);
/// Longer than that, so that a target that reads nothing for so long shows whether it is waited
/// for.
const STALLED: Duration = Duration::from_secs(45);
/// More than all buffers on the way hold.
const MUCH: usize = 64 << 20;

pub(super) const CASES: &[Case] = &[Case {
    name: "a_relay_vanishes_during_transfers_of_connect",
    row: "the relay's machine vanishes during an upload and a silent connection of `connect`",
    bound: None,
    labs: 1,
    run: relay_vanishes,
}];

fn relay_vanishes(lab: &mut Lab) -> Outcome {
    lab.start(&GatewayPlan::pinned());
    talk::start(lab, Machine::Gateway);
    let (forwarder, port) = lab.start_connect(talk::PORT);
    block_on(async {
        let connect = async || TcpStream::connect(port).await.expect("the local port");

        // A target that reads nothing: the window is zero, and nothing is wrong.
        let mut stalled = connect().await;
        Talk::new(&mut stalled, 1).fill().await.expect("it is full");
        let mut byte = [0];
        let end = tokio::time::timeout(STALLED, stalled.read(&mut byte)).await;
        assert!(
            end.is_err(),
            "a target that only waits was given up: {end:?}"
        );

        let mut silent = connect().await;
        let mut upload = connect().await;
        for (number, stream) in [(2, &mut silent), (3, &mut upload)] {
            let talked = Talk::new(stream, number).round_trip(100).await;
            talked.expect("it works");
        }
        lab.net.isolate(Machine::Relay);
        let begin = Instant::now();
        let sending = async {
            let error = upload.write_all(&vec![7; MUCH]).await;
            error.expect_err("the upload breaks");
            begin.elapsed()
        };
        let reading = async {
            let error = silent.read(&mut byte).await;
            let kind = error.expect_err("the silent connection breaks").kind();
            assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
            begin.elapsed()
        };
        let both = async { tokio::join!(sending, reading) };
        let both = tokio::time::timeout(PATIENCE, both).await;
        let (sending, reading) = both.expect("both end");
        assert!(forwarder.is_running());
        Outcome::happened()
            .and("upload reset", sending, Some(NOTICED))
            .and("silent connection reset", reading, Some(NOTICED))
    })
}
