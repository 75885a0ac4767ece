//! `infisical gateway egress`: what a firewall has to let through.

use serde_json::{Value, json};

use crate::support::lab::{GATEWAY, Lab};
use crate::support::process::{Process, infisical};

/// What `gateway egress` prints for the gateway of `lab` with `more` arguments, and its exit code.
async fn egress(lab: &Lab, more: &[&str]) -> (i32, String) {
    let mut command = infisical(lab.dir());
    command.args([
        "gateway",
        "egress",
        GATEWAY,
        "--domain=https://platform.example.com",
    ]);
    // Without a credential, which says nothing of hosts.
    command.args(more);
    let process = Process::spawn("egress", command);
    let code = process.exit_code().await;
    (code, process.output())
}

#[tokio::test(flavor = "multi_thread")]
async fn egress_names_platform_and_relay() {
    let lab = Lab::new().await;
    let (code, text) = egress(&lab, &[]).await;
    assert_eq!(code, 0, "{text}");
    for part in [
        "platform.example.com",
        "443/tcp",
        "2222/tcp",
        "8443/tcp",
        "known while",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    gateway.wait_for_line("Gateway is reachable").await;
    let (code, text) = egress(&lab, &["--json"]).await;
    assert_eq!(code, 0, "{text}");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    let flow = |from, host: &str, port, purpose| json!({"from": from, "host": host, "port": port, "protocol": "tcp", "purpose": purpose});
    let host = lab.host.to_string();
    let flows = [
        flow("gateway", "platform.example.com", 443, "the platform"),
        flow("gateway", &host, 2222, "the relay"),
        flow("Infisical, clients", &host, 8443, "the relay"),
    ];
    assert_eq!(value, json!({"version": 1, "egress": flows}));
    let (code, text) = egress(&lab, &["--nftables"]).await;
    assert_eq!(code, 0, "{text}");
    let rule = format!("ip daddr {host} tcp dport 2222 accept comment \"the relay {host}\"");
    assert!(text.contains(&rule), "{text}");
    assert!(!text.contains("8443"), "what others reach: {text}");
}
