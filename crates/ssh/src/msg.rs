//! The messages of SSH that this engine knows (RFC 4250 §4.1.2), read from a payload and written to
//! a packet. Pure.

use super::packet::Packet;
use super::wire::{Malformed, Reader, Write as _};

pub(super) const DISCONNECT: u8 = 1;
pub(super) const IGNORE: u8 = 2;
pub(super) const UNIMPLEMENTED: u8 = 3;
pub(super) const DEBUG: u8 = 4;
pub(super) const SERVICE_REQUEST: u8 = 5;
pub(super) const SERVICE_ACCEPT: u8 = 6;
pub(super) const EXT_INFO: u8 = 7;
pub(super) const KEXINIT: u8 = 20;
pub(super) const NEWKEYS: u8 = 21;
/// KEXDH_INIT (RFC 4253 §8), KEX_ECDH_INIT (RFC 5656 §4) and the hybrid exchange's: they share
/// number and form.
pub(super) const KEX_EXCHANGE_INIT: u8 = 30;
pub(super) const KEX_EXCHANGE_REPLY: u8 = 31;
pub(super) const USERAUTH_REQUEST: u8 = 50;
pub(super) const USERAUTH_FAILURE: u8 = 51;
pub(super) const USERAUTH_SUCCESS: u8 = 52;
pub(super) const USERAUTH_BANNER: u8 = 53;
pub(super) const USERAUTH_PK_OK: u8 = 60;
pub(super) const GLOBAL_REQUEST: u8 = 80;
pub(super) const REQUEST_SUCCESS: u8 = 81;
pub(super) const REQUEST_FAILURE: u8 = 82;
pub(super) const CHANNEL_OPEN: u8 = 90;
pub(super) const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
pub(super) const CHANNEL_OPEN_FAILURE: u8 = 92;
pub(super) const CHANNEL_WINDOW_ADJUST: u8 = 93;
pub(super) const CHANNEL_DATA: u8 = 94;
pub(super) const CHANNEL_EXTENDED_DATA: u8 = 95;
pub(super) const CHANNEL_EOF: u8 = 96;
pub(super) const CHANNEL_CLOSE: u8 = 97;
pub(super) const CHANNEL_REQUEST: u8 = 98;
pub(super) const CHANNEL_SUCCESS: u8 = 99;
pub(super) const CHANNEL_FAILURE: u8 = 100;

/// Reasons of a CHANNEL_OPEN_FAILURE (RFC 4254 §5.1).
pub(super) mod open_failure {
    pub(crate) const ADMINISTRATIVELY_PROHIBITED: u32 = 1;
    pub(crate) const UNKNOWN_CHANNEL_TYPE: u32 = 3;
    pub(crate) const RESOURCE_SHORTAGE: u32 = 4;
}

/// Bytes in front of a CHANNEL_DATA's data: number, recipient, length.
pub(super) const DATA_HEADER: usize = 9;

/// A message. What a peer may say and this engine ignores keeps no fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// RFC 4253 §11.1.
    Disconnect { reason: u32, description: &'a [u8] },
    /// RFC 4253 §11.2, §11.3.
    Ignore,
    /// RFC 4253 §11.4.
    Unimplemented { sequence: u32 },
    /// RFC 4253 §10.
    ServiceRequest { name: &'a [u8] },
    /// RFC 4253 §10.
    ServiceAccept { name: &'a [u8] },
    /// RFC 8308 §2.3; of all extensions only `server-sig-algs` is of interest.
    ExtInfo { server_sig_algs: Option<&'a str> },
    /// RFC 4253 §7.1.
    KexInit(KexInit<'a>),
    /// RFC 4253 §7.3.
    NewKeys,
    /// The public value is the body of an `mpint` or of a `string`, as the method has it.
    KexExchangeInit { public: &'a [u8] },
    /// See [`Self::KexExchangeInit`].
    KexExchangeReply {
        host_key: &'a [u8],
        public: &'a [u8],
        signature: &'a [u8],
    },
    /// RFC 4252 §5.
    UserauthRequest {
        user: &'a [u8],
        service: &'a [u8],
        method: AuthMethod<'a>,
    },
    /// RFC 4252 §5.1.
    UserauthFailure { partial_success: bool },
    /// RFC 4252 §5.1.
    UserauthSuccess,
    /// RFC 4252 §5.4.
    UserauthBanner,
    /// RFC 4252 §7.
    UserauthPkOk { algorithm: &'a [u8], key: &'a [u8] },
    /// RFC 4254 §4.
    GlobalRequest {
        name: &'a [u8],
        want_reply: bool,
        /// What depends on the request.
        specific: &'a [u8],
    },
    /// RFC 4254 §4.
    RequestSuccess {
        /// What depends on the request.
        specific: &'a [u8],
    },
    /// RFC 4254 §4.
    RequestFailure,
    /// RFC 4254 §5.1. The type-specific data are not looked into: deployed relays send none with a
    /// `direct-tcpip` (protocol.md §3).
    ChannelOpen {
        kind: &'a [u8],
        sender: u32,
        window: u32,
        max_packet: u32,
        specific: &'a [u8],
    },
    /// RFC 4254 §5.1.
    ChannelOpenConfirmation {
        recipient: u32,
        sender: u32,
        window: u32,
        max_packet: u32,
    },
    /// RFC 4254 §5.1.
    ChannelOpenFailure {
        recipient: u32,
        reason: u32,
        description: &'a [u8],
    },
    /// RFC 4254 §5.2.
    ChannelWindowAdjust { recipient: u32, bytes: u32 },
    /// RFC 4254 §5.2.
    ChannelData { recipient: u32, data: &'a [u8] },
    /// RFC 4254 §5.2.
    ChannelExtendedData { recipient: u32, data: &'a [u8] },
    /// RFC 4254 §5.3.
    ChannelEof { recipient: u32 },
    /// RFC 4254 §5.3.
    ChannelClose { recipient: u32 },
    /// RFC 4254 §5.4.
    ChannelRequest { recipient: u32, want_reply: bool },
    /// RFC 4254 §5.4: the answer to a request, which this engine never makes.
    ChannelAnswer { recipient: u32, success: bool },
    /// Anything else.
    Unknown,
}

/// A proposal of algorithms (RFC 4253 §7.1); languages are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KexInit<'a> {
    pub cookie: [u8; 16],
    pub kex: &'a str,
    pub host_key: &'a str,
    pub ciphers: Directions<'a>,
    pub macs: Directions<'a>,
    pub compressions: Directions<'a>,
    /// A guessed packet follows, to be ignored if the guess is wrong.
    pub first_kex_packet_follows: bool,
}

/// A list of names for each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Directions<'a> {
    pub client_to_server: &'a str,
    pub server_to_client: &'a str,
}

/// The method of a USERAUTH_REQUEST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AuthMethod<'a> {
    /// RFC 4252 §7; without a signature it only asks whether the key would do.
    PublicKey {
        algorithm: &'a [u8],
        key: &'a [u8],
        signature: Option<&'a [u8]>,
    },
    /// Anything else, `none` included.
    Other,
}

impl<'a> Message<'a> {
    /// Reads a payload.
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let message = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(message)
    }

    fn read(r: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            DISCONNECT => {
                let (reason, description) = (r.u32()?, r.string()?);
                // The language tag is left out by some.
                r.rest();
                Self::Disconnect {
                    reason,
                    description,
                }
            }
            IGNORE | DEBUG => {
                r.rest();
                Self::Ignore
            }
            UNIMPLEMENTED => Self::Unimplemented { sequence: r.u32()? },
            SERVICE_REQUEST => Self::ServiceRequest { name: r.string()? },
            SERVICE_ACCEPT => Self::ServiceAccept { name: r.string()? },
            EXT_INFO => Self::ExtInfo {
                server_sig_algs: server_sig_algs(r)?,
            },
            KEXINIT => Self::KexInit(KexInit::read(r)?),
            NEWKEYS => Self::NewKeys,
            KEX_EXCHANGE_INIT => Self::KexExchangeInit {
                public: r.string()?,
            },
            KEX_EXCHANGE_REPLY => Self::KexExchangeReply {
                host_key: r.string()?,
                public: r.string()?,
                signature: r.string()?,
            },
            USERAUTH_REQUEST => Self::UserauthRequest {
                user: r.string()?,
                service: r.string()?,
                method: AuthMethod::read(r)?,
            },
            USERAUTH_FAILURE => {
                r.name_list()?;
                Self::UserauthFailure {
                    partial_success: r.bool()?,
                }
            }
            USERAUTH_SUCCESS => Self::UserauthSuccess,
            USERAUTH_BANNER => {
                r.rest();
                Self::UserauthBanner
            }
            USERAUTH_PK_OK => Self::UserauthPkOk {
                algorithm: r.string()?,
                key: r.string()?,
            },
            GLOBAL_REQUEST => Self::GlobalRequest {
                name: r.string()?,
                want_reply: r.bool()?,
                specific: r.rest(),
            },
            REQUEST_SUCCESS => Self::RequestSuccess { specific: r.rest() },
            REQUEST_FAILURE => Self::RequestFailure,
            CHANNEL_OPEN => Self::ChannelOpen {
                kind: r.string()?,
                sender: r.u32()?,
                window: r.u32()?,
                max_packet: r.u32()?,
                specific: r.rest(),
            },
            CHANNEL_OPEN_CONFIRMATION => {
                let message = Self::ChannelOpenConfirmation {
                    recipient: r.u32()?,
                    sender: r.u32()?,
                    window: r.u32()?,
                    max_packet: r.u32()?,
                };
                r.rest();
                message
            }
            CHANNEL_OPEN_FAILURE => {
                let message = Self::ChannelOpenFailure {
                    recipient: r.u32()?,
                    reason: r.u32()?,
                    description: r.string()?,
                };
                // The language tag is left out by some.
                r.rest();
                message
            }
            CHANNEL_WINDOW_ADJUST => Self::ChannelWindowAdjust {
                recipient: r.u32()?,
                bytes: r.u32()?,
            },
            CHANNEL_DATA => Self::ChannelData {
                recipient: r.u32()?,
                data: r.string()?,
            },
            CHANNEL_EXTENDED_DATA => {
                let (recipient, _kind) = (r.u32()?, r.u32()?);
                Self::ChannelExtendedData {
                    recipient,
                    data: r.string()?,
                }
            }
            CHANNEL_EOF => Self::ChannelEof {
                recipient: r.u32()?,
            },
            CHANNEL_CLOSE => Self::ChannelClose {
                recipient: r.u32()?,
            },
            CHANNEL_REQUEST => {
                let (recipient, _name, want_reply) = (r.u32()?, r.string()?, r.bool()?);
                r.rest();
                Self::ChannelRequest {
                    recipient,
                    want_reply,
                }
            }
            number @ (CHANNEL_SUCCESS | CHANNEL_FAILURE) => Self::ChannelAnswer {
                recipient: r.u32()?,
                success: number == CHANNEL_SUCCESS,
            },
            _ => {
                r.rest();
                Self::Unknown
            }
        })
    }

    /// Writes the message to a packet. What was not kept when reading is written empty.
    pub(super) fn packet(&self) -> Packet {
        match self {
            Self::Disconnect {
                reason,
                description,
            } => {
                let mut p = Packet::new(DISCONNECT);
                p.put_u32(*reason);
                p.put_string(description);
                p.put_string("");
                p
            }
            Self::Ignore => {
                let mut p = Packet::new(IGNORE);
                p.put_string("");
                p
            }
            Self::Unimplemented { sequence } => numbers(UNIMPLEMENTED, &[*sequence]),
            Self::ServiceRequest { name } => strings(SERVICE_REQUEST, &[name]),
            Self::ServiceAccept { name } => strings(SERVICE_ACCEPT, &[name]),
            Self::ExtInfo { server_sig_algs } => {
                let mut p = Packet::new(EXT_INFO);
                p.put_u32(u32::from(server_sig_algs.is_some()));
                if let Some(list) = server_sig_algs {
                    p.put_string(SERVER_SIG_ALGS);
                    p.put_string(list);
                }
                p
            }
            Self::KexInit(proposal) => proposal.packet(),
            Self::NewKeys => Packet::new(NEWKEYS),
            Self::KexExchangeInit { public } => strings(KEX_EXCHANGE_INIT, &[public]),
            Self::KexExchangeReply {
                host_key,
                public,
                signature,
            } => strings(KEX_EXCHANGE_REPLY, &[host_key, public, signature]),
            Self::UserauthRequest {
                user,
                service,
                method,
            } => {
                let mut p = strings(USERAUTH_REQUEST, &[user, service]);
                method.write(&mut p);
                p
            }
            Self::UserauthFailure { partial_success } => {
                let mut p = Packet::new(USERAUTH_FAILURE);
                p.put_string("publickey");
                p.put_bool(*partial_success);
                p
            }
            Self::UserauthSuccess => Packet::new(USERAUTH_SUCCESS),
            Self::UserauthBanner => strings(USERAUTH_BANNER, &[b"", b""]),
            Self::UserauthPkOk { algorithm, key } => strings(USERAUTH_PK_OK, &[algorithm, key]),
            Self::GlobalRequest {
                name,
                want_reply,
                specific,
            } => {
                let mut p = strings(GLOBAL_REQUEST, &[name]);
                p.put_bool(*want_reply);
                p.put(specific);
                p
            }
            Self::RequestSuccess { specific } => {
                let mut p = Packet::new(REQUEST_SUCCESS);
                p.put(specific);
                p
            }
            Self::RequestFailure => Packet::new(REQUEST_FAILURE),
            Self::ChannelOpen {
                kind,
                sender,
                window,
                max_packet,
                specific,
            } => {
                let mut p = strings(CHANNEL_OPEN, &[kind]);
                for number in [sender, window, max_packet] {
                    p.put_u32(*number);
                }
                p.put(specific);
                p
            }
            Self::ChannelOpenConfirmation {
                recipient,
                sender,
                window,
                max_packet,
            } => numbers(
                CHANNEL_OPEN_CONFIRMATION,
                &[*recipient, *sender, *window, *max_packet],
            ),
            Self::ChannelOpenFailure {
                recipient,
                reason,
                description,
            } => {
                let mut p = numbers(CHANNEL_OPEN_FAILURE, &[*recipient, *reason]);
                p.put_string(description);
                p.put_string("");
                p
            }
            Self::ChannelWindowAdjust { recipient, bytes } => {
                numbers(CHANNEL_WINDOW_ADJUST, &[*recipient, *bytes])
            }
            Self::ChannelData { recipient, data } => {
                let mut p = numbers(CHANNEL_DATA, &[*recipient]);
                p.put_string(data);
                p
            }
            Self::ChannelExtendedData { recipient, data } => {
                let mut p = numbers(CHANNEL_EXTENDED_DATA, &[*recipient, 1]);
                p.put_string(data);
                p
            }
            Self::ChannelEof { recipient } => numbers(CHANNEL_EOF, &[*recipient]),
            Self::ChannelClose { recipient } => numbers(CHANNEL_CLOSE, &[*recipient]),
            Self::ChannelRequest {
                recipient,
                want_reply,
            } => {
                let mut p = numbers(CHANNEL_REQUEST, &[*recipient]);
                p.put_string("");
                p.put_bool(*want_reply);
                p
            }
            Self::ChannelAnswer { recipient, success } => {
                let number = if *success {
                    CHANNEL_SUCCESS
                } else {
                    CHANNEL_FAILURE
                };
                numbers(number, &[*recipient])
            }
            Self::Unknown => Packet::new(u8::MAX),
        }
    }
}

impl<'a> KexInit<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, Malformed> {
        let cookie = r.bytes(16)?.try_into().map_err(|_| Malformed)?;
        let (kex, host_key) = (r.name_list()?, r.name_list()?);
        let ciphers = Directions::read(r)?;
        let macs = Directions::read(r)?;
        let compressions = Directions::read(r)?;
        Directions::read(r)?; // languages
        let first_kex_packet_follows = r.bool()?;
        r.u32()?; // reserved
        Ok(Self {
            cookie,
            kex,
            host_key,
            ciphers,
            macs,
            compressions,
            first_kex_packet_follows,
        })
    }

    fn packet(&self) -> Packet {
        let mut p = Packet::new(KEXINIT);
        p.put(&self.cookie);
        p.put_string(self.kex);
        p.put_string(self.host_key);
        for lists in [self.ciphers, self.macs, self.compressions] {
            p.put_string(lists.client_to_server);
            p.put_string(lists.server_to_client);
        }
        p.put_string("");
        p.put_string("");
        p.put_bool(self.first_kex_packet_follows);
        p.put_u32(0);
        p
    }
}

impl<'a> Directions<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            client_to_server: r.name_list()?,
            server_to_client: r.name_list()?,
        })
    }
}

impl<'a> AuthMethod<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, Malformed> {
        if r.string()? != b"publickey" {
            r.rest();
            return Ok(Self::Other);
        }
        let is_signed = r.bool()?;
        Ok(Self::PublicKey {
            algorithm: r.string()?,
            key: r.string()?,
            signature: if is_signed { Some(r.string()?) } else { None },
        })
    }

    fn write(&self, p: &mut Packet) {
        match self {
            Self::PublicKey {
                algorithm,
                key,
                signature,
            } => {
                p.put_string("publickey");
                p.put_bool(signature.is_some());
                p.put_string(algorithm);
                p.put_string(key);
                if let Some(signature) = signature {
                    p.put_string(signature);
                }
            }
            Self::Other => p.put_string("none"),
        }
    }
}

const SERVER_SIG_ALGS: &[u8] = b"server-sig-algs";

/// Reads all extensions. Only the one list is of interest, and what is in it need not be a list of
/// names.
fn server_sig_algs<'a>(r: &mut Reader<'a>) -> Result<Option<&'a str>, Malformed> {
    let mut found = None;
    for _ in 0..r.u32()? {
        let (name, value) = (r.string()?, r.string()?);
        if name == SERVER_SIG_ALGS {
            found = std::str::from_utf8(value).ok();
        }
    }
    Ok(found)
}

fn numbers(message: u8, fields: &[u32]) -> Packet {
    let mut packet = Packet::new(message);
    for field in fields {
        packet.put_u32(*field);
    }
    packet
}

fn strings(message: u8, fields: &[&[u8]]) -> Packet {
    let mut packet = Packet::new(message);
    for field in fields {
        packet.put_string(field);
    }
    packet
}
