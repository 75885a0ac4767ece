//! Callers and questions, with a resolver that answers when the test says so.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{Ask, HEDGE_DELAY, LookupPermits, Lookups, Question};

/// Keeps the questions that it is asked.
#[derive(Debug, Default)]
struct Manual(Mutex<VecDeque<Question>>);

impl Ask for Manual {
    fn ask(&self, question: Question) {
        self.0.lock().expect("no panic").push_back(question);
    }
}

impl Manual {
    fn open(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }

    /// The oldest one.
    fn take(&self) -> Question {
        let question = self.0.lock().expect("no panic").pop_front();
        question.expect("a question")
    }

    /// The oldest one for this name.
    fn take_for(&self, name: &str) -> Question {
        let mut open = self.0.lock().expect("no panic");
        let place = open.iter().position(|question| question.name() == name);
        open.remove(place.expect("a question")).expect("a question")
    }
}

fn lookups(total: usize, max_per_name: usize) -> (&'static Lookups, &'static Manual) {
    let manual: &'static Manual = Box::leak(Box::default());
    let permits = LookupPermits::new(total, max_per_name);
    (Box::leak(Box::new(Lookups::new(permits, manual))), manual)
}

fn found() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([192, 0, 2, 1], 0))]
}

fn call(lookups: &'static Lookups, name: &'static str) -> JoinHandle<io::Result<Vec<SocketAddr>>> {
    tokio::runtime::Handle::current().spawn(lookups.lookup(name))
}

/// Lets all tasks run as far as they get without waiting.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn lost_question_is_repeated() {
    let (lookups, resolver) = lookups(30, 4);
    let begin = Instant::now();
    let caller = call(lookups, "a.test");
    settle().await;
    assert_eq!(resolver.open(), 1);
    sleep(HEDGE_DELAY).await;
    assert_eq!(resolver.open(), 2);
    let _lost = resolver.take();
    resolver.take().answer(Ok(found()));
    assert_eq!(caller.await.expect("a task").expect("found"), found());
    assert!(begin.elapsed() < HEDGE_DELAY * 2);
}

#[tokio::test(start_paused = true)]
async fn callers_of_one_name_share_its_questions() {
    let (lookups, resolver) = lookups(30, 4);
    let callers: Vec<_> = (0..100).map(|_| call(lookups, "a.test")).collect();
    settle().await;
    assert_eq!(resolver.open(), 1);
    resolver.take().answer(Ok(found()));
    for caller in callers {
        assert_eq!(caller.await.expect("a task").expect("found"), found());
    }
    assert!(lookups.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn leaving_caller_keeps_a_new_ones_place() {
    let (lookups, resolver) = lookups(30, 4);
    let first = call(lookups, "a.test");
    settle().await;
    resolver.take().answer(Ok(found()));
    // The first one has its answer, and has not left yet.
    let second = lookups.join(&"a.test".into());
    first.await.expect("a task").expect("found");
    let callers = lookups.names().get("a.test").map(|name| name.callers.len());
    assert_eq!(callers, Some(1));
    drop(second);
    assert!(lookups.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn failure_waits_for_questions_that_are_open() {
    let (lookups, resolver) = lookups(30, 4);
    let caller = call(lookups, "a.test");
    sleep(HEDGE_DELAY * 3 / 2).await;
    resolver.take().answer(Err(io::Error::other("no network")));
    settle().await;
    assert!(!caller.is_finished());
    resolver.take().answer(Err(io::Error::other("unknown")));
    let error = caller.await.expect("a task").expect_err("a failure");
    assert_eq!(error.to_string(), "unknown");
}

#[tokio::test(start_paused = true)]
async fn older_questions_failure_is_not_final() {
    let (lookups, resolver) = lookups(30, 4);
    let first = call(lookups, "a.test");
    sleep(Duration::from_secs(1)).await;
    let second = call(lookups, "a.test");
    settle().await;
    resolver.take().answer(Err(io::Error::other("no network")));
    assert!(first.await.expect("a task").is_err());
    settle().await;
    resolver.take().answer(Ok(found()));
    assert_eq!(second.await.expect("a task").expect("found"), found());
}

#[tokio::test(start_paused = true)]
async fn questions_per_name_are_bounded() {
    let (lookups, resolver) = lookups(300, 4);
    for _ in 0..20 {
        let caller = lookups.lookup("a.test");
        assert!(timeout(Duration::from_secs(10), caller).await.is_err());
        assert!(resolver.open() <= 4, "{}", resolver.open());
    }
    assert_eq!(resolver.open(), 4);
    // All callers have left. One that comes later has the answer to what they asked.
    let late = call(lookups, "a.test");
    settle().await;
    resolver.take().answer(Ok(found()));
    assert_eq!(late.await.expect("a task").expect("found"), found());
}

#[tokio::test(start_paused = true)]
async fn overdue_questions_count_until_done() {
    let (lookups, resolver) = lookups(300, 2);
    let mut lost = Vec::new();
    for _ in 0..2 {
        let caller = call(lookups, "a.test");
        sleep(HEDGE_DELAY + Duration::from_millis(10)).await;
        if resolver.open() == 2 {
            lost.push(resolver.take());
            resolver.take().answer(Ok(found()));
            caller.await.expect("a task").expect("found");
        } else {
            // One is overdue, so that this round has one question only.
            lost.push(resolver.take());
            caller.abort();
        }
    }
    let caller = call(lookups, "a.test");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(resolver.open(), 0);
    lost.clear();
    settle().await;
    resolver.take().answer(Ok(found()));
    assert_eq!(caller.await.expect("a task").expect("found"), found());
    assert!(lookups.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn hung_names_leave_other_names_their_permits() {
    let (lookups, resolver) = lookups(30, 4);
    let hung: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let mut callers: Vec<_> = hung
        .iter()
        .flat_map(|name| (0..24).map(|_| call(lookups, name)))
        .collect();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(resolver.open(), 20, "10 first ones, all that are repeated");
    let other = call(lookups, "other.test");
    settle().await;
    resolver.take_for("other.test").answer(Ok(found()));
    assert_eq!(other.await.expect("a task").expect("found"), found());
    callers.drain(..).for_each(|caller| caller.abort());
}

#[tokio::test(start_paused = true)]
async fn waiting_caller_may_leave() {
    let (lookups, resolver) = lookups(1, 4);
    let _hung = call(lookups, "hung.test");
    settle().await;
    let gone = timeout(Duration::from_secs(5), lookups.lookup("gone.test"));
    assert!(gone.await.is_err());
    let next = call(lookups, "next.test");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(resolver.open(), 1);
    resolver.take().answer(Err(io::Error::other("timed out")));
    settle().await;
    resolver.take_for("next.test").answer(Ok(found()));
    assert_eq!(next.await.expect("a task").expect("found"), found());
    assert!(lookups.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn question_without_a_thread_fails_with_advice() {
    let (lookups, resolver) = lookups(30, 4);
    let caller = call(lookups, "a.test");
    settle().await;
    drop(resolver.take());
    let error = caller.await.expect("a task").expect_err("a failure");
    assert!(error.to_string().contains("TasksMax="), "{error}");
}
