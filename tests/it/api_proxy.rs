//! A proxy on the way to the platform: used as Go's programs would, named by every failure, and
//! never passed over because its variable cannot be read.

use std::net::SocketAddr;
use std::process::Command;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::fake_platform::Answer;
use crate::support::lab::{Lab, REGISTER_GATEWAY, REGISTER_RELAY};
use crate::support::loopback;
use crate::support::process::{Process, infisical};

/// sysexits: the configuration is wrong.
const CONFIG: i32 = 78;
/// A name that only the proxy knows (RFC 6761).
const DOMAIN: &str = "http://platform.test";
const DOMAIN_TLS: &str = "https://platform.test";
/// What a proxy's 407 means, and what to do.
const WANTS_PASSWORD: &str = "wants a user name and a password, or refuses those that it was \
     given";

/// A relay's and a gateway's command that ask the platform at `domain`.
fn commands(lab: &Lab, domain: &str) -> [(&'static str, Command); 2] {
    let (mut relay, mut gateway) = (lab.relay_command(), lab.gateway_command());
    domain.clone_into(&mut relay.domain);
    domain.clone_into(&mut gateway.domain);
    [
        ("relay", relay.command(lab.dir())),
        ("gateway", gateway.command(lab.dir())),
    ]
}

/// `gateway check` and `relay check` with these variables: the exit code and the output.
async fn check(lab: &Lab, variables: &[(&str, &str)]) -> Vec<(i32, String)> {
    let mut checked = Vec::new();
    let relay = ["relay", "check", "--name=r", "--host=relay.test"];
    for words in [&["gateway", "check", "edge"][..], &relay] {
        let mut command = infisical(lab.dir());
        command.args(words).args(["--domain", DOMAIN_TLS]);
        command.env("INFISICAL_TOKEN", "token");
        command.envs(variables.iter().copied());
        let process = Process::spawn("check", command);
        checked.push((process.exit_code().await, process.output()));
    }
    checked
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_take_the_proxy_with_its_password() {
    // The platform is the proxy: it gets the address of what is asked for, and only it knows the
    // name.
    let lab = Lab::new().await;
    let proxy = format!("http://user:hunter2@{}", lab.platform.address);
    let mut running = Vec::new();
    for (name, mut command) in commands(&lab, DOMAIN) {
        command.env("http_proxy", &proxy);
        let process = Process::spawn(name, command);
        process.wait_for_line("started successfully").await;
        running.push(process);
    }
    let registered = lab
        .platform
        .requests(REGISTER_GATEWAY)
        .pop()
        .expect("asked");
    assert_eq!(registered.headers["host"], "platform.test");
    assert_eq!(
        registered.headers["proxy-authorization"],
        "Basic dXNlcjpodW50ZXIy"
    );
    for process in &running {
        assert!(
            !process.output().contains("hunter2"),
            "the password is shown"
        );
    }
    // An answer of the proxy itself is none of the platform's, and names the proxy.
    let page = Answer::raw(407, r#"{"message":"sign in at the proxy"}"#);
    lab.platform.always(REGISTER_GATEWAY, page);
    lab.platform.always(
        REGISTER_RELAY,
        Answer::raw(403, "<html><title>Blocked</title>"),
    );
    // Each call writes the configuration files again, which nothing may be reading.
    let [(_, mut relay), (_, mut gateway)] = commands(&lab, DOMAIN);
    running.remove(0).kill().await;
    relay.env("HTTP_PROXY", &proxy);
    gateway.env("HTTP_PROXY", &proxy);
    let relay = Process::spawn("relay", relay);
    let gateway = Process::spawn("gateway", gateway);
    for (process, part) in [(&gateway, "407"), (&relay, "Blocked")] {
        let line = process.wait_for_line(part).await;
        let named = format!(
            "through the proxy http://{} (HTTP_PROXY)",
            lab.platform.address
        );
        assert!(line.contains(&named), "{line}");
        let is_asked = line.contains(WANTS_PASSWORD);
        assert_eq!(is_asked, part == "407", "{line}");
        assert!(process.is_running());
    }
}

/// Refuses every tunnel.
async fn refuse_tunnels(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        let _ = stream.write_all(answer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_names_the_proxy() {
    let lab = Lab::new().await;
    let address = || SocketAddr::from((loopback::address(), 0));
    let refusing = TcpListener::bind(address()).await.expect("a port");
    let closed = TcpListener::bind(address()).await.expect("a port");
    let proxies = [&refusing, &closed].map(|proxy| proxy.local_addr().expect("bound"));
    drop(closed);
    let mut refuses = tokio::task::JoinSet::new();
    refuses.spawn(refuse_tunnels(refusing));
    for proxy in proxies {
        for scheme in ["http", "socks5h"] {
            for (name, mut command) in commands(&lab, DOMAIN_TLS) {
                command.env("HTTPS_PROXY", format!("{scheme}://{proxy}"));
                let process = Process::spawn(name, command);
                let named = format!("through the proxy {scheme}://{proxy} (HTTPS_PROXY)");
                let line = process.wait_for_line(&named).await;
                assert!(line.contains(DOMAIN_TLS), "{line}");
                // Only the one that speaks HTTP can say why it refuses.
                if scheme == "http" && proxy == proxies[0] {
                    assert!(line.contains(WANTS_PASSWORD), "{line}");
                    assert!(line.contains("http://USER:PASSWORD@HOST:PORT"), "{line}");
                }
                assert!(process.is_running());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_proxy_variable_is_an_error() {
    let lab = Lab::new().await;
    for (variable, value) in [
        ("HTTPS_PROXY", "\"http://proxy.test:3128\""),
        ("https_proxy", " "),
        ("HTTPS_PROXY", ""),
        ("https_proxy", ""),
        ("HTTP_PROXY", ""),
        ("all_proxy", ""),
        ("HTTPS_PROXY", "http://proxy.test:port"),
        ("HTTP_PROXY", "ftp://proxy.test"),
        ("ALL_PROXY", "${PROXY}"),
        ("NO_PROXY", "'a.test,b.test'"),
    ] {
        let mut programs = Vec::from(commands(&lab, DOMAIN_TLS));
        let mut connect = infisical(lab.dir());
        connect.args([
            "connect",
            "edge",
            "--to",
            "db.test:5432",
            "--domain",
            DOMAIN_TLS,
        ]);
        connect.env("INFISICAL_TOKEN", "token");
        programs.push(("connect", connect));
        for (name, mut command) in programs {
            command.env(variable, value);
            let process = Process::spawn(name, command);
            assert_eq!(
                process.exit_code().await,
                CONFIG,
                "{name} {variable}={value}"
            );
            let output = process.output();
            assert!(
                output.contains(&format!("environment variable {variable}: ")),
                "{output}"
            );
        }
        for (code, output) in check(&lab, &[(variable, value)]).await {
            assert_eq!(code, CONFIG, "{output}");
            assert!(output.contains(variable), "{output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_which_proxy_applies() {
    let lab = Lab::new().await;
    let proxy = ("HTTPS_PROXY", "http://user:hunter2@proxy.test:3128");
    for (variables, expected) in [
        (&[][..], "Proxy: none"),
        (&[("NO_PROXY", "")], "Proxy: none"),
        (&[("HTTP_PROXY", "http://proxy.test")], "Proxy: none"),
        (&[proxy], "Proxy: http://proxy.test:3128 (HTTPS_PROXY)"),
        (
            &[proxy, ("NO_PROXY", "*.test")],
            "Proxy: none, because of NO_PROXY",
        ),
        (
            &[proxy, ("no_proxy", "platform.test:443")],
            "Proxy: none, because of NO_PROXY",
        ),
        (
            &[proxy, ("NO_PROXY", "platform.test:80,form.test")],
            "Proxy: http://proxy.test:3128 (HTTPS_PROXY)",
        ),
    ] {
        for (code, output) in check(&lab, variables).await {
            assert_eq!(code, 0, "{output}");
            assert!(
                output.lines().any(|line| line == expected),
                "{expected}: {output}"
            );
            assert!(!output.contains("hunter2"), "{output}");
        }
    }
}
