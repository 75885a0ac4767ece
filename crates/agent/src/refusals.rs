//! When the platform's refusals of a role that has worked are believed.

use std::time::Duration;

/// Refusals in a row, after the role has worked once, before they are believed: with 30 seconds
/// between them some five minutes, since a platform that is being redeployed refuses as well.
pub const REFUSALS_BELIEVED: u32 = 10;
/// Time between attempts once refusals are believed. Attempts go on: there may be no person to
/// start the role again, and what answered may have been a proxy before the platform.
pub const REFUSED_RETRY_INTERVAL: Duration = Duration::from_secs(300);
