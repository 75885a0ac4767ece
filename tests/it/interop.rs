//! Peers that are not ours: OpenSSH, OpenSSL.

use std::io::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

use crate::support::lab::{self, Lab};
use crate::support::openssh::{Sshd, current_user, ssh, ssh_as_gateway, utf8};
use crate::support::process::{Process, clean};
use crate::support::session::Way;
use crate::support::ssh_ca::{SshCert, SshKey, run};
use crate::support::stack::{GATEWAY, Plan, RELAY, Stack};
use crate::support::targets::Target;
use crate::support::write_private;
use crate::support::x509::Pem;

fn field(answer: &Value, pointer: &str) -> String {
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no {pointer}"))
        .to_owned()
}

async fn ssh_gets_through(algorithm: &'static str) {
    let stack = Stack::plan(&Plan {
        algorithm,
        ..Plan::default()
    })
    .await;
    let credentials = stack.register_gateway("gateway-by-openssh").await;
    let key = SshKey {
        file: stack.dir().join("issued"),
        public: String::new(),
    };
    write_private(&key.file, &field(&credentials, "/ssh/clientPrivateKey"));
    let certificate = stack.dir().join("issued-cert.pub");
    let line = field(&credentials, "/ssh/clientCertificate");
    std::fs::write(&certificate, format!("{}\n", line.trim())).expect("writing");
    let id = field(&credentials, "/gatewayId");

    let shown = run("ssh-keygen", &["-L", "-f", utf8(&certificate)]);
    assert!(shown.contains("user certificate"), "{shown}");
    assert!(shown.contains(&format!("\"client-{RELAY}\"")), "{shown}");
    assert!(shown.contains(&id), "{shown}");
    for extension in [
        "permit-X11-forwarding",
        "permit-agent-forwarding",
        "permit-port-forwarding",
        "permit-pty",
        "permit-user-rc",
    ] {
        assert!(shown.contains(extension), "{extension} is missing: {shown}");
    }

    let ca = field(&credentials, "/ssh/serverCAPublicKey");
    let command = ssh_as_gateway(
        stack.dir(),
        stack.host,
        &id,
        &key,
        Some(&certificate),
        &ca,
        &[],
    );
    let ssh = Process::spawn("ssh", command);
    ssh.wait_for_line("Authenticated to").await;
    // SSH_MSG_REQUEST_SUCCESS or _FAILURE: the keepalive is answered either way.
    ssh.wait_for("an answer to a keepalive", |lines| {
        lines
            .iter()
            .find(|line| {
                line.contains("receive packet: type 81") || line.contains("receive packet: type 82")
            })
            .cloned()
    })
    .await;
    assert!(ssh.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_authenticates_to_our_relay_with_ecdsa() {
    ssh_gets_through("ecdsa-p256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_authenticates_to_our_relay_with_ed25519() {
    ssh_gets_through("ed25519").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_authenticates_to_our_relay_with_rsa() {
    ssh_gets_through("rsa-2048").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_with_deployed_algorithms_gets_through() {
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let key = SshKey::generate(lab.dir(), "deployed", "rsa");
    let id = "5d7c4b2a-6a0e-4f0e-8f6c-0a1b2c3d4e5f";
    let certificate = lab.user_ca.certify(&key, &SshCert::user(lab::RELAY, id));
    // Deployed gateways name the smallest group first, so that is what they get.
    for (kex, cipher, mac) in [
        (
            "diffie-hellman-group14-sha256",
            "aes128-ctr",
            "hmac-sha2-256",
        ),
        (
            "diffie-hellman-group14-sha256",
            "aes256-ctr",
            "hmac-sha2-256",
        ),
        (
            "diffie-hellman-group14-sha256",
            "aes192-ctr",
            "hmac-sha2-512",
        ),
    ] {
        let more = [
            format!("KexAlgorithms={kex}"),
            format!("Ciphers={cipher}"),
            format!("MACs={mac}"),
            // OpenSSH counts a slow exchange as silence.
            "ServerAliveInterval=0".to_owned(),
        ];
        let more = more.each_ref().map(String::as_str);
        let ca = &lab.host_ca.key.public;
        let command = ssh_as_gateway(lab.dir(), lab.host, id, &key, Some(&certificate), ca, &more);
        let ssh = Process::spawn("ssh", command);
        ssh.wait_for_line("Authenticated to").await;
        let output = ssh.output();
        for chosen in [kex, cipher, mac] {
            let line = format!("{chosen} ");
            assert!(
                output
                    .lines()
                    .any(|l| l.contains("debug1: kex:") && format!("{l} ").contains(&line)),
                "{chosen} was not used"
            );
        }
        let offer = "debug2: KEX algorithms: ";
        let mut offers = output.lines().filter(|line| line.starts_with(offer));
        let relays = offers.next_back().expect("the relay's offer");
        // Larger groups cost the relay up to thirty times as much.
        for costly in ["group16", "group18"] {
            assert!(!relays.contains(costly), "{relays}");
        }
    }
}

/// A way's TLS 1 files for `openssl`.
fn openssl(stack: &Stack, client: &Pem, anchors: &str, version: &str) -> Process {
    let dir = stack.dir();
    write_private(&dir.join("tls-key"), &client.key);
    std::fs::write(dir.join("tls-cert"), &client.certificate).expect("writing");
    std::fs::write(dir.join("tls-anchors"), anchors).expect("writing");
    let mut command = clean("openssl", dir);
    command.args([
        "s_client",
        "-connect",
        &format!("{}:8443", stack.host),
        version,
    ]);
    command.args([
        "-cert",
        "tls-cert",
        "-key",
        "tls-key",
        "-CAfile",
        "tls-anchors",
    ]);
    command.args([
        "-verify_return_error",
        "-verify_ip",
        &stack.host.to_string(),
    ]);
    Process::spawn("openssl", command)
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_speaks_tls_1_with_our_relay() {
    let stack = Stack::start().await;
    let echo = Target::echo(stack.host).await;
    let way: Way = stack.way(&echo).await;
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = openssl(&stack, &way.relay, &way.relay_anchors, version);
        client.wait_for_line("Verify return code: 0 (ok)").await;
        assert!(client.is_running(), "the relay closed a good client");
        // What is no TLS 2 hello is answered by the gateway with an alert and the end: it got
        // there.
        let mut stdin = client.take_stdin();
        stdin.write_all(b"this is no hello\n").expect("writing");
        assert_eq!(client.exit_code().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_reaches_sshd_through_connect() {
    let stack = Stack::start().await;
    let user = current_user();
    let key = SshKey::generate(stack.dir(), "login", "ed25519");
    let host_key = SshKey::generate(stack.dir(), "private-host", "ed25519");
    let address = SocketAddr::from((stack.host, 22022));
    let _sshd = Sshd {
        address,
        host_key: &host_key,
        host_certificate: None,
        user_ca: None,
        authorized: Some(&key.public),
        more: &[],
    }
    .start(stack.dir())
    .await;
    let known_hosts = stack.dir().join("known-hosts-private");
    std::fs::write(&known_hosts, format!("private {}\n", host_key.public)).expect("writing");
    let proxy = format!(
        "{} connect {GATEWAY} --to %h:%p --stdio --domain {} --token-file {}",
        env!("CARGO_BIN_EXE_infisical"),
        stack.platform.url,
        utf8(&stack.platform.token_file()),
    );
    let mut command = ssh(stack.dir());
    command.args(["-l", &user, "-i", utf8(&key.file), "-p", "22022"]);
    command.args(["-o", &format!("ProxyCommand={proxy}")]);
    command.args(["-o", &format!("UserKnownHostsFile={}", utf8(&known_hosts))]);
    command.args(["-o", "HostKeyAlias=private", "-o", "CheckHostIP=no"]);
    // Standard output must be the channel's bytes alone: SSH would break on anything else.
    command.args([
        &stack.host.to_string(),
        "echo from behind the gateway; exit 7",
    ]);
    let ssh = Process::spawn("ssh", command);
    assert_eq!(ssh.exit_code().await, 7);
    assert!(ssh.output().contains("from behind the gateway"));
}
