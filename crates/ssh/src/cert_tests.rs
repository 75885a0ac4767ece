use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{Certificate, PrivateKey, PublicKey};

use super::{Error, HostPolicy, UserPolicy, limit, verify_host, verify_user};
use crate::clock::Skew;
use crate::humanize::Utc;
use crate::keys;

const BEGIN: u64 = 1_000_000;
const END: u64 = 2_000_000;
const HOST: &str = "10.1.2.3:2222";

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// What a test may forge.
struct Forged {
    ca: PrivateKey,
    kind: CertType,
    key_id: &'static str,
    principals: Vec<&'static str>,
    critical: Option<(&'static str, &'static str)>,
}

impl Forged {
    fn host() -> Self {
        Self {
            ca: key(1),
            kind: CertType::Host,
            key_id: "relay-server",
            principals: vec![HOST],
            critical: None,
        }
    }

    fn user() -> Self {
        Self {
            ca: key(2),
            kind: CertType::User,
            key_id: "client-relay-1",
            principals: vec!["gateway-1", "name"],
            critical: None,
        }
    }

    fn sign(&self) -> Certificate {
        let subject = key(9).public_key().clone();
        let mut builder = Builder::new([7; 16], subject, BEGIN, END).expect("a builder");
        builder.cert_type(self.kind).expect("a type");
        builder.key_id(self.key_id).expect("a key id");
        if self.principals.is_empty() {
            builder.all_principals_valid().expect("no principals");
        }
        for principal in &self.principals {
            builder.valid_principal(*principal).expect("a principal");
        }
        if let Some((name, value)) = self.critical {
            builder.critical_option(name, value).expect("an option");
        }
        builder.extension("permit-pty", "").expect("an extension");
        builder.sign(&self.ca).expect("a signature")
    }
}

fn host(forged: &Forged, now: u64) -> Result<(), Error> {
    let policy = HostPolicy {
        ca: key(1).public_key().clone(),
        principal: HOST.to_owned(),
    };
    verify_host(&forged.sign(), &policy, at(now))
}

fn user(forged: &Forged, name: &str) -> Result<(), Error> {
    let policy = UserPolicy {
        ca: key(2).public_key().clone(),
        key_id: "client-relay-1".to_owned(),
    };
    verify_user(&forged.sign(), name, &policy, at(BEGIN))
}

#[test]
fn a_good_certificate_is_believed() {
    assert_eq!(host(&Forged::host(), BEGIN), Ok(()));
    assert_eq!(user(&Forged::user(), "gateway-1"), Ok(()));
    assert_eq!(user(&Forged::user(), "name"), Ok(()));
}

#[test]
fn validity_excludes_its_last_second() {
    assert_eq!(host(&Forged::host(), END - 1), Ok(()));
    assert_eq!(
        host(&Forged::host(), END),
        Err(Error::Expired(limit(END, at(END))))
    );
    assert_eq!(
        host(&Forged::host(), BEGIN - 5),
        Err(Error::NotYetValid(limit(BEGIN, at(BEGIN - 5))))
    );
}

#[test]
fn refusal_by_time_names_times_and_skew() {
    let late = host(&Forged::host(), END).expect_err("expired");
    let (end, begin) = (Utc(at(END)), Utc(at(BEGIN)));
    let told = late.to_string();
    assert_eq!(
        told,
        format!("it expired at {end} (is this machine's clock right? it says {end})")
    );
    let early = host(&Forged::host(), BEGIN - 60).expect_err("not yet valid");
    let skew = Skew {
        ahead: false,
        by: Duration::from_secs(14 * 60),
    };
    let told = early.knowing(Some(skew)).to_string();
    let now = Utc(at(BEGIN - 60));
    let expected = format!(
        "it is not valid before {begin}, and it is {now}; this clock is 14 min behind the platform"
    );
    assert_eq!(told, expected);
}

#[test]
fn any_other_ca_key_is_refused() {
    for ca in [key(2), key(3), key(9)] {
        let forged = Forged {
            ca,
            ..Forged::host()
        };
        let error = host(&forged, BEGIN).expect_err("another CA");
        assert!(matches!(error, Error::WrongCa { .. }), "{error:?}");
    }
    for ca in [key(1), key(3), key(9)] {
        let forged = Forged {
            ca,
            ..Forged::user()
        };
        let error = user(&forged, "gateway-1").expect_err("another CA");
        assert!(matches!(error, Error::WrongCa { .. }), "{error:?}");
    }
}

#[test]
fn certificate_of_the_other_type_is_refused() {
    let forged = Forged {
        kind: CertType::User,
        ..Forged::host()
    };
    assert_eq!(
        host(&forged, BEGIN),
        Err(Error::WrongType {
            found: "user",
            expected: "host"
        })
    );
    let forged = Forged {
        kind: CertType::Host,
        ..Forged::user()
    };
    assert_eq!(
        user(&forged, "gateway-1"),
        Err(Error::WrongType {
            found: "host",
            expected: "user"
        })
    );
}

#[test]
fn the_principal_must_be_there_exactly() {
    for principals in [
        vec![],
        vec!["10.1.2.3"],
        vec!["10.1.2.3:22"],
        vec!["10.1.2.3:2222 "],
    ] {
        let forged = Forged {
            principals,
            ..Forged::host()
        };
        let error = host(&forged, BEGIN).expect_err("another principal");
        assert!(matches!(error, Error::WrongPrincipal { .. }), "{error:?}");
    }
    let error = user(&Forged::user(), "gateway-2").expect_err("another user");
    assert!(matches!(error, Error::WrongPrincipal { .. }), "{error:?}");
    let forged = Forged {
        principals: vec![],
        ..Forged::user()
    };
    let error = user(&forged, "gateway-1").expect_err("no principal");
    assert!(matches!(error, Error::WrongPrincipal { .. }), "{error:?}");
}

#[test]
fn a_certificate_for_another_relay_is_refused() {
    for key_id in ["client-relay-2", "client-relay-1 ", "", "relay-server"] {
        let error = user(
            &Forged {
                key_id,
                ..Forged::user()
            },
            "gateway-1",
        )
        .expect_err("key id");
        assert!(matches!(error, Error::WrongKeyId { .. }), "{error:?}");
    }
}

#[test]
fn every_critical_option_is_refused() {
    for name in [
        "force-command",
        "source-address",
        "verify-required",
        "made-up@example.com",
    ] {
        let critical = Some((name, "x"));
        let error = user(
            &Forged {
                critical,
                ..Forged::user()
            },
            "gateway-1",
        )
        .expect_err("option");
        assert_eq!(error, Error::CriticalOption(name.to_owned()));
        let error = host(
            &Forged {
                critical,
                ..Forged::host()
            },
            BEGIN,
        )
        .expect_err("option");
        assert_eq!(error, Error::CriticalOption(name.to_owned()));
    }
}

#[test]
fn changed_certificate_is_refused() {
    let good = Forged::user().sign();
    let policy = UserPolicy {
        ca: key(2).public_key().clone(),
        key_id: "client-relay-1".to_owned(),
    };
    let bytes = good.to_bytes().expect("bytes");
    assert!(bytes.len() > 300);
    for at_byte in 0..bytes.len() {
        let mut changed = bytes.clone();
        if let Some(byte) = changed.get_mut(at_byte) {
            *byte ^= 1;
        }
        // Neither a panic nor a certificate that is believed.
        if let Ok(certificate) = Certificate::from_bytes(&changed) {
            let verdict = verify_user(&certificate, "gateway-1", &policy, at(BEGIN));
            assert!(verdict.is_err(), "byte {at_byte} is not covered");
        }
        let _ = Certificate::from_bytes(bytes.get(..at_byte).expect("a prefix"));
    }
}

#[test]
fn a_sha1_signature_is_refused() {
    let ca = keys::parse_public_key(include_str!("../fixtures/sha1-ca.pub")).expect("a CA");
    let certificate =
        keys::parse_certificate(include_str!("../fixtures/sha1-cert.pub")).expect("a certificate");
    let policy = UserPolicy {
        ca,
        key_id: "client-r".to_owned(),
    };
    let error = verify_user(&certificate, "g1", &policy, SystemTime::now()).expect_err("SHA-1");
    assert!(matches!(error, Error::WeakSignature(_)), "{error:?}");
}

#[test]
fn weak_and_foreign_keys_are_not_read() {
    let short = keys::parse_public_key(include_str!("../fixtures/rsa1024.pub"));
    assert!(
        matches!(short, Err(keys::Error::ShortRsa(1024))),
        "{short:?}"
    );
    for bad in [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "no key at all",
        "ssh-dss AAAAB3NzaC1kc3M=",
    ] {
        assert!(keys::parse_public_key(bad).is_err(), "{bad:?}");
        assert!(keys::parse_certificate(bad).is_err(), "{bad:?}");
        assert!(
            keys::parse_private_key(&crate::secret::Secret::new(bad)).is_err(),
            "{bad:?}"
        );
    }
}

#[test]
fn key_and_certificate_must_match() {
    let certificate = Forged::user().sign();
    assert!(keys::CertifiedKey::try_new(&key(9), certificate.clone()).is_ok());
    let error = keys::CertifiedKey::try_new(&key(8), certificate).expect_err("another key");
    assert!(matches!(error, keys::Error::Mismatch), "{error:?}");
}

#[test]
fn named_ca_is_compared_by_key() {
    let named = PublicKey::from_openssh(&format!(
        "{} another comment",
        key(1).public_key().to_openssh().expect("a line")
    ))
    .expect("a key");
    let policy = HostPolicy {
        ca: named,
        principal: HOST.to_owned(),
    };
    assert_eq!(
        verify_host(&Forged::host().sign(), &policy, at(BEGIN)),
        Ok(())
    );
}
