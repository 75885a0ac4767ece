//! The service of the embedded platform: what its unit and its drop-in say. Pure.
//!
//! A machine has at most one. It always has a user of its own, and its settings are arguments,
//! since none of them is secret; a TLS key is copied into its runtime directory.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::unit_templates::{self, LINKS, unlinked};
use crate::host::unit::{Program, Version, render, word};

/// The unit as shipped.
pub(crate) const UNIT: &str = include_str!("../../systemd/infisical-platform.service");
/// Its name.
pub const SERVICE: &str = "infisical-platform.service";
/// The drop-in that holds the settings.
pub const DROP_IN: &str = "settings.conf";
/// Name of the credential with the client secret for the OpenID provider.
const OIDC_SECRET: &str = "oidc-client-secret";
/// Where its state is.
pub(crate) const STATE: &str = "/var/lib/infisical-platform";
/// Where the service manager keeps the state of a made-up user.
pub(crate) const PRIVATE_STATE: &str = "/var/lib/private/infisical-platform";

/// Its runtime directory, below /run.
const RUNTIME: &str = "infisical-platform";
/// Where it gets its certificate and key: one file, which is replaced at once.
const TLS_FILE: &str = "/run/infisical-platform/tls.pem";

/// The arguments of a service of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it serves.
    pub listen: SocketAddr,
    /// The port of its metrics, if they have one.
    pub metrics_port: Option<u16>,
    /// Certificate and key of HTTPS, each an absolute path.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The client secret for the OpenID provider, an absolute path.
    pub oidc_client_secret: Option<PathBuf>,
    /// The other arguments of `platform start`.
    pub arguments: Vec<String>,
}

fn head() -> String {
    unit_templates::head("platform", "infisical-platform")
}

/// The unit for this machine.
#[must_use]
pub fn unit(program: &Program, version: Version) -> String {
    let text = render(UNIT, &head(), program, version);
    // `render` leaves this out for managers that know `notify-reload`; reloading is the
    // drop-in's.
    let kind = "Type=notify\n";
    if text.contains(kind) {
        return text;
    }
    text.replacen("[Service]\n", &format!("[Service]\n{kind}"), 1)
}

/// The drop-in with the settings.
#[must_use]
pub fn drop_in(settings: &Settings, program: &Program, version: Version) -> String {
    let mut lines = Vec::new();
    let mut words = vec![
        program.to_string(),
        format!("platform start --state-dir {STATE}"),
        format!("--listen {}", settings.listen),
    ];
    if let Some(path) = &settings.oidc_client_secret {
        // Not a word: the value of this setting is taken as it stands.
        let path = path.to_string_lossy().replace('%', "%%");
        lines.push(format!("LoadCredential={OIDC_SECRET}:{path}"));
        words.push(format!(
            "--oidc-client-secret-file ${{CREDENTIALS_DIRECTORY}}/{OIDC_SECRET}"
        ));
    }
    // A `$` would begin a variable.
    let argument = |text: &String| word(&text.replace('$', "$$"));
    if let Some((certificate, key)) = &settings.tls {
        let path = |path: &PathBuf| argument(&path.to_string_lossy().into_owned());
        let hand_over = format!(
            "+{program} platform systemd hand-over-tls {} {} {TLS_FILE}",
            path(certificate),
            path(key)
        );
        lines.extend([
            "# The key may be readable by root alone, and is handed over again when it was renewed."
                .to_owned(),
            format!("RuntimeDirectory={RUNTIME}"),
            "RuntimeDirectoryMode=0700".to_owned(),
            format!("BindReadOnlyPaths=/run/{RUNTIME}"),
            format!("NoExecPaths=/run/{RUNTIME}"),
            format!("ExecStartPre={hand_over}"),
            format!("ExecReload={hand_over}"),
            "ExecReload=+/bin/kill -HUP $MAINPID".to_owned(),
        ]);
        words.push(format!("--tls-cert {TLS_FILE} --tls-key {TLS_FILE}"));
    }
    words.extend(settings.arguments.iter().map(argument));
    lines.push("ExecStart=".to_owned());
    lines.push(format!("ExecStart={}", words.join(" ")));
    let ports = [Some(settings.listen.port()), settings.metrics_port];
    let ports: Vec<u16> = ports.into_iter().flatten().collect();
    lines.extend(unit_templates::open_ports(&ports));
    if version < LINKS {
        lines.extend(unlinked(STATE, PRIVATE_STATE));
    }
    unit_templates::drop_in(&head(), &lines)
}

#[cfg(test)]
mod tests {
    use super::{Settings, drop_in, unit};
    use crate::host::unit::{Program, Version};

    fn text(listen: &str, arguments: &[&str]) -> String {
        let settings = Settings {
            listen: listen.parse().expect("an address"),
            metrics_port: Some(9091),
            tls: Some(("/etc/tls/a%b $c.pem".into(), "/etc/tls/key.pem".into())),
            oidc_client_secret: Some("/etc/oidc/50%".into()),
            arguments: arguments.iter().map(ToString::to_string).collect(),
        };
        let program = Program::try_new("/usr/bin/infisical".as_ref()).expect("a path");
        drop_in(&settings, &program, Version::NEWEST)
    }

    #[test]
    fn settings_become_arguments_and_key_copies() {
        let text = text("0.0.0.0:443", &["--organization", "50% of $a b"]);
        for line in [
            "ExecStartPre=+/usr/bin/infisical platform systemd hand-over-tls \"/etc/tls/a%%b $$c.pem\" \
             /etc/tls/key.pem /run/infisical-platform/tls.pem",
            "ExecReload=+/usr/bin/infisical platform systemd hand-over-tls \"/etc/tls/a%%b $$c.pem\" \
             /etc/tls/key.pem /run/infisical-platform/tls.pem",
            "ExecReload=+/bin/kill -HUP $MAINPID",
            "ExecStart=/usr/bin/infisical platform start --state-dir /var/lib/infisical-platform \
             --listen 0.0.0.0:443 \
             --oidc-client-secret-file ${CREDENTIALS_DIRECTORY}/oidc-client-secret --tls-cert /run/infisical-platform/tls.pem \
             --tls-key /run/infisical-platform/tls.pem --organization \"50%% of $$a b\"",
            "LoadCredential=oidc-client-secret:/etc/oidc/50%%",
            "SocketBindAllow=tcp:443",
            "SocketBindAllow=tcp:9091",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn every_manager_waits_for_readiness() {
        let program = Program::try_new("/usr/bin/infisical".as_ref()).expect("a path");
        for version in [Version(247), Version(252), Version::NEWEST] {
            let text = unit(&program, version);
            let kinds = text.lines().filter(|line| line.starts_with("Type="));
            assert_eq!(kinds.collect::<Vec<_>>(), ["Type=notify"], "{version:?}");
        }
    }

    #[test]
    fn a_usual_port_needs_no_capability() {
        assert!(!text("127.0.0.1:8080", &[]).contains("CAP_"));
    }
}
