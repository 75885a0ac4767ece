//! Which capabilities of this program the platform knows. The deployed platform names none, and
//! then nothing beyond its own protocol is sent to it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::api::session_reports::SESSION_REPORTS;
use crate::api::types::TARGET_ADDRESSES;

/// What the last answer with credentials named.
#[derive(Debug, Default)]
pub(crate) struct AcceptedCapabilities {
    target_addresses: AtomicBool,
    session_reports: AtomicBool,
}

impl AcceptedCapabilities {
    /// Replaces all by those that are named.
    pub(crate) fn set(&self, named: &[String]) {
        let is_named = |capability: &str| named.iter().any(|name| name == capability);
        self.target_addresses
            .store(is_named(TARGET_ADDRESSES), Ordering::Relaxed);
        self.session_reports
            .store(is_named(SESSION_REPORTS), Ordering::Relaxed);
    }

    /// The platform grants under rules for addresses to a gateway that announces it judges them.
    pub(crate) fn target_addresses(&self) -> bool {
        self.target_addresses.load(Ordering::Relaxed)
    }

    /// The platform takes reports of open sessions.
    pub(crate) fn session_reports(&self) -> bool {
        self.session_reports.load(Ordering::Relaxed)
    }
}

impl Clone for AcceptedCapabilities {
    fn clone(&self) -> Self {
        Self {
            target_addresses: self.target_addresses().into(),
            session_reports: self.session_reports().into(),
        }
    }
}
