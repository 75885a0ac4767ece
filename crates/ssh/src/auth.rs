//! Authentication (RFC 4252) with the one method that this engine has: `publickey`, and
//! certificates only. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ssh_key::Certificate;

use super::Error;
use super::cert::{self, UserPolicy};
use super::keys::CertifiedKey;
use super::msg::{self, AuthMethod, Message};
use super::packet::Packet;
use super::sign::{self, SignatureAlgorithm};
use super::wire::Write as _;
use crate::clock::Clock;

const SERVICE: &[u8] = b"ssh-userauth";
const NEXT_SERVICE: &[u8] = b"ssh-connection";

/// Attempts of a client before it is sent away; the question for the methods (`none`) is not one.
const MAX_ATTEMPTS: u32 = 6;
/// Questions for the methods before a client is sent away.
const MAX_QUESTIONS: u32 = 3;
/// Every refusal takes this long, whatever its reason.
const REFUSAL_TIME: Duration = Duration::from_millis(100);

/// The client's side: asks once, with a signature.
pub(super) struct Client {
    user: String,
    identity: CertifiedKey,
    /// The signature algorithms that are left to try.
    candidates: VecDeque<SignatureAlgorithm>,
    state: ClientState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientState {
    Begin,
    AwaitService,
    AwaitAnswer,
    Done,
}

impl Client {
    pub(super) fn new(user: String, identity: CertifiedKey) -> Self {
        let candidates = identity.signer.algorithms().iter().copied().collect();
        Self {
            user,
            identity,
            candidates,
            state: ClientState::Begin,
        }
    }

    /// The first keys are in use, and the client is to prove itself.
    pub(super) fn begin(&mut self, out: &mut VecDeque<Packet>) {
        if self.state == ClientState::Begin {
            self.state = ClientState::AwaitService;
            out.push_back(Message::ServiceRequest { name: SERVICE }.packet());
        }
    }

    /// Handles a message; true once the server has let us in.
    pub(super) fn handle(
        &mut self,
        message: &Message<'_>,
        session_id: &[u8],
        out: &mut VecDeque<Packet>,
    ) -> Result<bool, Error> {
        match (message, self.state) {
            (
                Message::ExtInfo {
                    server_sig_algs: Some(list),
                },
                ClientState::Begin | ClientState::AwaitService,
            ) => {
                // A server that leaves out all of ours is asked all the same: some lists are wrong.
                let known = |a: &SignatureAlgorithm| list.split(',').any(|name| name == a.name());
                if self.candidates.iter().any(known) {
                    self.candidates.retain(known);
                }
            }
            (Message::ExtInfo { .. } | Message::UserauthBanner, _) => {}
            (Message::ServiceAccept { name }, ClientState::AwaitService) if *name == SERVICE => {
                self.state = ClientState::AwaitAnswer;
                self.ask(session_id, out)?;
            }
            (Message::UserauthFailure { partial_success }, ClientState::AwaitAnswer) => {
                if *partial_success {
                    return Err(Error::AuthenticationRefused);
                }
                self.ask(session_id, out)?;
            }
            (Message::UserauthSuccess, ClientState::AwaitAnswer) => {
                self.state = ClientState::Done;
                return Ok(true);
            }
            _ => return Err(misplaced()),
        }
        Ok(false)
    }

    fn ask(&mut self, session_id: &[u8], out: &mut VecDeque<Packet>) -> Result<(), Error> {
        let algorithm = self
            .candidates
            .pop_front()
            .ok_or(Error::AuthenticationRefused)?;
        let name = algorithm.certificate_name().as_bytes();
        let key = &self.identity.blob;
        let data = signed_data(session_id, self.user.as_bytes(), name, key);
        let signature = self
            .identity
            .signer
            .sign(algorithm, &data)
            .map_err(|error| Error::LocalKey(error.to_string()))?;
        let request = Message::UserauthRequest {
            user: self.user.as_bytes(),
            service: NEXT_SERVICE,
            method: AuthMethod::PublicKey {
                algorithm: name,
                key,
                signature: Some(&signature),
            },
        };
        out.push_back(request.packet());
        Ok(())
    }
}

/// The server's side: judges what a client shows.
pub(super) struct Server {
    users: UserPolicy,
    clock: Clock,
    has_service: bool,
    attempts: u32,
    questions: u32,
    /// A refusal that is not yet told.
    refusal: Option<Instant>,
    /// The reason of the last refusal.
    reason: Option<cert::Error>,
    subject: Option<String>,
}

impl Server {
    pub(super) fn new(users: UserPolicy, clock: Clock) -> Self {
        Self {
            users,
            clock,
            has_service: false,
            attempts: 0,
            questions: 0,
            refusal: None,
            reason: None,
            subject: None,
        }
    }

    /// Why the client was refused last.
    pub(super) fn take_reason(&mut self) -> Option<cert::Error> {
        self.reason.take()
    }

    /// True if the client has tried anything.
    pub(super) fn was_tried(&self) -> bool {
        self.has_service
    }

    /// Whom the CA certified: the certificate's first principal, not the user name, which the
    /// client chooses among all of its principals, so that it cannot be taken for someone else
    /// whose id is its own name.
    pub(super) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// When the next refusal is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.refusal
    }

    /// Tells a refusal whose time has come.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<Packet>) {
        if self.refusal.is_some_and(|due| now >= due) {
            self.refusal = None;
            out.push_back(refused());
        }
    }

    /// Handles a message; true once the client is let in.
    pub(super) fn handle(
        &mut self,
        message: &Message<'_>,
        session_id: &[u8],
        now: Instant,
        out: &mut VecDeque<Packet>,
    ) -> Result<bool, Error> {
        match message {
            Message::ServiceRequest { name } if *name == SERVICE && !self.has_service => {
                self.has_service = true;
                out.push_back(Message::ServiceAccept { name: SERVICE }.packet());
                Ok(false)
            }
            Message::ExtInfo { .. } => Ok(false),
            Message::UserauthRequest {
                user,
                service,
                method,
            } if self.has_service && self.refusal.is_none() => {
                if *service != NEXT_SERVICE {
                    return Err(Error::Protocol(
                        "the client asks for a service other than ssh-connection".to_owned(),
                    ));
                }
                self.handle_request(user, method, session_id, now, out)
            }
            _ => Err(misplaced()),
        }
    }

    fn handle_request(
        &mut self,
        user: &[u8],
        method: &AuthMethod<'_>,
        session_id: &[u8],
        now: Instant,
        out: &mut VecDeque<Packet>,
    ) -> Result<bool, Error> {
        let AuthMethod::PublicKey {
            algorithm,
            key,
            signature,
        } = method
        else {
            self.questions = self.questions.saturating_add(1);
            if self.questions > MAX_QUESTIONS {
                return Err(Error::NotAuthenticated);
            }
            out.push_back(refused());
            return Ok(false);
        };
        let judged = self.judge(user, algorithm, key);
        match (judged, signature) {
            (Some(_), None) => {
                out.push_back(Message::UserauthPkOk { algorithm, key }.packet());
                // Asking costs as much as trying.
                self.attempt()?;
                return Ok(false);
            }
            (Some((certificate, algorithm_due)), Some(signature)) => {
                let data = signed_data(session_id, user, algorithm, key);
                let proof = sign::verify(certificate.public_key(), algorithm_due, signature, &data);
                if proof.is_ok() {
                    self.reason = None;
                    self.subject = certificate.valid_principals().first().cloned();
                    out.push_back(Message::UserauthSuccess.packet());
                    return Ok(true);
                }
            }
            (None, _) => {}
        }
        self.attempt()?;
        self.refusal = now.checked_add(REFUSAL_TIME);
        Ok(false)
    }

    fn attempt(&mut self) -> Result<(), Error> {
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts >= MAX_ATTEMPTS {
            return Err(Error::NotAuthenticated);
        }
        Ok(())
    }

    /// The certificate, if its holder would be let in, and how it must sign. Otherwise why not is
    /// kept.
    fn judge(
        &mut self,
        user: &[u8],
        algorithm: &[u8],
        key: &[u8],
    ) -> Option<(Certificate, SignatureAlgorithm)> {
        let user = std::str::from_utf8(user).ok()?;
        let algorithm = std::str::from_utf8(algorithm).ok()?;
        let algorithm = SignatureAlgorithm::from_certificate_name(algorithm)?;
        let certificate = Certificate::from_bytes(key).ok()?;
        let now = self.clock.now();
        if let Err(error) = cert::verify_user(&certificate, user, &self.users, now) {
            self.reason = Some(error.knowing(self.clock.skew()));
            return None;
        }
        algorithm
            .signs_with(certificate.public_key())
            .then_some((certificate, algorithm))
    }
}

fn refused() -> Packet {
    let partial_success = false;
    Message::UserauthFailure { partial_success }.packet()
}

fn misplaced() -> Error {
    Error::Protocol("a message that has no place in authentication".to_owned())
}

/// What a signature is over (RFC 4252 §7).
fn signed_data(session_id: &[u8], user: &[u8], algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    data.put_string(session_id);
    data.put_u8(msg::USERAUTH_REQUEST);
    data.put_string(user);
    data.put_string(NEXT_SERVICE);
    data.put_string("publickey");
    data.put_bool(true);
    data.put_string(algorithm);
    data.put_string(key);
    data
}
