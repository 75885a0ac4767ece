//! OpenSSH as a peer that is not ours: `ssh` towards our relay, `sshd` towards our gateway, and an
//! `sshd` as a private service.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Process, clean};
use super::ssh_ca::SshKey;
use super::ssh_sides::{Keyring, Sides};

/// An `sshd` to start.
pub struct Sshd<'a> {
    pub address: SocketAddr,
    pub host_key: &'a SshKey,
    /// Presents the bare host key where absent.
    pub host_certificate: Option<&'a Path>,
    /// The CA whose user certificates log in as the user that runs the tests.
    pub user_ca: Option<&'a str>,
    /// The public keys that log in.
    pub authorized: Option<&'a str>,
    /// More lines of its configuration. The first value of a setting counts, and these come first.
    pub more: &'a [&'a str],
}

/// The user that runs the tests: an unprivileged `sshd` can only log in its own.
pub fn current_user() -> String {
    nix::unistd::User::from_uid(nix::unistd::Uid::effective())
        .expect("the user database")
        .expect("the user exists")
        .name
}

impl Sshd<'_> {
    /// Starts it and waits until it listens. Its files are put into `dir`.
    pub async fn start(&self, dir: &Path) -> Process {
        self.start_by(&program(), dir).await
    }

    /// The same with another `sshd`, named by its absolute path.
    pub async fn start_by(&self, program: &Path, dir: &Path) -> Process {
        if nix::unistd::Uid::effective().is_root() {
            // Where distributions want the empty directory of the unprivileged child.
            let _ = std::fs::create_dir("/run/sshd");
        }
        let name = format!("sshd-{}-{}", self.address.ip(), self.address.port());
        let file = |suffix: &str| dir.join(format!("{name}.{suffix}"));
        let mut config = self.more.join("\n");
        config.push('\n');
        let mut set = |key: &str, value: &str| {
            writeln!(config, "{key} {value}").expect("memory");
        };
        set("ListenAddress", &self.address.to_string());
        set("HostKey", utf8(&self.host_key.file));
        if let Some(certificate) = self.host_certificate {
            set("HostCertificate", utf8(certificate));
        }
        if let Some(ca) = self.user_ca {
            std::fs::write(file("ca"), format!("{ca}\n")).expect("writing");
            set("TrustedUserCAKeys", utf8(&file("ca")));
        }
        match self.authorized {
            Some(keys) => {
                std::fs::write(file("authorized"), format!("{keys}\n")).expect("writing");
                set("AuthorizedKeysFile", utf8(&file("authorized")));
            }
            None => set("AuthorizedKeysFile", "none"),
        }
        for (key, value) in [
            ("PidFile", "none"),
            ("UsePAM", "no"),
            ("StrictModes", "no"),
            ("PermitRootLogin", "prohibit-password"),
            ("PasswordAuthentication", "no"),
            ("KbdInteractiveAuthentication", "no"),
            ("LogLevel", "DEBUG1"),
        ] {
            set(key, value);
        }
        std::fs::write(file("conf"), config).expect("writing");
        let mut command = clean(program, dir);
        command.args(["-D", "-e", "-f", utf8(&file("conf"))]);
        let sshd = Process::spawn(&name, command);
        sshd.wait_for_line("Server listening on").await;
        sshd
    }
}

/// `sshd` must be started by its absolute path.
fn program() -> PathBuf {
    ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/lib/ssh/sshd"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .expect("these tests need OpenSSH's sshd (package openssh-server)")
}

/// `ssh` with nothing of this machine's or user's configuration.
pub fn ssh(home: &Path) -> Command {
    ssh_by(Path::new("ssh"), home)
}

/// The same with another `ssh`.
fn ssh_by(program: &Path, home: &Path) -> Command {
    let mut command = clean(program, home);
    command.args(["-F", "none", "-T"]);
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
    ] {
        command.args(["-o", option]);
    }
    command
}

/// `ssh` as a gateway would dial the relay at `host`: no command, no session, only the connection.
/// It checks the relay's host certificate against `host_ca` and the principal `<host>:2222`.
pub fn ssh_as_gateway(
    dir: &Path,
    host: Ipv4Addr,
    user: &str,
    key: &SshKey,
    certificate: Option<&Path>,
    host_ca: &str,
    more: &[&str],
) -> Command {
    let known_hosts = dir.join(format!("known-hosts-{host}"));
    std::fs::write(&known_hosts, format!("@cert-authority * {host_ca}\n")).expect("writing");
    let mut command = ssh(dir);
    command.args([
        "-vvv",
        "-N",
        "-p",
        "2222",
        "-l",
        user,
        "-i",
        utf8(&key.file),
    ]);
    let mut option = |text: String| {
        command.arg("-o").arg(text);
    };
    // OpenSSH takes the first value that it is given.
    for text in more {
        option((*text).to_owned());
    }
    if let Some(certificate) = certificate {
        option(format!("CertificateFile={}", utf8(certificate)));
    }
    option(format!("UserKnownHostsFile={}", utf8(&known_hosts)));
    option(format!("HostKeyAlias={host}:2222"));
    option("ServerAliveInterval=1".to_owned());
    option("PreferredAuthentications=publickey".to_owned());
    command.arg(host.to_string());
    command
}

/// `ssh` to our server's side at the address of `ring`. `arguments` come first, so of an option
/// they count.
pub fn ssh_to(ring: &Keyring, sides: &Sides, arguments: &[&str]) -> Command {
    ssh_to_by(Path::new("ssh"), ring, sides, arguments)
}

/// The same with another `ssh`.
pub fn ssh_to_by(program: &Path, ring: &Keyring, sides: &Sides, arguments: &[&str]) -> Command {
    let known_hosts = ring.dir().join("known-hosts");
    let line = format!("@cert-authority * {}\n", sides.host_ca);
    std::fs::write(&known_hosts, line).expect("writing");
    let mut command = ssh_by(program, ring.dir());
    command.args(arguments);
    for option in [
        format!("User={}", sides.user),
        format!("IdentityFile={}", utf8(&sides.client.key.file)),
        format!("CertificateFile={}", utf8(&sides.client.certificate)),
        format!("UserKnownHostsFile={}", utf8(&known_hosts)),
        format!("HostKeyAlias={}", sides.principal),
        "PreferredAuthentications=publickey".to_owned(),
        "Port=2222".to_owned(),
    ] {
        command.arg("-o").arg(option);
    }
    command.arg(ring.host.to_string());
    command
}

/// A path as text.
pub fn utf8(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
