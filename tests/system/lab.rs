//! A container in which everything is there that a gateway needs: the program, the embedded
//! platform, an instance's relay, and `peer` with an echo to reach. All of it is back after a
//! reboot, without the gateway having any part in it.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::container::{Container, Setup};
use crate::image::Release;
use crate::peer;
use crate::runner::Unsupported;
use crate::wait;

/// The program, where `make install` puts it.
pub(crate) const PROGRAM: &str = "/usr/local/bin/infisical";
/// This binary, for `peer` and `probe`.
pub(crate) const HARNESS: &str = "/usr/local/libexec/infisical-system-test";
/// The platform's address.
pub(crate) const DOMAIN: &str = "http://127.0.0.1:8080";

const PLATFORM_UNIT: &str = "\
[Service]
Type=notify
ExecStart=/usr/local/bin/infisical platform start --listen 127.0.0.1:8080
Environment=HOME=/root
[Install]
WantedBy=multi-user.target
";

/// A relay of the instance, on an address of its own. The secret that it shares with the platform
/// is in its environment only.
fn relay_unit(name: &str, host: &str) -> String {
    format!(
        "[Unit]\n\
         Requires=test-platform.service\n\
         After=test-platform.service\n\
         [Service]\n\
         Type=notify\n\
         RuntimeDirectory=test-{name}\n\
         ExecStart=/bin/sh -c 'INFISICAL_RELAY_AUTH_SECRET=$(cat /var/lib/infisical/platform/relay-auth-secret) \
         exec {PROGRAM} relay start --type instance --name {name} --host {host} \
         --ssh-listen {host}:2222 --tls-listen {host}:8443'\n\
         Environment=HOME=/root INFISICAL_API_URL={DOMAIN}\n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// An uplink that leads nowhere: without any, the system's resolver says that the network is down.
const NETWORK_UNIT: &str = "\
[Unit]
DefaultDependencies=no
Before=network.target network-online.target systemd-resolved.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip link add uplink type veth peer name upstream
ExecStart=/sbin/ip address add 192.0.2.2/24 dev uplink
ExecStart=/sbin/ip link set upstream up
ExecStart=/sbin/ip link set uplink up
ExecStart=/sbin/ip route add default via 192.0.2.1
ExecStop=/sbin/ip link delete uplink
[Install]
WantedBy=multi-user.target
";

const PEER_UNIT: &str = "\
[Service]
Type=notify
ExecStart=/usr/local/libexec/infisical-system-test peer
[Install]
WantedBy=multi-user.target
";

/// Files that a package has beside the program and its units.
const PACKAGED: &[&str] = &[
    "/etc/logrotate.d/infisical",
    "/usr/lib/systemd/catalog/infisical.catalog",
];

/// A container with the rest of the world in it.
pub(crate) struct Lab {
    pub(crate) container: Container,
    /// Where the gateways of this lab find the platform.
    pub(crate) domain: &'static str,
    /// What an administrator says of the platform, and anyone who wants a session; nothing if it is
    /// where they look for it.
    pub(crate) administrator: Vec<String>,
}

impl Lab {
    /// The whole of it, running.
    pub(crate) fn boot(release: Release) -> Self {
        Self::start(Self::setup(release))
    }

    /// Boots what [`Self::setup`] gave.
    pub(crate) fn start(setup: Setup) -> Self {
        let first = setup.try_out(&[PROGRAM, "--version"]);
        let said = String::from_utf8_lossy(&first.stderr);
        if said.contains("GLIBC_") {
            std::panic::panic_any(Unsupported("this machine's C library is newer"));
        }
        assert!(first.status.success(), "{first:?}");
        let container = setup.boot();
        Self {
            container,
            domain: DOMAIN,
            administrator: Vec::new(),
        }
    }

    /// The same before its first boot, for scenarios that want more in it.
    pub(crate) fn setup(release: Release) -> Setup {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
        PACKAGED.iter().fold(Self::bare(release), |setup, path| {
            setup.copy_in(&packaging.join(path.trim_start_matches('/')), path)
        })
    }

    /// The same without anything that a package brings.
    pub(crate) fn bare(release: Release) -> Setup {
        let harness = std::env::current_exe().expect("this binary's path");
        let resolver = format!("[Resolve]\nDNS={}\nDNSSEC=no\n", peer::DNS);
        Setup::new(release)
            .copy_in(Path::new(env!("CARGO_BIN_EXE_infisical")), PROGRAM)
            .copy_in(&harness, HARNESS)
            .write("/etc/systemd/resolved.conf.d/test.conf", &resolver, 0o644)
            .unit("test-network.service", NETWORK_UNIT)
            .unit("test-platform.service", PLATFORM_UNIT)
            .unit("test-relay.service", &relay_unit("relay-one", "127.0.0.1"))
            .unit("test-peer.service", PEER_UNIT)
    }

    /// A second relay, from now on.
    #[track_caller]
    pub(crate) fn start_relay_two(&self) {
        let path = "/etc/systemd/system/test-relay-two.service";
        let unit = relay_unit("relay-two", "127.0.0.2");
        self.container.write(path, &unit, 0o644);
        let start = ["systemctl", "start", "test-relay-two"];
        self.container.run(start).ok();
    }

    /// Takes the network away: the system's resolver then knows no names but those of this machine.
    /// For a boot without network, disable `test-network.service`.
    #[track_caller]
    pub(crate) fn unplug(&self) {
        self.container
            .run(["systemctl", "stop", "test-network"])
            .ok();
    }

    /// Gives it back.
    #[track_caller]
    pub(crate) fn plug_in(&self) {
        self.container
            .run(["systemctl", "start", "test-network"])
            .ok();
    }

    /// A one-time token that enrolls `gateway`.
    #[track_caller]
    pub(crate) fn enrollment_token(&self, gateway: &str) -> String {
        let words = ["enrollment-token", "create", "--gateway", gateway];
        self.platform(&words).trim().to_owned()
    }

    /// `infisical platform …` as the administrator; gives what it prints.
    #[track_caller]
    pub(crate) fn platform(&self, words: &[&str]) -> String {
        let command = [&[PROGRAM, "platform"], words].concat();
        let administrator = self.administrator.iter().map(String::as_str);
        let command = command.into_iter().chain(administrator);
        self.container.run(command).ok()
    }

    /// Fails if a secret is where other users, or those who read logs, could see it.
    #[track_caller]
    pub(crate) fn assert_hidden(&self, secret: &str) {
        assert!(secret.len() > 10, "a short secret is found everywhere");
        let everywhere = [
            "ps axwwe -o args",
            "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline",
            "systemctl show '*'",
            "systemctl cat 'infisical*' 'test-*'",
            "journalctl --all -o export",
        ];
        for place in everywhere {
            // Processes end while they are looked at, and anyone who looks must not show the
            // secret.
            let shown = self.container.sh(&format!("{place} 2>/dev/null"));
            assert!(shown.stdout.len() > 100, "{place} shows nothing: {shown:?}");
            assert!(!shown.stdout.contains(secret), "{place} shows a secret");
        }
    }

    /// Bytes through `gateway` to the echo and back, once there is a way.
    #[track_caller]
    pub(crate) fn assert_session(&self, gateway: &str) {
        wait::until(&format!("a session through {gateway}"), || {
            self.try_session(gateway)
        });
    }

    /// The same, once.
    pub(crate) fn try_session(&self, gateway: &str) -> Result<(), String> {
        let sent = "bytes on their way\n";
        let words = self.connect(gateway);
        let output = self.container.run_with_input(words, sent);
        let came_back = output.status == Some(0) && output.stdout == sent;
        came_back.then_some(()).ok_or_else(|| format!("{output:?}"))
    }

    /// A session that stays open.
    pub(crate) fn session(&self, gateway: &str) -> Session {
        let mut command = self.container.command(self.connect(gateway));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("timeout");
        Session {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().expect("a pipe"),
            child,
        }
    }

    /// The name of the target is known to the DNS server alone, so the gateway has to ask the
    /// system's resolver.
    fn connect(&self, gateway: &str) -> Vec<String> {
        let (_, port) = peer::ECHO.split_once(':').expect("a port");
        let to = format!("{}:{port}", peer::NAME);
        let words = [PROGRAM, "connect", gateway, "--to", &to, "--stdio"];
        let mut words = words.map(str::to_owned).to_vec();
        words.extend_from_slice(&self.administrator);
        words
    }
}

impl Setup {
    /// A unit of ours that starts at every boot.
    fn unit(self, name: &str, text: &str) -> Self {
        self.write(&format!("/etc/systemd/system/{name}"), text, 0o644)
            .enable(name)
    }

    /// Changes of one of them.
    pub(crate) fn drop_in(self, name: &str, text: &str) -> Self {
        self.write(
            &format!("/etc/systemd/system/{name}.d/test.conf"),
            text,
            0o644,
        )
    }
}

/// One client of the echo, connected through the gateway; ended when dropped.
pub(crate) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

impl Session {
    /// Sends `bytes` and receives them again; fails if the session is cut.
    #[track_caller]
    pub(crate) fn exchange(&mut self, bytes: &[u8]) {
        self.send(bytes);
        let mut back = vec![0; bytes.len()];
        self.stdout.read_exact(&mut back).expect("the echo");
        assert_eq!(back, bytes);
    }

    /// Sends `bytes`, and leaves what comes back for later.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("the sending side is open");
        stdin.write_all(bytes).expect("a session");
        stdin.flush().expect("a session");
    }

    /// Sends some mebibytes while it receives them again; fails if the session is cut.
    #[track_caller]
    pub(crate) fn transfer(&mut self, mebibytes: usize) {
        let block: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 251) as u8).collect();
        let stdin = self.stdin.as_mut().expect("the sending side is open");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..mebibytes {
                    stdin.write_all(&block).expect("a session");
                }
                stdin.flush().expect("a session");
            });
            let mut back = vec![0; block.len()];
            for _ in 0..mebibytes {
                self.stdout.read_exact(&mut back).expect("the echo");
                assert!(back == block, "other bytes came back");
            }
        });
    }

    /// Ends the sending side, receives the rest, and waits for a clean end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.stdin = None;
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).expect("the rest");
        let status = self.child.wait().expect("a child of ours");
        assert!(status.success(), "the session ended with {status}");
        rest
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // With its input at an end the client ends by itself, should the supervisor's signal not
        // reach it.
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
