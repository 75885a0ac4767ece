//! The table of scenarios, and what is asserted in each.

use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::process::{Command, ExitCode};
use std::time::Duration;

use futures_util::FutureExt as _;
use nix::unistd::Pid;
use serde_json::json;

use crate::cpu_group::CpuGroup;
use crate::honest;
use crate::organization;
use crate::privileged::choice::Choice;
use crate::privileged::wanting;
use crate::support::lab::{Lab, RELAY};
use crate::support::loopback;
use crate::support::process::Process;
use crate::support::ssh_ca::{SshCert, SshKey};
use crate::support::targets::Target;

/// How long each attack lasts.
const LASTS: Duration = Duration::from_secs(10);
/// The attacker's part of one core, in percent.
const QUOTA: u32 = 20;
/// Memory that the relay may take for an attack, in MiB.
const MEMORY: u64 = 64;
/// Ticks in which Linux counts CPU time, each second.
const TICKS: u64 = 100;
/// The attacking gateway.
const HOSTILE: &str = "b2f7a0d2-0f41-4d52-9a53-5a5d6f0f9c11";

/// One attack.
struct Scenario {
    name: &'static str,
    /// In the words of docs/reliability.md.
    row: &'static str,
    kind: &'static str,
    /// The relay's part of one core at most, in percent, with what the honest ones cost.
    cpu: u64,
}

const TABLE: [Scenario; 8] = [
    Scenario {
        name: "exchange_group14",
        row: "SSH key exchanges by `diffie-hellman-group14-sha256`, abandoned",
        kind: "diffie-hellman-group14-sha256",
        cpu: 60,
    },
    Scenario {
        name: "exchange_group18",
        row: "SSH key exchanges by `diffie-hellman-group18-sha512`, which is not offered",
        kind: "diffie-hellman-group18-sha512",
        cpu: 60,
    },
    Scenario {
        name: "exchange_curve25519",
        row: "SSH key exchanges by `curve25519-sha256`, abandoned",
        kind: "curve25519-sha256",
        cpu: 60,
    },
    Scenario {
        name: "exchange_nistp256",
        row: "SSH key exchanges by `ecdh-sha2-nistp256`, abandoned",
        kind: "ecdh-sha2-nistp256",
        cpu: 60,
    },
    Scenario {
        name: "exchange_mlkem",
        row: "SSH key exchanges by `mlkem768x25519-sha256`, abandoned",
        kind: "mlkem768x25519-sha256",
        cpu: 60,
    },
    Scenario {
        name: "tls_handshakes",
        row: "full handshakes of TLS 1 without a certificate",
        kind: "tls",
        cpu: 60,
    },
    Scenario {
        name: "garbage",
        row: "4 KiB of garbage on each port",
        kind: "garbage",
        cpu: 60,
    },
    Scenario {
        name: "rekey_loop",
        row: "a gateway with a good certificate that exchanges keys in a loop",
        kind: "rekey",
        cpu: 60,
    },
];

/// Runs what is chosen.
pub(crate) async fn run(choice: &Choice) -> ExitCode {
    if let Some(why) = wanting::why("test-abuse", &[], &["true"]) {
        println!("SKIPPED: nothing is attacked, {why}");
        return ExitCode::SUCCESS;
    }
    let group = match CpuGroup::make(QUOTA) {
        Ok(group) => group,
        Err(why) => {
            println!("SKIPPED: nothing is attacked, for {why}");
            return ExitCode::SUCCESS;
        }
    };
    println!(
        "| attack | attempts, costly ones | relay's CPU (bound) | memory (bound) | round trip, new session: median / 99 of 100 |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let mut failed = Vec::new();
    for scenario in &TABLE {
        if !choice.has(scenario.name) {
            continue;
        }
        let attack = AssertUnwindSafe(scenario.run(&group));
        if attack.catch_unwind().await.is_err() {
            failed.push(scenario.name);
        }
    }
    if choice.has(organization::NAME)
        && AssertUnwindSafe(organization::run())
            .catch_unwind()
            .await
            .is_err()
    {
        failed.push(organization::NAME);
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("FAILED: {}", failed.join(", "));
    ExitCode::FAILURE
}

impl Scenario {
    async fn run(&self, group: &CpuGroup) {
        let lab = Lab::new().await;
        let relay = lab.relay().await;
        let gateway = lab.gateway(&relay).await;
        let echo = Target::echo(lab.host).await;
        let way = lab.way(echo.address);
        let mut session = way.tcp().await.expect("a session before the attack");
        let before = memory(relay.pid());
        let begin = cpu(relay.pid());

        let attacker = self.attacker(&lab, group);
        let (round_trips, sessions) = honest::work(&mut session, &way, LASTS).await;
        assert!(attacker.is_running(), "{}: no attack any more", self.name);
        let percent = (cpu(relay.pid()) - begin) * 100 / LASTS.as_secs() / TICKS;
        let taken = memory(relay.pid()).saturating_sub(before) >> 20;
        let counts = attacker.output();
        let counts = counts.lines().last().unwrap_or_default().to_owned();
        attacker.kill().await;

        println!(
            "| {} | {counts} | {percent} % ({} %) | {taken} MiB ({MEMORY} MiB) | {round_trips}, {sessions} |",
            self.row, self.cpu
        );
        assert!(percent <= self.cpu, "{}: {percent} % of a core", self.name);
        assert!(taken <= MEMORY, "{}: {taken} MiB", self.name);
        assert!(sessions.count() > 0 && round_trips.count() > 0);
        assert!(relay.is_running() && gateway.is_running());
    }

    fn attacker(&self, lab: &Lab, group: &CpuGroup) -> Process {
        let from: Ipv4Addr = loopback::address();
        let file = lab.dir().join("attacker");
        let text = match self.kind {
            "rekey" => hostile_gateway(lab),
            _ => lab.relay_pki.server_anchors(),
        };
        std::fs::write(&file, text).expect("writing");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["attack", self.kind]);
        command.args([from.to_string(), lab.host.to_string()]);
        command.arg(file);
        Process::spawn("attacker", group.within(&command))
    }
}

/// Credentials of a gateway of another tenant.
fn hostile_gateway(lab: &Lab) -> String {
    let key = SshKey::generate(lab.dir(), "hostile", "ed25519");
    let certificate = SshCert::user(RELAY, HOSTILE);
    json!({
        "gatewayId": HOSTILE,
        "relayHost": lab.host.to_string(),
        "ssh": {
            "clientCertificate": lab.user_ca.certificate_line(&key, &certificate),
            "clientPrivateKey": key.private(),
            "serverCAPublicKey": lab.host_ca.key.public,
        },
    })
    .to_string()
}

/// CPU time of a process so far, in ticks.
fn cpu(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    // Behind the name, which may hold anything, field 3 comes first.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<u64>().expect("a number");
    ticks(14) + ticks(15)
}

/// Resident memory of a process, in bytes.
fn memory(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse::<u64>().ok())
        .expect("a number")
        << 10
}
