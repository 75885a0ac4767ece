//! Configuration files in both of their forms, and `check`, which says what they come to.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::support::lab::{GATEWAY, GATEWAY_CONNECTED, Lab, RELAY, TOKEN};
use crate::support::process::{Process, infisical};
use crate::support::write_private;

fn command(lab: &Lab, words: &[&str], config: &Path) -> Command {
    let mut command = infisical(lab.dir());
    command.args(words).arg("--config").arg(config);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn both_roles_start_from_a_file_alone_in_either_form() {
    let lab = Lab::new().await;
    let (host, url) = (lab.host, lab.platform.url());
    let relay_config = lab.dir().join("relay.toml");
    let relay_text = format!(
        "# A relay.\nrelay_name = \"{RELAY}\"\nrelay_host = '{host}'\napi_url = \"{url}\"\n\
         relay_ssh_listen = \"{host}:2222\"\nrelay_tls_listen = \"{host}:8443\" # both\ntoken = \"{TOKEN}\"\n"
    );
    write_private(&relay_config, &relay_text);
    let relay = command(&lab, &["relay", "start"], &relay_config);
    let relay = Process::spawn("relay", relay);
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let gateway_config = lab.dir().join("gateway.conf");
    for text in [
        format!(
            "gateway_name = \"{GATEWAY}\"\nrelay_name = '{RELAY}'\napi_url = \"{url}\"\ntoken = \"{TOKEN}\"\n"
        ),
        format!(
            "INFISICAL_GATEWAY_NAME={GATEWAY}\nINFISICAL_RELAY_NAME='{RELAY}'\nINFISICAL_API_URL={url}\n\
             INFISICAL_TOKEN={TOKEN}\n# The deployed program's.\nINFISICAL_PKCS11_MODULE=/lib/module.so\n"
        ),
    ] {
        write_private(&gateway_config, &text);
        let mark = relay.mark();
        let gateway = command(&lab, &["gateway", "start"], &gateway_config);
        let gateway = Process::spawn("gateway", gateway);
        gateway.wait_for_line("Gateway started successfully").await;
        relay.wait_for_line_after(mark, GATEWAY_CONNECTED).await;
        let warned = gateway.output().contains("INFISICAL_PKCS11_MODULE");
        assert_eq!(warned, text.contains("INFISICAL_PKCS11_MODULE"));
        gateway.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_every_setting_and_contacts_nobody() {
    let lab = Lab::new().await;
    let config = lab.dir().join("gateway.conf");
    let platform = TcpListener::bind((lab.host, 0)).expect("a port");
    platform.set_nonblocking(true).expect("set");
    let url = format!("http://{}", platform.local_addr().expect("an address"));
    let text = format!("gateway_name = \"{GATEWAY}\"\ntoken = \"{TOKEN}\"\napi_url = \"{url}\"\n");
    write_private(&config, &text);
    let check = command(&lab, &["gateway", "check"], &config);
    let check = Process::spawn("check", check);
    assert_eq!(check.exit_code().await, 0);
    let output = check.stdout();
    for part in [GATEWAY, &url, "<secret>", "file, line 2", "default"] {
        assert!(output.contains(part), "{part} is missing: {output}");
    }
    assert!(!check.output().contains(TOKEN), "the token is shown");
    assert!(
        lab.platform.requests("").is_empty(),
        "it asked the platform"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_every_mistake_at_once_and_exits_with_78() {
    let lab = Lab::new().await;
    let config = lab.dir().join("relay.conf");
    let text = format!("relay_nam = \"x\"\ntoken = {TOKEN}\nrelay_host = 5\n[relay]\n");
    write_private(&config, &text);
    let check = command(&lab, &["relay", "check", "--tls-listen", "8443"], &config);
    let check = Process::spawn("check", check);
    assert_eq!(check.exit_code().await, 78);
    let output = check.output();
    for part in [
        "line 1: unknown key relay_nam, did you mean relay_name?",
        "line 2: token: string values must be quoted",
        "line 3: relay_host must be a string",
        "line 4: keys stand alone",
        "--tls-listen: must be an IP address and a port",
    ] {
        assert!(output.contains(part), "{part} is missing: {output}");
    }
    assert!(!output.contains(TOKEN), "the token is shown");
}
