//! What a server knows of a client by its identification line (RFC 4253 §4.2) before it proposes.
//! Pure.
//!
//! Each side may send its proposal at once, and a client chooses by both. A server that waits for
//! the client's can leave out what is old, but costs the client a round trip. So it waits for
//! clients that are not of this system and are known to propose at once; deployed gateways, which
//! have older algorithms only, are not kept waiting.

use super::version;

/// The first OpenSSH whose defaults are modern.
const MODERN_OPENSSH: u32 = 7;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerKind {
    /// Our own client, which has no older algorithms.
    Modern,
    /// OpenSSH: it proposes without waiting for us, whatever it was configured to.
    ProposesFirst,
    /// Anything else, deployed gateways too.
    Unknown,
}

impl PeerKind {
    /// By the identification, without its line end.
    pub(super) fn of(identification: &str) -> Self {
        if identification == version::OURS {
            return Self::Modern;
        }
        let major = identification
            .strip_prefix("SSH-2.0-OpenSSH_")
            .and_then(|version| version.split(|c: char| !c.is_ascii_digit()).next());
        match major.and_then(|major| major.parse::<u32>().ok()) {
            Some(major) if major >= MODERN_OPENSSH => Self::ProposesFirst,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PeerKind, version};

    #[test]
    fn peers_are_known_by_their_identification() {
        for (identification, kind) in [
            (version::OURS, PeerKind::Modern),
            ("SSH-2.0-OpenSSH_10.2", PeerKind::ProposesFirst),
            ("SSH-2.0-OpenSSH_7.4p1 Debian-10", PeerKind::ProposesFirst),
            ("SSH-2.0-OpenSSH_6.7", PeerKind::Unknown),
            ("SSH-2.0-OpenSSH_", PeerKind::Unknown),
            ("SSH-2.0-OpenSSH_for_Windows_9.5", PeerKind::Unknown),
            ("SSH-2.0-Go", PeerKind::Unknown),
            ("SSH-1.99-x", PeerKind::Unknown),
        ] {
            assert_eq!(PeerKind::of(identification), kind, "{identification}");
        }
    }
}
