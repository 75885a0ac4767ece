//! A peer that says whatever a test wants, message by message: no bytes, no keys, only what a
//! connection makes of messages.

use std::time::{Instant, SystemTime};

use super::pair::Pair;
use super::support::{client, options, server};
use crate::clock::Clock;
use crate::connection::Connection;
use crate::kex::{self, Initiator, Method, Transcript};
use crate::keys::CertifiedKey;
use crate::msg::{Directions, KexInit, Message};
use crate::packet::{Opened, Opener, Packet, Payload, Sealer};
use crate::transport::{Change, Outgoing, version};
use crate::{Algorithms, Error, sign};

const VERSION: &str = "SSH-2.0-script";

pub(super) fn payload(mut packet: Packet) -> Payload {
    Sealer::new().seal(&mut packet).expect("sealed");
    match Opener::new().open(packet.wire()).expect("opened") {
        Opened::Packet { payload, .. } => payload,
        Opened::Needs(_) => panic!("it is complete"),
    }
}

/// A connection, and what its peer says next.
pub(super) struct Script {
    pub(super) connection: Connection,
    pub(super) now: Instant,
    pub(super) sequence: u32,
    pub(super) session_id: Vec<u8>,
}

impl Script {
    /// A server that has said nothing but its name and its proposal.
    pub(super) fn server() -> Self {
        Self::server_of(VERSION)
    }

    /// A server whose peer identified itself so.
    pub(super) fn server_of(version: &str) -> Self {
        let now = Instant::now();
        let mut connection = server(options(Algorithms::server()), now);
        connection
            .handle_version(version.to_owned(), now)
            .expect("random numbers");
        Self {
            connection,
            now,
            sequence: 0,
            session_id: Vec::new(),
        }
    }

    /// One side of a session whose both sides are authenticated.
    pub(super) fn authenticated(side: usize) -> Self {
        let pair = Pair::authenticated();
        let now = pair.now;
        let side = pair.sides.into_iter().nth(side).expect("a side");
        Self {
            connection: side.connection,
            now,
            sequence: 100,
            session_id: Vec::new(),
        }
    }

    pub(super) fn say(&mut self, packet: Packet) -> Result<Option<Change>, Error> {
        let sequence = self.sequence;
        self.sequence += 1;
        self.connection
            .handle_packet(payload(packet), sequence, self.now)
    }

    pub(super) fn tell(&mut self, message: &Message<'_>) -> Result<Option<Change>, Error> {
        self.say(message.packet())
    }

    /// Proposes this as a client.
    pub(super) fn propose(&mut self, proposal: &Proposal) -> Result<Option<Change>, Error> {
        self.tell(&Message::KexInit(proposal.message()))
    }

    /// Payloads of all that it sends now.
    pub(super) fn hear(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let mut batch = Vec::new();
            self.connection.poll_transmit(&mut batch, self.now);
            if batch.is_empty() {
                return all;
            }
            all.extend(batch.into_iter().filter_map(|outgoing| match outgoing {
                Outgoing::Packet(packet) => Some(packet.payload().to_vec()),
                Outgoing::Line(_) | Outgoing::Keys(_) => None,
            }));
        }
    }

    /// Numbers of the messages that it sends now.
    pub(super) fn numbers(&mut self) -> Vec<u8> {
        self.hear().iter().map(|payload| payload[0]).collect()
    }

    /// Exchanges keys as a client that proposes this, and checks the server's proof. What is said
    /// after the proposal's answer is said by `between`.
    pub(super) fn exchange(
        &mut self,
        proposal: &Proposal,
        between: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<Change, Error> {
        let ours = Message::KexInit(proposal.message())
            .packet()
            .payload()
            .to_vec();
        let mut heard = self.hear();
        self.say(Packet::from_payload(&ours))?;
        heard.extend(self.hear());
        let theirs = heard
            .into_iter()
            .find(|payload| payload[0] == 20)
            .expect("a proposal");
        between(self)?;
        let method = Method::from_name(proposal.method).expect("a method");
        let initiator = Initiator::try_new(method).expect("a key");
        let public = initiator.public().to_vec();
        self.tell(&Message::KexExchangeInit { public: &public })?;
        let heard = self.hear();
        let Ok(Message::KexExchangeReply {
            host_key,
            public: server_public,
            signature,
        }) = Message::parse(&heard[0])
        else {
            panic!("no reply: {heard:?}");
        };
        let secret = initiator.finish(server_public).expect("a secret");
        let hash = secret.exchange_hash(
            method,
            &Transcript {
                client_version: VERSION.as_bytes(),
                server_version: version::OURS.as_bytes(),
                client_kexinit: &ours,
                server_kexinit: &theirs,
                host_key,
                client_public: &public,
                server_public,
            },
        );
        let certificate = ssh_key::Certificate::from_bytes(host_key).expect("a certificate");
        let algorithm = sign::SignatureAlgorithm::from_name("ssh-ed25519").expect("known");
        sign::verify(certificate.public_key(), algorithm, signature, &hash).expect("proved");
        if self.session_id.is_empty() {
            self.session_id = hash.to_vec();
        }
        let change = self.tell(&Message::NewKeys)?.expect("keys");
        if change.reset_sequence {
            self.sequence = 0;
        }
        Ok(change)
    }
}

/// A client's proposal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proposal {
    pub(super) kex: &'static str,
    /// Which of them it will be.
    pub(super) method: &'static str,
    pub(super) cipher: &'static str,
    pub(super) mac: &'static str,
    pub(super) is_guess: bool,
}

impl Proposal {
    pub(super) const STRICT: Self = Self {
        kex: "curve25519-sha256,kex-strict-c-v00@openssh.com",
        method: "curve25519-sha256",
        cipher: "aes128-gcm@openssh.com",
        mac: "hmac-sha2-256",
        is_guess: false,
    };
    pub(super) const LAX: Self = Self {
        kex: "curve25519-sha256",
        ..Self::STRICT
    };

    fn message(&self) -> KexInit<'static> {
        let both = |list| Directions {
            client_to_server: list,
            server_to_client: list,
        };
        KexInit {
            cookie: [9; 16],
            kex: self.kex,
            host_key: "ssh-ed25519-cert-v01@openssh.com",
            ciphers: both(self.cipher),
            macs: both(self.mac),
            compressions: both("none"),
            first_kex_packet_follows: self.is_guess,
        }
    }
}

/// A client's connection whose server is played message by message.
pub(super) struct ServerScript {
    pub(super) script: Script,
}

impl ServerScript {
    /// With the client's proposal waiting to be heard.
    pub(super) fn new(clock: fn() -> SystemTime) -> Self {
        let now = Instant::now();
        let mut options = options(Algorithms::client());
        options.clock = Clock::showing(clock);
        let mut connection = client(options, now);
        connection
            .handle_version(VERSION.to_owned(), now)
            .expect("random numbers");
        Self {
            script: Script {
                connection,
                now,
                sequence: 0,
                session_id: Vec::new(),
            },
        }
    }

    /// Exchanges keys, the server's key being this one.
    pub(super) fn exchange(&mut self, identity: &CertifiedKey) -> Result<(), Error> {
        let script = &mut self.script;
        let mut heard = script.hear();
        let ours = Message::KexInit(Proposal::LAX.message())
            .packet()
            .payload()
            .to_vec();
        script.say(Packet::from_payload(&ours))?;
        heard.extend(script.hear());
        let named = |number| heard.iter().find(|payload| payload[0] == number);
        let theirs = named(20).expect("a proposal");
        let Ok(Message::KexExchangeInit { public }) = Message::parse(named(30).expect("a key"))
        else {
            panic!("no key");
        };
        let method = Method::Curve25519Sha256;
        let (server_public, secret) = kex::respond(method, public).expect("a secret");
        let hash = secret.exchange_hash(
            method,
            &Transcript {
                client_version: version::OURS.as_bytes(),
                server_version: VERSION.as_bytes(),
                client_kexinit: theirs,
                server_kexinit: &ours,
                host_key: &identity.blob,
                client_public: public,
                server_public: &server_public,
            },
        );
        let algorithm = sign::SignatureAlgorithm::from_name("ssh-ed25519").expect("known");
        let signature = identity.signer.sign(algorithm, &hash).expect("signed");
        script.tell(&Message::KexExchangeReply {
            host_key: &identity.blob,
            public: &server_public,
            signature: &signature,
        })?;
        script.tell(&Message::NewKeys).map(drop)
    }
}
