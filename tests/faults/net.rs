//! Machines and the network between them: network namespaces, each with one cable to a router in
//! the middle.
//!
//! Names carry the test's process id, so that tests run beside each other, and what a killed one
//! left behind is found and removed. All addresses are the same in every network: nothing of them
//! is seen outside.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::launch;

/// What the names of our namespaces begin with.
const PREFIX: &str = "infisical-fault-";
/// Where iproute2 keeps namespaces, and the files that it shows in them in the place of those of
/// /etc.
const NAMESPACES: &str = "/run/netns";
const FILES: &str = "/etc/netns";
/// Where the router's own proxy is.
pub(crate) const PROXY_PORT: u16 = 12222;

/// The routing table of packets into the line's near end; the next one is of its far end.
const LINE_TABLE: u32 = 101;

/// What has a network of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    Platform,
    Relay,
    RelayTwo,
    Gateway,
    /// Where a gateway goes when its machine vanishes.
    Elsewhere,
    /// The test's own side: anyone who wants sessions, and the administrator.
    Client,
}

const MACHINES: [Machine; 6] = [
    Machine::Platform,
    Machine::Relay,
    Machine::RelayTwo,
    Machine::Gateway,
    Machine::Elsewhere,
    Machine::Client,
];

impl Machine {
    /// The router's end of its cable has this name too.
    fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Relay => "relay",
            Self::RelayTwo => "relay-two",
            Self::Gateway => "gateway",
            Self::Elsewhere => "elsewhere",
            Self::Client => "client",
        }
    }

    fn network(self) -> u8 {
        1 + u8::try_from(
            MACHINES
                .iter()
                .position(|m| *m == self)
                .expect("one of them"),
        )
        .expect("few")
    }

    pub(crate) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.network(), 2)
    }

    /// One more address that the router would carry.
    pub(crate) fn second_address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.network(), 9)
    }

    /// The router, as this machine sees it.
    pub(crate) fn router(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.network(), 1)
    }
}

/// How a firewall blocks a port.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Block {
    /// No answer.
    Drop,
    /// Connections are refused.
    Reset,
    /// Connections are answered by ICMP.
    Prohibit,
    /// Connections are made, and reset as soon as they carry data.
    Cut,
}

/// The two ends of a long line, both on the router.
pub(crate) const LINE_NEAR: &str = "line-near";
pub(crate) const LINE_FAR: &str = "line-far";

/// A long line: the same in each direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) megabits: u64,
    pub(crate) one_way: Duration,
    /// How far the line may be behind before it drops packets.
    pub(crate) queue: Duration,
    /// Packets that are lost at random.
    pub(crate) lost_per_100_000: u64,
    pub(crate) mtu: u16,
}

impl Line {
    /// For the command line of the process that joins the two ends.
    pub(crate) fn words(&self) -> [String; 5] {
        [
            self.megabits,
            millis(self.one_way),
            millis(self.queue),
            self.lost_per_100_000,
            self.mtu.into(),
        ]
        .map(|number| number.to_string())
    }

    pub(crate) fn from_words(words: &[&str]) -> Self {
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        Self {
            megabits: number(0),
            one_way: Duration::from_millis(number(1)),
            queue: Duration::from_millis(number(2)),
            lost_per_100_000: number(3),
            mtu: u16::try_from(number(4)).expect("an MTU"),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("short")
}

/// All of it; gone when dropped.
pub(crate) struct Net {
    prefix: String,
    /// What the router drops, as nftables says it.
    drops: Vec<String>,
    /// Ports that it blocks.
    blocks: Vec<String>,
    /// What the router sends to its own proxy.
    detours: Vec<String>,
}

impl Net {
    pub(crate) fn build() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let net = Self {
            prefix: format!("{PREFIX}{}-{number}-", std::process::id()),
            drops: Vec::new(),
            blocks: Vec::new(),
            detours: Vec::new(),
        };
        let router = net.router();
        let mut all = format!("netns add {router}\n");
        let mut middle = "link set lo up\n".to_owned();
        for machine in MACHINES {
            let (name, namespace) = (machine.name(), net.namespace(machine));
            let _ = writeln!(all, "netns add {namespace}");
            let _ = writeln!(
                all,
                "link add {name} netns {router} type veth peer name eth0 netns {namespace}"
            );
            let _ = writeln!(middle, "address add {}/24 dev {name}", machine.router());
            let _ = writeln!(middle, "link set {name} up");
        }
        run(Command::new("ip").args(["-batch", "-"]), &all);
        run(
            Command::new("ip").args(["-n", &router, "-batch", "-"]),
            &middle,
        );
        for machine in MACHINES {
            net.ip(
                machine,
                &format!(
                    "link set lo up\naddress add {}/24 dev eth0\nlink set eth0 up\nroute add default via {}\n",
                    machine.address(),
                    machine.router()
                ),
            );
        }
        set(&router, "net/ipv4/ip_forward", 1);
        net.apply();
        net
    }

    fn router(&self) -> String {
        format!("{}net", self.prefix)
    }

    fn namespace(&self, machine: Machine) -> String {
        format!("{}{}", self.prefix, machine.name())
    }

    /// The calling thread, and those that it makes, are on this machine from now on.
    pub(crate) fn enter(&self, machine: Machine) {
        let path = Path::new(NAMESPACES).join(self.namespace(machine));
        let namespace = File::open(path).expect("the namespace");
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
    }

    /// `command` on this machine, with this machine's files in /etc. It keeps its process id.
    pub(crate) fn on(&self, machine: Machine, command: &Command) -> Command {
        within(&self.namespace(machine), command)
    }

    /// The same on the router.
    pub(crate) fn on_router(&self, command: &Command) -> Command {
        within(&self.router(), command)
    }

    /// `ip` on this machine, a command on each line.
    pub(crate) fn ip(&self, machine: Machine, commands: &str) {
        let namespace = self.namespace(machine);
        run(
            Command::new("ip").args(["-n", &namespace, "-batch", "-"]),
            commands,
        );
    }

    /// The same on the router.
    pub(crate) fn ip_router(&self, commands: &str) {
        let namespace = self.router();
        run(
            Command::new("ip").args(["-n", &namespace, "-batch", "-"]),
            commands,
        );
    }

    /// A setting of this machine's kernel, below /proc/sys.
    pub(crate) fn set(&self, machine: Machine, setting: &str, value: u32) {
        set(&self.namespace(machine), setting, value);
    }

    /// Pulls the machine's cable, or plugs it in again: unlike silence, the kernel of either end
    /// knows at once.
    pub(crate) fn plug(&self, machine: Machine, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        self.ip_router(&format!("link set {} {state}", machine.name()));
    }

    /// From now on what `from` sends to `to` is lost on its way.
    pub(crate) fn silence(&mut self, from: Machine, to: Machine) {
        self.drops.push(format!(
            "iifname \"{}\" ip daddr {} drop",
            from.name(),
            to.address()
        ));
        self.apply();
    }

    /// From now on what goes to or from `machine` is lost.
    pub(crate) fn isolate(&mut self, machine: Machine) {
        self.drops
            .push(format!("iifname \"{}\" drop", machine.name()));
        self.drops
            .push(format!("ip daddr {} drop", machine.address()));
        self.apply();
    }

    /// From now on what `machine` asks of DNS servers is lost.
    pub(crate) fn silence_dns(&mut self, machine: Machine) {
        self.drops
            .push(format!("iifname \"{}\" udp dport 53 drop", machine.name()));
        self.apply();
    }

    /// From now on whatever has this address of `machine` is lost.
    pub(crate) fn silence_address(&mut self, machine: Machine, address: Ipv4Addr) {
        let name = machine.name();
        self.drops
            .push(format!("iifname \"{name}\" ip saddr {address} drop"));
        self.drops.push(format!("ip daddr {address} drop"));
        self.apply();
    }

    /// From now on connections of `from` to this port of `to` are blocked.
    pub(crate) fn block(&mut self, from: Machine, (to, port): (Machine, u16), how: Block) {
        let verdict = match how {
            Block::Drop => "drop",
            Block::Reset => "reject with tcp reset",
            Block::Prohibit => "reject with icmp type admin-prohibited",
            Block::Cut => "tcp flags & psh == psh reject with tcp reset",
        };
        let (from, to) = (from.name(), to.address());
        let rule = format!("iifname \"{from}\" ip daddr {to} tcp dport {port} {verdict}");
        self.blocks.push(rule);
        self.apply();
    }

    /// From now on connections of `from` to a port of `to` end at a port of another machine, until
    /// the detour of `from` is taken away.
    pub(crate) fn divert(&mut self, from: Machine, to: (Machine, u16), other: (Machine, u16)) {
        let (from, to, port) = (from.name(), to.0.address(), to.1);
        let other = SocketAddr::from((other.0.address(), other.1));
        self.detours.push(format!(
            "iifname \"{from}\" ip daddr {to} tcp dport {port} dnat to {other}"
        ));
        self.apply();
    }

    /// Nothing is lost or blocked any more.
    pub(crate) fn heal(&mut self) {
        self.drops.clear();
        self.blocks.clear();
        self.apply();
    }

    /// New connections of `from` to the relay's port for gateways end at the router's proxy, or no
    /// longer.
    pub(crate) fn detour(&mut self, from: Machine, through_proxy: bool) {
        self.detours.clear();
        if through_proxy {
            self.detours.push(format!(
                "iifname \"{}\" ip daddr {} tcp dport 2222 redirect to :{PROXY_PORT}",
                from.name(),
                Machine::Relay.address()
            ));
        }
        self.apply();
    }

    /// From now on packets between the two machines take the line, whose ends are there already.
    pub(crate) fn through_line(&self, near: Machine, far: Machine, line: &Line) {
        let mut commands = String::new();
        for (device, table, from, to) in [
            (LINE_NEAR, LINE_TABLE, near, far),
            (LINE_FAR, LINE_TABLE + 1, far, near),
        ] {
            for setting in [device, "all"] {
                // Packets come from the line with addresses to which there is another way.
                let setting = format!("net/ipv4/conf/{setting}/rp_filter");
                set(&self.router(), &setting, 0);
            }
            let _ = writeln!(commands, "link set {device} txqueuelen 2000 up");
            let _ = writeln!(commands, "link set {} mtu {}", from.name(), line.mtu);
            let _ = writeln!(commands, "route add default dev {device} table {table}");
            let (from_name, to) = (from.name(), to.address());
            let _ = writeln!(commands, "rule add iif {from_name} to {to} table {table}");
            self.ip(from, &format!("link set eth0 mtu {}\n", line.mtu));
        }
        self.ip_router(&commands);
    }

    /// A file that this machine has in the place of `/etc/NAME`; for processes that start later.
    pub(crate) fn etc(&self, machine: Machine, name: &str, text: &str) {
        let folder = self.files(machine);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(name), text).expect("a file");
    }

    fn files(&self, machine: Machine) -> PathBuf {
        Path::new(FILES).join(self.namespace(machine))
    }

    /// The router's rules as they are to be, all at once.
    fn apply(&self) {
        let drops = self.drops.join("\n");
        let blocks = self.blocks.join("\n");
        let detours = self.detours.join("\n");
        let rules = format!(
            "table ip faults {{}}\n\
             delete table ip faults\n\
             table ip faults {{\n\
             chain lost {{\ntype filter hook prerouting priority -300;\n{drops}\n}}\n\
             chain blocked {{\ntype filter hook forward priority 0;\n{blocks}\n}}\n\
             chain detour {{\ntype nat hook prerouting priority -100;\n{detours}\n}}\n\
             }}\n"
        );
        let router = self.router();
        run(
            Command::new("ip").args(["netns", "exec", &router, "nft", "-f", "-"]),
            &rules,
        );
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        remove(&self.router());
        for machine in MACHINES {
            remove(&self.namespace(machine));
        }
    }
}

/// Removes what tests have left whose processes are no more.
pub(crate) fn remove_stale() {
    for folder in [NAMESPACES, FILES] {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.map_while(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove(&name);
            }
        }
    }
}

fn set(namespace: &str, setting: &str, value: u32) {
    let write = format!("echo {value} >/proc/sys/{setting}");
    let mut command = Command::new("ip");
    run(
        command.args(["netns", "exec", namespace, "sh", "-c", &write]),
        "",
    );
}

/// Anyone who is still in a namespace keeps it, without its name.
fn remove(namespace: &str) {
    let mut command = Command::new("ip");
    command.args(["netns", "delete", namespace]);
    let _ = command.stderr(Stdio::null()).status();
    let _ = std::fs::remove_dir_all(Path::new(FILES).join(namespace));
}

fn within(namespace: &str, command: &Command) -> Command {
    let mut ip = Command::new("ip");
    ip.args(["netns", "exec", namespace]);
    launch::by(ip, command)
}

/// Runs `command` with `input`; it must succeed.
fn run(command: &mut Command, input: &str) {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("input is taken");
    drop(stdin);
    let output = child.wait_with_output().expect("an end");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {complaints}\n{input}"
    );
}
