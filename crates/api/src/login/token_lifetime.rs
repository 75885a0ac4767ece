//! How long an issued token is good for, and what is to be done with it when. Pure but for the
//! clock.
//!
//! Time is counted since the machine booted, sleep included: a laptop or a virtual machine that was
//! suspended for longer than its token's lifetime must not use it as if no time had passed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use crate::secret::Secret;
use crate::types::Login;

/// Part of a token's lifetime after which it is replaced, in percent.
const RENEW_AT_PERCENT: u32 = 60;
/// Time between attempts to replace a token that is still valid.
const AGAIN: Duration = Duration::from_secs(60);

/// Time since the machine booted.
pub(super) fn since_boot() -> Duration {
    // It cannot fail for a clock that Linux has had for fifteen years; if it did, a refusal would
    // replace the token.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// What a login gave.
#[derive(Debug)]
pub(super) struct IssuedToken {
    pub(super) text: Secret,
    /// Seconds until it expires; 0 is never, as far as we know.
    pub(super) expires_in: u64,
    /// Seconds beyond which no renewal extends it; 0 is any.
    at_most: u64,
    renewable: bool,
}

impl IssuedToken {
    /// A machine identity's token.
    pub(super) fn renewable(login: Login) -> Self {
        Self {
            text: login.access_token,
            expires_in: login.expires_in,
            at_most: login.access_token_max_ttl,
            renewable: true,
        }
    }

    /// A token that says itself, if at all, how long it lasts, and that only a login replaces.
    pub(super) fn lasting(text: Secret) -> Self {
        let expires_in = lifetime(text.expose()).unwrap_or(0);
        Self {
            text,
            expires_in,
            at_most: 0,
            renewable: false,
        }
    }
}

/// Seconds between the issue and the expiry of a JSON web token. It is not for us to verify.
pub(super) fn lifetime(token: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Claims {
        iat: u64,
        exp: u64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    claims.exp.checked_sub(claims.iat)
}

/// When a token that was given expires, if it is a JSON web token that says so.
pub(super) fn expiry(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp))
}

/// When the access token in use expires, as far as is known. Clones show the same token, and those
/// that follow it.
#[derive(Debug, Clone, Default)]
pub struct TokenExpiry(Arc<Mutex<Option<SystemTime>>>);

impl TokenExpiry {
    pub(super) fn new(at: Option<SystemTime>) -> Self {
        Self(Arc::new(Mutex::new(at)))
    }

    /// `None` if it does not expire, there is none yet, or no one knows.
    #[must_use]
    pub fn at(&self) -> Option<SystemTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, at: Option<SystemTime>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

/// What is to be done with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Used.
    Fresh,
    /// Renewed, or else replaced; used if neither works.
    Renewable,
    /// Replaced; used if that does not work.
    Replaceable,
    /// Replaced.
    Expired,
}

/// A token and its times; those that are `None` never come.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: Secret,
    act_at: Option<Duration>,
    expires_at: Option<Duration>,
    /// No renewal extends it beyond.
    ends_at: Option<Duration>,
    /// What the last purchase gave it.
    lifetime: Duration,
    renewable: bool,
}

impl Token {
    pub(super) fn new(issued: IssuedToken, now: Duration) -> Self {
        let at_most = Duration::from_secs(issued.at_most);
        let mut token = Self {
            text: issued.text,
            act_at: None,
            expires_at: None,
            ends_at: (!at_most.is_zero()).then(|| now.saturating_add(at_most)),
            lifetime: Duration::ZERO,
            renewable: issued.renewable,
        };
        token.begin(Duration::from_secs(issued.expires_in), now);
        token
    }

    fn begin(&mut self, lifetime: Duration, now: Duration) {
        self.lifetime = lifetime;
        let (act_after, expires_after) =
            (lifetime.saturating_mul(RENEW_AT_PERCENT) / 100, lifetime);
        let at = |after| (!lifetime.is_zero()).then(|| now.saturating_add(after));
        self.act_at = at(act_after);
        self.expires_at = at(expires_after);
    }

    /// One that is to be replaced at `now`, and valid for an hour yet.
    #[cfg(test)]
    pub(super) fn due(text: &str, now: Duration) -> Self {
        Self {
            text: Secret::new(text),
            act_at: Some(now),
            expires_at: Some(now.saturating_add(Duration::from_secs(3600))),
            ends_at: None,
            lifetime: Duration::from_secs(7200),
            renewable: true,
        }
    }

    /// Takes in a renewal.
    pub(super) fn renew(&mut self, issued: IssuedToken, now: Duration) {
        let lifetime = Duration::from_secs(issued.expires_in);
        // The platform has begun to cap it, whatever it said before: the next one is obtained.
        self.renewable = issued.renewable && lifetime >= self.lifetime;
        self.text = issued.text;
        self.begin(lifetime, now);
    }

    /// When it expires, by this machine's clock.
    pub(super) fn expires(&self, now: Duration) -> Option<SystemTime> {
        let left = self.expires_at?.saturating_sub(now);
        SystemTime::now().checked_add(left)
    }

    /// It could not be replaced now.
    pub(super) fn postpone(&mut self, now: Duration) {
        self.act_at = Some(now.saturating_add(AGAIN));
    }

    pub(super) fn stage(&self, now: Duration) -> Stage {
        let has_come = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        // A renewal that would be cut short by the end is worth less than a login.
        let is_capped = self
            .ends_at
            .is_some_and(|end| now.saturating_add(self.lifetime) > end);
        match () {
            () if has_come(self.expires_at) => Stage::Expired,
            () if !has_come(self.act_at) => Stage::Fresh,
            () if self.renewable && !is_capped => Stage::Renewable,
            () => Stage::Replaceable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IssuedToken, Stage, Token, expiry, lifetime, since_boot};
    use crate::secret::Secret;
    use crate::types::Login;
    use std::time::{Duration, UNIX_EPOCH};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn issued(expires_in: u64, at_most: u64) -> IssuedToken {
        IssuedToken::renewable(Login {
            access_token: Secret::new("t"),
            expires_in,
            access_token_max_ttl: at_most,
            token_type: "Bearer".to_owned(),
        })
    }

    #[test]
    fn token_is_renewed_before_it_expires() {
        let token = Token::new(issued(100, 1000), s(500));
        for (now, stage) in [
            (500, Stage::Fresh),
            (559, Stage::Fresh),
            (560, Stage::Renewable),
            (599, Stage::Renewable),
            (600, Stage::Expired),
            // The machine slept for days.
            (500_000, Stage::Expired),
        ] {
            assert_eq!(token.stage(s(now)), stage, "{now}");
        }
    }

    #[test]
    fn renewal_cut_by_the_maximum_is_login() {
        let mut token = Token::new(issued(100, 250), s(0));
        assert_eq!(token.stage(s(60)), Stage::Renewable);
        token.renew(issued(100, 250), s(60));
        assert_eq!(token.stage(s(120)), Stage::Renewable);
        token.renew(issued(100, 250), s(120));
        // 180 + 100 is more than 250, whatever the renewals said.
        assert_eq!(token.stage(s(180)), Stage::Replaceable);
        assert_eq!(token.stage(s(220)), Stage::Expired);
    }

    #[test]
    fn shorter_renewal_is_the_last() {
        let mut token = Token::new(issued(100, 0), s(0));
        token.renew(issued(40, 0), s(60));
        assert_eq!(token.stage(s(83)), Stage::Fresh);
        assert_eq!(token.stage(s(84)), Stage::Replaceable);
        let mut token = Token::new(issued(100, 0), s(0));
        token.renew(issued(100, 0), s(60));
        assert_eq!(token.stage(s(120)), Stage::Renewable);
    }

    #[test]
    fn token_without_end_is_used_until_refused() {
        let token = Token::new(issued(0, 0), s(5));
        assert_eq!(token.stage(s(u64::MAX)), Stage::Fresh);
        let token = Token::new(IssuedToken::lasting(Secret::new("no.jwt")), s(5));
        assert_eq!(token.stage(s(u64::MAX)), Stage::Fresh);
    }

    #[test]
    fn resource_token_states_its_lifetime() {
        // {"alg":"none"} . {"iat":1000,"exp":1100}
        let jwt = "eyJhbGciOiJub25lIn0.eyJpYXQiOjEwMDAsImV4cCI6MTEwMH0.c2ln";
        assert_eq!(lifetime(jwt), Some(100));
        let token = Token::new(IssuedToken::lasting(Secret::new(jwt)), s(0));
        assert_eq!(token.stage(s(59)), Stage::Fresh);
        assert_eq!(token.stage(s(60)), Stage::Replaceable);
        assert_eq!(token.stage(s(100)), Stage::Expired);
        let end = UNIX_EPOCH + s(1100);
        assert_eq!(expiry(jwt), Some(end));
        for bad in ["", "a.b.c", "a", "e30.e30.e30"] {
            assert_eq!(lifetime(bad), None, "{bad}");
            assert_eq!(expiry(bad), None, "{bad}");
        }
    }

    #[test]
    fn failed_replacement_is_not_repeated_at_once() {
        let mut token = Token::new(issued(1000, 0), s(0));
        token.postpone(s(700));
        assert_eq!(token.stage(s(700)), Stage::Fresh);
        assert_eq!(token.stage(s(760)), Stage::Renewable);
    }

    #[test]
    fn the_clock_counts() {
        assert!(since_boot() > Duration::ZERO);
    }
}
