//! An authenticated session, the same for client and server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncRead;

use super::connection::Connection;
use super::driver::{self, DISCONNECT_TIMEOUT, Phase, Shared};
use super::socket::Writer;
use super::stream::{ChannelStream, Handle};
use super::{DisconnectReason, Error, cert};
use crate::net::buffers::Account;
use crate::net::handshake_cpu::HandshakeCpu;
use crate::scope::Scope;

/// The peer's answer to an opening.
type Answer = tokio::sync::oneshot::Receiver<Result<(), Error>>;

/// A session whose both ends have proved who they are. Dropping it cuts the connection.
pub struct Session {
    shared: Arc<Shared>,
    /// Of its two tasks.
    scope: Scope,
    subject: String,
}

impl Session {
    /// Runs the handshake, `limit` at most.
    pub(super) async fn establish<R, W>(
        reader: R,
        writer: W,
        connection: Connection,
        cpu: HandshakeCpu,
        limit: Duration,
    ) -> Result<Self, Error>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: Writer,
    {
        let mut session = Self::start(reader, writer, connection, cpu);
        session.reach(Phase::Open, limit).await?;
        Ok(session)
    }

    /// Begins the handshake.
    pub(super) fn start<R, W>(
        reader: R,
        writer: W,
        connection: Connection,
        cpu: HandshakeCpu,
    ) -> Self
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: Writer,
    {
        let (shared, scope) = driver::start(reader, writer, connection, cpu);
        Self {
            shared,
            scope,
            subject: String::new(),
        }
    }

    /// Waits until the handshake has come to `goal`, `limit` at most.
    pub(super) async fn reach(&mut self, goal: Phase, limit: Duration) -> Result<(), Error> {
        let mut phase = self.shared.phase();
        let reached = tokio::time::timeout(limit, phase.wait_for(|phase| *phase >= goal))
            .await
            .map_err(|_| Error::HandshakeTimedOut(limit))?
            .map_or(Phase::Ended, |phase| *phase);
        // A peer that let us in, or proved itself, and left at once did come that far.
        let came_through = || self.shared.lock().connection.is_authenticated();
        if reached == Phase::Ended && !came_through() {
            let error = self.failure();
            // The peer is to hear why.
            self.scope.finish(DISCONNECT_TIMEOUT).await;
            return Err(error);
        }
        self.subject = self.shared.subject().unwrap_or_default();
        Ok(())
    }

    /// A client that was held proves itself.
    pub(super) fn proceed(&self) {
        self.shared.lock().connection.proceed();
        self.shared.transmit();
    }

    /// Why the handshake failed.
    fn failure(&self) -> Error {
        let end = self.shared.take_end();
        let refusal = self.shared.lock().connection.take_refusal();
        match (end, refusal) {
            (
                Error::Io(_) | Error::Closed | Error::Disconnected { .. } | Error::NotAuthenticated,
                Some(refusal),
            ) => refusal.map_or(Error::NotAuthenticated, |reason: cert::Error| {
                Error::Certificate(reason)
            }),
            (end, _) => end,
        }
    }

    /// Whom the CA certified: the first principal of a client's certificate. Not the user name,
    /// which the client chooses among all of its principals, so that it cannot be taken for someone
    /// else whose id is its own name. Empty on the client's side.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next channel that the peer opens; `None` once the session has ended. Cancel-safe. For
    /// one caller at a time.
    pub async fn accept(&self) -> Option<ChannelStream> {
        loop {
            {
                let mut state = self.shared.lock();
                while let Some(id) = state.incoming.pop_front() {
                    if state.connection.accept(id) {
                        drop(state);
                        self.shared.transmit();
                        let handle = Handle::new(Arc::clone(&self.shared), id);
                        return Some(ChannelStream::new(handle));
                    }
                }
            }
            if self.shared.is_ended() {
                return None;
            }
            self.shared.incoming.notified().await;
        }
    }

    /// Refuses all further channels; those that are open go on.
    pub fn stop_accepting(&self) {
        let mut state = self.shared.lock();
        state.connection.stop_accepting();
        while let Some(id) = state.incoming.pop_front() {
            state.connection.refuse(id);
        }
        drop(state);
        self.shared.transmit();
    }

    /// Opens a `direct-tcpip` channel with its four fields (RFC 4254 §7.2).
    ///
    /// # Errors
    /// The peer refused, or the session ended.
    pub async fn open(
        &self,
        target: (&str, u16),
        originator: SocketAddr,
    ) -> Result<ChannelStream, Error> {
        let (handle, answer) = self.begin_open(target, originator)?;
        self.shared.transmit();
        answer.await.unwrap_or(Err(Error::Closed))?;
        Ok(ChannelStream::new(handle))
    }

    /// From here on the one who gives up the wait for the answer closes the channel.
    fn begin_open(
        &self,
        target: (&str, u16),
        originator: SocketAddr,
    ) -> Result<(Handle, Answer), Error> {
        let from = originator.ip().to_string();
        let mut state = self.shared.lock();
        let id = state.connection.open(target, (&from, originator.port()))?;
        let answer = state.await_opening(id);
        drop(state);
        Ok((Handle::new(Arc::clone(&self.shared), id), answer))
    }

    /// True if the peer answers within `deadline`.
    pub async fn ping(&self, deadline: Duration) -> bool {
        let (number, answer) = {
            let mut state = self.shared.lock();
            let Some(number) = state.connection.ping(driver::now()) else {
                return false;
            };
            (number, state.await_answer(number))
        };
        self.shared.transmit();
        let is_answered = matches!(tokio::time::timeout(deadline, answer).await, Ok(Ok(())));
        if !is_answered {
            self.shared.lock().forget_ping(number);
        }
        is_answered
    }

    /// Resolves when the session has ended. Cancel-safe.
    pub async fn ended(&self) {
        let mut phase = self.shared.phase();
        let _ = phase.wait_for(|phase| *phase == Phase::Ended).await;
    }

    /// CPU time that the key exchanges which the peer began took, as far as it has not earned them.
    pub fn rekeys_cost(&self) -> Duration {
        self.shared.lock().connection.rekeys_cost(driver::now())
    }

    /// True once the session has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.shared.is_ended()
    }

    /// Why the session ended.
    #[must_use]
    pub fn take_end(&self) -> Error {
        self.shared.take_end()
    }

    /// From now on `account` bounds what the channels of this session hold, unless one does
    /// already.
    pub fn charge_to(&self, account: Arc<Account>) {
        self.shared.lock().connection.charge_to(account);
    }

    /// Bytes that the channels hold for their readers and for the peer.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.shared.lock().connection.buffered()
    }

    /// Sends what is still queued and a DISCONNECT, waits a moment for the peer to receive it, and
    /// closes the connection.
    pub async fn close(&self, why: &str) {
        self.close_because(DisconnectReason::BY_APPLICATION, why)
            .await;
    }

    /// The same for a reason that the peer acts on.
    pub async fn close_because(&self, reason: DisconnectReason, why: &str) {
        self.shared.lock().connection.disconnect(reason, why);
        self.shared.transmit();
        self.scope.finish(DISCONNECT_TIMEOUT).await;
        self.scope.cancel();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}
