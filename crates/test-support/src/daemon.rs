//! The command lines of the daemons: one place that knows the flags. Secrets go into 0600 files,
//! never into arguments or the environment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Process, infisical};
use super::write_private;

/// A relay to start.
pub struct RelayCommand {
    pub name: String,
    pub host: Ipv4Addr,
    /// Where it listens.
    pub listen: IpAddr,
    /// `org` or `instance`.
    pub kind: &'static str,
    pub domain: String,
    /// `KEY=value` lines with the credential.
    pub config: PathBuf,
    pub more: Vec<String>,
}

impl RelayCommand {
    /// Writes the configuration file.
    pub fn new(dir: &Path, name: &str, host: Ipv4Addr, domain: &str, keys: &str) -> Self {
        let config = dir.join(format!("relay-{name}.conf"));
        write_private(&config, keys);
        Self {
            name: name.to_owned(),
            host,
            listen: host.into(),
            kind: "org",
            domain: domain.to_owned(),
            config,
            more: Vec::new(),
        }
    }

    /// The command itself.
    pub fn command(&self, dir: &Path) -> Command {
        let host = self.host;
        let mut command = infisical(dir);
        command.args(["relay", "start", "--name", &self.name]);
        command.args(["--host", &host.to_string(), "--type", self.kind]);
        command.args(["--domain", &self.domain]);
        for (flag, port) in [("--ssh-listen", 2222), ("--tls-listen", 8443)] {
            command.args([flag, &SocketAddr::from((self.listen, port)).to_string()]);
        }
        command.arg("--config").arg(&self.config).args(&self.more);
        command
    }

    /// Starts a process; the caller waits for what it wants of it.
    pub fn spawn(&self, dir: &Path) -> Process {
        Process::spawn(&format!("relay {}", self.name), self.command(dir))
    }
}

/// A gateway to start.
pub struct GatewayCommand {
    pub name: String,
    pub domain: String,
    pub relay: Option<String>,
    /// `KEY=value` lines with the credential; an enrolled access token is kept there.
    pub config: PathBuf,
    pub more: Vec<String>,
}

impl GatewayCommand {
    /// Writes the configuration file.
    pub fn new(dir: &Path, name: &str, domain: &str, relay: &str, keys: &str) -> Self {
        let config = dir.join(format!("gateway-{name}.conf"));
        write_private(&config, keys);
        Self {
            name: name.to_owned(),
            domain: domain.to_owned(),
            relay: Some(relay.to_owned()),
            config,
            more: Vec::new(),
        }
    }

    /// The command itself.
    pub fn command(&self, dir: &Path) -> Command {
        let mut command = infisical(dir);
        command.args(["gateway", "start", &self.name]);
        command.args(["--domain", &self.domain]);
        if let Some(relay) = &self.relay {
            command.args(["--target-relay-name", relay]);
        }
        command.arg("--config").arg(&self.config).args(&self.more);
        command
    }

    /// Starts a process; the caller waits for what it wants of it.
    pub fn spawn(&self, dir: &Path) -> Process {
        Process::spawn(&format!("gateway {}", self.name), self.command(dir))
    }
}
