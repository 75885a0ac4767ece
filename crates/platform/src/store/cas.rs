//! Generations of the CAs, and which of them gateways and relays hold.
//!
//! Generations have numbers from 1, which never come again. One of them signs; the anchors that are
//! handed out are those of all that are kept.

use std::time::SystemTime;

use async_trait::async_trait;

use super::Error;
use super::audit::Requester;
use crate::authority::CaRecord;

/// All CAs that were made at one time.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) number: i64,
    pub(crate) created_at: SystemTime,
    /// Since when it signs; `None` if it never has.
    pub(crate) signs_since: Option<SystemTime>,
    pub(crate) cas: Vec<CaRecord>,
}

/// Which generations a gateway or relay has got with its newest credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// `gateway` or `relay`.
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) name: String,
    /// The newest one whose anchors are among them.
    pub(crate) anchors: i64,
    /// The oldest one that has signed one of its certificates.
    pub(crate) signed_by: i64,
    pub(crate) expires_at: SystemTime,
}

/// What is noted of credentials that are issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IssuedCredentials {
    pub(crate) anchors: i64,
    pub(crate) signed_by: i64,
    pub(crate) expires_at: SystemTime,
}

/// See the module.
#[async_trait]
pub(crate) trait CaStore {
    /// All generations that are kept, the oldest first.
    async fn generations(&self) -> Result<Vec<Generation>, Error>;

    /// Keeps a new generation, which signs nothing yet, and returns its number. There must be only
    /// one before.
    async fn add_generation(
        &self,
        requester: Requester,
        cas: Vec<CaRecord>,
        now: SystemTime,
    ) -> Result<i64, Error>;

    /// Lets the generation `number` sign; `details` are for the record.
    async fn sign_with(
        &self,
        requester: Requester,
        number: i64,
        details: String,
        now: SystemTime,
    ) -> Result<(), Error>;

    /// Removes the generations before `number`, with their keys.
    async fn remove_generations_before(
        &self,
        requester: Requester,
        number: i64,
        details: String,
    ) -> Result<(), Error>;

    /// What each gateway and relay has got, those that have no name any more left out.
    async fn holders(&self) -> Result<Vec<Holder>, Error>;

    /// What the gateway or relay with this id has got.
    async fn holder(&self, kind: &'static str, id: String) -> Result<Option<Holder>, Error>;

    /// Notes what a gateway or relay gets.
    async fn note_credentials(
        &self,
        kind: &'static str,
        id: String,
        issued: IssuedCredentials,
    ) -> Result<(), Error>;
}
