//! Errors of the tunnel, with their cause in the variant.

use std::io;
use std::time::Duration;

use super::cert;

/// Why an SSH session could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer's certificate is not acceptable.
    #[error("the peer's certificate is refused")]
    Certificate(#[source] cert::Error),
    /// The server presented a bare key where a certificate is due.
    #[error("the server presented a raw host key; only host certificates are accepted")]
    RawHostKey,
    /// The server does not accept our certificate.
    #[error("the server does not accept the user certificate")]
    AuthenticationRefused,
    /// The client did not prove an identity.
    #[error("the client did not authenticate")]
    NotAuthenticated,
    /// The handshake took too long.
    #[error("no SSH session within {} s", .0.as_secs())]
    HandshakeTimedOut(Duration),
    /// The peer stopped answering keepalives.
    #[error("the peer no longer answers keepalives")]
    KeepaliveTimedOut,
    /// Key exchange found nothing that both sides speak.
    #[error("no common {kind} algorithm; the peer offers {theirs}")]
    NoCommonAlgorithm {
        /// Which kind of algorithm.
        kind: String,
        /// The peer's list.
        theirs: String,
    },
    /// The peer broke the protocol.
    #[error("SSH protocol error: {0}")]
    Protocol(String),
    /// The peer exchanges keys in a loop, which costs this side more than the peer.
    #[error("the peer began too many key exchanges, more than one a second and one for each MiB")]
    TooManyKeyExchanges,
    /// The peer sent a DISCONNECT (RFC 4253 §11.1).
    #[error("the peer closed the session: {description}")]
    Disconnected {
        /// Decides what to do about it.
        reason: DisconnectReason,
        /// The peer's words, for a person.
        description: String,
    },
    /// The peer refused to open a channel.
    #[error("the peer refused to open a channel: {0}")]
    ChannelRefused(String),
    /// The session has ended.
    #[error("the SSH session is closed")]
    Closed,
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// Our own key cannot sign.
    #[error("our private key cannot sign: {0}")]
    LocalKey(String),
}

/// The reason code of a DISCONNECT (RFC 4253 §11.1). A peer may send any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisconnectReason(pub(crate) u32);

impl DisconnectReason {
    /// A message that breaks the protocol.
    pub(crate) const PROTOCOL_ERROR: Self = Self(2);
    /// The key exchange failed.
    pub(crate) const KEY_EXCHANGE_FAILED: Self = Self(3);
    /// The host certificate is refused.
    pub(crate) const HOST_KEY_NOT_VERIFIABLE: Self = Self(9);
    /// The peer does not answer any more.
    pub(crate) const CONNECTION_LOST: Self = Self(10);
    /// The program wants the end.
    pub const BY_APPLICATION: Self = Self(11);
    /// There is another connection in this one's place.
    pub const TOO_MANY_CONNECTIONS: Self = Self(12);
    /// No authentication succeeded.
    pub(crate) const NO_MORE_AUTH_METHODS: Self = Self(14);
}
