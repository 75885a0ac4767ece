//! Root certificates from every source, and refusals in words, by real handshakes in memory.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;

use super::read::Defaults;
use super::{NamedFile, Roots, Source};
use crate::error::chain;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// A server whose certificate `issuer` signed, or its own.
fn server(issuer: Option<&Ca>, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["platform.test".to_owned()]).expect("a name");
    params
        .distinguished_name
        .push(DnType::CommonName, "the platform");
    change(&mut params);
    let certificate = match issuer {
        Some(ca) => params.signed_by(&key, ca),
        None => params.self_signed(&key),
    };
    let chain = vec![certificate.expect("a certificate").der().clone()];
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, key.into())
        });
    Arc::new(config.expect("a server"))
}

/// What a client with `roots` says to `server`: an error in words, or nothing.
fn judge(roots: &Arc<Roots>, server: &Arc<ServerConfig>, name: &str) -> Result<(), String> {
    let config = roots.client_config().expect("a configuration");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut server = ServerConnection::new(Arc::clone(server)).expect("a server");
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("written");
        server.read_tls(&mut &wire[..]).expect("read");
        server
            .process_new_packets()
            .map_err(|error| chain(&error).to_string())?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).expect("written");
        client.read_tls(&mut &wire[..]).expect("read");
        client
            .process_new_packets()
            .map_err(|error| chain(&error).to_string())?;
    }
    Ok(())
}

fn named(setting: &str, path: &Path) -> Option<NamedFile> {
    Some(NamedFile {
        setting: setting.to_owned(),
        path: path.to_owned(),
    })
}

/// A machine whose only file of roots is `file`.
fn machine(file: Option<PathBuf>, source: Source) -> Arc<Roots> {
    let roots = Roots {
        defaults: Defaults::Fixed {
            file,
            dirs: Vec::new(),
        },
        ..Roots::default()
    };
    roots.set_source(source);
    Arc::new(roots)
}

#[test]
fn missing_roots_name_package_variable_and_flag() {
    let roots = machine(None, Source::default());
    let error = roots.load().expect_err("no roots");
    assert!(!error.is_configuration());
    let at_use = judge(&roots, &server(None, |_| ()), "platform.test").expect_err("no roots");
    for text in [chain(&error).to_string(), at_use] {
        for word in ["ca-certificates", "SSL_CERT_FILE", "--ca-file"] {
            assert!(text.contains(word), "{text}");
        }
    }
}

#[test]
fn unusable_file_is_named_with_its_setting() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    };
    let der = ca("x");
    for (path, words) in [
        (directory.path().join("absent"), "no such file or directory"),
        (directory.path().to_owned(), "is a directory"),
        (file("empty", b""), "it is empty"),
        (file("der", der.der()), "DER form"),
        (file("text", b"hello\n"), "no -----BEGIN CERTIFICATE-----"),
        (
            file(
                "key",
                b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            ),
            "key",
        ),
        (
            file("cut", b"-----BEGIN CERTIFICATE-----\nAAAA\n"),
            "cut off",
        ),
    ] {
        for setting in ["SSL_CERT_FILE", "--ca-file"] {
            let mut source = Source::default();
            match setting {
                "SSL_CERT_FILE" => source.cert_file = named(setting, &path),
                _ => source.ca_file = named(setting, &path),
            }
            let error = machine(None, source).load().expect_err("unusable");
            assert!(error.is_configuration());
            let text = chain(&error).to_string();
            let path = path.display().to_string();
            for word in [setting, path.as_str(), words] {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }
    let source = Source {
        cert_dirs: named("SSL_CERT_DIR", &directory.path().join("absent")).map(|dir| vec![dir]),
        ..Source::default()
    };
    let text = machine(None, source).load().expect_err("absent");
    assert!(
        chain(&text)
            .to_string()
            .contains("SSL_CERT_DIR: cannot read")
    );
}

#[test]
fn ca_file_is_added_to_machine_roots() {
    let directory = tempfile::tempdir().expect("a directory");
    let (public, private) = (ca("public"), ca("private"));
    let [system, ca_file] = ["system", "private"].map(|name| directory.path().join(name));
    std::fs::write(&system, public.pem()).expect("written");
    std::fs::write(&ca_file, private.pem()).expect("written");
    let source = Source {
        ca_file: named("--ca-file", &ca_file),
        ..Source::default()
    };
    let servers = [&public, &private].map(|ca| server(Some(ca), |_| ()));
    let both = machine(Some(system.clone()), source.clone());
    assert_eq!(
        servers.each_ref().map(|s| judge(&both, s, "platform.test")),
        [Ok(()), Ok(())]
    );
    let alone = machine(None, source);
    assert!(judge(&alone, &servers[0], "platform.test").is_err());
    assert_eq!(judge(&alone, &servers[1], "platform.test"), Ok(()));
    // Targets are judged by the machine's roots only.
    assert!(alone.target_config().is_err());
    // The variable replaces the machine's file.
    let replaced = Source {
        cert_file: named("SSL_CERT_FILE", &ca_file),
        ..Source::default()
    };
    let replaced = machine(Some(system), replaced);
    assert!(judge(&replaced, &servers[0], "platform.test").is_err());
    assert_eq!(judge(&replaced, &servers[1], "platform.test"), Ok(()));
}

#[test]
fn refusals_say_what_helps() {
    let directory = tempfile::tempdir().expect("a directory");
    let trusted = ca("trusted");
    let system = directory.path().join("system");
    std::fs::write(&system, trusted.pem()).expect("written");
    let roots = machine(Some(system), Source::default());
    let refused =
        |server: &Arc<ServerConfig>, name: &str| judge(&roots, server, name).expect_err("refused");
    let text = refused(&server(Some(&ca("Corp Root")), |_| ()), "platform.test");
    for word in ["issued by CN=Corp Root", "--ca-file", "INFISICAL_CA_FILE"] {
        assert!(text.contains(word), "{text}");
    }
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let own = server(None, |params| params.is_ca = is_ca);
        let text = refused(&own, "platform.test");
        for word in ["CN=the platform", "self-signed", "--ca-file"] {
            assert!(text.contains(word), "{text}");
        }
    }
    let good = server(Some(&trusted), |_| ());
    assert_eq!(
        refused(&good, "other.test"),
        "its certificate is not for other.test, but for platform.test"
    );
    let old = server(Some(&trusted), |params| {
        params.not_after = date_time_ymd(2020, 1, 2);
    });
    assert_eq!(
        refused(&old, "platform.test"),
        "its certificate expired on 2020-01-02 00:00:00 UTC"
    );
    let early = server(Some(&trusted), |params| {
        params.not_before = date_time_ymd(3000, 1, 2);
    });
    assert!(refused(&early, "platform.test").contains("not valid before 3000-01-02"));
}

#[test]
fn self_signed_certificate_may_be_ca_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["platform.test".to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("a certificate");
    let path = directory.path().join("own");
    std::fs::write(&path, certificate.pem()).expect("written");
    let chain = vec![certificate.der().clone()];
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let server = ServerConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, key.into())
        })
        .expect("a server");
    let source = Source {
        ca_file: named("--ca-file", &path),
        ..Source::default()
    };
    let roots = machine(None, source);
    let server = Arc::new(server);
    assert_eq!(judge(&roots, &server, "platform.test"), Ok(()));
    let other = judge(&roots, &server, "other.test").expect_err("another name");
    assert!(other.contains("not for other.test"), "{other}");
}

#[test]
fn open_configuration_follows_reloaded_roots() {
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (ca("first"), ca("second"));
    let system = directory.path().join("system");
    std::fs::write(&system, first.pem()).expect("written");
    let roots = machine(Some(system.clone()), Source::default());
    let added = server(Some(&second), |_| ());
    judge(&roots, &added, "platform.test").expect_err("not yet");
    assert!(!roots.reload().expect("read"), "nothing changed");

    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&system)
        .expect("open");
    file.write_all(second.pem().as_bytes()).expect("appended");
    // Read a moment ago.
    assert!(!roots.reload_after_refusal());
    assert!(roots.reload().expect("read"));
    assert_eq!(judge(&roots, &added, "platform.test"), Ok(()));

    // A file that is being replaced takes nothing away.
    std::fs::write(&system, "").expect("emptied");
    roots.reload().expect_err("empty");
    assert_eq!(judge(&roots, &added, "platform.test"), Ok(()));
}

#[test]
fn hybrid_group_is_offered_first() {
    let roots = machine(None, Source::default());
    let config = roots.client_config().expect("a configuration");
    let groups = &config.crypto_provider().kx_groups;
    let first = groups.first().map(|group| group.name());
    assert_eq!(first, Some(rustls::NamedGroup::X25519MLKEM768));
}
