//! Variables of other programs in a role's `KEY=value` file, as users add them to an
//! `EnvironmentFile`: proxies and root certificates count as in the environment, and problems name
//! the line.

use std::path::Path;

use crate::support::admin::Platform;
use crate::support::lab::{Lab, REGISTER_GATEWAY, REGISTER_RELAY};
use crate::support::loopback;
use crate::support::process::{Process, infisical};
use crate::support::write_private;
use crate::support::x509::{Ca, Leaf};

/// sysexits: the configuration is wrong.
const CONFIG: i32 = 78;
/// A name that only the proxy knows (RFC 6761).
const DOMAIN: &str = "http://platform.test";

/// Adds `line` to the file at `path`, and gives the place that messages name.
fn add_line(path: &Path, line: &str) -> String {
    let text = std::fs::read_to_string(path).expect("read");
    write_private(path, &format!("{text}{line}\n"));
    let number = text.lines().count() + 1;
    let (name, _) = line.split_once('=').expect("an assignment");
    format!("{name} in {} line {number}", path.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_a_file_are_used() {
    // The platform is the proxy: only it knows the name.
    let lab = Lab::new().await;
    let line = format!("HTTP_PROXY=http://user:hunter2@{}", lab.platform.address);
    let (mut relay, mut gateway) = (lab.relay_command(), lab.gateway_command());
    DOMAIN.clone_into(&mut relay.domain);
    DOMAIN.clone_into(&mut gateway.domain);
    let place = add_line(&relay.config, &line);
    let relay = relay.spawn(lab.dir());
    relay.wait_for_line("started successfully").await;
    add_line(&gateway.config, &line);
    let gateway = gateway.spawn(lab.dir());
    gateway.wait_for_line("started successfully").await;
    for what in [REGISTER_RELAY, REGISTER_GATEWAY] {
        let asked = lab.platform.requests(what).pop().expect("asked");
        assert_eq!(asked.headers["host"], "platform.test");
        assert_eq!(
            asked.headers["proxy-authorization"],
            "Basic dXNlcjpodW50ZXIy"
        );
    }
    let mut check = infisical(lab.dir());
    check.args([
        "relay",
        "check",
        "--name=r",
        "--host=relay.test",
        "--domain",
        DOMAIN,
    ]);
    check.arg("--config").arg(lab.relay_command().config);
    add_line(&lab.relay_command().config, &line);
    let check = Process::spawn("check", check);
    assert_eq!(check.exit_code().await, 0, "{}", check.output());
    let expected = format!("Proxy: http://{} ({place})", lab.platform.address);
    assert!(
        check.stdout().contains(&expected),
        "{expected}: {}",
        check.stdout()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_proxy_in_file_is_named() {
    let lab = Lab::new().await;
    for line in [
        "HTTPS_PROXY=http://proxy.test:port",
        "https_proxy='\"http://proxy.test\"'",
        "ALL_PROXY=ftp://proxy.test",
        "NO_PROXY='\"a.test\"'",
    ] {
        let gateway = lab.gateway_command();
        let place = add_line(&gateway.config, line);
        let gateway = gateway.spawn(lab.dir());
        assert_eq!(gateway.exit_code().await, CONFIG, "{line}");
        let output = gateway.output();
        assert!(output.contains(&format!("{place}: ")), "{place}: {output}");
        assert!(!output.contains("environment variable"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_certificates_of_a_file_are_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let (dir, host) = (dir.path(), loopback::address());
    let ca = Ca::root("Private CA");
    let pem = ca.sign(&Leaf::relay_server(host));
    let path = |name: &str| dir.join(name).display().to_string();
    write_private(&dir.join("server.pem"), &pem.certificate);
    write_private(&dir.join("server.key"), &pem.key);
    write_private(&dir.join("ca.pem"), &ca.pem());
    let options = [
        "--tls-cert",
        &path("server.pem"),
        "--tls-key",
        &path("server.key"),
    ];
    let platform = Platform::start(dir, host, 0, &options).await;
    let config = dir.join("edge.conf");
    let gateway = |line: &str, command: &str| {
        write_private(&config, "INFISICAL_TOKEN=unknown\n");
        let place = add_line(&config, line);
        let mut gateway = infisical(dir);
        gateway.args(["gateway", command, "edge", "--domain", &platform.url]);
        gateway.arg("--config").arg(&config);
        (Process::spawn(line, gateway), place)
    };
    // Only a platform whose certificate was believed can refuse the token.
    let (refused, _) = gateway(&format!("SSL_CERT_FILE={}", path("ca.pem")), "start");
    refused.wait_for_line("401").await;
    let (unknown, _) = gateway("TZ=Europe/Berlin", "start");
    unknown.wait_for_line("issued by CN=Private CA").await;
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "INFISICAL_CA_FILE"] {
        for command in ["start", "check"] {
            let (process, place) = gateway(&format!("{name}=/nonexistent/roots"), command);
            assert_eq!(process.exit_code().await, CONFIG, "{}", process.output());
            let expected = format!("{place}: cannot read /nonexistent/roots");
            assert!(
                process.output().contains(&expected),
                "{expected}: {}",
                process.output()
            );
        }
    }
    let (check, _) = gateway(&format!("INFISICAL_CA_FILE={}", path("ca.pem")), "check");
    assert_eq!(check.exit_code().await, 0, "{}", check.output());
    let (check, place) = gateway(
        &format!("INFISICAL_CA_FILE={}", path("server.key")),
        "check",
    );
    assert_eq!(check.exit_code().await, CONFIG, "{}", check.output());
    assert!(check.output().contains(&place), "{}", check.output());
    assert!(
        check.output().contains("no usable certificate"),
        "{}",
        check.output()
    );
}
