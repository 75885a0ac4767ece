//! The transport layer above the packets (RFC 4253): key exchange, at the beginning and repeatedly.
//! Pure.
//!
//! ```text
//!                we propose                  they propose
//!      ┌─ Idle ─────────────▶ Proposed ─────────────────────┐
//!      │   │ they propose: we answer with our proposal      ▼
//!      │   └──────────────────────────────────────▶ client: AwaitReply    server: AwaitInit
//!      │                                                    │ the exchange is proved: NEWKEYS goes out,
//!      │        their NEWKEYS: new keys to open             ▼ new keys to seal
//!      └────────────────────────────────────────────── AwaitNewKeys
//! ```
//!
//! A client proposes at once. A server first reads the peer's identification, and offers older
//! algorithms only to peers that may have nothing better ([`peer_kind`]).
//!
//! From our proposal to our NEWKEYS nothing else is sent, from theirs to theirs nothing else is
//! accepted (RFC 4253 §7.1). In the first exchange with a peer that knows strict key exchange
//! nothing else is accepted at all, and sequence numbers restart with each NEWKEYS (OpenSSH
//! PROTOCOL §1.10).

mod negotiation;
mod peer_kind;
mod peer_rekeys;
pub(super) mod version;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use ssh_key::Certificate;

use super::cert::{self, HostPolicy};
use super::cipher::{Keys, Suite};
use super::kex::{self, Initiator, SharedSecret, Transcript};
use super::keys::CertifiedKey;
use super::msg::{KexInit, Message};
use super::packet::Packet;
use super::sign::{self, SignatureAlgorithm};
use super::{Error, RekeyLimits};
use crate::clock::Clock;
use negotiation::{Agreement, Offer};
use peer_kind::PeerKind;
use peer_rekeys::PeerRekeys;

pub use negotiation::Algorithms;

/// A key exchange that takes longer ends the session.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(60);
/// Numbers of the messages of key exchange methods (RFC 4250 §4.1.2).
const KEX_METHOD: RangeInclusive<u8> = 30..=49;
/// Exchanges before the peer is authenticated, the first included: each costs us more than the
/// peer. A Go peer that was told to exchange keys after every 256 bytes, the least it takes, needs
/// several.
const MAX_EARLY_EXCHANGES: u32 = 8;

/// Which side we are, and how the server's key is proved.
pub(super) enum Side {
    /// We judge the server's certificate.
    Client(HostPolicy),
    /// We prove ours.
    Server(CertifiedKey),
}

/// Something to be written.
pub(super) enum Outgoing {
    /// As it is: the identification.
    Line(Vec<u8>),
    /// To be sealed.
    Packet(Packet),
    /// What comes after it is sealed with these keys.
    Keys(Change),
}

/// New keys of one direction.
pub(super) struct Change {
    pub suite: Suite,
    pub keys: Keys,
    /// The sequence number restarts.
    pub reset_sequence: bool,
}

/// What became of a message.
pub(super) enum Handled<'a> {
    /// It was the transport's.
    Consumed,
    /// It is for the layers above.
    Above(Message<'a>),
    /// It is not known, and the answer says so.
    Unknown,
}

enum State {
    Idle,
    Proposed { ours: Vec<u8> },
    AwaitReply(Box<Exchange<Initiator>>),
    AwaitInit(Box<Exchange<()>>),
    AwaitNewKeys(Box<Change>),
}

/// An exchange under way.
struct Exchange<S> {
    agreement: Agreement,
    ours: Vec<u8>,
    theirs: Vec<u8>,
    secret: S,
}

/// See the module.
pub(super) struct Transport {
    side: Side,
    algorithms: Algorithms,
    limits: RekeyLimits,
    clock: Clock,
    state: State,
    /// The exchange under way ends the session then.
    deadline: Option<Instant>,
    /// Our last proposal is answered, so that ours may be sent again.
    may_send: bool,
    peer_version: Option<String>,
    peer_proposed: bool,
    /// The peer's next packet is its part of an exchange that was not agreed on.
    is_guess_wrong: bool,
    is_strict: bool,
    exchanges: u32,
    is_authenticated: bool,
    session_id: Vec<u8>,
    /// The server's key of the first exchange, which later ones must prove again.
    host_key: Vec<u8>,
    wants_ext_info: bool,
    sent: Usage,
    received: Usage,
    peer_rekeys: PeerRekeys,
    rekey_at: Instant,
    out: VecDeque<Outgoing>,
    /// For the one who opens packets.
    opening: Option<Change>,
}

/// What went through one direction since its last keys.
#[derive(Default)]
struct Usage {
    bytes: u64,
    packets: u64,
}

impl Usage {
    fn add(&mut self, bytes: usize) {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.packets = self.packets.saturating_add(1);
    }

    fn is_over(&self, limits: &RekeyLimits) -> bool {
        self.bytes >= limits.bytes || self.packets >= limits.packets
    }
}

impl Transport {
    /// Begins: our identification goes out at once, and a client's proposal.
    pub(super) fn new(
        side: Side,
        algorithms: Algorithms,
        limits: RekeyLimits,
        clock: Clock,
        now: Instant,
    ) -> Result<Self, Error> {
        let mut transport = Self {
            side,
            algorithms,
            limits,
            clock,
            state: State::Idle,
            deadline: None,
            may_send: false,
            peer_version: None,
            peer_proposed: false,
            is_guess_wrong: false,
            is_strict: false,
            exchanges: 0,
            is_authenticated: false,
            session_id: Vec::new(),
            host_key: Vec::new(),
            wants_ext_info: false,
            sent: Usage::default(),
            received: Usage::default(),
            peer_rekeys: PeerRekeys::new(limits.peer_burst, now),
            rekey_at: now,
            out: VecDeque::new(),
            opening: None,
        };
        let line = format!("{}\r\n", version::OURS).into_bytes();
        transport.out.push_back(Outgoing::Line(line));
        if transport.is_client() {
            transport.propose(now)?;
        } else {
            transport.deadline = now.checked_add(EXCHANGE_DEADLINE);
        }
        Ok(transport)
    }

    fn is_client(&self) -> bool {
        matches!(self.side, Side::Client(_))
    }

    /// The identifier of the session (RFC 4253 §7.2); empty before the first exchange is proved.
    pub(super) fn session_id(&self) -> &[u8] {
        &self.session_id
    }

    /// True if others than the key exchange may send.
    pub(super) fn may_send(&self) -> bool {
        self.may_send
    }

    /// True if the peer may send something else than its part of an exchange.
    pub(super) fn is_open_to_data(&self) -> bool {
        self.exchanges > 0 && !self.peer_proposed
    }

    /// True after the first exchange, when the layers above may begin.
    pub(super) fn is_keyed(&self) -> bool {
        !self.session_id.is_empty() && self.may_send
    }

    /// The peer is authenticated: it may have keys exchanged as often as [`PeerRekeys`] allows.
    pub(super) fn set_authenticated(&mut self) {
        self.is_authenticated = true;
    }

    /// CPU time of the exchanges that the peer began and has not earned.
    pub(super) fn unearned_rekeys(&mut self, now: Instant) -> Duration {
        self.peer_rekeys.unearned(now)
    }

    /// What is to be written, in order.
    pub(super) fn poll_transmit(&mut self) -> Option<Outgoing> {
        self.out.pop_front()
    }

    /// Sends something that may go in an exchange of keys as well: a disconnect message.
    pub(super) fn say(&mut self, packet: Packet) {
        self.out.push_back(Outgoing::Packet(packet));
    }

    /// New keys for the one who opens packets, valid for the packet after the one just handled.
    pub(super) fn take_opening(&mut self) -> Option<Change> {
        self.opening.take()
    }

    /// A packet with so many bytes of payload goes out.
    pub(super) fn count_sent(&mut self, bytes: usize) {
        self.sent.add(bytes);
    }

    /// A packet with so many bytes of payload came in.
    pub(super) fn count_received(&mut self, bytes: usize) {
        self.received.add(bytes);
    }

    /// The next moment at which [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        Some(self.deadline.unwrap_or(self.rekey_at))
    }

    /// Begins a new exchange if it is time for one.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Error::Protocol(format!(
                "the key exchange took longer than {} s",
                EXCHANGE_DEADLINE.as_secs()
            )));
        }
        self.rekey_if_due(now)
    }

    /// Begins a new exchange if the keys have been used long enough (RFC 4253 §9).
    pub(super) fn rekey_if_due(&mut self, now: Instant) -> Result<(), Error> {
        let is_due = self.sent.is_over(&self.limits)
            || self.received.is_over(&self.limits)
            || now >= self.rekey_at;
        if is_due && matches!(self.state, State::Idle) && self.exchanges > 0 {
            self.propose(now)?;
        }
        Ok(())
    }

    fn host_key_algorithms(&self) -> &[SignatureAlgorithm] {
        match &self.side {
            Side::Client(_) => &SignatureAlgorithm::ALL,
            Side::Server(identity) => identity.signer.algorithms(),
        }
    }

    fn propose(&mut self, now: Instant) -> Result<(), Error> {
        let mut cookie = [0; 16];
        getrandom::fill(&mut cookie)
            .map_err(|error| Error::Protocol(format!("no random numbers: {error}")))?;
        let offer = Offer::new(
            &self.algorithms,
            self.host_key_algorithms(),
            self.is_client(),
            self.exchanges == 0,
        );
        let packet = Message::KexInit(offer.proposal(cookie)).packet();
        self.state = State::Proposed {
            ours: packet.payload().to_vec(),
        };
        self.may_send = false;
        self.deadline = now.checked_add(EXCHANGE_DEADLINE);
        self.out.push_back(Outgoing::Packet(packet));
        Ok(())
    }

    /// True for the one packet that a wrong guess brought, whatever it is: what methods say to each
    /// other has numbers of its own (RFC 4253 §7.1, RFC 4250 §4.1.2).
    pub(super) fn passes_over(&mut self, payload: &[u8]) -> bool {
        payload
            .first()
            .is_some_and(|number| KEX_METHOD.contains(number))
            && std::mem::take(&mut self.is_guess_wrong)
    }

    /// True if it has something to be written.
    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// The peer's identification, without line end. A server proposes now, unless it is to see the
    /// peer's proposal first.
    pub(super) fn handle_version(&mut self, version: String, now: Instant) -> Result<(), Error> {
        let kind = PeerKind::of(&version);
        self.peer_version = Some(version);
        if self.is_client() {
            return Ok(());
        }
        match kind {
            PeerKind::ProposesFirst => Ok(()),
            PeerKind::Modern => {
                self.algorithms = self.algorithms.modern();
                self.propose(now)
            }
            PeerKind::Unknown => self.propose(now),
        }
    }

    /// A message, its payload and the sequence number of its packet.
    pub(super) fn handle<'a>(
        &mut self,
        message: Message<'a>,
        payload: &[u8],
        sequence: u32,
        now: Instant,
    ) -> Result<Handled<'a>, Error> {
        let is_first = self.exchanges == 0;
        match message {
            Message::KexInit(theirs) => {
                self.handle_proposal(&theirs, payload, sequence, now)?;
                Ok(Handled::Consumed)
            }
            Message::KexExchangeInit { public } => {
                self.handle_init(public, now)?;
                Ok(Handled::Consumed)
            }
            Message::KexExchangeReply {
                host_key,
                public,
                signature,
            } => {
                self.handle_reply(host_key, public, signature, now)?;
                Ok(Handled::Consumed)
            }
            Message::NewKeys => {
                self.handle_new_keys(now)?;
                Ok(Handled::Consumed)
            }
            Message::Disconnect { .. } => Ok(Handled::Above(message)),
            // Strict: nothing but the exchange until the first keys are in use (Terrapin).
            _ if is_first && self.is_strict => Err(Error::Protocol(
                "a message in the middle of the first key exchange".to_owned(),
            )),
            Message::Ignore | Message::Unimplemented { .. } => Ok(Handled::Consumed),
            _ if is_first || self.peer_proposed => Err(Error::Protocol(
                "a message that has no place in a key exchange".to_owned(),
            )),
            Message::Unknown => Ok(Handled::Unknown),
            _ => Ok(Handled::Above(message)),
        }
    }

    fn handle_proposal(
        &mut self,
        theirs: &KexInit<'_>,
        payload: &[u8],
        sequence: u32,
        now: Instant,
    ) -> Result<(), Error> {
        if self.exchanges >= MAX_EARLY_EXCHANGES && !self.is_authenticated {
            return Err(Error::Protocol(
                "keys exchanged repeatedly before authentication".to_owned(),
            ));
        }
        if self.peer_proposed {
            return Err(out_of_turn());
        }
        let is_idle = matches!(self.state, State::Idle);
        let is_begun_by_peer = is_idle && self.exchanges > 0;
        if is_idle {
            if self.exchanges == 0 {
                self.algorithms = self.algorithms.for_peer(theirs);
            }
            self.propose(now)?;
        }
        let State::Proposed { ours } = std::mem::replace(&mut self.state, State::Idle) else {
            return Err(out_of_turn());
        };
        self.peer_proposed = true;
        if self.exchanges == 0 {
            let marker = if self.is_client() {
                negotiation::STRICT_SERVER
            } else {
                negotiation::STRICT_CLIENT
            };
            self.is_strict = negotiation::has(theirs.kex, marker);
            if self.is_strict && sequence != 0 {
                return Err(Error::Protocol(
                    "a message before the first key exchange".to_owned(),
                ));
            }
            self.wants_ext_info =
                !self.is_client() && negotiation::has(theirs.kex, negotiation::EXT_INFO_CLIENT);
        }
        let agreement = {
            let Ok(Message::KexInit(mine)) = Message::parse(&ours) else {
                return Err(out_of_turn());
            };
            negotiation::agree(&mine, theirs, self.is_client(), self.is_strict)?
        };
        let bytes = self.sent.bytes.saturating_add(self.received.bytes);
        if is_begun_by_peer && !self.peer_rekeys.may_begin(agreement.method, now, bytes) {
            return Err(Error::TooManyKeyExchanges);
        }
        let theirs = payload.to_vec();
        self.is_guess_wrong = agreement.is_guess_wrong;
        if self.is_client() {
            let secret = Initiator::try_new(agreement.method).map_err(exchange_failed)?;
            let init = Message::KexExchangeInit {
                public: secret.public(),
            };
            self.out.push_back(Outgoing::Packet(init.packet()));
            self.state = State::AwaitReply(Box::new(Exchange {
                agreement,
                ours,
                theirs,
                secret,
            }));
        } else {
            self.state = State::AwaitInit(Box::new(Exchange {
                agreement,
                ours,
                theirs,
                secret: (),
            }));
        }
        Ok(())
    }

    /// The server's part.
    fn handle_init(&mut self, client_public: &[u8], now: Instant) -> Result<(), Error> {
        let State::AwaitInit(exchange) = std::mem::replace(&mut self.state, State::Idle) else {
            return Err(out_of_turn());
        };
        let Side::Server(identity) = &self.side else {
            return Err(out_of_turn());
        };
        let method = exchange.agreement.method;
        let (server_public, secret) =
            kex::respond(method, client_public).map_err(exchange_failed)?;
        let host_key = identity.blob.clone();
        let hash = secret.exchange_hash(
            method,
            &Transcript {
                client_version: self.peer_version.as_deref().unwrap_or_default().as_bytes(),
                server_version: version::OURS.as_bytes(),
                client_kexinit: &exchange.theirs,
                server_kexinit: &exchange.ours,
                host_key: &host_key,
                client_public,
                server_public: &server_public,
            },
        );
        let signature = identity
            .signer
            .sign(exchange.agreement.host_key, &hash)
            .map_err(|error| Error::LocalKey(error.to_string()))?;
        let reply = Message::KexExchangeReply {
            host_key: &host_key,
            public: &server_public,
            signature: &signature,
        };
        self.out.push_back(Outgoing::Packet(reply.packet()));
        self.use_new_keys(&exchange.agreement, &secret, &hash, now);
        Ok(())
    }

    /// The client's part.
    fn handle_reply(
        &mut self,
        host_key: &[u8],
        server_public: &[u8],
        signature: &[u8],
        now: Instant,
    ) -> Result<(), Error> {
        let State::AwaitReply(exchange) = std::mem::replace(&mut self.state, State::Idle) else {
            return Err(out_of_turn());
        };
        let Side::Client(policy) = &self.side else {
            return Err(out_of_turn());
        };
        let agreement = exchange.agreement;
        let certificate = Certificate::from_bytes(host_key)
            .map_err(|_| Error::Protocol("the server's certificate cannot be read".to_owned()))?;
        // A key that has been proved once is good for the session, even if its certificate has
        // expired meanwhile: the session's end would not make anyone safer.
        if self.host_key != host_key {
            cert::verify_host(&certificate, policy, self.clock.now())
                .map_err(|error| Error::Certificate(error.knowing(self.clock.skew())))?;
        }
        let client_public = exchange.secret.public().to_vec();
        let secret = exchange
            .secret
            .finish(server_public)
            .map_err(exchange_failed)?;
        let hash = secret.exchange_hash(
            agreement.method,
            &Transcript {
                client_version: version::OURS.as_bytes(),
                server_version: self.peer_version.as_deref().unwrap_or_default().as_bytes(),
                client_kexinit: &exchange.ours,
                server_kexinit: &exchange.theirs,
                host_key,
                client_public: &client_public,
                server_public,
            },
        );
        sign::verify(
            certificate.public_key(),
            agreement.host_key,
            signature,
            &hash,
        )
        .map_err(|error| {
            Error::Protocol(format!("the server does not prove its host key: {error}"))
        })?;
        self.host_key = host_key.to_vec();
        self.use_new_keys(&agreement, &secret, &hash, now);
        Ok(())
    }

    /// Both know the secret, and the server has proved its key: NEWKEYS goes out, and new keys are
    /// in use behind it.
    fn use_new_keys(
        &mut self,
        agreement: &Agreement,
        secret: &SharedSecret,
        hash: &[u8],
        now: Instant,
    ) {
        if self.session_id.is_empty() {
            self.session_id = hash.to_vec();
        }
        let method = agreement.method;
        let derive = |letter, length| secret.derive(method, hash, &self.session_id, letter, length);
        let is_strict = self.is_strict;
        let change = |suite: Suite, letters: [u8; 3]| {
            let [iv, key, mac_key] = letters;
            let mac_length = suite.mac.map_or(0, super::cipher::Mac::key_length);
            Change {
                suite,
                keys: Keys {
                    iv: derive(iv, suite.cipher.iv_length()),
                    key: derive(key, suite.cipher.key_length()),
                    mac_key: derive(mac_key, mac_length),
                },
                reset_sequence: is_strict,
            }
        };
        // RFC 4253 §7.2.
        let client_to_server = change(agreement.client_to_server, *b"ACE");
        let server_to_client = change(agreement.server_to_client, *b"BDF");
        let (sealing, opening) = if self.is_client() {
            (client_to_server, server_to_client)
        } else {
            (server_to_client, client_to_server)
        };
        self.out
            .push_back(Outgoing::Packet(Message::NewKeys.packet()));
        self.out.push_back(Outgoing::Keys(sealing));
        if std::mem::take(&mut self.wants_ext_info) {
            let names: Vec<&str> = SignatureAlgorithm::ALL
                .iter()
                .flat_map(|algorithm| [algorithm.name(), algorithm.certificate_name()])
                .collect();
            let names = names.join(",");
            let info = Message::ExtInfo {
                server_sig_algs: Some(&names),
            };
            self.out.push_back(Outgoing::Packet(info.packet()));
        }
        self.sent = Usage::default();
        self.rekey_at = now.checked_add(self.limits.time).unwrap_or(now);
        self.may_send = true;
        self.state = State::AwaitNewKeys(Box::new(opening));
    }

    fn handle_new_keys(&mut self, now: Instant) -> Result<(), Error> {
        let State::AwaitNewKeys(opening) = std::mem::replace(&mut self.state, State::Idle) else {
            return Err(out_of_turn());
        };
        self.opening = Some(*opening);
        self.received = Usage::default();
        self.exchanges = self.exchanges.saturating_add(1);
        self.peer_proposed = false;
        self.deadline = None;
        self.rekey_at = now.checked_add(self.limits.time).unwrap_or(now);
        Ok(())
    }
}

fn out_of_turn() -> Error {
    Error::Protocol("a message of the key exchange out of turn".to_owned())
}

fn exchange_failed(error: kex::Error) -> Error {
    Error::Protocol(format!("the key exchange failed: {error}"))
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("exchanges", &self.exchanges)
            .finish_non_exhaustive()
    }
}
