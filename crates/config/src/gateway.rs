//! The assembly of a gateway's settings.

use std::sync::Arc;

use super::assemble::{Assembled, Inputs, assemble};
use super::env::{AUDIT_FILE, RELAY_NAME};
use super::gateway_targets::target_policy;
use super::role::GATEWAY;
use super::settings::{CommonSettings, GatewaySettings, LogSettings};
use crate::names::{GatewayName, RelayName};

const NAME_MISSING: &str =
    "the gateway needs a name: infisical gateway start NAME, or set INFISICAL_GATEWAY_NAME";

/// Makes a gateway's settings of what was given.
///
/// # Errors
/// Everything that is wrong.
pub fn assemble_gateway(inputs: &Inputs<'_>) -> Assembled<GatewaySettings> {
    assemble::<GatewayName, _>(inputs, &GATEWAY, |reader, store| {
        let name = reader.required(GATEWAY.name, NAME_MISSING, str::parse::<GatewayName>);
        let mut common = reader.common(&GATEWAY, store);
        let audit_file = reader.parsed(&AUDIT_FILE, LogSettings::parse_file);
        if let Some(common) = &mut common {
            common.log.audit_file = audit_file;
        }
        let relay = reader.parsed(&RELAY_NAME, str::parse::<RelayName>);
        let targets = Arc::new(target_policy(reader));
        let domain = common.as_ref().map(|common| &common.domain);
        let credential = reader.credential(&GATEWAY, domain);
        Some(GatewaySettings {
            name: name?,
            common: common?,
            credential: credential?,
            relay,
            targets,
        })
    })
}

/// The part of a gateway's settings that says whom it connects to; no credential is needed.
#[derive(Debug)]
pub struct GatewayEgress {
    /// Its name.
    pub name: GatewayName,
    /// The platform and the proxies.
    pub common: CommonSettings,
}

/// Makes that part of what was given.
///
/// # Errors
/// Everything that is wrong with it.
pub fn assemble_gateway_egress(inputs: &Inputs<'_>) -> Assembled<GatewayEgress> {
    assemble::<GatewayName, _>(inputs, &GATEWAY, |reader, store| {
        let name = reader.required(GATEWAY.name, NAME_MISSING, str::parse::<GatewayName>);
        let common = reader.common(&GATEWAY, store);
        Some(GatewayEgress {
            name: name?,
            common: common?,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::assemble_gateway;
    use crate::case::Case;
    use crate::cloud::Cloud;
    use crate::credential::{
        Credential, IdentityCredential, IdentityLogin, LoginMethod, MachineProof, POD_TOKEN,
    };
    use crate::env::{
        API_URL, AUTH_METHOD, CLIENT_ID, CLIENT_SECRET, GATEWAY_ENROLL_METHOD, GATEWAY_NAME,
        LOG_LEVEL, MACHINE_IDENTITY_ID, RELAY_NAME, TOKEN, Variable,
    };
    use crate::secret::Secret;
    use crate::settings::LogLevel;
    use crate::warning::Warning;

    type Flag = (&'static Variable, &'static str, &'static str);
    type Set = (&'static str, &'static str);

    const NAME: Flag = (&GATEWAY_NAME, "NAME", "edge");
    const FILE: &str = "/conf/edge.conf";
    const ENROLL: Flag = (&GATEWAY_ENROLL_METHOD, "--enroll-method", "token");

    fn flag(token: &'static str) -> Flag {
        (&TOKEN, "--token", token)
    }

    fn identity(token: &str) -> Credential {
        Credential::Identity(IdentityCredential::Token(Secret::new(token)))
    }

    fn enrolled(token: &str) -> Credential {
        Credential::AccessToken(Secret::new(token))
    }

    fn enroll(token: &str) -> Credential {
        Credential::Enroll {
            token: Secret::new(token),
        }
    }

    fn universal(id: &str, secret: &str) -> Credential {
        login(LoginMethod::UniversalAuth {
            client_id: id.to_owned(),
            client_secret: Secret::new(secret),
        })
    }

    fn login(method: LoginMethod) -> Credential {
        Credential::Identity(IdentityCredential::Login(IdentityLogin {
            method,
            organization: None,
        }))
    }

    #[test]
    fn flags_win_over_environment_file_and_defaults() {
        let file = "INFISICAL_API_URL=https://file\nINFISICAL_RELAY_NAME=relay-file\n\
                    INFISICAL_GATEWAY_DOMAIN=https://enrolled\nINFISICAL_GATEWAY_NAME=other\n";
        let configured = "INFISICAL_API_URL=https://file\nINFISICAL_RELAY_NAME=relay-file\n";
        let enrolled_at = "INFISICAL_GATEWAY_DOMAIN=https://enrolled\n";
        let variables = [
            ("INFISICAL_TOKEN", "t"),
            ("INFISICAL_API_URL", "https://env"),
            ("INFISICAL_RELAY_NAME", "relay-env"),
            ("INFISICAL_GATEWAY_NAME", "not-this"),
        ];
        let flags = [
            NAME,
            (&GATEWAY_NAME, "--name", "nor-this"),
            (&API_URL, "--domain", "https://flag"),
            (&RELAY_NAME, "--target-relay-name", "relay-flag"),
            (&RELAY_NAME, "--relay", "relay-old"),
        ];
        for (flags, variables, file, domain, relay) in [
            (
                &flags[..],
                &variables[..],
                file,
                "https://flag/api",
                Some("relay-flag"),
            ),
            (
                &flags[..1],
                &variables,
                file,
                "https://enrolled/api",
                Some("relay-env"),
            ),
            (
                &flags[..1],
                &variables,
                configured,
                "https://env/api",
                Some("relay-env"),
            ),
            (
                &flags[..1],
                &variables[..1],
                configured,
                "https://file/api",
                Some("relay-file"),
            ),
            (
                &flags[..1],
                &variables[..1],
                enrolled_at,
                "https://enrolled/api",
                None,
            ),
            (
                &flags[..1],
                &variables[..1],
                "",
                "https://app.infisical.com/api",
                None,
            ),
        ] {
            let case = Case {
                flags,
                variables,
                file: Some((FILE, file)),
                config: None,
            };
            let (settings, warnings) = case.assemble(assemble_gateway).expect("settings");
            assert_eq!(settings.common.domain.to_string(), domain);
            assert_eq!(settings.relay.as_ref().map(|name| name.as_str()), relay);
            assert_eq!(settings.name.as_str(), "edge");
            assert_eq!(settings.common.store, Path::new(FILE));
            assert_eq!(warnings, []);
        }
    }

    #[test]
    fn name_selects_the_file() {
        for (flags, variables, config, file, name) in [
            (
                &[(&GATEWAY_NAME, "--name", "old")][..],
                &[][..],
                None,
                "/conf/old.conf",
                "old",
            ),
            (
                &[],
                &[("INFISICAL_GATEWAY_NAME", "env")],
                None,
                "/conf/env.conf",
                "env",
            ),
            (
                &[],
                &[],
                Some("/etc/gateway.conf"),
                "/etc/gateway.conf",
                "file",
            ),
        ] {
            let case = Case {
                flags,
                variables,
                file: Some((file, "INFISICAL_GATEWAY_NAME=file\nINFISICAL_TOKEN=t\n")),
                config,
            };
            let (settings, _) = case.assemble(assemble_gateway).expect("settings");
            assert_eq!(settings.name.as_str(), name);
            assert_eq!(settings.common.store, Path::new(file));
        }
        let nameless = Case {
            variables: &[("INFISICAL_TOKEN", "t")],
            ..Case::default()
        };
        let problem = nameless.problem(assemble_gateway);
        assert!(
            problem.contains("infisical gateway start NAME"),
            "{problem}"
        );
    }

    #[test]
    fn strongest_and_last_credential_wins() {
        let kept =
            "INFISICAL_GATEWAY_ACCESS_TOKEN=kept\nINFISICAL_GATEWAY_ENROLLMENT_TOKEN=spent\n";
        let both = "INFISICAL_GATEWAY_ACCESS_TOKEN=kept\nINFISICAL_TOKEN=file\n";
        let client = [
            ("INFISICAL_UNIVERSAL_AUTH_CLIENT_ID", "id"),
            ("INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET", "secret"),
            ("INFISICAL_AUTH_METHOD", "universal-auth"),
            ("INFISICAL_TOKEN", "env"),
        ];
        let login = (&AUTH_METHOD, "--auth-method", "universal-auth");
        let of_env = [("INFISICAL_GATEWAY_ACCESS_TOKEN", "kept-env")];
        let method = [("INFISICAL_GATEWAY_ENROLL_METHOD", "token")];
        let in_file = "INFISICAL_AUTH_METHOD=universal-auth\nINFISICAL_UNIVERSAL_AUTH_CLIENT_ID=f\n\
                       INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET=s\n";
        let method_in_file = "INFISICAL_GATEWAY_ENROLL_METHOD=token\nINFISICAL_TOKEN=spent\n\
                              INFISICAL_GATEWAY_ACCESS_TOKEN=kept\nINFISICAL_GATEWAY_ENROLLMENT_TOKEN=spent\n";
        let cases: [(&[Flag], &[Set], &str, Credential); 20] = [
            // Only an identity that is typed displaces what is kept.
            (&[flag("flag")], &client[3..], kept, identity("flag")),
            (&[], &client[3..], kept, enrolled("kept")),
            (&[flag("flag")], &of_env, kept, identity("flag")),
            (&[login], &client, kept, universal("id", "secret")),
            (&[], &client[..3], kept, enrolled("kept")),
            (&[], &client[..3], "", universal("id", "secret")),
            (&[], &client, "", identity("env")),
            // Kept tokens, the environment's first, and then the file's identity.
            (&[], &of_env, both, enrolled("kept-env")),
            (&[], &client[..2], both, enrolled("kept")),
            (&[], &[], "INFISICAL_TOKEN=file\n", identity("file")),
            (&[], &[], in_file, universal("f", "s")),
            (&[], &[("INFISICAL_TOKEN", "")], both, enrolled("kept")),
            // Enrollment, once for each token.
            (&[ENROLL, flag("new")], &[], "", enroll("new")),
            (&[ENROLL, flag("new")], &[], kept, enroll("new")),
            (&[ENROLL, flag("spent")], &[], kept, enrolled("kept")),
            (&[ENROLL], &client[3..], "", enroll("env")),
            (&[ENROLL], &[], kept, enrolled("kept")),
            (&[flag("new")], &method, kept, enroll("new")),
            (&[], &[], method_in_file, enrolled("kept")),
            // A login by flag outranks an enrollment by environment.
            (
                &[
                    login,
                    (&CLIENT_ID, "--client-id", "i"),
                    (&CLIENT_SECRET, "--client-secret", "s"),
                ],
                &method,
                kept,
                universal("i", "s"),
            ),
        ];
        for (number, (flags, variables, file, credential)) in cases.into_iter().enumerate() {
            let case = Case {
                flags: &[&[NAME], flags].concat(),
                variables,
                file: Some((FILE, file)),
                config: None,
            };
            let (settings, _) = case.assemble(assemble_gateway).expect("settings");
            assert_eq!(settings.credential, credential, "case {number}");
            // `Secret` compares; make sure that a failure above could not show one.
            assert!(!format!("{settings:?}").contains("kept"));
        }
    }

    #[test]
    fn stored_token_stays_with_its_platform() {
        let file =
            "INFISICAL_GATEWAY_ACCESS_TOKEN=hunter2\nINFISICAL_GATEWAY_DOMAIN=https://a/api\n";
        let domain = |domain| (&API_URL, "--domain", domain);
        for (flags, variables) in [
            (&[NAME][..], &[][..]),
            (&[NAME], &[("INFISICAL_API_URL", "https://b")]),
            (&[NAME, domain("https://a/")], &[]),
        ] {
            let case = Case {
                flags,
                variables,
                file: Some((FILE, file)),
                config: None,
            };
            let (settings, _) = case.assemble(assemble_gateway).expect("settings");
            assert_eq!(settings.common.domain.to_string(), "https://a/api");
            assert_eq!(settings.credential, enrolled("hunter2"));
        }
        let other = Case {
            flags: &[NAME, domain("https://b")],
            file: Some((FILE, file)),
            ..Case::default()
        };
        let problem = other.problem(assemble_gateway);
        for part in ["line 1", "https://a/api", "https://b/api", "--domain"] {
            assert!(problem.contains(part), "{problem}");
        }
        assert!(!problem.contains("hunter2"));
    }

    #[test]
    fn every_enroll_method_has_its_proof() {
        let id = ("INFISICAL_GATEWAY_ID", "g");
        let key = ("INFISICAL_GCP_IAM_SERVICE_ACCOUNT_KEY_FILE_PATH", "/key");
        let iam = ("INFISICAL_GCP_AUTH_TYPE", "iam");
        let cloud = Cloud::default;
        for (method, variables, proof) in [
            ("aws", &[id][..], MachineProof::Aws { cloud: cloud() }),
            (
                "kubernetes",
                &[id],
                MachineProof::Kubernetes {
                    token_path: POD_TOKEN.into(),
                },
            ),
            ("gcp", &[id], MachineProof::GcpGce { cloud: cloud() }),
            (
                "gcp",
                &[id, key, iam],
                MachineProof::GcpIam {
                    key_path: Some("/key".into()),
                    cloud: cloud(),
                },
            ),
        ] {
            let case = Case {
                flags: &[NAME, (&GATEWAY_ENROLL_METHOD, "--enroll-method", method)],
                variables,
                ..Case::default()
            };
            let (settings, _) = case.assemble(assemble_gateway).expect("settings");
            let Credential::Machine(found) = settings.credential else {
                panic!("another credential");
            };
            assert_eq!(found.proof, proof);
        }
        let gce_with_key = Case {
            flags: &[NAME, (&GATEWAY_ENROLL_METHOD, "--enroll-method", "gcp")],
            variables: &[id, key],
            ..Case::default()
        };
        let problem = gce_with_key.problem(assemble_gateway);
        assert!(problem.contains("--gcp-auth-type=iam"), "{problem}");
    }

    #[test]
    fn variables_of_other_programs_count_last() {
        let file = "INFISICAL_TOKEN=file\n";
        let shared = [("TOKEN", "shared"), ("LOG_LEVEL", "verbose")];
        for (file, token) in [(file, "file"), ("", "shared")] {
            let case = Case {
                flags: &[NAME],
                variables: &shared,
                file: Some((FILE, file)),
                config: None,
            };
            let (settings, warnings) = case.assemble(assemble_gateway).expect("settings");
            assert_eq!(settings.credential, identity(token));
            assert_eq!(settings.common.log.level, None);
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            let expected = "environment variable LOG_LEVEL: must be error, warn, info, debug or trace; the \
                            default is used";
            assert_eq!(warnings, [expected]);
        }
    }

    #[test]
    fn what_is_remarkable_is_remarked() {
        let spent =
            "INFISICAL_GATEWAY_ACCESS_TOKEN=kept\nINFISICAL_GATEWAY_ENROLLMENT_TOKEN=spent\n";
        let case = Case {
            flags: &[
                NAME,
                ENROLL,
                flag("spent"),
                (&API_URL, "--domain", "http://10.0.0.1"),
            ],
            file: Some((FILE, spent)),
            ..Case::default()
        };
        let (_, warnings) = case.assemble(assemble_gateway).expect("settings");
        assert_eq!(
            warnings,
            [
                Warning::SecretInArguments { flag: "--token" },
                Warning::PlainHttp {
                    domain: "http://10.0.0.1/api".to_owned()
                },
                Warning::AlreadyEnrolled,
            ]
        );
    }

    #[test]
    fn what_is_logged_may_be_said_anywhere() {
        let file = "INFISICAL_TOKEN=t\nINFISICAL_LOG_LEVEL=debug\nINFISICAL_LOG_FILE=/log/file\n";
        let variables = [
            ("INFISICAL_LOG_LEVEL", "ERROR"),
            ("INFISICAL_LOG_FILE", "/log/env"),
        ];
        let level: Flag = (&LOG_LEVEL, "--log-level", "trace");
        for (flags, variables, level, path) in [
            (
                &[NAME, level][..],
                &variables[..],
                LogLevel::Trace,
                "/log/env",
            ),
            (&[NAME], &variables, LogLevel::Error, "/log/env"),
            (&[NAME], &[], LogLevel::Debug, "/log/file"),
        ] {
            let case = Case {
                flags,
                variables,
                file: Some((FILE, file)),
                config: None,
            };
            let (settings, _) = case.assemble(assemble_gateway).expect("settings");
            assert_eq!(settings.common.log.level, Some(level));
            assert_eq!(settings.common.log.file.as_deref(), Some(Path::new(path)));
        }
        let case = Case {
            flags: &[NAME],
            file: Some((FILE, "INFISICAL_TOKEN=t\nINFISICAL_LOG_LEVEL=loud\n")),
            ..Case::default()
        };
        assert_eq!(
            case.problem(assemble_gateway),
            "INFISICAL_LOG_LEVEL in /conf/edge.conf line 2: must be error, warn, info, debug or trace"
        );
    }

    #[test]
    fn all_mistakes_are_reported_without_secrets() {
        let long = "x".repeat(65);
        let case = Case {
            flags: &[
                (&GATEWAY_NAME, "NAME", &long),
                (&API_URL, "--domain", "https://u:hunter2@host"),
                (&AUTH_METHOD, "--auth-method", "universal-auth"),
            ],
            variables: &[
                ("INFISICAL_RELAY_NAME", "two words"),
                ("INFISICAL_CUSTOM_HEADERS", "X-Key='hunter2"),
            ],
            ..Case::default()
        };
        let problems = case.assemble(assemble_gateway).expect_err("problems");
        let starts = [
            "NAME: gateway name \"xxx",
            "--domain: the URL must not hold a user name or password",
            "environment variable INFISICAL_CUSTOM_HEADERS: header X-Key has a quote",
            "environment variable INFISICAL_RELAY_NAME: relay name \"two words\" is not valid: ",
            "universal-auth needs --client-id or INFISICAL_UNIVERSAL_AUTH_CLIENT_ID",
            "universal-auth needs --client-secret or INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:#?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn wrong_lines_are_named_without_content() {
        let case = Case {
            flags: &[NAME],
            file: Some((FILE, "INFISICAL_TOKN=hunter2\nhunter2\n")),
            ..Case::default()
        };
        assert_eq!(
            case.assemble(assemble_gateway).expect_err("problems"),
            [
                "/conf/edge.conf line 1: unknown key INFISICAL_TOKN, did you mean INFISICAL_TOKEN?",
                "/conf/edge.conf line 2: expected KEY=value",
            ]
        );
        let case = Case {
            flags: &[NAME],
            file: Some((
                FILE,
                "\n\nINFISICAL_API_URL=ftp://host\nINFISICAL_TOKEN=t\n",
            )),
            ..Case::default()
        };
        let problem = case.problem(assemble_gateway);
        let place = "INFISICAL_API_URL in /conf/edge.conf line 3: the URL must begin with https://";
        assert!(problem.starts_with(place), "{problem}");
    }

    #[test]
    fn unreadable_file_hides_no_missing_name() {
        let case = Case {
            config: Some("/none.conf"),
            ..Case::default()
        };
        let problem = case.problem(assemble_gateway);
        assert!(problem.starts_with("cannot read /none.conf"), "{problem}");
    }

    #[test]
    fn named_file_may_be_absent_when_enrolling() {
        let absent = |flags| Case {
            flags,
            config: Some("/none.conf"),
            ..Case::default()
        };
        let problem = absent(&[NAME]).problem(assemble_gateway);
        assert!(problem.starts_with("cannot read /none.conf"), "{problem}");
        let flags = [NAME, ENROLL, flag("new")];
        let (settings, _) = absent(&flags).assemble(assemble_gateway).expect("settings");
        assert_eq!(settings.common.store, Path::new("/none.conf"));
    }

    #[test]
    fn what_cannot_work_says_what_would() {
        let client = [("INFISICAL_UNIVERSAL_AUTH_CLIENT_ID", "id")];
        let kubernetes = (&AUTH_METHOD, "--auth-method", "kubernetes");
        let aws = (&GATEWAY_ENROLL_METHOD, "--enroll-method", "aws");
        let identity = [("INFISICAL_MACHINE_IDENTITY_ID", "id")];
        let oidc = (&AUTH_METHOD, "--auth-method", "oidc-auth");
        let id = (&MACHINE_IDENTITY_ID, "--machine-identity-id", "id");
        let iam = (&AUTH_METHOD, "--auth-method", "gcp-iam");
        let cases: [(&[Flag], &[Set], &str); 13] = [
            (&[], &[], "no credential: give --token-file"),
            (
                &[],
                &identity,
                "an identity's id alone does nothing, add --auth-method with one of kubernetes, azure, ",
            ),
            (
                &[oidc, id],
                &[],
                "oidc-auth needs --jwt-file FILE, --jwt or INFISICAL_JWT",
            ),
            (
                &[oidc, id],
                &[("INFISICAL_JWT", "t"), ("INFISICAL_JWT_FILE", "f")],
                "INFISICAL_JWT and INFISICAL_JWT_FILE are given in the same place",
            ),
            (
                &[iam, id],
                &[],
                "gcp-iam needs --service-account-key-file-path or INFISICAL_GCP_IAM_SERVICE_ACCOUNT_KEY_FILE_PATH",
            ),
            (
                &[aws],
                &[("INFISICAL_GATEWAY_ID", "two words")],
                "environment variable INFISICAL_GATEWAY_ID: the value holds white space; it must be one word",
            ),
            (&[], &client, "add --auth-method=universal-auth"),
            (
                &[kubernetes],
                &[],
                "kubernetes needs --machine-identity-id or INFISICAL_MACHINE_IDENTITY_ID",
            ),
            (
                &[],
                &[("INFISICAL_AUTH_METHOD", "magic")],
                "environment variable INFISICAL_AUTH_METHOD: unknown method; use one of universal-auth, ",
            ),
            (
                &[aws, flag("t")],
                &[],
                "enrolling with aws needs --gateway-id or INFISICAL_GATEWAY_ID",
            ),
            (
                &[flag("t")],
                &[("INFISICAL_GATEWAY_ENROLL_METHOD", "magic")],
                "INFISICAL_GATEWAY_ENROLL_METHOD: unknown method; use one of token, aws, kubernetes, gcp",
            ),
            (
                &[ENROLL],
                &[],
                "enrolling needs the one-time enrollment token",
            ),
            (
                &[ENROLL],
                &client,
                "give --token-file FILE or set INFISICAL_TOKEN",
            ),
        ];
        for (flags, variables, expected) in cases {
            let case = Case {
                flags: &[&[NAME], flags].concat(),
                variables,
                ..Case::default()
            };
            let problem = case.problem(assemble_gateway);
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
