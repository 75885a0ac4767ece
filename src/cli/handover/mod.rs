//! A gateway's service goes from one process to the next without a gap: after an upgrade of the
//! program, or whenever `infisical gateway upgrade` asks for it.
//!
//! The process that serves starts the [`successor`], which connects while the first one serves on.
//! When it serves, it gets everything that one process only can have, becomes the main process of
//! the service, and is no one's successor any more; the first one lets its sessions finish and
//! ends. Until that moment the successor's end changes nothing, and the end of the first one ends
//! it.

mod predecessor;
mod successor;

pub(super) use predecessor::InitialCharge;
pub(super) use successor::Handing;

use crate::agent::last_known_good::Fingerprint;
use crate::install::unit_templates;

/// Identifies the units that this version comes with: a process that was started under others goes
/// on under them, and so would its successor.
fn units() -> String {
    let texts = unit_templates::gateway();
    Fingerprint::of(&texts).as_str().to_owned()
}
