//! Every duration and bound of the connection, each with its reason.

use std::time::Duration;

// Waits between attempts.

/// The first wait after a tunnel was lost is shorter than this.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait before the next dial of a relay that cannot be reached, while the outage is young.
pub(crate) const MAX_DIAL_WAIT: Duration = Duration::from_secs(1);
/// Longest wait before a platform that did not answer is asked again, while the outage is young.
pub(crate) const MAX_REGISTER_WAIT: Duration = Duration::from_millis(2500);
/// Longest wait before a relay is dialled again that holds an older connection of this gateway: it
/// does not report when it has noticed that the older one is gone, and each attempt costs it a
/// handshake.
pub(crate) const MAX_TURNED_AWAY_WAIT: Duration = Duration::from_secs(3);
/// Shortest wait after another connection of this gateway took over.
pub(crate) const MIN_TAKEN_OVER_WAIT: Duration = Duration::from_secs(10);
/// How long an outage is young.
pub(crate) const YOUNG_OUTAGE: Duration = Duration::from_secs(600);
/// Longest wait after that.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);
/// Stands for a wait whose end the clock cannot express.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// Bounds of the wait before a platform that did give credentials is asked for others, when those
/// are of no use.
pub(crate) const REREGISTER_WAIT: (Duration, Duration) =
    (Duration::from_secs(5), Duration::from_secs(120));
/// A relay that the configuration names is dialled for this long before the platform is asked
/// whether its address is still right.
pub(crate) const SAME_ADDRESS: Duration = Duration::from_secs(30);
/// So many waits in a row may be ended before their time because the network changed …
pub(crate) const MAX_EARLY_RETRIES: u32 = 5;
/// … and one more each time so long has passed: there are hosts whose network never comes to rest.
pub(crate) const EARLY_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Triggers that may wait for the connection; a further one tells nothing new.
pub(crate) const MAX_TRIGGERS: usize = 4;

// When a tunnel is good.

/// A tunnel that lives this long has proved useful even without a heartbeat.
pub(crate) const USEFUL_AFTER: Duration = Duration::from_secs(60);
/// Heartbeats in a row that do not get through a tunnel that answers, before it is announced to the
/// platform again …
pub(crate) const HEARTBEATS_TO_RENEW: u32 = 2;
/// … and, each time there are so many more, before it is replaced.
pub(crate) const HEARTBEATS_TO_RECONNECT: u32 = 4;
/// Each tunnel that was replaced without success doubles that, so many times: in the end one lives
/// for some five minutes. The fault is elsewhere then, clients may get through all the same, and
/// they cannot while a tunnel is made.
pub(crate) const RECONNECTS_DOUBLED: u32 = 3;
/// After so many tunnels in a row that did not live, a relay that was chosen is left for another
/// one, if there is one.
pub(crate) const FLAPS_TO_REGISTER: u32 = 3;
/// As long as a relay's heartbeats come through, so many of them make waits no longer: it may be
/// restarted a few times in a row.
pub(crate) const FLAPS_FORGIVEN: u32 = 4;

// Attempts.

/// Limit for the TCP connection to the relay.
pub(crate) const CONNECT: Duration = Duration::from_secs(15);
/// How long a relay may take to give a sign of life after it let the gateway in.
pub(crate) const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// After this long without a tunnel another attempt is begun beside the older ones.
pub(crate) const PARALLEL_ATTEMPT: Duration = Duration::from_millis(1250);
/// Limit for a key exchange, and so for how many there are at once.
pub(crate) const KEY_EXCHANGE: Duration = Duration::from_secs(9);
/// An authentication has at least this long to be answered before it is given up for a younger
/// attempt …
pub(crate) const STUCK: Duration = Duration::from_secs(1);
/// … and so many times what the younger one's key exchange took, which is as many round trips and
/// more work for the relay.
pub(crate) const STUCK_TIMES: u32 = 3;
/// Limit for all overlapping attempts together.
pub(crate) const HANDSHAKES: Duration = Duration::from_secs(20);
/// How long the platform has to answer before a relay that can be reached again is dialled instead
/// of waiting on.
pub(crate) const RELAY_PROBE_DELAY: Duration = Duration::from_secs(1);
/// Each time that failed, the platform has twice as long, so many times: in the end longer than any
/// call takes.
pub(crate) const RELAY_PROBE_DELAYS_DOUBLED: u32 = 6;
/// A younger attempt is not restarted because the network changed: changes rarely come alone. Twice
/// as long each time, so that an attempt ends even where the network keeps changing.
pub(crate) const MIN_ATTEMPT_AGE: Duration = Duration::from_secs(1);

// Checks of a tunnel that is up.

/// How long a tunnel may take to answer when it is asked for a sign of life.
///
/// Long enough for sessions to survive a short interruption, after which the kernel takes seconds
/// to repeat what was lost.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// The same, once the kernel would use another route to the relay.
pub(crate) const ANSWER_IF_MOVED: Duration = Duration::from_millis(1500);
/// How often the kernel is asked that while an answer is awaited.
pub(crate) const ASK_KERNEL: Duration = Duration::from_millis(250);
/// Limit for a connection to the relay's port for clients.
pub(crate) const CLIENT_PORT_CONNECT: Duration = Duration::from_secs(5);
/// How often to look whether one of too many tunnels has ended.
pub(crate) const ROOM_CHECK: Duration = Duration::from_secs(10);

// Sessions, and the end of tunnels.

/// Tunnels at once, retired ones included; beyond it the gateway stays with the one it has.
pub(crate) const MAX_TUNNELS: usize = 4;
/// Sessions at once, so that one flood cannot take the memory or the descriptors that the others
/// need.
pub(crate) const MAX_SESSIONS: usize = 10_000;
/// Channels beyond it that are told so at once; further ones are closed without a word.
pub(crate) const MAX_REFUSALS: usize = 64;
/// How long sessions may go on after a stop was asked for.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
/// How long a session that went well waits for its client to close it too, so that the client has
/// its last bytes before the tunnel may end.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long a retired tunnel carries nothing before it is closed: a client that was sent to its
/// relay a moment before still gets through.
pub(crate) const RETIRED_IDLE: Duration = Duration::from_secs(10);

// A hand-over to a successor.

/// How long the end of a tunnel that is closed for a successor is waited for.
pub(crate) const RELEASE: Duration = Duration::from_secs(5);
/// After a successor failed, a relay may report for so long that it took the tunnel over: it lets
/// the sessions of the tunnel finish first.
pub(crate) const SUCCESSOR_FORGOTTEN: Duration = Duration::from_secs(30);

// The choice of a relay.

/// A relay whose last heartbeat is older is not counted on (protocol.md §1).
pub(crate) const HEALTHY_FOR: time::Duration = time::Duration::hours(1);
/// Limit for one probe (protocol.md §1).
pub(crate) const PROBE_DEADLINE: Duration = Duration::from_secs(5);
/// How long slower relays may take once one has answered that no other could be preferred to but
/// for its speed.
pub(crate) const GRACE: Duration = Duration::from_millis(300);
/// A relay is clearly faster if it saves so much …
pub(crate) const CLEAR_GAIN: Duration = Duration::from_millis(10);
/// … and so many percent.
pub(crate) const CLEAR_GAIN_PERCENT: u32 = 30;
/// Time between two searches for a better relay: at least the first, and less than the second, so
/// that gateways that began together do not search together.
pub(crate) const RESELECTION: (Duration, Duration) =
    (Duration::from_secs(3 * 3600), Duration::from_secs(5 * 3600));
