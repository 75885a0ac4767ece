//! The DISCONNECT that a peer is sent when the connection ends (RFC 4253 §11.1). Pure.

use crate::msg::Message;
use crate::packet::Packet;
use crate::{DisconnectReason, Error};

/// The one for `error`. `None` if the peer is sent nothing, since it disconnected itself or cannot
/// be reached. Of our policies it learns nothing.
pub(super) fn because_of(error: &Error) -> Option<Packet> {
    let reason = match error {
        Error::Certificate(_) | Error::RawHostKey => DisconnectReason::HOST_KEY_NOT_VERIFIABLE,
        Error::NoCommonAlgorithm { .. } => DisconnectReason::KEY_EXCHANGE_FAILED,
        Error::AuthenticationRefused | Error::NotAuthenticated => {
            DisconnectReason::NO_MORE_AUTH_METHODS
        }
        Error::Protocol(_) | Error::TooManyKeyExchanges | Error::LocalKey(_) => {
            DisconnectReason::PROTOCOL_ERROR
        }
        Error::KeepaliveTimedOut | Error::HandshakeTimedOut(_) => DisconnectReason::CONNECTION_LOST,
        Error::Disconnected { .. } | Error::ChannelRefused(_) | Error::Closed | Error::Io(_) => {
            return None;
        }
    };
    Some(match error {
        Error::Certificate(_) => packet(reason, "certificate refused"),
        Error::LocalKey(_) => packet(reason, "internal error"),
        other => packet(reason, &other.to_string()),
    })
}

/// The one with `reason`, and `why` for a person.
pub(super) fn packet(reason: DisconnectReason, why: &str) -> Packet {
    Message::Disconnect {
        reason: reason.0,
        description: why.as_bytes(),
    }
    .packet()
}
