//! Proof of progress: a role's supervisor answers when it is asked, and anyone who asks knows that
//! it turns.
//!
//! The [`LivenessResponder`] is held by the supervisor, which gives it a turn beside everything it
//! waits for; the [`LivenessProbe`] by the watchdog. An answer proves three things at once: the
//! runtime runs tasks, the supervisor's own task is polled, and the locks that its check takes are
//! free. Nothing here measures time; the one who asks decides what is late.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

/// Asks for a sign of life.
#[derive(Debug, Clone)]
pub struct LivenessProbe {
    /// The other end is the supervisor's [`LivenessResponder`].
    ask: mpsc::Sender<oneshot::Sender<()>>,
}

/// Answers for a supervisor.
#[derive(Debug)]
pub struct LivenessResponder {
    /// The other ends are the [`LivenessProbe`] and its clones.
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

/// A supervisor's responder, and the probe that asks it.
#[must_use]
pub fn liveness() -> (LivenessResponder, LivenessProbe) {
    // One question at a time: a second one waits for the first one's answer.
    let (ask, asked) = mpsc::channel(1);
    (LivenessResponder { asked }, LivenessProbe { ask })
}

impl LivenessProbe {
    /// Waits for a sign of life: true when it came, false when the supervisor is gone. Does not
    /// return while the supervisor does not turn. Cancel-safe.
    pub async fn is_alive(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.ask.send(reply).await.is_ok() && answer.await.is_ok()
    }
}

impl LivenessResponder {
    /// Runs `future` to its end and answers meanwhile, each time after `check`, which takes for a
    /// moment the locks without which the role does nothing. It must not await, and may block only
    /// where the role is then lost.
    pub async fn during<F: Future>(&mut self, check: impl Fn(), future: F) -> F::Output {
        // Boxed: what a supervisor waits for is large, and rare.
        let mut future = Box::pin(future);
        loop {
            tokio::select! {
                output = &mut future => return output,
                Some(reply) = self.asked.recv() => {
                    check();
                    // The one who asked may have given up.
                    let _ = reply.send(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::liveness;
    use crate::scope::Scope;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn waiting_supervisor_answers_gone_one_does_not() {
        let (mut responder, probe) = liveness();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let scope = Scope::new("test");
        scope.spawn("supervisor", async move {
            let _ = responder.during(|| (), stopped).await;
        });
        for _ in 0..3 {
            assert!(probe.is_alive().await);
        }
        drop(stop);
        assert!(scope.finish(std::time::Duration::from_secs(10)).await);
        assert!(!probe.is_alive().await);
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn busy_supervisor_does_not_answer() {
        let (responder, probe) = liveness();
        let week = std::time::Duration::from_secs(7 * 24 * 3600);
        assert!(tokio::time::timeout(week, probe.is_alive()).await.is_err());
        drop(responder);
        assert!(!probe.is_alive().await);
    }

    #[test]
    fn held_lock_prevents_an_answer() {
        let lock = Arc::new(Mutex::new(()));
        let (arrived, arrival) = std::sync::mpsc::channel();
        let (answered, answer) = std::sync::mpsc::channel();
        let held = lock.lock().expect("not poisoned");
        let wanted = Arc::clone(&lock);
        // A runtime of one thread: while its supervisor waits for the lock, it does nothing at all.
        let runtime = std::thread::spawn(move || {
            let (mut responder, probe) = liveness();
            let check = move || {
                let _ = arrived.send(());
                drop(wanted.lock());
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.expect("a runtime").block_on(async move {
                let asking = async { probe.is_alive().await };
                let beats = responder.during(check, asking).await;
                let _ = answered.send(beats);
            });
        });
        arrival.recv().expect("the check has begun");
        assert!(answer.try_recv().is_err(), "an answer before the check");
        drop(held);
        assert_eq!(answer.recv(), Ok(true));
        runtime.join().expect("the runtime");
    }
}
