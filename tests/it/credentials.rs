//! Each way in which a gateway or relay proves itself to the platform.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;

use crate::support::daemon::{GatewayCommand, RelayCommand};
use crate::support::fake_platform::Answer;
use crate::support::lab::Lab;
use crate::support::mode;
use crate::support::process::Process;
use crate::support::process::infisical;
use crate::support::session::echoes;
use crate::support::stack::{Credential, GATEWAY, Plan, Stack};
use crate::support::targets::Target;

async fn works(plan: &Plan) -> Stack {
    let stack = Stack::plan(plan).await;
    let echo = Target::echo(stack.host).await;
    let mut stream = stack.way(&echo).await.tcp().await.expect("a way");
    echoes(&mut stream, b"hello").await.expect("an echo");
    stack.assert_no_secret_shows();
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn universal_auth_logs_in_both() {
    works(&Plan {
        relay: Credential::UniversalAuth,
        gateway: Credential::UniversalAuth,
        log_level: "trace",
        ..Plan::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instance_relay_registers_with_its_secret() {
    works(&Plan {
        relay: Credential::Instance,
        ..Plan::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_enrollment_command_starts_the_service() {
    let mut stack = works(&Plan {
        relay: Credential::Enrollment,
        gateway: Credential::Enrollment,
        log_level: "trace",
        ..Plan::default()
    })
    .await;
    let config = &stack.gateway_command.config;
    let kept = std::fs::read_to_string(config).expect("the file");
    assert!(
        kept.contains("INFISICAL_GATEWAY_ACCESS_TOKEN="),
        "the issued token is not kept"
    );
    let issued = kept
        .lines()
        .find_map(|line| line.strip_prefix("INFISICAL_GATEWAY_ACCESS_TOKEN="))
        .expect("the issued token");
    stack.secrets.push(issued.to_owned());
    assert_eq!(
        mode(config),
        0o600,
        "the file with the token can be read by others"
    );

    // The token is one-time: a second enrollment would be refused, so starting proves that there
    // was none.
    stack.gateway.kill().await;
    stack.gateway = stack.spawn_gateway();
    stack
        .gateway
        .wait_for_line("Gateway started successfully")
        .await;
    stack.relay.kill().await;
    stack.restart_relay().await;
    assert_eq!(
        std::fs::read_to_string(&stack.gateway_command.config).expect("the file"),
        kept,
        "the second start changed what is kept"
    );
    stack.assert_no_secret_shows();
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_enrollment_token_is_refused_twice() {
    let stack = works(&Plan {
        gateway: Credential::Enrollment,
        ..Plan::default()
    })
    .await;
    // The same token, but nothing kept from before: the platform must refuse the second enrollment.
    let secret = stack.secrets.last().expect("the enrollment token");
    let config = stack.dir().join("fresh.conf");
    crate::support::write_private(&config, &format!("INFISICAL_TOKEN={secret}\n"));
    let mut command = infisical(stack.dir());
    command.args(["gateway", "start", GATEWAY, "--enroll-method=token"]);
    command.args(["--domain", &stack.platform.url]);
    command.arg("--config").arg(&config);
    let second = Process::spawn("second gateway", command);
    assert_ne!(second.exit_code().await, 0);
    assert!(!second.output().contains(secret.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn platform_files_belong_to_their_owner() {
    let stack = Stack::start().await;
    for name in ["platform.db", "admin-token"] {
        let path = stack.platform.state().join(name);
        assert_eq!(mode(&path), 0o600, "{name}");
    }
    let database = std::fs::read(stack.platform.state().join("platform.db")).expect("the file");
    for secret in &stack.secrets {
        let found = database
            .windows(secret.len())
            .any(|bytes| bytes == secret.as_bytes());
        assert!(!found, "a token is in the database as it is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enrollment_survives_a_failing_disk() {
    let lab = Lab::new().await;
    let (store, away) = (lab.dir().join("store"), lab.dir().join("away"));
    for (what, issued) in [
        (
            "POST /api/v3/gateways/token-auth/enroll",
            json!({"accessToken": "obtained", "gatewayId": lab.gateway_id}),
        ),
        (
            "POST /api/v2/relays/login",
            json!({"accessToken": "obtained"}),
        ),
    ] {
        std::fs::create_dir(&store).expect("a directory");
        let release = Arc::new(Notify::new());
        lab.platform.once(what, Answer::ok(&issued).held(&release));
        let (url, keys) = (lab.platform.url(), "INFISICAL_TOKEN=one-time\n");
        let enroll = "--enroll-method=token".to_owned();
        let (process, config) = if what.contains("gateways") {
            let mut command = GatewayCommand::new(&store, "edge", &url, "lab-relay", keys);
            command.more.push(enroll);
            (command.spawn(lab.dir()), command.config)
        } else {
            let mut command = RelayCommand::new(&store, "edge", lab.host, &url, keys);
            command.more.push(enroll);
            (command.spawn(lab.dir()), command.config)
        };
        lab.platform.asked(what, 1).await;
        // The token is as good as spent. Nothing can be written where the directory was.
        std::fs::rename(&store, &away).expect("moved away");
        std::fs::write(&store, "in the way").expect("a file");
        release.notify_one();
        process.wait_for_line("cannot be saved").await;
        std::fs::remove_file(&store).expect("removed");
        std::fs::rename(&away, &store).expect("moved back");
        process.wait_for_line("the access token is saved").await;
        let kept = std::fs::read_to_string(config).expect("the store");
        assert!(kept.contains("obtained"), "{kept}");
        assert_eq!(lab.platform.requests(what).len(), 1, "spent twice");
        process.kill().await;
        std::fs::remove_dir_all(&store).expect("removed");
    }
}
