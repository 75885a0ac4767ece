//! What proves who a role is: a machine identity's token or way to log in, an enrollment, or what
//! one has obtained.

use std::convert::Infallible;
use std::path::PathBuf;

use strum::VariantNames as _;

use super::assemble::Reader;
use super::credential::{
    Credential, IdentityCredential, IdentityLogin, Jwt, LoginFile, LoginFileKind, LoginMethod,
    MachineEnrollment, MachineProof, POD_TOKEN,
};
use super::env::{
    AUTH_METHOD, CLIENT_ID, CLIENT_SECRET, GCP_AUTH_TYPE, GCP_AUTH_TYPES, GCP_KEY_PATH, JWT,
    JWT_FILE, KUBERNETES_TOKEN_PATH, MACHINE_IDENTITY_ID, ORGANIZATION_SLUG, TOKEN, Variable,
};
use super::raw::{Origin, Source, Value};
use super::role::RoleKeys;
use super::settings::ApiBase;
use super::warning::{Problem, Warning};
use crate::secret::Secret;

impl<'a> Reader<'a> {
    /// How the role of `keys` proves itself: an enrollment that is asked for, else a machine
    /// identity that may displace a kept token, else that token, which is only sent to the platform
    /// `domain` if it is its own, else any machine identity.
    pub(super) fn credential(
        &mut self,
        keys: &RoleKeys,
        domain: Option<&ApiBase>,
    ) -> Option<Credential> {
        let credential = match self.enrolls(keys) {
            true => self.enrollment(keys)?,
            false => self.identity_or_kept(keys)?,
        };
        if let (Credential::AccessToken(_), Some(domain)) = (&credential, domain) {
            self.check_stored_domain(domain, keys);
        }
        Some(credential)
    }

    fn identity_or_kept(&mut self, keys: &RoleKeys) -> Option<Credential> {
        for source in Source::BY_PRECEDENCE {
            if source < keys.displaces_kept
                && let Some(token) = self.raw.value(keys.access_token)
            {
                return Some(self.kept(keys, &token));
            }
            if let Some(identity) = self.identity(source) {
                return identity.map(Credential::Identity);
            }
        }
        self.no_credential(keys);
        None
    }

    /// The access token that an earlier enrollment kept.
    fn kept(&mut self, keys: &RoleKeys, token: &Value<'a>) -> Credential {
        let credential = "access token that an enrollment obtained";
        self.proves(credential, keys.access_token, token);
        Credential::AccessToken(token.text.clone())
    }

    /// The machine identity that `source` gives: a token, else a way to log in; `None` if it gives
    /// neither. The inner `None` is one that cannot be used, which was noted.
    fn identity(&mut self, source: Source) -> Option<Option<IdentityCredential>> {
        if let Some(token) = self.raw.value_from(source, &TOKEN) {
            let credential = "access token of a machine identity";
            self.proves(credential, &TOKEN, &token);
            return Some(Some(IdentityCredential::Token(token.text.clone())));
        }
        let asked = self.raw.value_from(source, &AUTH_METHOD)?;
        let method = asked.text.expose();
        let credential = match method {
            "universal-auth" => "universal auth of a machine identity",
            "kubernetes" => "machine identity, by the service account of the pod",
            "azure" => "machine identity, by the Azure machine's",
            "gcp-id-token" => "machine identity, by the GCP machine's service account",
            "gcp-iam" => "machine identity, by the key of a GCP service account",
            "aws-iam" => "machine identity, by the AWS role",
            "oidc-auth" => "machine identity, by a token of an OpenID Connect provider",
            "jwt-auth" => "machine identity, by a JSON web token",
            _ => {
                self.unknown_method(&AUTH_METHOD, &asked);
                return Some(None);
            }
        };
        self.proves(credential, &AUTH_METHOD, &asked);
        let organization = self.optional(&ORGANIZATION_SLUG);
        let login = |method| {
            IdentityCredential::Login(IdentityLogin {
                method,
                organization,
            })
        };
        Some(self.login_method(method).map(login))
    }

    /// What `method`, one of the names of [`LoginMethod`], needs. Whatever is missing is noted.
    fn login_method(&mut self, method: &str) -> Option<LoginMethod> {
        if method == "universal-auth" {
            let client_id = self.needed(method, &CLIENT_ID);
            let client_secret = self.needed(method, &CLIENT_SECRET);
            return Some(LoginMethod::UniversalAuth {
                client_id: client_id?.expose().to_owned(),
                client_secret: client_secret?,
            });
        }
        let id = self.needed(method, &MACHINE_IDENTITY_ID);
        let id = id.map(|id| id.expose().to_owned());
        let cloud = self.raw.environment.cloud.clone();
        Some(match method {
            "kubernetes" => {
                let token_path = self.pod_token();
                let identity_id = id?;
                LoginMethod::Kubernetes {
                    identity_id,
                    token_path,
                }
            }
            "azure" => LoginMethod::Azure { identity_id: id? },
            "gcp-id-token" => LoginMethod::GcpIdToken {
                identity_id: id?,
                cloud,
            },
            "gcp-iam" => {
                let path = self.needed(method, &GCP_KEY_PATH);
                let identity_id = id?;
                let key_path =
                    self.login_file(LoginFileKind::GcpKey, &GCP_KEY_PATH, path?.expose());
                LoginMethod::GcpIam {
                    identity_id,
                    key_path,
                }
            }
            "aws-iam" => LoginMethod::AwsIam {
                identity_id: id?,
                cloud,
            },
            "oidc-auth" => {
                let jwt = self.jwt(method);
                LoginMethod::OidcAuth {
                    identity_id: id?,
                    jwt: jwt?,
                }
            }
            _ => {
                let jwt = self.jwt(method);
                LoginMethod::JwtAuth {
                    identity_id: id?,
                    jwt: jwt?,
                }
            }
        })
    }

    fn unknown_method(&mut self, variable: &'static Variable, asked: &Value<'a>) {
        let methods = variable.choices().join(", ");
        let text = format_args!("unknown method; use one of {methods}");
        self.problem(Problem::at(&asked.origin, text));
    }

    /// The token, or its file; of both the one that was said more strongly.
    fn jwt(&mut self, method: &str) -> Option<Jwt> {
        let (given, file) = (self.raw.source(&JWT), self.raw.source(&JWT_FILE));
        if given.is_some() && given == file {
            self.problem(Problem::new(format!(
                "{} and {} are given in the same place; only one of them can hold",
                JWT.name, JWT_FILE.name
            )));
            return None;
        }
        if file > given {
            let path = self.optional(&JWT_FILE)?;
            let path = self.login_file(LoginFileKind::Jwt, &JWT_FILE, &path);
            return Some(Jwt::File(path));
        }
        let jwt = self.needed_by(method, &JWT, "--jwt-file FILE, --jwt");
        jwt.map(Jwt::Given)
    }

    fn pod_token(&mut self) -> PathBuf {
        let path = self.optional(&KUBERNETES_TOKEN_PATH);
        let path = path.as_deref().unwrap_or(POD_TOKEN);
        self.login_file(LoginFileKind::PodToken, &KUBERNETES_TOKEN_PATH, path)
    }

    /// Notes the file at `path`, which `variable` names and a login reads.
    fn login_file(
        &mut self,
        kind: LoginFileKind,
        variable: &'static Variable,
        path: &str,
    ) -> PathBuf {
        let path = PathBuf::from(path);
        let value = self.raw.value(variable);
        self.notes.known.login_file = Some(LoginFile {
            setting: value.map(|value| value.origin.to_string()),
            path: path.clone(),
            kind,
        });
        path
    }

    /// A setting without which `method` cannot be used.
    fn needed(&mut self, method: &str, variable: &'static Variable) -> Option<Secret> {
        self.needed_by(method, variable, variable.flag())
    }

    /// The same; `flag` is how to give it.
    fn needed_by(
        &mut self,
        method: &str,
        variable: &'static Variable,
        flag: &str,
    ) -> Option<Secret> {
        if let Some(value) = self.raw.value(variable) {
            return self.uses(variable, &value).then(|| value.text.clone());
        }
        if !self.file_failed && !self.has_failed(variable) {
            let text = format!("{method} needs {flag} or {}", variable.name);
            self.problem(Problem::new(text));
        }
        None
    }

    fn optional(&mut self, variable: &'static Variable) -> Option<String> {
        self.parsed(variable, |text| Ok::<_, Infallible>(text.to_owned()))
    }

    /// True if an enrollment is asked for, and nothing stronger asks for a machine identity: a way
    /// to log in, or, where no token is needed to enroll, a token.
    pub(super) fn enrolls(&self, keys: &RoleKeys) -> bool {
        let method = keys.enroll_method;
        let Some(asked) = self.raw.value(method) else {
            return false;
        };
        let is_stronger = |variable| self.raw.source(variable) > self.raw.source(method);
        let needs_no_token = matches!(asked.text.expose(), "aws" | "kubernetes" | "gcp");
        let is_overruled = is_stronger(&AUTH_METHOD) || (needs_no_token && is_stronger(&TOKEN));
        !is_overruled
    }

    /// What an enrollment comes to.
    fn enrollment(&mut self, keys: &RoleKeys) -> Option<Credential> {
        let asked = self.raw.value(keys.enroll_method)?;
        let methods = keys.enroll_method.choices();
        match asked.text.expose() {
            "token" => {
                self.uses(keys.enroll_method, &asked);
                self.token_enrollment(keys)
            }
            method if methods.contains(&method) => {
                let enrollment = self.machine_enrollment(keys, &asked)?;
                Some(Credential::Machine(enrollment))
            }
            _ => {
                self.unknown_method(keys.enroll_method, &asked);
                None
            }
        }
    }

    fn token_enrollment(&mut self, keys: &RoleKeys) -> Option<Credential> {
        let (issued, with) = (keys.access_token, keys.enrollment_token);
        let Some((variable, token)) = self.one_time_token(keys) else {
            // Units that name the method but keep no token around, since it is spent.
            if let Some(kept) = self.raw.value(issued) {
                return Some(self.kept(keys, &kept));
            }
            if !self.has_failed(&TOKEN) && !self.has_failed(with) {
                self.problem(Problem::new(format!(
                    "enrolling needs the one-time enrollment token: give --token-file FILE or set {}",
                    TOKEN.name
                )));
            }
            return None;
        };
        let kept = self.raw.value_from(Source::File, issued);
        let spent = self.raw.value_from(Source::File, with);
        match (kept, spent) {
            (Some(kept), Some(spent)) if spent.text == token.text => {
                self.warnings.push(Warning::AlreadyEnrolled);
                let credential = self.kept(keys, &kept);
                self.uses(variable, &token);
                Some(credential)
            }
            (Some(_) | None, Some(_) | None) => {
                let credential = "one-time enrollment token, which the first start spends";
                self.proves(credential, variable, &token);
                let token = token.text.clone();
                Some(Credential::Enroll { token })
            }
        }
    }

    /// The one-time token: as any token is given, or by the variable of the role's own that the
    /// environment has. A file has that variable for a token that was spent.
    fn one_time_token(&self, keys: &RoleKeys) -> Option<(&'static Variable, Value<'a>)> {
        if let Some(token) = self.raw.value(&TOKEN) {
            return Some((&TOKEN, token));
        }
        let spent = self.raw.value(keys.access_token).is_some();
        let own = self
            .raw
            .value_from(Source::Environment, keys.enrollment_token);
        let own = own.or_else(|| self.raw.value(keys.enrollment_token).filter(|_| !spent));
        own.map(|token| (keys.enrollment_token, token))
    }

    fn machine_enrollment(
        &mut self,
        keys: &RoleKeys,
        asked: &Value<'a>,
    ) -> Option<MachineEnrollment> {
        let (id, flag) = (keys.id, keys.id.flag());
        let method = asked.text.expose();
        let credential = match method {
            "aws" => "enrolled with its AWS role",
            "kubernetes" => "enrolled with the service account of its pod",
            _ => "enrolled with its GCP service account",
        };
        // It keeps no token.
        self.proves(credential, keys.enroll_method, asked);
        let missing = format!("enrolling with {method} needs {flag} or {}", id.name);
        let parsed = self.required(id, &missing, keys.parse_id);
        let cloud = self.raw.environment.cloud.clone();
        let proof = match method {
            "aws" => MachineProof::Aws { cloud },
            "kubernetes" => {
                let token_path = self.pod_token();
                MachineProof::Kubernetes { token_path }
            }
            _ => self.gcp_proof()?,
        };
        Some(MachineEnrollment { id: parsed?, proof })
    }

    fn gcp_proof(&mut self) -> Option<MachineProof> {
        let cloud = self.raw.environment.cloud.clone();
        match &*self
            .optional(&GCP_AUTH_TYPE)
            .unwrap_or_else(|| GCP_AUTH_TYPE.default.to_owned())
        {
            "gce" => {
                if let Some(key) = self.raw.value(&GCP_KEY_PATH) {
                    let text = "a key file is for --gcp-auth-type=iam; gce uses the account of the machine";
                    self.problem(Problem::at(&key.origin, text));
                    return None;
                }
                Some(MachineProof::GcpGce { cloud })
            }
            "iam" => {
                let path = self.optional(&GCP_KEY_PATH);
                let key_path =
                    path.map(|path| self.login_file(LoginFileKind::GcpKey, &GCP_KEY_PATH, &path));
                Some(MachineProof::GcpIam { key_path, cloud })
            }
            _ => {
                let asked = self.raw.value(&GCP_AUTH_TYPE)?;
                let text = format_args!("must be {}", GCP_AUTH_TYPES.join(" or "));
                self.problem(Problem::at(&asked.origin, text));
                None
            }
        }
    }

    /// A token that was stored is only sent to the platform that it was stored with: `domain` is
    /// the one in use.
    fn check_stored_domain(&mut self, domain: &ApiBase, keys: &RoleKeys) {
        let token = self.raw.value(keys.access_token);
        let Some(Origin::File { .. }) = token.as_ref().map(|token| &token.origin) else {
            return;
        };
        let with = self.raw.value_from(Source::File, keys.domain);
        let with = with.and_then(|with| ApiBase::parse(with.text.expose()).ok());
        if let (Some(token), Some(with)) = (token, with)
            && with != *domain
        {
            self.problem(Problem::at(
                &token.origin,
                format_args!(
                    "this access token is for {with} and is not sent to {domain}; enroll there with a new token, or \
                     leave out --domain"
                ),
            ));
        }
    }

    /// Nothing proves who this is: says what could, with a hint at what was begun.
    fn no_credential(&mut self, keys: &RoleKeys) {
        let kept = keys.access_token;
        // One that was given and cannot be used is a problem of its own.
        let has_failed = [&TOKEN, kept, &AUTH_METHOD].map(|variable| self.has_failed(variable));
        if self.file_failed || has_failed.contains(&true) {
            return;
        }
        let is_given = |variable: &'static Variable| self.raw.value(variable).is_some();
        let hint = if is_given(&CLIENT_ID) {
            "; a client id alone does nothing, add --auth-method=universal-auth".to_owned()
        } else if is_given(&MACHINE_IDENTITY_ID) {
            let methods = LoginMethod::VARIANTS
                .get(1..)
                .unwrap_or_default()
                .join(", ");
            format!(
                "; an identity's id alone does nothing, add --auth-method with one of {methods}"
            )
        } else {
            String::new()
        };
        self.problem(Problem::new(format!(
            "no credential: give --token-file FILE, set {}, log in with --auth-method, or enroll with \
             --enroll-method=token (an enrolled one is kept as {}){hint}",
            TOKEN.name, kept.name
        )));
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantNames as _;

    use crate::assemble_gateway;
    use crate::case::Case;
    use crate::cloud::Cloud;
    use crate::credential::{
        Credential, IdentityCredential, IdentityLogin, Jwt, LoginMethod, MachineEnrollment,
        MachineProof, ResourceId,
    };
    use crate::env::{
        AUTH_METHOD, GATEWAY_ENROLL_METHOD, GATEWAY_ID, GATEWAY_NAME, MACHINE_IDENTITY_ID, TOKEN,
        Variable,
    };
    use crate::secret::Secret;

    type Flag = (&'static Variable, &'static str, &'static str);
    type Set = (&'static str, &'static str);

    const NAME: Flag = (&GATEWAY_NAME, "NAME", "edge");
    const FILE: &str = "/conf/edge.conf";

    fn login(method: LoginMethod) -> Credential {
        Credential::Identity(IdentityCredential::Login(IdentityLogin {
            method,
            organization: None,
        }))
    }

    #[test]
    fn every_login_method_reads_all_sources() {
        let id = || "i".to_owned();
        let cloud = || Cloud::of(&[("AWS_REGION", "eu-central-1")]);
        let cases: [(&str, &[Set], &str, LoginMethod); 10] = [
            (
                "kubernetes",
                &[],
                "",
                LoginMethod::Kubernetes {
                    identity_id: id(),
                    token_path: "/var/run/secrets/kubernetes.io/serviceaccount/token".into(),
                },
            ),
            (
                "kubernetes",
                &[],
                "INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH=/token\n",
                LoginMethod::Kubernetes {
                    identity_id: id(),
                    token_path: "/token".into(),
                },
            ),
            ("azure", &[], "", LoginMethod::Azure { identity_id: id() }),
            (
                "gcp-id-token",
                &[],
                "",
                LoginMethod::GcpIdToken {
                    identity_id: id(),
                    cloud: cloud(),
                },
            ),
            (
                "gcp-iam",
                &[("INFISICAL_GCP_IAM_SERVICE_ACCOUNT_KEY_FILE_PATH", "/key")],
                "",
                LoginMethod::GcpIam {
                    identity_id: id(),
                    key_path: "/key".into(),
                },
            ),
            (
                "aws-iam",
                &[],
                "",
                LoginMethod::AwsIam {
                    identity_id: id(),
                    cloud: cloud(),
                },
            ),
            (
                "oidc-auth",
                &[("INFISICAL_JWT", "kept.by.variable")],
                "",
                LoginMethod::OidcAuth {
                    identity_id: id(),
                    jwt: Jwt::Given(Secret::new("kept.by.variable")),
                },
            ),
            (
                "jwt-auth",
                &[],
                "INFISICAL_JWT_FILE=/jwt\n",
                LoginMethod::JwtAuth {
                    identity_id: id(),
                    jwt: Jwt::File("/jwt".into()),
                },
            ),
            // Of a token and its file the one that was said more strongly holds.
            (
                "jwt-auth",
                &[("INFISICAL_JWT", "kept.by.variable")],
                "INFISICAL_JWT_FILE=/jwt\n",
                LoginMethod::JwtAuth {
                    identity_id: id(),
                    jwt: Jwt::Given(Secret::new("kept.by.variable")),
                },
            ),
            (
                "jwt-auth",
                &[("INFISICAL_JWT_FILE", "/jwt")],
                "INFISICAL_JWT=kept.by.file\n",
                LoginMethod::JwtAuth {
                    identity_id: id(),
                    jwt: Jwt::File("/jwt".into()),
                },
            ),
        ];
        let mut methods = LoginMethod::VARIANTS.get(1..).expect("methods").to_vec();
        for (method, variables, file, expected) in cases {
            methods.retain(|other| *other != method);
            assert_eq!(expected.name(), method);
            let cloud = [("AWS_REGION", "eu-central-1")];
            let mut case = Case {
                flags: &[
                    NAME,
                    (&AUTH_METHOD, "--auth-method", method),
                    (&MACHINE_IDENTITY_ID, "--machine-identity-id", "i"),
                ],
                variables: &[variables, &cloud].concat(),
                file: Some((FILE, file)),
                config: None,
            };
            let (settings, _) = case.assemble(assemble_gateway).expect(method);
            assert!(!format!("{settings:?}").contains("kept"));
            assert_eq!(settings.credential, login(expected), "{method}");
            // The same from a file alone, as an installation leaves it.
            let text = format!(
                "INFISICAL_AUTH_METHOD={method}\nINFISICAL_MACHINE_IDENTITY_ID=i\n\
                 INFISICAL_AUTH_ORGANIZATION_SLUG=branch\n{file}"
            );
            case.flags = &[NAME];
            case.file = Some((FILE, &text));
            let (settings, _) = case.assemble(assemble_gateway).expect(method);
            let Credential::Identity(IdentityCredential::Login(found)) = settings.credential else {
                panic!("{method} is no login");
            };
            assert_eq!(found.organization.as_deref(), Some("branch"), "{method}");
        }
        assert_eq!(methods, [""; 0], "a method has no case");
    }

    #[test]
    fn aws_role_enrolls_by_id_by_default() {
        let aws: Flag = (&GATEWAY_ENROLL_METHOD, "--enroll-method", "aws");
        let in_file = "INFISICAL_GATEWAY_ID=g-1\nINFISICAL_GATEWAY_ACCESS_TOKEN=stale\n";
        let by_flag: Flag = (&GATEWAY_ID, "--gateway-id", "g-1");
        let identity = Case {
            flags: &[NAME, (&TOKEN, "--token", "t")],
            file: Some((
                FILE,
                "INFISICAL_GATEWAY_ENROLL_METHOD=aws\nINFISICAL_GATEWAY_ID=g\n",
            )),
            ..Case::default()
        };
        let (settings, _) = identity.assemble(assemble_gateway).expect("settings");
        let token = IdentityCredential::Token(Secret::new("t"));
        assert_eq!(settings.credential, Credential::Identity(token));
        for (flags, variables, file) in [
            (&[NAME, aws, by_flag][..], &[][..], ""),
            (&[NAME, aws], &[("INFISICAL_GATEWAY_ID", "g-1")], ""),
            (&[NAME, aws], &[], in_file),
        ] {
            let case = Case {
                flags,
                variables,
                file: Some((FILE, file)),
                config: None,
            };
            let (settings, _) = case.assemble(assemble_gateway).expect("settings");
            let expected = MachineEnrollment {
                id: ResourceId::Gateway("g-1".parse().expect("an id")),
                proof: MachineProof::Aws {
                    cloud: Cloud::default(),
                },
            };
            assert_eq!(settings.credential, Credential::Machine(expected));
        }
    }
}
