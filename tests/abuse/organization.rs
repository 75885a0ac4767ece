//! One organization takes what it can get of a relay, with four gateways and as many clients as
//! there are places, none of which reads. Another organization's session and newcomers are served
//! meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::honest;
use crate::support::greedy::{self, Counts, GATEWAYS, ORGANIZATION};
use crate::support::lab::Lab;
use crate::support::targets::Target;

/// The name of the scenario.
pub(crate) const NAME: &str = "organization_share";
/// How long the honest ones work.
const LASTS: Duration = Duration::from_secs(10);
/// Places for clients.
const PLACES: u64 = 1024;
/// Memory for data on their way, in MiB.
const BUFFER: usize = 64;
/// What one client may take beside, in KiB.
const CLIENT: u64 = 128;

/// Runs it, and prints its figures.
pub(crate) async fn run() {
    let lab = Lab::new().await;
    let mut command = lab.relay_command();
    command.more.push(format!("--max-clients={PLACES}"));
    command.more.push(format!("--max-buffer-mib={BUFFER}"));
    let relay = command.spawn(lab.dir());
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let way = lab.way(echo.address);
    let mut session = way.tcp().await.expect("a session before the attack");
    let before = relay.resident_kib();

    let counts = Arc::new(Counts::default());
    let mut pouring = Vec::new();
    for id in GATEWAYS {
        let session = lab.bare_gateway(id).await;
        pouring.push(greedy::pour(session, Arc::clone(&counts)));
    }
    let greedy = GATEWAYS.map(|id| lab.way_of(ORGANIZATION, id, ("localhost", 1)));
    let clients = stream::iter((0..PLACES).zip(greedy.iter().cycle()));
    let clients = clients.map(|(_, way)| greedy::narrow(way));
    let clients: Vec<_> = clients.buffer_unordered(16).collect().await;
    let (round_trips, sessions) = honest::work(&mut session, &way, LASTS).await;

    let served = counts.channels.load(Ordering::Relaxed);
    let sent = counts.sent.load(Ordering::Relaxed) >> 20;
    let taken = relay.resident_kib().saturating_sub(before) >> 10;
    let bound = BUFFER + usize::try_from((PLACES * CLIENT) >> 10).expect("small");
    println!();
    println!(
        "| clients of one organization that do not read | {served} of {PLACES} places, {sent} MiB sent to them | {taken} MiB ({bound} MiB) | {round_trips}, {sessions} |"
    );
    // Seven eighths, less the honest ones' eighths.
    let share = PLACES * 7 / 8;
    assert!(
        served <= share && served > share * 9 / 10,
        "{served} places"
    );
    assert!(taken <= bound, "{taken} MiB");
    assert!(sessions.count() > 0 && round_trips.count() > 0);
    assert!(relay.is_running() && gateway.is_running());
    drop((clients, pouring));
}
