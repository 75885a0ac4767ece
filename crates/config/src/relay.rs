//! The assembly of a relay's settings.

use std::net::SocketAddr;

use super::assemble::{Assembled, Expected, Inputs, Reader, assemble};
use super::credential::Credential;
use super::env::{
    RELAY_AUTH_SECRET, RELAY_HOST, RELAY_NAME, RELAY_SSH_LISTEN, RELAY_TLS_LISTEN, RELAY_TYPE,
};
use super::raw::{Loaded, Origin, Raw, Source};
use super::relay_host;
use super::role::RELAY;
use super::settings::{
    ApiBase, RelayCredential, RelayKind, RelayLimits, RelaySettings, default_limit,
};
use super::warning::Problem;
use crate::names::{RelayHost, RelayName, SSH_PORT};

const NAME_MISSING: &str = "the relay needs a name: give --name NAME, or set INFISICAL_RELAY_NAME";
const HOST_MISSING: &str = "the relay needs the host at which gateways and clients reach it: give --host HOST, \
                            or set INFISICAL_RELAY_HOST";

/// The largest limit that may be set: beyond it a mistake is likelier than a machine that is large
/// enough.
const MAX_LIMIT: usize = 1_000_000;

/// Makes a relay's settings of what was given.
///
/// # Errors
/// Everything that is wrong.
pub fn assemble_relay(inputs: &Inputs<'_>) -> Assembled<RelaySettings> {
    assemble::<RelayName, _>(inputs, &RELAY, |reader, store| {
        let name = reader.required(RELAY.name, NAME_MISSING, str::parse::<RelayName>);
        let kind = reader.parsed(&RELAY_TYPE, str::parse);
        // One that is wrong leaves the kind open, and with it which credential to look for.
        let kind = match reader.raw.value(&RELAY_TYPE) {
            Some(_) => kind,
            None => Some(RelayKind::Org),
        };
        let common = reader.common(&RELAY, store);
        let ssh_listen = reader.parsed(&RELAY_SSH_LISTEN, parse_listen);
        let tls_listen = reader.parsed(&RELAY_TLS_LISTEN, parse_listen);
        let limits = RelayLimits::each(|variable| {
            let limit = reader.parsed(variable, parse_limit);
            limit.unwrap_or_else(|| default_limit(variable))
        });
        let domain = common.as_ref().map(|common| &common.domain);
        let credential = kind.and_then(|kind| credential(reader, kind, domain));
        let host = host(reader, credential.as_ref());
        Some(RelaySettings {
            name: name?,
            host: host?,
            kind: kind?,
            common: common?,
            credential: credential?,
            ssh_listen,
            tls_listen,
            limits,
        })
    })
}

/// The relay's host. The platform was told that of an enrolled relay when the relay was created,
/// and says it in the relay's certificates; the inner `None` leaves it to them. The outer one is a
/// mistake, which was noted.
fn host(
    reader: &mut Reader<'_>,
    credential: Option<&RelayCredential>,
) -> Option<Option<RelayHost>> {
    let is_enrolled = match credential {
        Some(RelayCredential::Own(credential)) => !matches!(credential, Credential::Identity(_)),
        Some(RelayCredential::AuthSecret(_)) => false,
        // With what is wrong with the credential, it is not known whether a host is needed.
        None => reader.raw.value(RELAY.enroll_method).is_some(),
    };
    if is_enrolled && reader.raw.value(&RELAY_HOST).is_none() {
        let shown = "as the platform knows it".to_owned();
        reader.notes.shown(&RELAY_HOST, shown, Origin::Default);
        return Some(None);
    }
    let host = reader.required(&RELAY_HOST, HOST_MISSING, relay_host::parse);
    host.map(Some)
}

/// True if flags, environment or file ask for a port below 1024. What is wrong is left to
/// [`assemble_relay`].
#[must_use]
pub fn relay_asks_for_low_port(inputs: &Inputs<'_>) -> bool {
    let path = inputs.path::<RelayName>(&RELAY_NAME);
    let entries = path.as_deref().and_then(|path| (inputs.load)(path).ok());
    let file = path.zip(entries);
    let file = file.map(|(path, entries)| Loaded { path, entries });
    let raw = Raw {
        flags: inputs.flags,
        environment: inputs.environment,
        file: file.as_ref(),
    };
    [&RELAY_SSH_LISTEN, &RELAY_TLS_LISTEN]
        .into_iter()
        .filter_map(|variable| raw.value(variable)?.text.expose().parse().ok())
        // Port 0 is any free one, which is none of those for the privileged.
        .any(|address: SocketAddr| (1..1024).contains(&address.port()))
}

fn parse_listen(text: &str) -> Result<SocketAddr, Expected> {
    text.parse().map_err(|_| {
        Expected(format!(
            "an IP address and a port, such as 192.0.2.1:{SSH_PORT} or [::]:{SSH_PORT}"
        ))
    })
}

fn parse_limit(text: &str) -> Result<usize, Expected> {
    let limit = text.parse().ok();
    limit
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| Expected(format!("a number from 1 to {MAX_LIMIT}")))
}

fn credential(
    reader: &mut Reader<'_>,
    kind: RelayKind,
    domain: Option<&ApiBase>,
) -> Option<RelayCredential> {
    if !reader.enrolls(&RELAY) {
        if kind == RelayKind::Instance {
            return instance_credential(reader);
        }
        if let Some(secret) = reader.raw.value_from(Source::Flag, &RELAY_AUTH_SECRET) {
            reader.problem(Problem::at(&secret.origin, "only for --type=instance"));
        }
    }
    let credential = reader.credential(&RELAY, domain)?;
    Some(RelayCredential::Own(credential))
}

fn instance_credential(reader: &mut Reader<'_>) -> Option<RelayCredential> {
    let secret = reader.raw.value(&RELAY_AUTH_SECRET);
    // A file that cannot be read may hold the credential: its problem is the one to solve.
    if secret.is_none() && !reader.file_failed {
        reader.problem(Problem::new(format!(
            "a relay of the instance needs the relay auth secret: set {} in the environment or the file",
            RELAY_AUTH_SECRET.name
        )));
    }
    let secret = secret?;
    let credential = "secret that the instance shares with its relays";
    reader.proves(credential, &RELAY_AUTH_SECRET, &secret);
    Some(RelayCredential::AuthSecret(secret.text.clone()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{assemble_relay, relay_asks_for_low_port};
    use crate::case::Case;
    use crate::credential::{Credential, IdentityCredential};
    use crate::env::{
        API_URL, RELAY_AUTH_SECRET, RELAY_ENROLL_METHOD, RELAY_HOST, RELAY_MAX_BUFFER,
        RELAY_MAX_CLIENTS, RELAY_MAX_GATEWAYS, RELAY_MAX_HANDSHAKES, RELAY_MAX_PER_GATEWAY,
        RELAY_MAX_PER_SOURCE, RELAY_NAME, RELAY_SSH_LISTEN, RELAY_TLS_LISTEN, RELAY_TYPE, TOKEN,
        Variable,
    };
    use crate::secret::Secret;
    use crate::settings::{RelayCredential, RelayKind, RelayLimits};

    type Flag = (&'static Variable, &'static str, &'static str);
    type Set = (&'static str, &'static str);

    const NAME: Flag = (&RELAY_NAME, "--name", "eu");
    const HOST: Flag = (&RELAY_HOST, "--host", "relay.example.com");
    const INSTANCE: Flag = (&RELAY_TYPE, "--type", "instance");
    const ENROLL: Flag = (&RELAY_ENROLL_METHOD, "--enroll-method", "token");
    const FILE: &str = "/conf/eu.conf";

    #[test]
    fn relay_belongs_to_its_organization_by_default() {
        let case = Case {
            variables: &[
                ("INFISICAL_RELAY_NAME", "eu"),
                ("INFISICAL_RELAY_HOST", "10.0.0.1"),
                ("INFISICAL_TOKEN", "t"),
            ],
            ..Case::default()
        };
        let (settings, warnings) = case.assemble(assemble_relay).expect("settings");
        assert_eq!(settings.kind, RelayKind::Org);
        assert_eq!(
            (
                settings.name.as_str(),
                settings.host.as_ref().map_or("", |host| host.as_str())
            ),
            ("eu", "10.0.0.1")
        );
        assert_eq!(settings.common.store, Path::new(FILE));
        assert_eq!(settings.limits, RelayLimits::default());
        assert_eq!(
            settings.common.domain.to_string(),
            "https://app.infisical.com/api"
        );
        assert_eq!(warnings, []);
    }

    #[test]
    fn low_port_comes_from_environment_or_file() {
        for (variables, file, low) in [
            (&[][..], "INFISICAL_RELAY_SSH_LISTEN=0.0.0.0:2222\n", false),
            (&[], "INFISICAL_RELAY_TLS_LISTEN=[::]:443\n", true),
            (&[("INFISICAL_RELAY_SSH_LISTEN", "10.0.0.1:22")], "", true),
            (&[("INFISICAL_RELAY_SSH_LISTEN", "127.0.0.1:0")], "", false),
            (&[("INFISICAL_RELAY_SSH_LISTEN", "443")], "wrong\n", false),
        ] {
            let case = Case {
                flags: &[NAME],
                variables,
                file: Some((FILE, file)),
                config: None,
            };
            let found = case.read(relay_asks_for_low_port);
            assert_eq!(found, low, "{variables:?} {file}");
        }
    }

    #[test]
    fn credential_follows_from_the_kind() {
        let own = RelayCredential::Own;
        let token = |text: &str| {
            own(Credential::Identity(IdentityCredential::Token(
                Secret::new(text),
            )))
        };
        let shared = |text: &str| RelayCredential::AuthSecret(Secret::new(text));
        let kept = "INFISICAL_RELAY_ACCESS_TOKEN=kept\nINFISICAL_RELAY_ENROLLMENT_TOKEN=spent\n";
        let enrolled = || own(Credential::AccessToken(Secret::new("kept")));
        let flag: Flag = (&TOKEN, "--token", "flag");
        let spent: Flag = (&TOKEN, "--token", "spent");
        let secret: Flag = (&RELAY_AUTH_SECRET, "--relay-auth-secret", "flag");
        let of_env = [
            ("INFISICAL_RELAY_AUTH_SECRET", "env"),
            ("INFISICAL_TOKEN", "t"),
        ];
        let instance = [("INFISICAL_RELAY_TYPE", "instance")];
        let cases: [(&[Flag], &[Set], &str, RelayCredential); 11] = [
            (&[INSTANCE, secret], &of_env, "", shared("flag")),
            (&[INSTANCE], &of_env, "", shared("env")),
            (
                &[INSTANCE],
                &[],
                "INFISICAL_RELAY_AUTH_SECRET=file\n",
                shared("file"),
            ),
            (
                &[],
                &instance,
                "INFISICAL_RELAY_AUTH_SECRET=file\n",
                shared("file"),
            ),
            (&[], &of_env, kept, token("t")),
            (&[flag], &of_env, kept, token("flag")),
            (&[], &[], kept, enrolled()),
            (&[], &[], "INFISICAL_TOKEN=file\n", token("file")),
            (&[ENROLL, spent], &[], kept, enrolled()),
            (&[ENROLL], &[], kept, enrolled()),
            (
                &[ENROLL, flag],
                &[],
                kept,
                own(Credential::Enroll {
                    token: Secret::new("flag"),
                }),
            ),
        ];
        for (number, (flags, variables, file, credential)) in cases.into_iter().enumerate() {
            let case = Case {
                flags: &[&[NAME, HOST], flags].concat(),
                variables,
                file: Some((FILE, file)),
                config: None,
            };
            let (settings, _) = case.assemble(assemble_relay).expect("settings");
            assert_eq!(settings.credential, credential, "case {number}");
        }
    }

    #[test]
    fn addresses_come_from_every_source() {
        let file = "INFISICAL_TOKEN=t\nINFISICAL_RELAY_SSH_LISTEN=127.0.0.1:1\n\
                    INFISICAL_RELAY_TLS_LISTEN=[::1]:2\n";
        let variables = [("INFISICAL_RELAY_SSH_LISTEN", "127.0.0.1:3")];
        let flags = [
            NAME,
            HOST,
            (&RELAY_TLS_LISTEN, "--tls-listen", "127.0.0.1:4"),
        ];
        for (flags, variables, file, ssh, tls) in [
            (
                &flags[..],
                &variables[..],
                file,
                "127.0.0.1:3",
                "127.0.0.1:4",
            ),
            (&flags[..2], &[], file, "127.0.0.1:1", "[::1]:2"),
        ] {
            let case = Case {
                flags,
                variables,
                file: Some((FILE, file)),
                config: None,
            };
            let (settings, _) = case.assemble(assemble_relay).expect("settings");
            assert_eq!(settings.ssh_listen, Some(ssh.parse().expect("an address")));
            assert_eq!(settings.tls_listen, Some(tls.parse().expect("an address")));
        }
    }

    #[test]
    fn each_limit_comes_from_its_own_setting() {
        let flags = [NAME, HOST, (&RELAY_MAX_CLIENTS, "--max-clients", "1")];
        let variables = [
            ("INFISICAL_TOKEN", "t"),
            ("INFISICAL_RELAY_MAX_CLIENTS", "7"),
            ("INFISICAL_RELAY_MAX_GATEWAYS", "1000000"),
            ("INFISICAL_RELAY_MAX_CONNECTIONS_PER_SOURCE", "3"),
            ("INFISICAL_RELAY_MAX_BUFFER_MIB", "6"),
        ];
        let case = Case {
            flags: &flags,
            variables: &variables,
            file: Some((
                FILE,
                "relay_max_handshakes = \"4\"\nrelay_max_clients_per_gateway = \"5\"\n",
            )),
            config: None,
        };
        let (settings, _) = case.assemble(assemble_relay).expect("settings");
        let expected = RelayLimits {
            handshakes: 4,
            per_source: 3,
            gateways: 1_000_000,
            clients: 1,
            per_gateway: 5,
            buffer_mib: 6,
        };
        assert_eq!(settings.limits, expected);
    }

    #[test]
    fn table_shows_the_default_limits() {
        let default = RelayLimits::default();
        for (variable, limit) in [
            (&RELAY_MAX_HANDSHAKES, default.handshakes),
            (&RELAY_MAX_PER_SOURCE, default.per_source),
            (&RELAY_MAX_GATEWAYS, default.gateways),
            (&RELAY_MAX_CLIENTS, default.clients),
            (&RELAY_MAX_PER_GATEWAY, default.per_gateway),
            (&RELAY_MAX_BUFFER, default.buffer_mib),
        ] {
            assert_eq!(variable.default, limit.to_string(), "{}", variable.name);
        }
    }

    #[test]
    fn limits_range_from_1_to_a_million() {
        for wrong in ["0", "-1", "1000001", "1k", "99999999999999999999"] {
            let case = Case {
                flags: &[NAME, HOST, (&RELAY_MAX_GATEWAYS, "--max-gateways", wrong)],
                variables: &[("INFISICAL_TOKEN", "t")],
                ..Case::default()
            };
            let problem = case.problem(assemble_relay);
            let expected = "--max-gateways: must be a number from 1 to 1000000";
            assert!(problem.contains(expected), "{wrong:?}: {problem}");
        }
    }

    #[test]
    fn an_enrolled_relay_needs_no_host() {
        let stored = "INFISICAL_RELAY_ACCESS_TOKEN=a\n";
        let aws = (&RELAY_ENROLL_METHOD, "--enroll-method", "aws");
        let id = [("INFISICAL_RELAY_ID", "r")];
        for (flags, variables, file) in [
            (&[NAME, ENROLL, (&TOKEN, "--token", "t")][..], &[][..], ""),
            (&[NAME, aws], &id, ""),
            (&[NAME], &[], stored),
        ] {
            let case = Case {
                flags,
                variables,
                file: Some((FILE, file)),
                config: None,
            };
            let (settings, _) = case.assemble(assemble_relay).expect("settings");
            assert_eq!(settings.host, None);
            let with_host = [flags, &[HOST]].concat();
            let case = Case {
                flags: &with_host,
                ..case
            };
            let (settings, _) = case.assemble(assemble_relay).expect("settings");
            assert!(settings.host.is_some());
        }
        let identity = Case {
            flags: &[NAME, (&TOKEN, "--token", "t")],
            ..Case::default()
        };
        let problem = identity.problem(assemble_relay);
        assert!(problem.contains("--host HOST"), "{problem}");
    }

    #[test]
    fn all_missing_or_wrong_settings_are_reported() {
        let case = Case {
            flags: &[(&API_URL, "--domain", "ftp://example.com")],
            ..Case::default()
        };
        let problems = case.assemble(assemble_relay).expect_err("problems");
        let parts = [
            "--name NAME",
            "--domain: ",
            "no credential: ",
            "--host HOST",
        ];
        assert_eq!(problems.len(), parts.len(), "{problems:#?}");
        for (problem, part) in problems.iter().zip(parts) {
            assert!(problem.contains(part), "{problem}");
        }
        let secret = (&RELAY_AUTH_SECRET, "--relay-auth-secret", "s");
        let cases: [(&[Flag], &[Set], &str); 5] = [
            (
                &[(&RELAY_SSH_LISTEN, "--ssh-listen", "2222")],
                &[("INFISICAL_TOKEN", "t")],
                "--ssh-listen: must be an IP address and a port, such as 192.0.2.1:2222 or [::]:2222",
            ),
            (&[INSTANCE], &[], "set INFISICAL_RELAY_AUTH_SECRET"),
            (
                &[secret],
                &[("INFISICAL_TOKEN", "t")],
                "--relay-auth-secret: only for --type=instance",
            ),
            (
                &[],
                &[("INFISICAL_RELAY_TYPE", "x")],
                "INFISICAL_RELAY_TYPE: must be org or instance",
            ),
            (
                &[(&RELAY_HOST, "--host", "host:2222")],
                &[("INFISICAL_TOKEN", "t")],
                "--host: write the host without a port: host",
            ),
        ];
        for (flags, variables, expected) in cases {
            // Of several flags for the same variable the first added wins.
            let case = Case {
                flags: &[flags, &[NAME, HOST]].concat(),
                variables,
                ..Case::default()
            };
            let problem = case.problem(assemble_relay);
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
