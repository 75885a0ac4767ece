//! Last words: what a peer is told when the connection ends (RFC 4253 §11.1). Pure.

use crate::Error;
use crate::msg::{Message, disconnect};
use crate::packet::Packet;

/// We want the end.
pub(super) fn by_application(why: &str) -> Packet {
    packet(disconnect::BY_APPLICATION, why)
}

/// Something went wrong. `None` if the peer is told nothing, for it said goodbye itself or cannot be told. Of our policies it
/// learns nothing.
pub(super) fn because_of(error: &Error) -> Option<Packet> {
    let reason = match error {
        Error::Certificate(_) | Error::RawHostKey => disconnect::HOST_KEY_NOT_VERIFIABLE,
        Error::NoCommonAlgorithm { .. } => disconnect::KEY_EXCHANGE_FAILED,
        Error::AuthenticationRefused | Error::NotAuthenticated => disconnect::NO_MORE_AUTH_METHODS,
        Error::Protocol(_) | Error::TooManyKeyExchanges | Error::LocalKey(_) => {
            disconnect::PROTOCOL_ERROR
        }
        Error::KeepaliveTimedOut | Error::HandshakeTimedOut(_) => disconnect::CONNECTION_LOST,
        Error::Disconnected(_) | Error::ChannelRefused(_) | Error::Closed | Error::Io(_) => {
            return None;
        }
    };
    Some(match error {
        Error::Certificate(_) => packet(reason, "certificate refused"),
        Error::LocalKey(_) => packet(reason, "internal error"),
        other => packet(reason, &other.to_string()),
    })
}

fn packet(reason: u32, why: &str) -> Packet {
    let description = why.as_bytes();
    Message::Disconnect {
        reason,
        description,
    }
    .packet()
}
