//! Signing: whatever makes certificates goes through [`App::sign`], which knows for whom, so that
//! one caller cannot use the processor up.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::App;
use super::error::ApiError;
use crate::authority::{self, Authority, KeyAlgorithm};
use crate::limit::{Limiter, Rate};
use crate::names::GatewayId;
use crate::store::Requester;

/// Certificates signed at once: making keys is work for the processor alone.
const AT_ONCE: usize = 4;
/// Registrations and heartbeats of one caller: an honest one repeats them every 10 s until they
/// succeed.
const MEMBER: Rate = Rate {
    burst: 60,
    refill: Duration::from_secs(1),
};
/// Sessions of one caller. Both keys of a session take less than 2 ms with elliptic curves.
const SESSIONS: Rate = Rate {
    burst: 1000,
    refill: Duration::from_millis(20),
};
/// Sessions of one caller where the keys are RSA, which take some 200 ms of a processor.
const RSA_SESSIONS: Rate = Rate {
    burst: 120,
    refill: Duration::from_millis(500),
};

/// Who has something signed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Signer {
    /// The holder of the administrator's token.
    Administrator,
    /// A machine identity, by its id.
    Identity(String),
    /// An enrolled gateway.
    Gateway(GatewayId),
    /// An enrolled relay, or the heartbeats of one of the instance, by its id.
    Relay(String),
    /// The instance's relays, which share one secret, when they register.
    Instance,
}

impl Signer {
    /// Who the record says that it is.
    pub(crate) fn requester(self, source: Option<IpAddr>) -> Requester {
        let (kind, id) = match self {
            Self::Administrator => ("administrator", None),
            Self::Identity(id) => ("identity", Some(id)),
            Self::Gateway(id) => ("gateway", Some(id.to_string())),
            Self::Relay(id) => ("relay", Some(id)),
            Self::Instance => ("relay", None),
        };
        Requester {
            kind,
            id,
            name: None,
            source,
        }
    }
}

/// For what something is signed; each has a rate of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A gateway's or relay's own certificates, or its heartbeat.
    MachineIdentity,
    /// A client's session.
    Session,
}

/// The bounds on signing.
#[derive(Debug)]
pub(super) struct Signing {
    permits: Arc<Semaphore>,
    members: Mutex<Limiter<Signer>>,
    sessions: Mutex<Limiter<Signer>>,
}

impl Signing {
    /// For keys of `algorithm`.
    pub(super) fn new(algorithm: KeyAlgorithm) -> Self {
        let sessions = match algorithm {
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::Ed25519 => SESSIONS,
            KeyAlgorithm::Rsa2048 => RSA_SESSIONS,
        };
        Self {
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            members: Mutex::new(Limiter::new(MEMBER)),
            sessions: Mutex::new(Limiter::new(sessions)),
        }
    }

    fn attempt(&self, signer: Signer, purpose: Purpose) -> Result<(), ApiError> {
        let limiter = match purpose {
            Purpose::MachineIdentity => &self.members,
            Purpose::Session => &self.sessions,
        };
        let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = limiter.attempt(signer, Instant::now());
        attempt.map_err(ApiError::rate_limited)
    }
}

impl App {
    /// Runs `work` with the authority on the blocking threads, if `signer` has not had too much
    /// signed lately.
    pub(super) async fn sign<T, F>(
        &self,
        signer: Signer,
        purpose: Purpose,
        work: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&Authority) -> Result<T, authority::Error> + Send + 'static,
    {
        self.0.signing.attempt(signer, purpose)?;
        // Never closed, so there is always a permit to come. It goes with the work, which goes on
        // when the request is given up.
        let permit = Arc::clone(&self.0.signing.permits).acquire_owned().await;
        let authority = self.authority();
        let signing = move || {
            let _permit = permit;
            work(&authority)
        };
        let signed = tokio::task::spawn_blocking(signing)
            .await
            .map_err(|error| ApiError::internal(&error))?;
        Ok(signed?)
    }
}
