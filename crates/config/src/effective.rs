//! What a configuration comes to, setting by setting, for a person who asks: the value that holds,
//! where it comes from, and which values are overridden. It is written while the settings are
//! assembled, so that it tells what really happened.

use std::path::PathBuf;

use super::credential::LoginFile;
use super::env::{API_URL, Group, TABLE, TOKEN, Used, Variable};
use super::file::Form;
use super::raw::{Loaded, Origin, Raw, Value};
use super::role::is_enrollment_token;
use super::warning::Warning;
use crate::trust;

/// Stands for a secret.
const MASK: &str = "<secret>";

/// A whole configuration. No secret is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectiveConfig {
    /// The role's configuration file.
    pub file: PathBuf,
    /// The form of that file; `None` if it is not there.
    pub form: Option<Form>,
    /// Every setting that counts.
    pub rows: Vec<Row>,
    /// How the role proves itself.
    pub credential: &'static str,
    /// The file that a login reads, if it reads one.
    pub login_file: Option<LoginFile>,
    /// The proxy on the way to the platform, or why there is none.
    pub proxy: String,
    /// Where the root certificates for the platform are.
    pub roots: trust::Source,
    /// The platform is reached with HTTPS.
    pub uses_https: bool,
    /// Given, but something else holds: the place, and why.
    pub overridden: Vec<String>,
    /// What else a person should know.
    pub warnings: Vec<Warning>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The setting, as the configuration file spells it.
    pub key: String,
    /// Its value, or what stands for a secret.
    pub value: String,
    /// Where the value comes from.
    pub origin: String,
}

/// An account while it is written.
#[derive(Debug, Default)]
pub(super) struct Notes<'a> {
    notes: Vec<Note<'a>>,
    /// What is known of the whole so far.
    pub(super) known: EffectiveConfig,
}

#[derive(Debug)]
struct Note<'a> {
    variable: &'static Variable,
    value: String,
    origin: Origin<'a>,
}

impl<'a> Notes<'a> {
    /// `value` holds for `variable`.
    pub(super) fn holds(&mut self, variable: &'static Variable, value: &Value<'a>) {
        let shown = if variable.secret {
            MASK.to_owned()
        } else {
            printable(value.text.expose())
        };
        self.shown(variable, shown, value.origin.clone());
    }

    /// Nothing was said about `variable`.
    pub(super) fn unset(&mut self, variable: &'static Variable) {
        let shown = match variable.default {
            "" => "not set",
            default => default,
        };
        self.shown(variable, shown.to_owned(), Origin::Default);
    }

    /// A value that is shown in words of its own.
    pub(super) fn shown(&mut self, variable: &'static Variable, value: String, origin: Origin<'a>) {
        self.notes.push(Note {
            variable,
            value,
            origin,
        });
    }

    /// The account of `raw` for `role`, whose file is at `path`.
    pub(super) fn finish(
        self,
        raw: Raw<'_>,
        role: Used,
        path: PathBuf,
        warnings: Vec<Warning>,
    ) -> EffectiveConfig {
        let form = raw.file.map(Loaded::form);
        let spelling = form.unwrap_or(Form::KeyValue);
        let row = |note: &Note<'_>| Row {
            key: spelling.spell(note.variable),
            value: note.value.clone(),
            origin: place(&note.origin, note.variable),
        };
        EffectiveConfig {
            file: path,
            form,
            rows: self.notes.iter().map(row).collect(),
            overridden: self.overridden(raw, role),
            warnings,
            ..self.known
        }
    }

    fn overridden(&self, raw: Raw<'_>, role: Used) -> Vec<String> {
        let mut overridden = Vec::new();
        for variable in TABLE.iter().filter(|known| known.used.includes(role)) {
            let winner = self.winner(variable);
            for value in raw.values(variable) {
                let is_in_file = matches!(value.origin, Origin::File { .. });
                if is_enrollment_token(variable) && is_in_file {
                    continue;
                }
                match winner {
                    Some(origin) if *origin == value.origin => {}
                    Some(origin) => overridden.push(format!("{}: {origin} wins", value.origin)),
                    None => overridden.push(format!("{}: nothing needs it", value.origin)),
                }
            }
        }
        overridden
    }

    /// Where the value comes from that holds for `variable`, or for the setting that takes its
    /// place: there is one domain, and one token to enroll with.
    fn winner(&self, variable: &Variable) -> Option<&Origin<'a>> {
        let is_domain = |known: &Variable| *known == API_URL || known.group == Group::StoredDomain;
        let is_it = |note: &&Note<'_>| {
            note.variable == variable || (is_domain(variable) && is_domain(note.variable))
        };
        let found = self.notes.iter().find(is_it).or_else(|| {
            let mut notes = self.notes.iter();
            let is_enrollment_token = is_enrollment_token(variable);
            notes.find(|note| is_enrollment_token && *note.variable == TOKEN)
        });
        found.map(|note| &note.origin)
    }
}

/// Where a value comes from, beside the name of its setting.
fn place(origin: &Origin<'_>, variable: &Variable) -> String {
    match origin {
        Origin::Environment(name) if *name == variable.name => "environment".to_owned(),
        Origin::Environment(name) => format!("environment, {name}"),
        Origin::File { line, name, .. }
            if *name == variable.name || *name == variable.toml_key() =>
        {
            format!("file, line {line}")
        }
        Origin::File { line, name, .. } => format!("file, line {line}, as {name}"),
        Origin::Flag(_) | Origin::Cli(_) | Origin::Default => origin.to_string(),
    }
}

/// `text` without characters that a terminal obeys.
fn printable(text: &str) -> String {
    let safe = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::EffectiveConfig;
    use crate::case::Case;
    use crate::env::{API_URL, Environment, GATEWAY_NAME, RELAY_HOST, RELAY_NAME, TOKEN, Variable};
    use std::path::Path;

    use crate::file::{Form, parse};
    use crate::raw::Loaded;
    use crate::warning::Warning;
    use crate::{assemble_gateway, assemble_relay};

    type Flag = (&'static Variable, &'static str, &'static str);

    const NAME: Flag = (&GATEWAY_NAME, "NAME", "edge");
    const FILE: &str = "/conf/edge.conf";

    fn rows(account: &EffectiveConfig) -> Vec<[&str; 3]> {
        account
            .rows
            .iter()
            .map(|row| [&*row.key, &*row.value, &*row.origin])
            .collect()
    }

    #[test]
    fn every_setting_shows_origin_without_secrets() {
        let case = Case {
            flags: &[NAME, (&API_URL, "--domain", "https://flag")],
            variables: &[("INFISICAL_CUSTOM_HEADERS", "X-A=hunter2 X-B='hunter2'")],
            file: Some((
                FILE,
                "api_url = \"https://file\"\ngateway_access_token = \"hunter2\"\n\
                 token = \"hunter2\"\ngateway_enrollment_token = \"hunter2\"\n",
            )),
            config: None,
        };
        let account = case.explain(assemble_gateway);
        let expected = [
            ["gateway_name", "edge", "NAME"],
            ["api_url", "https://flag/api", "--domain"],
            ["custom_headers", "X-A=<secret> X-B=<secret>", "environment"],
            ["ca_file", "not set", "default"],
            ["log_level", "info", "default"],
            ["log_file", "standard error", "default"],
            ["log_format", "console", "default"],
            ["log_destination", "stderr", "default"],
            ["metrics_allow_remote", "false", "default"],
            ["metrics_listen", "nowhere", "default"],
            ["audit_file", "none", "default"],
            [
                "relay_name",
                "the relay of the last run if healthy, else the fastest healthy relay",
                "default",
            ],
            [
                "targets.allow",
                "every target but cloud metadata and the gateway itself",
                "default",
            ],
            ["targets.deny", "none", "default"],
            ["gateway_access_token", "<secret>", "file, line 2"],
        ];
        assert_eq!(rows(&account), expected);
        assert_eq!(account.form, Some(Form::Toml));
        assert_eq!(
            account.credential,
            "access token that an enrollment obtained"
        );
        let overridden = [
            "api_url in /conf/edge.conf line 1: --domain wins",
            "token in /conf/edge.conf line 3: nothing needs it",
        ];
        assert_eq!(account.overridden, overridden);
        assert!(!format!("{account:?}").contains("hunter2"));
    }

    #[test]
    fn every_credential_is_called_by_its_name() {
        let client = "INFISICAL_AUTH_METHOD=universal-auth\nINFISICAL_UNIVERSAL_AUTH_CLIENT_ID=i\n\
                      INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET=hunter2\n";
        for (file, credential, last) in [
            (
                client,
                "universal auth of a machine identity",
                "INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET",
            ),
            (
                "INFISICAL_TOKEN=t\n",
                "access token of a machine identity",
                "INFISICAL_TOKEN",
            ),
            (
                "INFISICAL_GATEWAY_ENROLL_METHOD=token\nINFISICAL_TOKEN=t\n",
                "one-time enrollment token, which the first start spends",
                "INFISICAL_TOKEN",
            ),
        ] {
            let case = Case {
                flags: &[NAME],
                file: Some((FILE, file)),
                ..Case::default()
            };
            let account = case.explain(assemble_gateway);
            assert_eq!(account.credential, credential);
            assert_eq!(account.rows.last().expect("rows").key, last);
            assert_eq!(account.overridden, [""; 0], "{credential}");
        }
    }

    #[test]
    fn relay_without_file_shows_its_defaults() {
        let case = Case {
            flags: &[
                (&RELAY_NAME, "--name", "eu"),
                (&RELAY_HOST, "--host", "10.0.0.1"),
                (&TOKEN, "--token", "hunter2"),
            ],
            ..Case::default()
        };
        let account = case.explain(assemble_relay);
        assert_eq!(account.form, None);
        for row in [
            ["INFISICAL_RELAY_TYPE", "org", "default"],
            [
                "INFISICAL_API_URL",
                "https://app.infisical.com/api",
                "default",
            ],
            [
                "INFISICAL_RELAY_SSH_LISTEN",
                "port 2222 of every address",
                "default",
            ],
            ["INFISICAL_CUSTOM_HEADERS", "not set", "default"],
            ["INFISICAL_TOKEN", "<secret>", "--token"],
        ] {
            assert!(rows(&account).contains(&row), "{row:?}: {account:#?}");
        }
    }

    #[test]
    fn unused_settings_do_not_stop_a_role() {
        let case = Case {
            flags: &[NAME],
            file: Some((
                FILE,
                "INFISICAL_TOKEN=t\nINFISICAL_PKCS11_MODULE=/lib/x.so\nINFISICAL_RELAY_HOST=h\n",
            )),
            ..Case::default()
        };
        let (_, warnings) = case.assemble(assemble_gateway).expect("settings");
        let texts: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        let expected = [
            "INFISICAL_PKCS11_MODULE in /conf/edge.conf line 2 has no effect: the service that it \
             configures is not offered by this version",
            "INFISICAL_RELAY_HOST in /conf/edge.conf line 3 has no effect: it is for relays",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn deployed_programs_names_count() {
        let case = Case {
            flags: &[NAME],
            variables: &[
                ("INFISICAL_DOMAIN", "https://self.hosted"),
                ("INFISICAL_UNIVERSAL_AUTH_ACCESS_TOKEN", "hunter2"),
                ("INFISICAL_TOKEN", "hunter2"),
            ],
            ..Case::default()
        };
        let account = case.explain(assemble_gateway);
        let of = "environment, INFISICAL_UNIVERSAL_AUTH_ACCESS_TOKEN";
        for row in [
            [
                "INFISICAL_API_URL",
                "https://self.hosted/api",
                "environment, INFISICAL_DOMAIN",
            ],
            ["INFISICAL_TOKEN", "<secret>", of],
        ] {
            assert!(rows(&account).contains(&row), "{row:?}: {account:#?}");
        }
    }

    #[test]
    fn stored_domain_wins_over_configured_one() {
        let case = Case {
            flags: &[NAME],
            variables: &[("INFISICAL_API_URL", "https://env")],
            file: Some((
                FILE,
                "INFISICAL_GATEWAY_ACCESS_TOKEN=hunter2\nINFISICAL_GATEWAY_DOMAIN=https://a/api\n",
            )),
            config: None,
        };
        let account = case.explain(assemble_gateway);
        let row = ["INFISICAL_GATEWAY_DOMAIN", "https://a/api", "file, line 2"];
        assert!(rows(&account).contains(&row), "{account:#?}");
        let expected = "environment variable INFISICAL_API_URL: INFISICAL_GATEWAY_DOMAIN in \
                        /conf/edge.conf line 2 wins";
        assert_eq!(account.overridden, [expected]);
    }

    /// Every value that loses is reported, also one of the same source as the winner.
    #[test]
    fn every_losing_value_is_listed() {
        let case = Case {
            flags: &[
                NAME,
                (&GATEWAY_NAME, "--name", "other"),
                (&TOKEN, "--token", "hunter2"),
                (&API_URL, "--domain", "https://flag"),
                (&RELAY_NAME, "--target-relay-name", "eu-1"),
                (&RELAY_NAME, "--relay", "eu-2"),
            ],
            variables: &[
                ("INFISICAL_API_URL", "https://env"),
                ("INFISICAL_DOMAIN", "https://env2"),
                ("INFISICAL_TOKEN", "hunter2"),
                ("INFISICAL_UNIVERSAL_AUTH_ACCESS_TOKEN", "hunter2"),
            ],
            file: Some((
                FILE,
                "INFISICAL_GATEWAY_DOMAIN=https://stored\nINFISICAL_API_URL=https://file\n\
                 INFISICAL_GATEWAY_ENROLLMENT_TOKEN=hunter2\n",
            )),
            config: None,
        };
        let expected = [
            "environment variable INFISICAL_DOMAIN: --domain wins",
            "environment variable INFISICAL_API_URL: --domain wins",
            "INFISICAL_API_URL in /conf/edge.conf line 2: --domain wins",
            "environment variable INFISICAL_UNIVERSAL_AUTH_ACCESS_TOKEN: --token wins",
            "environment variable INFISICAL_TOKEN: --token wins",
            "--name: NAME wins",
            "INFISICAL_GATEWAY_DOMAIN in /conf/edge.conf line 1: --domain wins",
            "--relay: --target-relay-name wins",
        ];
        assert_eq!(case.explain(assemble_gateway).overridden, expected);
    }

    #[test]
    fn alias_is_named_as_given() {
        let file = "INFISICAL_API_URL=https://b\nINFISICAL_DOMAIN=https://a\nINFISICAL_TOKEN=t\n";
        let case = Case {
            flags: &[NAME],
            file: Some((FILE, file)),
            ..Case::default()
        };
        let account = case.explain(assemble_gateway);
        let from = "file, line 2, as INFISICAL_DOMAIN";
        let row = ["INFISICAL_API_URL", "https://a/api", from];
        assert!(rows(&account).contains(&row), "{account:#?}");
        let expected = "INFISICAL_API_URL in /conf/edge.conf line 1: INFISICAL_DOMAIN in \
                        /conf/edge.conf line 2 wins";
        assert_eq!(account.overridden, [expected]);
    }

    #[test]
    fn unused_and_misspelled_variables_are_warnings() {
        let case = Case {
            flags: &[NAME, (&TOKEN, "--token-file", "t")],
            variables: &[
                ("INFISICAL_PKCS11_MODULE", "/lib/x.so"),
                ("INFISICAL_TOKN", "hunter2"),
                ("INFISICAL_RELAY_NAM", "eu"),
                ("INFISCAL_DOMAIN", "https://a"),
                ("INFISICAL_RELAY_HOST", "h"),
                ("INFISICAL_RELAY_PORT", "tcp://10.0.0.1:8443"),
                ("INFISICAL_VAULT_BACKEND", "file"),
                ("INFISICAL_DISABLE_UPDATE_CHECK", "true"),
            ],
            ..Case::default()
        };
        let account = case.explain(assemble_gateway);
        let warnings = account.warnings.iter().map(Warning::to_string);
        let texts: Vec<String> = warnings
            .filter(|text| text.contains("environment"))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let expected = [
            "environment variable INFISICAL_PKCS11_MODULE has no effect: the service that it \
             configures is not offered by this version",
            "environment variable INFISICAL_TOKN is not known, did you mean INFISICAL_TOKEN?",
            "environment variable INFISICAL_RELAY_NAM is not known, did you mean \
             INFISICAL_RELAY_NAME?",
            "environment variable INFISCAL_DOMAIN is not known, did you mean INFISICAL_DOMAIN?",
        ];
        for text in expected {
            assert!(texts.contains(&text), "{text}: {texts:#?}");
        }
        let unwanted = ["RELAY_HOST", "RELAY_PORT", "VAULT", "UPDATE_CHECK"];
        for name in unwanted {
            assert!(
                !texts.iter().any(|text| text.contains(name)),
                "{name}: {texts:#?}"
            );
        }
    }

    #[test]
    fn lines_of_other_programs_are_no_mistakes() {
        let file = "INFISICAL_TOKEN=t\nHTTPS_PROXY=http://p:1\nno_proxy=h\nSSL_CERT_FILE=/ca.pem\nTZ=UTC\n\
                    AWS_REGION=eu-1\nGODEBUG=netdns=go\nINFISICAL_NEW_FEATURE=1\nLOG_LEVEL=verbose\n\
                    INFISICAL_DOMAIN=https://a\n";
        let case = Case {
            flags: &[NAME],
            file: Some((FILE, file)),
            ..Case::default()
        };
        let (settings, warnings) = case.assemble(assemble_gateway).expect("settings");
        assert_eq!(settings.common.domain.to_string(), "https://a/api");
        let texts: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        assert_eq!(texts.len(), 3, "{texts:#?}");
        let parts = ["LOG_LEVEL in ", "GODEBUG in ", "INFISICAL_NEW_FEATURE in "];
        for (text, part) in texts.iter().zip(parts) {
            assert!(text.starts_with(part), "{text}");
        }
        let environment = Environment::from_vars([("AWS_REGION", "us-1")]);
        let loaded = Loaded {
            path: FILE.into(),
            entries: parse(file).expect("a file"),
        };
        let both = environment.with_file(Some(&loaded));
        assert_eq!(both.cloud.value(&["AWS_REGION"]), Some("us-1"));
        let roots = both.ssl_cert_file.expect("a file of roots");
        assert_eq!(roots.path, Path::new("/ca.pem"));
        assert_eq!(roots.setting, "SSL_CERT_FILE in /conf/edge.conf line 4");
        let both = Environment::default().with_file(Some(&loaded));
        assert_eq!(both.cloud.value(&["AWS_REGION"]), Some("eu-1"));
    }
}
