//! What independent scanners say of the ports: `ssh-audit` of the relay, `sslyze` of both layers of
//! TLS and of the platform. Whatever they find is listed with its reason in docs/security.md.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rustls::NamedGroup;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::admin::Platform;
use crate::support::lab::Lab;
use crate::support::session::Way;
use crate::support::targets::Target;
use crate::support::x509::Ca;
use crate::support::{loopback, python};

/// The findings that docs/security.md accepts: the first cells of its table of findings.
fn accepted() -> BTreeSet<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, table) = page
        .split_once("## Findings of scanners")
        .expect("the chapter");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned()));
    let accepted: BTreeSet<String> = rows.collect();
    assert!(!accepted.is_empty());
    accepted
}

async fn report(mut command: Command, file: &Path) -> Value {
    let output = tokio::task::spawn_blocking(move || command.output().expect("the scanner"))
        .await
        .expect("no panic");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let text = if text.is_empty() {
        String::from_utf8_lossy(&output.stdout).into_owned()
    } else {
        text
    };
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_audit_finds_only_what_is_accepted() {
    let lab = Lab::new().await;
    let Some(mut command) = python::with_scanners(lab.dir()) else {
        return;
    };
    let _relay = lab.relay().await;
    let address = lab.host.to_string();
    command.args(["-m", "ssh_audit", "--json", "--port", "2222"]);
    command.arg(&address);
    let report = report(command, Path::new("")).await;
    let mut found = BTreeSet::new();
    for kind in ["kex", "key", "enc", "mac"] {
        let algorithms = report[kind].as_array().expect("a list");
        assert!(!algorithms.is_empty(), "{kind}: {report}");
        for algorithm in algorithms {
            let name = algorithm["algorithm"].as_str().expect("a name");
            for severity in ["fail", "warn"] {
                if algorithm["notes"][severity].is_array() {
                    found.insert(format!("{kind} {name} {severity}"));
                }
            }
        }
    }
    assert_eq!(report["cves"], Value::Array(Vec::new()));
    for note in report["additional_notes"].as_array().expect("a list") {
        let note = note.as_str().expect("a text");
        eprintln!("{note}");
        if note.contains("DHEat") {
            found.insert("rate DHEat".to_owned());
        } else {
            let advice = "this target properly supports the strict key exchange method";
            assert!(note.is_empty() || note.contains(advice), "{note}");
        }
    }
    eprintln!("{found:?}");
    let accepted = accepted();
    let new: Vec<_> = found.difference(&accepted).collect();
    assert!(new.is_empty(), "{new:?}");
    // The kinds of keys are those of one case only.
    let old = accepted.difference(&found);
    let old: Vec<_> = old.filter(|finding| !finding.starts_with("key ")).collect();
    assert!(old.is_empty(), "accepted, and not found any more: {old:?}");
}

/// What sslyze finds at `address`, a port with TLS.
async fn scan(dir: &Path, address: &str) -> Option<()> {
    let mut command = python::with_scanners(dir)?;
    let file = dir.join("sslyze.json");
    command.args(["-m", "sslyze", "--json_out"]);
    command.arg(&file).arg(address);
    let report = report(command, &file).await;
    let scan = &report["server_scan_results"][0];
    assert_eq!(scan["scan_status"], "COMPLETED", "{report}");
    let scan = &scan["scan_result"];
    let result = |of: &str| {
        assert_eq!(scan[of]["status"], "COMPLETED", "{of}: {}", scan[of]);
        scan[of]["result"].clone()
    };
    for old in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        let of = format!("{old}_cipher_suites");
        assert_eq!(result(&of)["is_tls_version_supported"], false, "{of}");
    }
    for new in ["tls_1_2", "tls_1_3"] {
        let suites = result(&format!("{new}_cipher_suites"));
        let suites = suites["accepted_cipher_suites"].as_array().expect("a list");
        assert!(!suites.is_empty(), "{new}");
        for suite in suites {
            let name = suite["cipher_suite"]["name"].as_str().expect("a name");
            let is_aead = name.contains("_GCM_") || name.contains("POLY1305");
            let has_secrecy = new == "tls_1_3" || name.starts_with("TLS_ECDHE_");
            assert!(is_aead && has_secrecy, "{name}");
        }
    }
    for (of, flag, good) in [
        ("tls_compression", "supports_compression", false),
        ("heartbleed", "is_vulnerable_to_heartbleed", false),
        (
            "openssl_ccs_injection",
            "is_vulnerable_to_ccs_injection",
            false,
        ),
        ("tls_extended_master_secret", "supports_ems_extension", true),
    ] {
        assert_eq!(result(of)[flag], good, "{of}");
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sslyze_finds_nothing_at_relay_and_gateway() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let address = format!("{}:8443", lab.host);
    if scan(lab.dir(), &address).await.is_none() {
        return;
    }
    // TLS 2 as a scanner reaches it: every connection goes through the relay.
    let echo = Target::echo(lab.host).await;
    let (way, port) = (lab.way(echo.address), TcpListener::bind((lab.host, 0)));
    let port = port.await.expect("a port");
    let address = port.local_addr().expect("an address").to_string();
    let forwarding = forward(port, way);
    tokio::select! {
        () = forwarding => {}
        scanned = scan(lab.dir(), &address) => scanned.expect("the same scanner"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sslyze_finds_nothing_at_the_platform() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = Ca::root("Private CA");
    let platform = Platform::with_tls(dir.path(), loopback::address(), &ca).await;
    let address = platform.url.trim_start_matches("https://");
    // Nothing, where there is no scanner.
    let _ = scan(dir.path(), address).await;
}

/// Connects what arrives at `port` with the gateway, by TLS 1.
async fn forward(port: TcpListener, way: Way) {
    let way = std::sync::Arc::new(way);
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = port.accept().await.expect("a connection");
        let way = std::sync::Arc::clone(&way);
        connections.spawn(async move {
            if let Ok(mut outer) = way.outer().await {
                // A scanner cuts most of its connections.
                let _ = copy_bidirectional(&mut client, &mut outer).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tls_layers_use_hybrid_groups() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let way = lab.way(echo.address);
    let group = |connection: &rustls::ClientConnection| {
        let group = connection.negotiated_key_exchange_group();
        group.map(|group| group.name())
    };
    let inner = way.tcp().await.expect("a way");
    let (outer, connection) = inner.get_ref();
    assert_eq!(group(connection), Some(NamedGroup::X25519MLKEM768));
    let (_, connection) = outer.get_ref();
    assert_eq!(group(connection), Some(NamedGroup::X25519MLKEM768));
}
