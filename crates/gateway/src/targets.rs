//! The only way in which a session gets a connection to a target: looked up once, judged by the
//! policy of the gateway's owner ([`TargetPolicy`]), and dialled at the addresses that were judged.
//!
//! A session whose target a newer policy refuses hears so from [`TargetAccess::revoked`].

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::field;

use crate::audit::Session;
use crate::config::targets::{Rule, TargetHost, TargetPolicy, Verdict, address};
use crate::error::printable;
use crate::events::Event;
use crate::log_throttle::LogThrottle;
use crate::net::{dial, own_sockets};
use crate::{event, events};

/// Hosts with an open connection that one session may have: its target, and the cluster's API
/// server.
const MAX_OPEN: usize = 2;

/// The policy in use.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// The other end is `reload`.
    policy: watch::Receiver<Arc<TargetPolicy>>,
    log_throttle: Arc<LogThrottle>,
}

impl Targets {
    pub(crate) fn new(policy: watch::Receiver<Arc<TargetPolicy>>) -> Self {
        Self {
            policy,
            log_throttle: Arc::new(LogThrottle::for_retries()),
        }
    }

    fn newest(&self) -> Arc<TargetPolicy> {
        Arc::clone(&self.policy.borrow())
    }
}

/// The policy refuses a target. The client's user reads it; the rule is the owner's to know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} {target}{}",
    if *.by_platform {
        "no access rule of the platform is for any address of"
    } else {
        "the policy of this gateway does not allow"
    },
    match (*.by_platform, *.was_open) {
        (true, _) => "; an administrator of the platform can add one",
        (false, true) => " any more; its owner can change that",
        (false, false) => "; its owner can change that",
    }
)]
pub struct NotAllowed {
    target: String,
    was_open: bool,
    by_platform: bool,
}

/// What the platform granted a session for, where it left the decision about addresses to the
/// gateway.
#[derive(Debug, Clone)]
struct Grant(Vec<Rule>);

impl Grant {
    /// `None` if the certificate has no rules. A rule that cannot be read is for no address.
    fn of(rules: &[String]) -> Option<Self> {
        let read = rules.iter().filter_map(|rule| rule.parse().ok());
        (!rules.is_empty()).then(|| Self(read.collect()))
    }

    fn covers(&self, host: &TargetHost, to: SocketAddr) -> bool {
        let mut rules = self.0.iter();
        // One by one: a policy without rules would allow everything.
        rules.any(|rule| rule.allows(host, to.port(), to.ip()))
    }
}

/// Why there is no connection to a target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    NotAllowed(NotAllowed),
    #[error(transparent)]
    Dial(#[from] dial::Error),
}

/// A connection to a target, as far as a newer policy must know it.
#[derive(Debug)]
struct Opened {
    host: TargetHost,
    port: u16,
    address: SocketAddr,
}

impl Opened {
    fn judge<'a>(&self, policy: &'a TargetPolicy) -> Verdict<'a> {
        judge(policy, &self.host, self.address, own_sockets::reached_at)
    }
}

/// What one session may reach.
#[derive(Debug)]
pub(crate) struct TargetAccess<'a> {
    targets: &'a Targets,
    session: &'a Session,
    grant: Option<Grant>,
    /// The newest connection to each host.
    opened: Mutex<Vec<Opened>>,
}

impl<'a> TargetAccess<'a> {
    /// `granted` are the rules for addresses in the client's certificate.
    pub(crate) fn new(targets: &'a Targets, session: &'a Session, granted: &[String]) -> Self {
        Self {
            targets,
            session,
            grant: Grant::of(granted),
            opened: Mutex::default(),
        }
    }

    pub(crate) fn session(&self) -> &'a Session {
        self.session
    }

    /// Connects to `host`, a name or an address, within `deadline`.
    ///
    /// # Errors
    /// No address is allowed, or none answers.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        deadline: Duration,
    ) -> Result<TcpStream, Error> {
        let host = TargetHost::parse(host).map_err(|source| dial::Error::Resolve {
            host: printable(host),
            source: std::io::Error::other(source),
        })?;
        let policy = self.targets.newest();
        if let Some(verdict) = policy.judge_name(&host, port) {
            return Err(self.refuse(&host, port, None, verdict));
        }
        let first_refused = Mutex::new(None);
        let may_dial = |address: SocketAddr| {
            let mut verdict = judge(&policy, &host, address, own_sockets::reached_at);
            let is_other = |asked: IpAddr| asked.to_canonical() != address.ip().to_canonical();
            let is_outside = |grant: &Grant| !grant.covers(&host, address);
            // The platform has judged the address that was asked for, and no other.
            if verdict.is_allowed()
                && (host.address().is_some_and(is_other)
                    || self.grant.as_ref().is_some_and(is_outside))
            {
                verdict = Verdict::NotGranted;
            }
            if !verdict.is_allowed() {
                tracing::debug!(target.address = %address, rule = %verdict, "address not allowed");
                let mut first = lock(&first_refused);
                first.get_or_insert((address, verdict));
            }
            verdict.is_allowed()
        };
        #[expect(clippy::disallowed_methods, reason = "what is dialled is judged here")]
        let dialling = dial::connect_target(host.as_str(), port, deadline, &may_dial);
        let stream = Box::pin(dialling).await;
        let stream = match (stream, lock(&first_refused).take()) {
            (Err(dial::Error::NotPermitted { .. }), Some((address, verdict))) => {
                return Err(self.refuse(&host, port, Some(address), verdict));
            }
            (stream, _) => stream?,
        };
        let Ok(address) = stream.peer_addr() else {
            return Ok(stream);
        };
        let opened = Opened {
            host,
            port,
            address,
        };
        // While it was dialled, another policy may have come.
        let newest = self.targets.newest();
        let verdict = opened.judge(&newest);
        if !verdict.is_allowed() {
            return Err(self.refuse(&opened.host, port, Some(address), verdict));
        }
        let mut all = lock(&self.opened);
        all.retain(|known| known.host != opened.host || known.port != port);
        all.truncate(MAX_OPEN - 1);
        all.push(opened);
        drop(all);
        Ok(stream)
    }

    /// Waits until a newer policy refuses what is open; never ends before. Cancel-safe.
    pub(crate) async fn revoked(&self) -> NotAllowed {
        let mut policy = self.targets.policy.clone();
        loop {
            let newest = Arc::clone(&policy.borrow_and_update());
            if let Some(refused) = self.refused_by(&newest) {
                return refused;
            }
            if policy.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn refused_by(&self, policy: &TargetPolicy) -> Option<NotAllowed> {
        let opened = lock(&self.opened);
        let mut judged = opened.iter().map(|open| (open, open.judge(policy)));
        let (open, verdict) = judged.find(|(_, verdict)| !verdict.is_allowed())?;
        let target = target(&open.host, open.port);
        let event = events::SESSION_NOT_ALLOWED;
        self.log(event, &target, Some(open.address), verdict);
        Some(NotAllowed {
            target,
            was_open: true,
            by_platform: false,
        })
    }

    fn refuse(
        &self,
        host: &TargetHost,
        port: u16,
        address: Option<SocketAddr>,
        verdict: Verdict<'_>,
    ) -> Error {
        let target = target(host, port);
        self.log(events::TARGET_NOT_ALLOWED, &target, address, verdict);
        Error::NotAllowed(NotAllowed {
            target,
            was_open: false,
            by_platform: matches!(verdict, Verdict::NotGranted),
        })
    }

    fn log(&self, event: Event, target: &str, address: Option<SocketAddr>, verdict: Verdict<'_>) {
        self.session.metrics().target_not_allowed(verdict.word());
        let kind = format!("{} {target}", verdict.word());
        if let Some(permission) = self.targets.log_throttle.should_log(event.text, &kind) {
            event!(
                event,
                session.id = self.session.id(),
                target.name = target,
                target.address = address.map(field::display),
                rule = %verdict,
                suppressed = permission.suppressed()
            );
        }
    }
}

/// What `policy` says of dialling `host` at `to`; `own` gives the socket of the gateway that a
/// connection to an address reaches.
pub fn judge<'a>(
    policy: &'a TargetPolicy,
    host: &TargetHost,
    to: SocketAddr,
    own: impl Fn(SocketAddr) -> Option<SocketAddr>,
) -> Verdict<'a> {
    let forms = address::forms(to.ip()).into_iter();
    let mut forms = forms.map(|form| SocketAddr::new(form, to.port()));
    let own = own(to).or_else(|| forms.find_map(own));
    policy.judge(host, to.port(), to.ip(), own)
}

fn target(host: &TargetHost, port: u16) -> String {
    let host = printable(host.as_str());
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::{Error, TargetAccess, Targets};
    use crate::audit::Audit;
    use crate::config::targets::{Rule, TargetPolicy};
    use crate::net::own_sockets::Listed;

    const SOON: Duration = Duration::from_secs(20);

    fn policy(allow: &str, deny: &str) -> Arc<TargetPolicy> {
        Arc::new(TargetPolicy {
            allow: Rule::parse_list(allow).expect("rules"),
            deny: Rule::parse_list(deny).expect("rules"),
        })
    }

    async fn connect(policy: Arc<TargetPolicy>, host: &str, port: u16) -> Result<(), Error> {
        let targets = Targets::new(watch::channel(policy).1);
        let id = "5f0c7f3e-0000-4000-8000-000000000001".parse();
        let record = Audit::default().begin(&id.expect("an id"));
        let access = TargetAccess::new(&targets, record.session(), &[]);
        access.connect(host, port, SOON).await.map(drop)
    }

    #[tokio::test]
    async fn each_address_is_judged_before_dialling() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        for (allow, deny, host, is_allowed) in [
            ("", "", "127.0.0.1", true),
            ("", "", "localhost", true),
            // What remains of several addresses is dialled.
            ("", "::1", "localhost", true),
            ("127.0.0.1", "", "localhost", true),
            ("localhost", "", "localhost", true),
            ("", "127.0.0.0/8 ::1", "localhost", false),
            ("", "localhost", "LOCALHOST.", false),
            ("", "127.0.0.0/8", "0x7f.1", false),
            ("", "127.0.0.0/8", "2130706433", false),
            ("", "127.0.0.0/8", "::ffff:127.0.0.1", false),
            ("", "127.0.0.0/8", "0.0.0.0", false),
            ("10.0.0.0/8", "", "127.0.0.1", false),
            ("", "", "169.254.169.254", false),
        ] {
            let connected = connect(policy(allow, deny), host, port).await;
            let is_refused = matches!(connected, Err(Error::NotAllowed(_)));
            assert_eq!(
                is_refused, !is_allowed,
                "{allow:?} {deny:?} {host}: {connected:?}"
            );
            assert_eq!(connected.is_ok(), is_allowed, "{host}: {connected:?}");
        }
    }

    #[tokio::test]
    async fn only_granted_addresses_are_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        for (granted, host, is_allowed) in [
            (&["127.0.0.0/8"][..], "localhost", true),
            (&["10.0.0.0/8", "127.0.0.1"], "localhost", true),
            (&["127.0.0.0/8"], "127.0.0.1", true),
            (&["10.0.0.0/8", "::1"], "127.0.0.1", false),
            (&["127.0.0.0/8:1"], "localhost", false),
            // Of a later program.
            (&["region:eu"], "localhost", false),
            (&[], "localhost", true),
        ] {
            let targets = Targets::new(watch::channel(policy("", "::1")).1);
            let id = "5f0c7f3e-0000-4000-8000-000000000001".parse();
            let record = Audit::default().begin(&id.expect("an id"));
            let granted: Vec<_> = granted.iter().map(|rule| (*rule).to_owned()).collect();
            let access = TargetAccess::new(&targets, record.session(), &granted);
            let connected = access.connect(host, port, SOON).await;
            assert_eq!(connected.is_ok(), is_allowed, "{granted:?}: {connected:?}");
        }
    }

    #[tokio::test]
    async fn own_socket_is_no_target() {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let _listed = Listed::new(&listener);
        for host in [
            "127.0.0.1",
            "127.0.0.9",
            "localhost",
            "0.0.0.0",
            "::ffff:127.0.0.1",
        ] {
            for allow in ["", "*", "127.0.0.0/8"] {
                let connected = connect(policy(allow, "::1"), host, port).await;
                assert!(
                    matches!(connected, Err(Error::NotAllowed(_))),
                    "{host} {allow}"
                );
            }
        }
        let exact = policy(&format!("127.0.0.1:{port}"), "");
        connect(exact, "127.0.0.1", port).await.expect("named");
    }

    #[tokio::test]
    async fn newer_policy_revokes_only_what_it_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (newer, current) = watch::channel(policy("", ""));
        let targets = Targets::new(current);
        let id = "5f0c7f3e-0000-4000-8000-000000000001".parse();
        let record = Audit::default().begin(&id.expect("an id"));
        let access = TargetAccess::new(&targets, record.session(), &[]);
        access.connect("localhost", port, SOON).await.expect("open");
        let mut revoked = std::pin::pin!(access.revoked());
        for still_allowed in [policy("", "10.0.0.0/8"), policy("localhost", "")] {
            newer.send_replace(still_allowed);
            let ended = futures_util::poll!(revoked.as_mut());
            assert!(ended.is_pending(), "{ended:?}");
        }
        newer.send_replace(policy("", "127.0.0.0/8 ::1"));
        let refused = tokio::time::timeout(SOON, revoked).await.expect("ended");
        let text = format!("does not allow localhost:{port} any more");
        assert!(refused.to_string().contains(&text), "{refused}");
    }
}
