//! The tables of scenarios, and what is asserted in each.

use std::net::{IpAddr, Ipv6Addr};
use std::panic::AssertUnwindSafe;
use std::process::{Command, ExitCode};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use nix::unistd::Pid;
use serde_json::json;
use tokio::time::Instant;

use crate::cpu_group::CpuGroup;
use crate::crowd;
use crate::honest;
use crate::organization;
use crate::support::choice::Choice;
use crate::support::lab::{Lab, RELAY};
use crate::support::loopback;
use crate::support::process::Process;
use crate::support::ssh_ca::{self, SshCa, SshCert, SshKey};
use crate::support::targets::Target;
use crate::support::wanting;

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
/// An IPv6 network of 48 bits, all of whose addresses are this machine's (`network`).
const NETWORK: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xbad, 1, 0, 0, 0, 0, 0);

/// One attack.
struct Scenario {
    name: &'static str,
    /// In the words of docs/reliability.md.
    row: &'static str,
    kind: &'static str,
    from: Origin,
    /// The relay's part of one core at most, in percent, with what the honest ones cost.
    cpu: u64,
}

/// Where an attack comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// One IPv4 address.
    Address,
    /// All IPv6 networks of 64 bits in one of 48.
    Network,
}

/// CPU of one source: a tenth of a core for what it has computed and a twentieth for connections
/// that fail, bursts of 6 % more over the whole time, what it takes to refuse the rest, and the
/// honest ones, 5 %.
const SOURCE: u64 = 35;
/// The same of a network of 48 bits, which may have twice as much.
const SITE: u64 = 50;

const FLOODS: [Scenario; 12] = [
    Scenario {
        name: "exchange_group14",
        row: "SSH key exchanges by `diffie-hellman-group14-sha256`, abandoned",
        kind: "diffie-hellman-group14-sha256",
        from: Origin::Address,
        cpu: SOURCE,
    },
    Scenario {
        name: "exchange_group18",
        row: "SSH key exchanges by `diffie-hellman-group18-sha512`, which is not offered",
        kind: "diffie-hellman-group18-sha512",
        from: Origin::Address,
        cpu: SOURCE,
    },
    Scenario {
        name: "exchange_curve25519",
        row: "SSH key exchanges by `curve25519-sha256`, abandoned",
        kind: "curve25519-sha256",
        from: Origin::Address,
        cpu: SOURCE,
    },
    Scenario {
        name: "exchange_nistp256",
        row: "SSH key exchanges by `ecdh-sha2-nistp256`, abandoned",
        kind: "ecdh-sha2-nistp256",
        from: Origin::Address,
        cpu: SOURCE,
    },
    Scenario {
        name: "exchange_mlkem",
        row: "SSH key exchanges by `mlkem768x25519-sha256`, abandoned",
        kind: "mlkem768x25519-sha256",
        from: Origin::Address,
        cpu: SOURCE,
    },
    Scenario {
        name: "ssh_stranger",
        row: "SSH user certificates of another authority, by RSA-4096",
        kind: "stranger",
        from: Origin::Address,
        cpu: SOURCE,
    },
    Scenario {
        name: "tls_handshakes",
        row: "full handshakes of TLS 1 without a certificate",
        kind: "tls",
        from: Origin::Address,
        cpu: SOURCE,
    },
    Scenario {
        name: "tls_forged",
        row: "the same with certificates for RSA-16384, RSA-8192 with the longest exponent, and RSA-8192",
        kind: "forged",
        from: Origin::Address,
        cpu: SOURCE,
    },
    Scenario {
        name: "garbage",
        row: "4 KiB of garbage on each port",
        kind: "garbage",
        from: Origin::Address,
        cpu: SOURCE,
    },
    Scenario {
        name: "network_exchange",
        row: "SSH key exchanges by `diffie-hellman-group14-sha256` from all of a /48, abandoned",
        kind: "diffie-hellman-group14-sha256",
        from: Origin::Network,
        cpu: SITE,
    },
    Scenario {
        name: "network_places",
        row: "1500 silent connections from all of a /48, opened repeatedly",
        kind: "hold",
        from: Origin::Network,
        cpu: SITE,
    },
    Scenario {
        name: "rekey_loop",
        row: "a gateway with a good certificate that exchanges keys in a loop",
        kind: "rekey",
        from: Origin::Address,
        cpu: SOURCE,
    },
];

/// Many honest peers of one address.
struct Crowd {
    name: &'static str,
    row: &'static str,
    /// Memory that the relay may take, in MiB.
    memory: u64,
    run: for<'a> fn(&'a Lab, &'a Process) -> LocalBoxFuture<'a, crowd::Outcome>,
}

const CROWDS: [Crowd; 4] = [
    Crowd {
        name: "crowd_sessions",
        row: "200 new sessions each second from one address",
        memory: MEMORY,
        run: |lab, relay| crowd::sessions(lab, relay).boxed_local(),
    },
    Crowd {
        name: "crowd_gateways",
        row: "2000 gateways of one address connect, 200 at a time, and stay",
        memory: 192,
        run: |lab, relay| crowd::gateways(lab, relay).boxed_local(),
    },
    Crowd {
        name: "crowd_storm",
        row: "2000 gateways of one address connect in one moment, and stay",
        memory: 192,
        run: |lab, relay| crowd::storm(lab, relay).boxed_local(),
    },
    Crowd {
        name: "crowd_deployed_gateways",
        row: "200 gateways of one address that speak `diffie-hellman-group14-sha256` only",
        memory: MEMORY,
        run: |lab, relay| crowd::deployed_gateways(lab, relay).boxed_local(),
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
    for flood in FLOODS.iter().filter(|flood| choice.has(flood.name)) {
        let attack = AssertUnwindSafe(flood.run(&group));
        if attack.catch_unwind().await.is_err() {
            failed.push(flood.name);
        }
    }
    println!();
    println!("| crowd | served | time | relay's CPU | memory (bound) |");
    println!("| --- | --- | --- | --- | --- |");
    for crowd in CROWDS.iter().filter(|crowd| choice.has(crowd.name)) {
        if AssertUnwindSafe(crowd.run()).catch_unwind().await.is_err() {
            failed.push(crowd.name);
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
        let relay = self.relay(&lab).await;
        let gateway = lab.gateway(&relay).await;
        let echo = Target::echo(lab.host).await;
        let way = lab.way(echo.address);
        let mut session = way.tcp().await.expect("a session before the attack");
        let before = memory(relay.pid());
        let begin = cpu(relay.pid());

        let attacker = self.attacker(&lab, group);
        let pid = relay.pid();
        let first_second = async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cpu(pid)
        };
        let work = honest::work(&mut session, &way, LASTS);
        let ((round_trips, sessions), first_second) = tokio::join!(work, first_second);
        assert!(attacker.is_running(), "{}: no attack any more", self.name);
        let percent = (cpu(relay.pid()) - begin) * 100 / LASTS.as_secs() / TICKS;
        let taken = memory(relay.pid()).saturating_sub(before) >> 20;
        let first_second = first_second - begin;
        let counts = attacker.output();
        let counts = counts.lines().last().unwrap_or_default().to_owned();
        attacker.kill().await;

        println!(
            "| {} | {counts} | {percent} % ({} %), {first_second} % in the first second | {taken} MiB ({MEMORY} MiB) | {round_trips}, {sessions} |",
            self.row, self.cpu
        );
        assert!(percent <= self.cpu, "{}: {percent} % of a core", self.name);
        assert!(taken <= MEMORY, "{}: {taken} MiB", self.name);
        assert!(sessions.count() > 0 && round_trips.count() > 0);
        assert!(relay.is_running() && gateway.is_running());
    }

    async fn relay(&self, lab: &Lab) -> Process {
        match self.from {
            Origin::Address => relay(lab, lab.host.into()).await,
            Origin::Network => relay(lab, Ipv6Addr::UNSPECIFIED.into()).await,
        }
    }

    fn attacker(&self, lab: &Lab, group: &CpuGroup) -> Process {
        let (from, to): (IpAddr, IpAddr) = match self.from {
            Origin::Address => (loopback::address().into(), lab.host.into()),
            Origin::Network => (NETWORK.into(), Ipv6Addr::LOCALHOST.into()),
        };
        let file = lab.dir().join("attacker");
        let text = match self.kind {
            "rekey" | "stranger" => hostile_gateway(lab, self.kind),
            _ => lab.relay_pki.server_anchors(),
        };
        std::fs::write(&file, text).expect("writing");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["attack", self.kind]);
        command.args([from.to_string(), to.to_string()]);
        command.arg(file);
        Process::spawn("attacker", group.within(&command))
    }
}

impl Crowd {
    async fn run(&self) {
        let lab = Lab::new().await;
        let relay = relay(&lab, lab.host.into()).await;
        let gateway = lab.gateway(&relay).await;
        let (memory_before, cpu_before) = (memory(relay.pid()), cpu(relay.pid()));
        let begin = Instant::now();
        let outcome = (self.run)(&lab, &relay).await;
        let whole = begin.elapsed();
        let ticks = cpu(relay.pid()) - cpu_before;
        let taken = memory(relay.pid()).saturating_sub(memory_before) >> 20;
        println!(
            "| {} | {} | {:.1} s | {:.1} s | {taken} MiB ({} MiB) |",
            self.row,
            outcome.counts,
            outcome.time.as_secs_f64(),
            Duration::from_millis(ticks * 1000 / TICKS).as_secs_f64(),
            self.memory
        );
        assert!(taken <= self.memory, "{}: {taken} MiB", self.name);
        assert!(whole >= outcome.time);
        assert!(relay.is_running() && gateway.is_running());
    }
}

/// A relay that serves, with the log that it has in production.
async fn relay(lab: &Lab, listen: IpAddr) -> Process {
    let mut command = lab.relay_command();
    command.more.retain(|flag| flag != "--log-level=debug");
    command.listen = listen;
    let relay = command.spawn(lab.dir());
    let started = "Relay server started successfully";
    relay.wait_for_line(started).await;
    relay
}

/// Credentials of a gateway: of another tenant, or of another authority.
fn hostile_gateway(lab: &Lab, kind: &str) -> String {
    let key = SshKey::generate(lab.dir(), "hostile", "ed25519");
    let certificate = SshCert::user(RELAY, HOSTILE);
    let authority = match kind {
        "stranger" => &SshCa::with_key(lab.dir(), rsa_4096(lab)),
        _ => &lab.user_ca,
    };
    json!({
        "gatewayId": HOSTILE,
        "relayHost": lab.host.to_string(),
        "ssh": {
            "clientCertificate": authority.certificate_line(&key, &certificate),
            "clientPrivateKey": key.private(),
            "serverCAPublicKey": lab.host_ca.key.public,
        },
    })
    .to_string()
}

fn rsa_4096(lab: &Lab) -> SshKey {
    let file = lab.dir().join("stranger-rsa");
    let path = file.to_str().expect("UTF-8");
    let arguments = [
        "-q", "-t", "rsa", "-b", "4096", "-N", "", "-C", "", "-f", path,
    ];
    ssh_ca::run("ssh-keygen", &arguments);
    let public = std::fs::read_to_string(file.with_extension("pub")).expect("a public key");
    let public = public.trim().to_owned();
    SshKey { file, public }
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
