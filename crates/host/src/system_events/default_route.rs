//! The way out of this machine, as anyone may look it up: from which address a stranger would be
//! spoken to. Nothing is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::net::source;

/// How often it is looked up.
const LOOK: Duration = Duration::from_secs(1);
/// Strangers: addresses for documentation (RFC 5737, RFC 3849), which are on no link.
const STRANGERS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// Discard; any port will do.
const PORT: u16 = 9;

/// The addresses for both families, as far as there is a way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DefaultRoute([Option<IpAddr>; 2]);

impl DefaultRoute {
    pub(super) fn now() -> Self {
        Self(STRANGERS.map(|stranger| source::towards((stranger, PORT).into()).ok()))
    }

    /// Waits until they are others. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = Self::now();
            if *self != now {
                *self = now;
                return;
            }
        }
    }

    /// Those of a machine with an address that no machine has.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Self([Some(STRANGERS[0]); 2])
    }
}
