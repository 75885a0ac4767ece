//! When a renewed certificate is taken, and when the old one is kept.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use super::{LOOK, Nearness, Tls, TlsError, TlsFiles};
use crate::metrics::Metrics;
use crate::pki;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate that expires in `left`, or has expired, and its key.
fn pair(left: i64) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(90);
    params.not_after = now + time::Duration::seconds(left);
    let certificate = params.self_signed(&key).expect("signed");
    (certificate.pem(), key.serialize_pem())
}

fn write(files: &TlsFiles, (certificate, key): &(String, String)) {
    std::fs::write(&files.certificate, certificate).expect("written");
    std::fs::write(&files.key, key).expect("written");
}

fn files(directory: &Path) -> TlsFiles {
    TlsFiles {
        certificate: directory.join("cert.pem"),
        key: directory.join("key.pem"),
    }
}

fn assert_served(tls: &Tls, (certificate, _): &(String, String)) {
    let expected = pki::parse_certificates("test", certificate).expect("PEM");
    let served = tls.current.0.read().expect("whole");
    assert_eq!(served.cert, expected);
}

#[test]
fn only_usable_pairs_replace_the_old_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = files(directory.path());
    let (first, second) = (pair(3600), pair(7200));
    write(&files, &first);
    let mut tls = Tls::load(&files).expect("loaded");
    let now = SystemTime::now();
    assert!(!tls.take(now).expect("the same"));
    for (wrong, said) in [
        ((second.0.clone(), first.1.clone()), "together"),
        (pair(-1), "expired on"),
        ((String::new(), second.1.clone()), "--tls-cert"),
        ((second.0.clone(), "x".to_owned()), "--tls-key"),
    ] {
        write(&files, &wrong);
        let error = tls.take(now).expect_err(said);
        assert!(error.to_string().contains(said), "{error}");
        assert_served(&tls, &first);
    }
    std::fs::remove_file(&files.key).expect("removed");
    assert!(matches!(tls.take(now), Err(TlsError::File { .. })));
    std::fs::write(&files.key, "x".repeat(2 << 20)).expect("written");
    assert!(matches!(tls.take(now), Err(TlsError::TooLarge(_))));
    assert_served(&tls, &first);
    write(&files, &second);
    assert!(tls.take(now).expect("usable"));
    assert_served(&tls, &second);
    let left = tls.expires.duration_since(now).expect("later").as_secs();
    assert!((7100..7300).contains(&left), "{left}");
}

/// What no one asked for may be half of a change that goes on.
#[test]
fn half_a_change_is_logged_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = files(directory.path());
    let first = pair(3600);
    write(&files, &first);
    let mut tls = Tls::load(&files).expect("loaded");
    write(&files, &(pair(7200).0, first.1.clone()));
    let mut logged = Vec::new();
    for is_asked in [false, false, false, true] {
        let before = tls
            .refused
            .as_ref()
            .is_some_and(|refused| refused.is_logged);
        tls.look(is_asked, SystemTime::now());
        let refused = tls.refused.as_ref().expect("refused");
        logged.push((before, refused.is_logged));
    }
    let (no, yes) = (false, true);
    assert_eq!(logged, [(no, no), (no, yes), (yes, yes), (yes, yes)]);
    write(&files, &first);
    tls.look(false, SystemTime::now());
    assert!(tls.refused.is_none());
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_found_without_a_signal() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = files(directory.path());
    let (first, second) = (pair(3600), pair(7200));
    write(&files, &first);
    let tls = Tls::load(&files).expect("loaded");
    let current = Arc::clone(&tls.current);
    let follow = tls.follow(None, Metrics::default());
    write(&files, &second);
    let expected = pki::parse_certificates("test", &second.0).expect("PEM");
    let seen = async {
        while current.0.read().expect("whole").cert != expected {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = seen => {}
        () = follow => panic!("it ended"),
    }
}

#[test]
fn end_is_announced_in_proportion() {
    let now = SystemTime::UNIX_EPOCH + 1000 * DAY;
    for (life, left, expected) in [
        (90, 15, Nearness::Far),
        (90, 14, Nearness::Overdue),
        (90, 3, Nearness::Urgent),
        (90, 0, Nearness::Past),
        (6, 3, Nearness::Far),
        (6, 2, Nearness::Overdue),
        (1, 1, Nearness::Far),
    ] {
        let expires = now + left * DAY;
        let found = Nearness::of(expires - life * DAY, expires, now);
        assert_eq!(found, expected, "{left} of {life}");
    }
    let hour = Duration::from_secs(3600);
    assert_eq!(Nearness::of(now - DAY, now - hour, now), Nearness::Past);
    assert!(Nearness::Far < Nearness::Overdue && Nearness::Urgent < Nearness::Past);
}

#[test]
fn joined_text_takes_the_place_of_both() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = files(directory.path());
    let past = pair(-3600);
    write(&files, &past);
    let now = SystemTime::now();
    let error = files.joined(Some(now)).expect_err("expired");
    assert!(matches!(error, TlsError::Expired(_)), "{error:?}");
    let early = files
        .joined(Some(SystemTime::UNIX_EPOCH))
        .expect_err("early");
    assert!(matches!(early, TlsError::NotYetValid(_)), "{early:?}");
    let text = files.joined(None).expect("the only one");
    let both = directory.path().join("both.pem");
    std::fs::write(&both, text.as_str()).expect("written");
    let joined = TlsFiles {
        certificate: both.clone(),
        key: both,
    };
    assert_served(&Tls::load(&joined).expect("loaded"), &past);
}
