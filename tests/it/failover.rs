//! Another relay is used when it helps, and a person need not wait.

use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::daemon::{GatewayCommand, RelayCommand};
use crate::support::eventually;
use crate::support::fake_platform::Answer;
use crate::support::lab::{GATEWAY_HEARTBEAT, Lab, REGISTER_GATEWAY};
use crate::support::loopback;
use crate::support::process::Process;
use crate::support::session::echoes;
use crate::support::stack::{RELAY, Stack};
use crate::support::targets::Target;

const OTHER_RELAY: &str = "relay-two";
const GATEWAY: &str = "gateway-two";

/// A stack with two relays, and a gateway that may choose.
struct Choice {
    stack: Stack,
    other: Process,
    gateway: Process,
    command: GatewayCommand,
}

impl Choice {
    async fn start() -> Self {
        let stack = Stack::start().await;
        let token = stack.platform.identity_token("relay-two").await;
        let keys = format!("INFISICAL_TOKEN={token}\n");
        let host = loopback::address();
        let url = &stack.platform.url;
        let other = RelayCommand::new(stack.dir(), OTHER_RELAY, host, url, &keys);
        let other = other.spawn(stack.dir());
        // Only then does the platform count it as healthy.
        other.wait_for_line("Relay is reachable by Infisical").await;
        let token = stack.platform.identity_token("gateway-two").await;
        let keys = format!("INFISICAL_TOKEN={token}\n");
        let mut command = GatewayCommand::new(stack.dir(), GATEWAY, url, RELAY, &keys);
        command.relay = None;
        command
            .more
            .extend(["--log-level", "debug"].map(str::to_owned));
        let gateway = command.spawn(stack.dir());
        gateway
            .wait_for_line("Gateway is reachable by Infisical")
            .await;
        Self {
            stack,
            other,
            gateway,
            command,
        }
    }

    /// Starts the gateway again with more of an environment.
    fn spawn(&self, environment: &[(&str, &Path)]) -> Process {
        let mut command = self.command.command(self.stack.dir());
        command.envs(environment.iter().copied());
        Process::spawn("gateway", command)
    }

    /// The relay of the last line that says that the tunnel is up, after `mark`.
    async fn relay_after(&self, mark: usize, line: &str) -> String {
        let line = self.gateway.wait_for_line_after(mark, line).await;
        let name = line.split("relay.name=").nth(1).expect("a relay");
        name.split_whitespace().next().expect("its name").to_owned()
    }

    fn relay(&self, name: &str) -> &Process {
        match name {
            RELAY => &self.stack.relay,
            OTHER_RELAY => &self.other,
            name => panic!("no relay {name}"),
        }
    }

    async fn works(&self, echo: &Target) {
        eventually("a session", || async {
            let (ip, port) = (echo.address.ip().to_string(), echo.address.port());
            let way = self.stack.platform.way(GATEWAY, &ip, port).await;
            let mut stream = way.tcp().await?;
            echoes(&mut stream, b"hello").await
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_relay_that_ends_is_replaced() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let choice = Choice::start().await;
        let echo = Target::echo(choice.stack.host).await;
        choice.works(&echo).await;
        let first = choice.relay_after(0, "Gateway started successfully").await;
        let mark = choice.gateway.mark();
        choice.relay(&first).signal(signal);
        let second = choice.relay_after(mark, "the tunnel is up again").await;
        assert_ne!(first, second, "{signal}");
        choice.works(&echo).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_moves_gateway_off_a_vanished_relay() {
    let choice = Choice::start().await;
    let echo = Target::echo(choice.stack.host).await;
    let (ip, port) = (echo.address.ip().to_string(), echo.address.port());
    let way = choice.stack.platform.way(GATEWAY, &ip, port).await;
    let mut old = way.tcp().await.expect("a session");
    echoes(&mut old, b"before").await.expect("an echo");
    let first = choice.relay_after(0, "Gateway started successfully").await;
    let platform = &choice.stack.platform;
    let (_, relays) = platform.request(reqwest::Method::GET, "relays", None).await;
    let mut relays = relays.as_array().expect("a list").iter();
    let relay = relays.find(|row| row["name"] == first.as_str());
    // A relay goes with the identity that registered it.
    let identity = relay
        .and_then(|row| row["identityId"].as_str())
        .expect("its identity");
    let path = format!("identities/{identity}");
    let (status, answer) = platform.request(reqwest::Method::DELETE, &path, None).await;
    assert_eq!(status, 200, "{answer}");
    let mark = choice.gateway.mark();
    choice.gateway.signal(Signal::SIGUSR2);
    let second = choice.relay_after(mark, "the tunnel is up again").await;
    assert_ne!(first, second);
    choice.works(&echo).await;
    echoes(&mut old, b"after")
        .await
        .expect("the old session goes on");
}

/// A start prefers the relay of the run before; failover and every other choice replace it.
#[tokio::test(flavor = "multi_thread")]
async fn restart_prefers_the_relay_that_worked() {
    let mut choice = Choice::start().await;
    let config = choice.stack.dir().join("gateway-gateway-two.conf");
    let cached = config.with_extension("cached_relay");
    let first = choice.relay_after(0, "Gateway started successfully").await;
    let is_cached = |name: String| {
        let cached = &cached;
        async move {
            eventually("the relay is cached", || async {
                let text = std::fs::read_to_string(cached).map_err(|error| error.to_string())?;
                // The bare name, without a newline.
                (text == name).then_some(()).ok_or(text)
            })
            .await;
        }
    };
    is_cached(first.clone()).await;
    // The other one, whichever is the faster.
    for wanted in [OTHER_RELAY, RELAY, OTHER_RELAY] {
        choice.gateway.kill().await;
        std::fs::write(&cached, wanted).expect("written");
        choice.gateway = choice.spawn(&[]);
        let relay = choice.relay_after(0, "Gateway started successfully").await;
        assert_eq!(relay, wanted);
    }
    let mark = choice.gateway.mark();
    choice.relay(OTHER_RELAY).kill().await;
    let second = choice.relay_after(mark, "the tunnel is up again").await;
    assert_eq!(second, RELAY);
    is_cached(second).await;
    // A relay that does not answer is not preferred, nor one that does not exist.
    for gone in [OTHER_RELAY, "no-such-relay", "", "two\nlines"] {
        choice.gateway.kill().await;
        std::fs::write(&cached, gone).expect("written");
        choice.gateway = choice.spawn(&[]);
        let relay = choice.relay_after(0, "Gateway started successfully").await;
        assert_eq!(relay, RELAY, "{gone:?}");
        is_cached(relay).await;
    }
    // A service has a directory of its own for it.
    choice.gateway.kill().await;
    std::fs::remove_file(&cached).expect("removed");
    let state = choice.stack.dir().join("state");
    std::fs::create_dir(&state).expect("a directory");
    choice.gateway = choice.spawn(&[("STATE_DIRECTORY", &state)]);
    let relay = choice.relay_after(0, "Gateway started successfully").await;
    eventually("the relay is cached", || async {
        let text = std::fs::read_to_string(state.join("cached_relay"));
        let text = text.map_err(|error| error.to_string())?;
        (text == relay).then_some(()).ok_or(text)
    })
    .await;
    assert!(!cached.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn user_ends_a_wait_the_platform_requested() {
    let lab = Lab::new().await;
    let busy = Answer::error(429, "slow down", "req-1").header("retry-after", "600");
    lab.platform.always(REGISTER_GATEWAY, busy);
    let gateway = lab.gateway_command().spawn(lab.dir());
    lab.platform.asked(REGISTER_GATEWAY, 1).await;
    gateway.wait_for_line("not connected; trying again").await;
    gateway.signal(Signal::SIGUSR2);
    lab.platform.asked(REGISTER_GATEWAY, 2).await;
    assert!(gateway.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_reports_platform_that_cannot_reach_it() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let (mark, asked) = (
        gateway.mark(),
        lab.platform.requests(REGISTER_GATEWAY).len(),
    );
    let deaf = Answer::error(400, "the gateway cannot be reached", "req-1");
    lab.platform.always(GATEWAY_HEARTBEAT, deaf);
    let seen = gateway
        .wait_for_line_after(mark, "looked for what is broken")
        .await;
    assert!(seen.contains("the tunnel answers"), "{seen}");
    lab.platform.asked(REGISTER_GATEWAY, asked + 1).await;
    assert!(
        !gateway.output()[mark..].contains("not connected"),
        "the tunnel was cut"
    );
}
