//! What the configuration file must say so that the service, which reads nothing else, does what
//! this command was told. Pure: what was given goes in, keys and values come out.
//!
//! Only what flags and the environment gave is written. A one-time token is not: what it obtained
//! is, by the role that exchanged it. Whatever an earlier configuration left behind and would
//! outrank the new one is emptied.

use crate::config::credential::{Credential, IdentityCredential};
use crate::config::env::{
    API_URL, FOREIGN, GCP_KEY_PATH, Group, KUBERNETES_TOKEN_PATH, RELAY_AUTH_SECRET, TABLE, TOKEN,
    Used, Variable,
};
use crate::config::file::{self, Entry};
use crate::config::raw::{Raw, Source};
use crate::config::settings::{ApiBase, RelayCredential};
use crate::secret::Secret;

use super::place::Role;

/// How the role proves itself, as far as it decides what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A one-time token is to be exchanged, or was.
    Enrollment,
    /// The access token of a machine identity.
    Token,
    /// A machine identity that logs in.
    Login,
    /// The secret of an instance's relays.
    Shared,
    /// What the machine is, at each start.
    Role,
}

impl From<&Credential> for Proof {
    fn from(credential: &Credential) -> Self {
        match credential {
            Credential::Identity(IdentityCredential::Token(_)) => Self::Token,
            Credential::Identity(IdentityCredential::Login(_)) => Self::Login,
            Credential::AccessToken(_) | Credential::Enroll { .. } => Self::Enrollment,
            Credential::Machine(_) => Self::Role,
        }
    }
}

impl From<&RelayCredential> for Proof {
    fn from(credential: &RelayCredential) -> Self {
        match credential {
            RelayCredential::AuthSecret(_) => Self::Shared,
            RelayCredential::Own(credential) => credential.into(),
        }
    }
}

impl From<Role> for Used {
    fn from(role: Role) -> Self {
        role.keys().used
    }
}

/// True for the settings of a role that do not depend on its credential: an installation keeps all
/// of them.
fn is_general(role: Role, variable: &Variable) -> bool {
    variable.used.includes(role.into())
        && matches!(
            variable.group,
            Group::General | Group::Global | Group::Limits
        )
}

/// True for what a login needs by which the role proves itself, whatever its method.
fn is_of_login(role: Role, proof: Proof, variable: &Variable) -> bool {
    match proof {
        Proof::Login => matches!(variable.group, Group::Login | Group::Organization),
        // Enrolled, and logging in with what its machine is.
        Proof::Role => {
            let is_file = variable == &KUBERNETES_TOKEN_PATH || variable == &GCP_KEY_PATH;
            variable.used.includes(role.into()) && (variable.group == Group::Enrollment || is_file)
        }
        Proof::Enrollment | Proof::Token | Proof::Shared => false,
    }
}

/// True if an installation keeps `variable` for a role that proves itself by `proof`; without one,
/// if it keeps it whatever that is.
pub(crate) fn keeps(role: Role, proof: Option<Proof>, variable: &Variable) -> bool {
    is_general(role, variable) || proof.is_some_and(|proof| is_of_login(role, proof, variable))
}

/// What the exchange of the enrollment token of a role at `domain` writes to the file, with words
/// in place of what only the platform knows.
pub(crate) fn exchanged(role: Role, domain: &ApiBase) -> [(&'static Variable, Secret); 3] {
    let unknown = || Secret::new("<secret>");
    role.keys().exchanged(domain, unknown(), unknown())
}

/// The keys of the file that must change, and their values; an empty value takes one away.
pub(crate) fn changes(role: Role, proof: Proof, raw: &Raw<'_>) -> Vec<(&'static Variable, Secret)> {
    let keys = role.keys();
    let enrolled = [keys.access_token, keys.enrollment_token];
    let enrollment = [keys.enroll_method, keys.id];
    let (credential, emptied) = match proof {
        Proof::Enrollment => {
            // A one-time token in the file would be exchanged again, if it is another than the one
            // that was.
            let method = raw.value_from(Source::File, keys.enroll_method);
            let emptied: &[&[&'static Variable]] = match method {
                Some(_) => &[&[&TOKEN]],
                None => &[],
            };
            (Some(keys.access_token), emptied.concat())
        }
        Proof::Token => (Some(&TOKEN), [enrolled, enrollment].concat()),
        Proof::Login => (None, [&[&TOKEN][..], &enrolled, &enrollment].concat()),
        Proof::Role => (None, [&[&TOKEN][..], &enrolled].concat()),
        Proof::Shared => (Some(&RELAY_AUTH_SECRET), vec![keys.enroll_method]),
    };
    let table = || TABLE.iter().copied();
    let general = table().filter(|known| is_general(role, known));
    let login = table().filter(|known| is_of_login(role, proof, known));
    let credential: Vec<&'static Variable> = credential.into_iter().chain(login).collect();
    // With nothing new said about the credential, the file goes on as it was.
    let is_new = |variable: &&'static Variable| matches!(raw.source(variable), Some(source) if source != Source::File);
    let said = credential.iter().any(is_new) || matches!(proof, Proof::Enrollment);
    let written = general.chain(credential).filter(is_new);
    let mut changes: Vec<(&'static Variable, Secret)> = written
        .filter_map(|variable| Some((variable, normalized(variable, raw.value(variable)?.text))))
        .collect();
    if said {
        let empty = Secret::new("");
        changes.extend(emptied.iter().map(|variable| (*variable, empty.clone())));
    }
    // A stored domain would win over the one that is typed now. An exchange stores its own.
    if raw.source(&API_URL) == Some(Source::Flag) && !matches!(proof, Proof::Enrollment) {
        changes.push((keys.domain, Secret::new("")));
    }
    changes.retain(|(variable, wanted)| {
        let now = raw
            .value_from(Source::File, variable)
            .map(|value| normalized(variable, value.text));
        now.map_or(!wanted.is_empty(), |now| now != *wanted)
    });
    changes
}

/// `value` as it is used: of an address that was copied from a browser, only the platform's domain.
fn normalized(variable: &Variable, value: &Secret) -> Secret {
    let domain = || ApiBase::parse(value.expose()).ok();
    match (variable == &API_URL).then(domain).flatten() {
        Some(domain) => Secret::new(domain.as_url().as_str()),
        None => value.clone(),
    }
}

/// One line of the account of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// `+` for what is there now, `-` for what is not any more.
    pub(crate) sign: char,
    /// `KEY=value`, secrets masked.
    pub(crate) text: String,
}

/// How a file that said `before` and says `after` has changed; empty values count as none.
pub(crate) fn differences(before: &[Entry], after: &[Entry]) -> Vec<Difference> {
    // Variables of other programs are one setting here, and each its own in the file.
    let name = |entry: &Entry| match entry.key == &FOREIGN {
        true => entry.name.clone(),
        false => entry.key.name.to_owned(),
    };
    let find = |entries: &[Entry], wanted: &str| {
        let entry = entries.iter().find(|entry| name(entry) == wanted);
        entry.filter(|entry| !entry.value.is_empty()).cloned()
    };
    let mut names: Vec<String> = Vec::new();
    for entry in before.iter().chain(after) {
        if !names.contains(&name(entry)) {
            names.push(name(entry));
        }
    }
    let mut lines = Vec::new();
    for name in names {
        let (old, new) = (find(before, &name), find(after, &name));
        let value = |entry: &Option<Entry>| entry.as_ref().map(|entry| entry.value.clone());
        if value(&old) == value(&new) {
            continue;
        }
        let line = |sign, entry: Entry| {
            let shown = match file::has_no_secret(&entry) {
                true => entry.value.expose(),
                false => "<secret>",
            };
            let text = format!("{name}={shown}");
            Difference { sign, text }
        };
        lines.extend(old.map(|found| line('-', found)));
        lines.extend(new.map(|found| line('+', found)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Proof, changes, differences};
    use crate::config::credential::Credential;
    use crate::config::env::{
        API_URL, AUTH_METHOD, CLIENT_ID, CLIENT_SECRET, Environment, GATEWAY_ENROLL_METHOD,
        GATEWAY_ID, GATEWAY_NAME, GCP_KEY_PATH, Group, JWT_FILE, KUBERNETES_TOKEN_PATH,
        MACHINE_IDENTITY_ID, ORGANIZATION_SLUG, TABLE, TOKEN, Variable,
    };
    use crate::config::file::{self, Entry};
    use crate::config::raw::{Flags, Loaded, Raw};
    use crate::config::settings::GatewaySettings;
    use crate::config::{Inputs, assemble_gateway};
    use crate::install::place::Role;
    use crate::secret::Secret;

    type Flag = (&'static Variable, &'static str, &'static str);

    const FILE: &str = "/etc/infisical/gateway.conf";

    fn settings(flags: &Flags, entries: &[Entry]) -> GatewaySettings {
        let inputs = Inputs {
            flags,
            environment: &Environment::default(),
            config: Some(Path::new(FILE)),
            directory: Path::new("/"),
            load: &|_| Ok(entries.to_vec()),
        };
        assemble_gateway(&inputs).expect("settings").0
    }

    /// What a file with this text says after `changes`.
    fn changed(text: &str, changes: &[(&'static Variable, Secret)]) -> Vec<Entry> {
        let changes: Vec<_> = changes.iter().map(|(key, value)| (*key, value)).collect();
        let text = file::updated(Path::new(FILE), text, &changes).expect("changed");
        file::parse(&text).expect("a file")
    }

    /// Text of the file before, flags, and the keys that change.
    const CASES: &[(&str, &[Flag], &[&str])] = &[
        (
            "",
            &[(&GATEWAY_NAME, "NAME", "edge"), (&TOKEN, "--token", "t")],
            &["INFISICAL_GATEWAY_NAME", "INFISICAL_TOKEN"],
        ),
        (
            "INFISICAL_GATEWAY_NAME=edge\nINFISICAL_TOKEN=t\n",
            &[(&GATEWAY_NAME, "NAME", "edge"), (&TOKEN, "--token", "t")],
            &[],
        ),
        (
            "INFISICAL_GATEWAY_NAME=edge\nINFISICAL_TOKEN=t\n",
            &[(&API_URL, "--domain", "https://h")],
            &["INFISICAL_API_URL"],
        ),
        // An identity takes the place of an enrollment, and a login that of a token.
        (
            "INFISICAL_GATEWAY_NAME=edge\nINFISICAL_GATEWAY_ACCESS_TOKEN=a\nINFISICAL_GATEWAY_ENROLLMENT_TOKEN=e\n",
            &[(&TOKEN, "--token", "t")],
            &[
                "INFISICAL_TOKEN",
                "INFISICAL_GATEWAY_ACCESS_TOKEN",
                "INFISICAL_GATEWAY_ENROLLMENT_TOKEN",
            ],
        ),
        (
            "INFISICAL_GATEWAY_NAME=edge\nINFISICAL_TOKEN=t\n",
            &[
                (&AUTH_METHOD, "--auth-method", "universal-auth"),
                (&CLIENT_ID, "--client-id", "i"),
                (&CLIENT_SECRET, "--client-secret", "s"),
            ],
            &[
                "INFISICAL_AUTH_METHOD",
                "INFISICAL_UNIVERSAL_AUTH_CLIENT_ID",
                "INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET",
                "INFISICAL_TOKEN",
            ],
        ),
        // A role takes the place of a token, and keeps none; a token that of a role.
        (
            "INFISICAL_GATEWAY_NAME=edge\nINFISICAL_TOKEN=t\nINFISICAL_GATEWAY_ACCESS_TOKEN=a\n",
            &[
                (&GATEWAY_ENROLL_METHOD, "--enroll-method", "aws"),
                (&GATEWAY_ID, "--gateway-id", "g"),
            ],
            &[
                "INFISICAL_GATEWAY_ENROLL_METHOD",
                "INFISICAL_GATEWAY_ID",
                "INFISICAL_TOKEN",
                "INFISICAL_GATEWAY_ACCESS_TOKEN",
            ],
        ),
        (
            "INFISICAL_GATEWAY_NAME=edge\nINFISICAL_GATEWAY_ENROLL_METHOD=aws\nINFISICAL_GATEWAY_ID=g\n",
            &[(&TOKEN, "--token", "t")],
            &[
                "INFISICAL_TOKEN",
                "INFISICAL_GATEWAY_ENROLL_METHOD",
                "INFISICAL_GATEWAY_ID",
            ],
        ),
        // Every method is kept with what it needs.
        (
            "INFISICAL_GATEWAY_NAME=edge\nINFISICAL_GATEWAY_ENROLL_METHOD=aws\nINFISICAL_GATEWAY_ID=g\n",
            &[
                (&AUTH_METHOD, "--auth-method", "jwt-auth"),
                (&MACHINE_IDENTITY_ID, "--machine-identity-id", "i"),
                (&JWT_FILE, "--jwt-file", "/j"),
                (&ORGANIZATION_SLUG, "--organization-slug", "o"),
            ],
            &[
                "INFISICAL_AUTH_METHOD",
                "INFISICAL_MACHINE_IDENTITY_ID",
                "INFISICAL_AUTH_ORGANIZATION_SLUG",
                "INFISICAL_JWT_FILE",
                "INFISICAL_GATEWAY_ENROLL_METHOD",
                "INFISICAL_GATEWAY_ID",
            ],
        ),
        (
            "INFISICAL_GATEWAY_NAME=edge\n",
            &[
                (&AUTH_METHOD, "--auth-method", "kubernetes"),
                (&MACHINE_IDENTITY_ID, "--machine-identity-id", "i"),
                (&KUBERNETES_TOKEN_PATH, "--service-account-token-path", "/t"),
            ],
            &[
                "INFISICAL_AUTH_METHOD",
                "INFISICAL_MACHINE_IDENTITY_ID",
                "INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH",
            ],
        ),
        (
            "INFISICAL_GATEWAY_NAME=edge\n",
            &[
                (&AUTH_METHOD, "--auth-method", "gcp-iam"),
                (&MACHINE_IDENTITY_ID, "--machine-identity-id", "i"),
                (&GCP_KEY_PATH, "--service-account-key-file-path", "/k"),
            ],
            &[
                "INFISICAL_AUTH_METHOD",
                "INFISICAL_MACHINE_IDENTITY_ID",
                "INFISICAL_GCP_IAM_SERVICE_ACCOUNT_KEY_FILE_PATH",
            ],
        ),
        // A typed domain takes the place of a stored one.
        (
            "INFISICAL_GATEWAY_NAME=edge\nINFISICAL_TOKEN=t\nINFISICAL_GATEWAY_DOMAIN=https://a\n",
            &[(&API_URL, "--domain", "https://h")],
            &["INFISICAL_API_URL", "INFISICAL_GATEWAY_DOMAIN"],
        ),
        // The same enrollment again.
        (
            "INFISICAL_GATEWAY_NAME=edge\nINFISICAL_GATEWAY_ACCESS_TOKEN=a\nINFISICAL_GATEWAY_ENROLLMENT_TOKEN=e\n",
            &[
                (&GATEWAY_ENROLL_METHOD, "--enroll-method", "token"),
                (&TOKEN, "--token", "e"),
            ],
            &[],
        ),
    ];

    #[test]
    fn file_alone_has_the_commands_arguments() {
        for (text, given, keys) in CASES {
            let entries = file::parse(text).expect("a file");
            let mut flags = Flags::default();
            for (variable, flag, value) in *given {
                flags.add(variable, flag, Some(value));
            }
            let told = settings(&flags, &entries);
            let loaded = Loaded {
                path: PathBuf::from(FILE),
                entries: entries.clone(),
            };
            let environment = Environment::default();
            let raw = Raw {
                flags: &flags,
                environment: &environment,
                file: Some(&loaded),
            };
            let changes = changes(Role::Gateway, (&told.credential).into(), &raw);
            let names: Vec<&str> = changes.iter().map(|(key, _)| key.name).collect();
            assert_eq!(names, *keys, "{text}");
            let after = changed(text, &changes);
            assert!(settings(&Flags::default(), &after) == told, "{text}");
        }
    }

    #[test]
    fn every_setting_of_a_role_is_kept() {
        for role in [Role::Gateway, Role::Relay] {
            let used = role.into();
            let kept = |known: &&&'static Variable| {
                known.used.includes(used)
                    && !known.group.is_credential()
                    && !matches!(known.group, Group::StoredDomain | Group::Organization)
            };
            let all: Vec<&'static Variable> = TABLE.iter().filter(kept).copied().collect();
            let mut flags = Flags::default();
            for variable in &all {
                flags.add(variable, "--flag", Some("7"));
            }
            let environment = Environment::default();
            let raw = Raw {
                flags: &flags,
                environment: &environment,
                file: None,
            };
            let changes = changes(role, Proof::Token, &raw);
            let names: Vec<&str> = changes.iter().map(|(key, _)| key.name).collect();
            let expected: Vec<&str> = all.iter().map(|key| key.name).collect();
            assert_eq!(names, expected);
            let limits = names.iter().filter(|name| name.contains("_MAX_")).count();
            assert_eq!(limits, if role == Role::Relay { 6 } else { 0 });
        }
    }

    #[test]
    fn a_one_time_token_is_not_written() {
        let mut flags = Flags::default();
        flags.add(&GATEWAY_NAME, "NAME", Some("edge"));
        flags.add(&GATEWAY_ENROLL_METHOD, "--enroll-method", Some("token"));
        flags.add(&TOKEN, "--token", Some("once"));
        let told = settings(&flags, &[]);
        assert!(matches!(told.credential, Credential::Enroll { .. }));
        let environment = Environment::default();
        let raw = Raw {
            flags: &flags,
            environment: &environment,
            file: None,
        };
        let changes = changes(Role::Gateway, Proof::Enrollment, &raw);
        assert!(changes == [(&GATEWAY_NAME, Secret::new("edge"))]);
    }

    #[test]
    fn account_shows_every_line_and_no_secret() {
        let before =
            "INFISICAL_TOKEN=hunter2\nINFISICAL_GATEWAY_NAME=a\nTZ=UTC\nA=hunter2\nB=hunter2\n";
        let changes = [(&TOKEN, Secret::new("")), (&GATEWAY_NAME, Secret::new("b"))];
        let mut after = changed(before, &changes);
        after.retain(|entry| entry.name != "A");
        let added = file::parse("HTTPS_PROXY=http://u:hunter2@p:1\n").expect("a file");
        after.extend(added);
        let before = file::parse(before).expect("a file");
        let lines: Vec<String> = differences(&before, &after)
            .iter()
            .map(|line| format!("{} {}", line.sign, line.text))
            .collect();
        assert_eq!(
            lines,
            [
                "- INFISICAL_TOKEN=<secret>",
                "- INFISICAL_GATEWAY_NAME=a",
                "+ INFISICAL_GATEWAY_NAME=b",
                "- A=<secret>",
                "+ HTTPS_PROXY=<secret>",
            ]
        );
    }

    #[test]
    fn domain_is_written_as_it_is_used() {
        for (text, keys) in [
            ("", &["INFISICAL_API_URL"][..]),
            ("INFISICAL_API_URL=https://h/\n", &[]),
            ("INFISICAL_API_URL=https://h/api\n", &[]),
            ("INFISICAL_API_URL=https://other\n", &["INFISICAL_API_URL"]),
        ] {
            let mut flags = Flags::default();
            flags.add(&API_URL, "--domain", Some("https://h/login/"));
            let environment = Environment::default();
            let loaded = Loaded {
                path: PathBuf::from(FILE),
                entries: file::parse(text).expect("a file"),
            };
            let raw = Raw {
                flags: &flags,
                environment: &environment,
                file: Some(&loaded),
            };
            let changes = changes(Role::Gateway, Proof::Token, &raw);
            let names: Vec<_> = changes.iter().map(|(key, _)| key.name).collect();
            assert_eq!(names, keys, "{text}");
            let is_used = |(_, value): &(_, Secret)| value.expose() == "https://h/api";
            assert!(changes.iter().all(is_used), "{text}");
        }
    }
}
