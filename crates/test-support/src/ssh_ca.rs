//! SSH keys, authorities and certificates of any quality, made by `ssh-keygen`: an implementation
//! that is not ours.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs a foreign program to its end and gives its stdout.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed by these tests: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// A key pair in files, as OpenSSH wants it.
#[derive(Debug, Clone)]
pub struct SshKey {
    /// The private key's file, 0600.
    pub file: PathBuf,
    /// One `authorized_keys`-style line.
    pub public: String,
}

impl SshKey {
    /// Makes a key `name` of a kind that `ssh-keygen -t` knows.
    pub fn generate(dir: &Path, name: &str, kind: &str) -> Self {
        let file = dir.join(name);
        let path = file.to_str().expect("UTF-8");
        run(
            "ssh-keygen",
            &["-q", "-t", kind, "-N", "", "-C", "", "-f", path],
        );
        let public = std::fs::read_to_string(file.with_extension("pub")).expect("a public key");
        let public = public.trim().to_owned();
        Self { file, public }
    }

    /// The private key in OpenSSH PEM.
    pub fn private(&self) -> String {
        std::fs::read_to_string(&self.file).expect("a private key")
    }
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct SshCert {
    host: bool,
    key_id: String,
    principals: Vec<String>,
    validity: &'static str,
    critical: Option<&'static str>,
    signature: Option<&'static str>,
}

impl SshCert {
    /// A relay's host certificate.
    pub fn host(principal: &str) -> Self {
        Self {
            host: true,
            key_id: "relay-server".to_owned(),
            principals: vec![principal.to_owned()],
            validity: "-5m:+1d",
            critical: None,
            signature: None,
        }
    }

    /// A gateway's user certificate.
    pub fn user(relay_name: &str, gateway_id: &str) -> Self {
        Self {
            host: false,
            key_id: format!("client-{relay_name}"),
            principals: vec![gateway_id.to_owned()],
            validity: "-5m:+1d",
            critical: None,
            signature: None,
        }
    }

    pub fn key_id(mut self, key_id: &str) -> Self {
        self.key_id = key_id.to_owned();
        self
    }

    pub fn principals(mut self, principals: &[&str]) -> Self {
        self.principals = principals.iter().map(|&p| p.to_owned()).collect();
        self
    }

    pub fn expired(mut self) -> Self {
        self.validity = "-2d:-1d";
        self
    }

    pub fn not_yet_valid(mut self) -> Self {
        self.validity = "+1d:+2d";
        self
    }

    pub fn critical_option(mut self) -> Self {
        self.critical = Some("critical:unheard-of@example.com=1");
        self
    }

    /// Chooses between the signatures that an RSA authority can make.
    pub fn signed_with(mut self, signature: Option<&'static str>) -> Self {
        self.signature = signature;
        self
    }

    /// Turns a host certificate into a user certificate and the reverse.
    pub fn of_the_other_type(mut self) -> Self {
        self.host = !self.host;
        self
    }
}

/// An SSH certificate authority.
#[derive(Debug, Clone)]
pub struct SshCa {
    pub key: SshKey,
    dir: PathBuf,
}

impl SshCa {
    pub fn new(dir: &Path, name: &str, kind: &str) -> Self {
        Self::with_key(dir, SshKey::generate(dir, name, kind))
    }

    /// An authority with a key that is there already; its certificates are put into `dir`.
    pub fn with_key(dir: &Path, key: SshKey) -> Self {
        let dir = dir.to_owned();
        Self { key, dir }
    }

    /// Certifies `key`; gives the file of the certificate.
    pub fn certify(&self, key: &SshKey, certificate: &SshCert) -> PathBuf {
        static SERIAL: AtomicUsize = AtomicUsize::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let subject = self.dir.join(format!("subject-{serial}.pub"));
        std::fs::write(&subject, format!("{}\n", key.public)).expect("writing");
        let principals = certificate.principals.join(",");
        let serial = serial.to_string();
        let mut arguments = vec![
            "-q",
            "-s",
            self.key.file.to_str().expect("UTF-8"),
            "-I",
            &certificate.key_id,
            "-z",
            &serial,
            "-V",
            certificate.validity,
        ];
        if certificate.host {
            arguments.push("-h");
        }
        if !principals.is_empty() {
            arguments.extend(["-n", &principals]);
        }
        if let Some(signature) = certificate.signature {
            arguments.extend(["-t", signature]);
        }
        if let Some(option) = certificate.critical {
            arguments.extend(["-O", option]);
        }
        arguments.push(subject.to_str().expect("UTF-8"));
        run("ssh-keygen", &arguments);
        self.dir.join(format!("subject-{serial}-cert.pub"))
    }

    /// Certifies `key`; gives the certificate as one line.
    pub fn certificate_line(&self, key: &SshKey, certificate: &SshCert) -> String {
        let file = self.certify(key, certificate);
        let line = std::fs::read_to_string(file).expect("a certificate");
        line.trim().to_owned()
    }
}
