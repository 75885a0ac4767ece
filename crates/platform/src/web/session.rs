//! Sessions of browsers: who has logged in, for how long, and what their next page says.
//!
//! A session is named by 256 random bits in a cookie, of which only the hash is kept, in memory.
//! It holds what its owner has logged in with, never rights: these are read again for each request,
//! so that a removed identity is out at once. Time is an argument.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header};
use url::form_urlencoded;

use crate::secret::Secret;
use crate::token::{self, TokenHash};

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// How long it lasts without a request. What a page fetches by itself does not count.
const IDLE: Duration = Duration::from_secs(3600);
/// Sessions at once. Only those who have logged in have one; a further one ends the one that was
/// used least lately.
const MAX_SESSIONS: usize = 1000;
/// Of these, sessions of one owner; a further one ends the owner's that was used least lately, so that
/// no one takes the places of others.
const MAX_OF_OWNER: usize = 20;

/// The cookie of a session. The prefix has browsers refuse one that is not from this very host, with
/// `Secure` and for all paths (RFC 6265bis §4.1.3.2).
const SESSION_COOKIE: &str = "__Host-infisical-session";
/// The cookie of who has not logged in yet, for the form of the login.
const LOGIN_COOKIE: &str = "__Host-infisical-login";
/// The cookie of a login that has begun at the OpenID provider.
const PROVIDER_COOKIE: &str = "__Host-infisical-provider";
/// How long such a login may take.
const PROVIDER_LOGIN: Duration = Duration::from_secs(600);

/// What a session was opened with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Credential {
    /// The administrator's token.
    Administrator,
    /// The access token of an identity: the session ends with it.
    Token(TokenHash),
}

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Administrator,
    /// By its id.
    Identity(String),
}

/// What the next page says once.
#[derive(Debug)]
pub(super) enum Notice {
    /// Something was done.
    Done(String),
    /// The token of a gateway that is to be added.
    Enrollment(Secret),
    /// A secret that is shown this once, and what it is.
    Secret(Vec<(&'static str, Secret)>),
}

/// The sessions of a platform.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

#[derive(Debug)]
struct Session {
    owner: Owner,
    credential: Credential,
    opened: Instant,
    used: Instant,
    notice: Option<Notice>,
}

impl Session {
    fn has_ended(&self, now: Instant) -> bool {
        let age = |since| now.saturating_duration_since(since);
        age(self.opened) >= LIFETIME || age(self.used) >= IDLE
    }
}

impl Sessions {
    /// Opens a session of `owner`; the value of its cookie.
    pub(super) fn open(
        &self,
        owner: Owner,
        credential: Credential,
        now: Instant,
    ) -> Result<Secret, token::Error> {
        let cookie = token::generate()?;
        let session = Session {
            owner,
            credential,
            opened: now,
            used: now,
            notice: None,
        };
        let mut sessions = self.lock();
        sessions.retain(|_, session| !session.has_ended(now));
        let is_own = |other: &Session| other.owner == session.owner;
        let own = sessions.values().filter(|other| is_own(other)).count();
        if own >= MAX_OF_OWNER {
            remove_least_used(&mut sessions, is_own);
        } else if sessions.len() >= MAX_SESSIONS {
            remove_least_used(&mut sessions, |_| true);
        }
        sessions.insert(key(&cookie), session);
        Ok(cookie)
    }

    /// What the session with this cookie was opened with, if it has not ended. A request that a
    /// person has made keeps it from being idle.
    pub(super) fn credential(
        &self,
        cookie: &Secret,
        by_person: bool,
        now: Instant,
    ) -> Option<Credential> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(&key(cookie))?;
        if session.has_ended(now) {
            sessions.remove(&key(cookie));
            return None;
        }
        if by_person {
            session.used = now;
        }
        Some(session.credential)
    }

    /// Ends the session.
    pub(super) fn close(&self, cookie: &Secret) {
        self.lock().remove(&key(cookie));
    }

    /// Has the next page of the session say this.
    pub(super) fn set_notice(&self, cookie: &Secret, notice: Notice) {
        if let Some(session) = self.lock().get_mut(&key(cookie)) {
            session.notice = Some(notice);
        }
    }

    /// What the page has to say, once.
    pub(super) fn take_notice(&self, cookie: &Secret) -> Option<Notice> {
        self.lock().get_mut(&key(cookie))?.notice.take()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_least_used(
    sessions: &mut HashMap<[u8; 32], Session>,
    may_end: impl Fn(&Session) -> bool,
) {
    let sessions_that_may = sessions.iter().filter(|(_, session)| may_end(session));
    let oldest = sessions_that_may.min_by_key(|(_, session)| session.used);
    if let Some(oldest) = oldest.map(|(key, _)| *key) {
        sessions.remove(&oldest);
    }
}

fn key(cookie: &Secret) -> [u8; 32] {
    TokenHash::of(cookie).into_bytes()
}

/// The value that the forms of a session, or the one of the login, send along with what they ask
/// for: only pages of this platform know it. The cookie cannot be told from it.
pub(super) fn form_token(cookie: &Secret) -> String {
    let text = Secret::new(format!("form {}", cookie.expose()));
    crate::store::hex(TokenHash::of(&text).as_bytes())
}

/// Whether `given` is the [`form_token`] of `cookie`.
pub(super) fn is_form_token(given: &str, cookie: &Secret) -> bool {
    let expected = Secret::new(form_token(cookie));
    TokenHash::of(&Secret::new(given)).matches(TokenHash::of(&expected).as_bytes())
}

/// The cookie of a session in a request.
pub(super) fn session_cookie(headers: &HeaderMap) -> Option<Secret> {
    cookie(headers, SESSION_COOKIE)
}

/// The cookie of the login form in a request.
pub(super) fn login_cookie(headers: &HeaderMap) -> Option<Secret> {
    cookie(headers, LOGIN_COOKIE)
}

/// The value of a cookie, if it has the form of ours (RFC 6265 §4.2.1).
fn cookie(headers: &HeaderMap, name: &str) -> Option<Secret> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| Secret::new(value))
}

/// `Set-Cookie` for a session that was opened.
pub(super) fn set_session(cookie: &Secret) -> Option<HeaderValue> {
    set(SESSION_COOKIE, cookie.expose(), LIFETIME)
}

/// `Set-Cookie` for the login form.
pub(super) fn set_login(cookie: &Secret) -> Option<HeaderValue> {
    set(LOGIN_COOKIE, cookie.expose(), IDLE)
}

/// `Set-Cookie` that removes the cookie of a session.
pub(super) fn remove_session() -> Option<HeaderValue> {
    set(SESSION_COOKIE, "", Duration::ZERO)
}

/// The login at the provider that a browser has begun, and the path that it leads to.
pub(super) fn provider_login_cookie(headers: &HeaderMap) -> Option<(Secret, String)> {
    let cookie = cookie(headers, PROVIDER_COOKIE)?;
    let (secret, path) = cookie.expose().split_once('.')?;
    let (path, _) = form_urlencoded::parse(path.as_bytes()).next()?;
    Some((Secret::new(secret), path.into_owned()))
}

/// `Set-Cookie` for a login that has begun at the provider. The provider's page leads back here, so
/// the browser has to send it with a request that another site began (RFC 6265bis §5.6.7.1).
pub(super) fn set_provider_login(secret: &Secret, path: &str) -> Option<HeaderValue> {
    let path: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
    let value = Secret::new(format!("{}.{path}", secret.expose()));
    set_for(PROVIDER_COOKIE, value.expose(), PROVIDER_LOGIN, "Lax")
}

/// `Set-Cookie` that removes it.
pub(super) fn remove_provider_login() -> Option<HeaderValue> {
    set_for(PROVIDER_COOKIE, "", Duration::ZERO, "Lax")
}

fn set(name: &str, value: &str, lifetime: Duration) -> Option<HeaderValue> {
    set_for(name, value, lifetime, "Strict")
}

fn set_for(name: &str, value: &str, lifetime: Duration, same_site: &str) -> Option<HeaderValue> {
    let seconds = lifetime.as_secs();
    let text = format!(
        "{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite={same_site}"
    );
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::{
        Credential, IDLE, LIFETIME, MAX_OF_OWNER, MAX_SESSIONS, Owner, Sessions, form_token,
        is_form_token,
    };
    use crate::secret::Secret;
    use std::time::{Duration, Instant};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn session_ends_after_lifetime_or_idle_time() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let open = || {
            sessions
                .open(Owner::Administrator, Credential::Administrator, start)
                .expect("opened")
        };
        let idle = open();
        let lives =
            |cookie: &Secret, by_person, at| sessions.credential(cookie, by_person, at).is_some();
        assert!(lives(&idle, true, start));
        // The page's own requests do not count.
        assert!(lives(&idle, false, start + IDLE - SECOND));
        assert!(!lives(&idle, true, start + IDLE));
        assert!(!lives(&idle, true, start), "it is gone");

        let used = open();
        let mut now = start;
        while now + SECOND < start + LIFETIME {
            assert!(lives(&used, true, now));
            now += IDLE - SECOND;
        }
        assert!(!lives(&used, true, start + LIFETIME));

        let closed = open();
        sessions.close(&closed);
        assert!(!lives(&closed, true, start));
        assert!(!lives(&Secret::new(""), true, start));
    }

    #[test]
    fn least_used_session_gives_way() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let open = |owner: usize, at| {
            sessions
                .open(
                    Owner::Identity(owner.to_string()),
                    Credential::Administrator,
                    at,
                )
                .expect("opened")
        };
        let first = open(0, start);
        let second = open(1, start);
        assert!(sessions.credential(&first, true, start + SECOND).is_some());
        for owner in 2..=MAX_SESSIONS {
            open(owner, start + SECOND);
        }
        assert!(sessions.credential(&first, true, start + SECOND).is_some());
        assert!(sessions.credential(&second, true, start + SECOND).is_none());
    }

    #[test]
    fn owner_replaces_only_own_sessions() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let open = |owner, at| {
            sessions
                .open(owner, Credential::Administrator, at)
                .expect("opened")
        };
        let other = open(Owner::Administrator, start);
        let own = || Owner::Identity("1".to_owned());
        let first = open(own(), start + SECOND);
        let second = open(own(), start + 2 * SECOND);
        for _ in 0..MAX_OF_OWNER - 1 {
            open(own(), start + 2 * SECOND);
        }
        let lives = |cookie: &Secret| {
            sessions
                .credential(cookie, true, start + 2 * SECOND)
                .is_some()
        };
        assert!(lives(&other) && !lives(&first) && lives(&second));
    }

    #[test]
    fn form_token_belongs_to_one_cookie() {
        let (one, two) = (Secret::new("one"), Secret::new("two"));
        assert!(is_form_token(&form_token(&one), &one));
        assert!(!is_form_token(&form_token(&one), &two));
        assert!(!is_form_token("", &one));
        assert!(!form_token(&one).contains("one"));
    }
}
