//! The role of this machine in AWS: its keys and region, looked for where the deployed program
//! looks, and in its order. Keys of a role last for hours at most, so they are fetched at each
//! login.

use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;
use url::{Host, Url};

use super::super::Error;
use super::super::fetch::{self, Service};
use super::profile::Profile;
use crate::config::cloud::Cloud;
use crate::config::env::Kind;
use crate::config::proxy::Proxies;
use crate::secret::Secret;

/// The metadata service of a machine.
const METADATA: &str = "http://169.254.169.254";
/// The same by IPv6.
const METADATA_IPV6: &str = "http://[fd00:ec2::254]";
/// The service that hands credentials to containers.
const CONTAINERS: &str = "http://169.254.170.2";
/// Addresses besides this machine's own at which such a service may be without TLS, as AWS's own
/// libraries have it.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
/// Life of a token for the metadata service, in seconds; two or three requests use it at once.
const TOKEN_LIFE: &str = "300";
/// Name of the session that a web identity opens, unless the environment names one.
const SESSION: &str = "infisical";

const MACHINE: Service = Service {
    name: "the AWS metadata service",
    absent: "; is this an AWS machine? If not, set AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    refused: "; does the machine have a role?",
};
const CONTAINER: Service = Service {
    name: "the AWS container credentials service",
    absent: "",
    refused: "; does the container have a role?",
};
const STS: Service = Service {
    name: "the AWS token service",
    absent: "",
    refused: "; does the role trust this web identity?",
};

/// Keys that sign.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) key_id: String,
    pub(super) secret: Secret,
    /// Of a role's keys.
    pub(super) session: Option<Secret>,
}

/// Who we are in AWS, and where.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) credentials: Credentials,
    pub(super) region: String,
}

/// What machine and container services answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Keys {
    access_key_id: String,
    secret_access_key: Secret,
    #[serde(default)]
    token: Option<Secret>,
}

impl Role {
    /// Keys of the environment, a web identity, a profile's keys, those of a container, those of
    /// the machine: the first that there are.
    pub(super) async fn find(cloud: &Cloud, proxies: &Proxies) -> Result<Self, Error> {
        let profile = Profile::load(cloud).await?;
        let region = region(cloud, &profile).await?;
        let credentials = credentials(cloud, profile, &region, proxies).await?;
        Ok(Self {
            credentials,
            region,
        })
    }
}

async fn region(cloud: &Cloud, profile: &Profile) -> Result<String, Error> {
    let given = cloud.value(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let region = match given.or(profile.region.as_deref()) {
        Some(region) => region.to_owned(),
        None => Machine::new(cloud)?.region().await?,
    };
    // It becomes a part of a host name.
    let is_label = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if region.is_empty() || !region.chars().all(is_label) {
        return Err(Error::Variable {
            name: "AWS_REGION",
            reason: "what it or its profile says is no region, such as eu-central-1",
        });
    }
    Ok(region)
}

async fn credentials(
    cloud: &Cloud,
    profile: Profile,
    region: &str,
    proxies: &Proxies,
) -> Result<Credentials, Error> {
    let key_id = cloud.value(&["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"]);
    let secret = cloud.value(&["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"]);
    if let (Some(key_id), Some(secret)) = (key_id, secret) {
        return Ok(Credentials {
            key_id: key_id.to_owned(),
            secret: Secret::new(secret),
            session: cloud.value(&["AWS_SESSION_TOKEN"]).map(Secret::new),
        });
    }
    if let Some(file) = cloud.value(&["AWS_WEB_IDENTITY_TOKEN_FILE"]) {
        return web_identity(cloud, Path::new(file), region, proxies).await;
    }
    if let (Some(key_id), Some(secret)) = (profile.key_id, profile.secret) {
        return Ok(Credentials {
            key_id,
            secret,
            session: profile.session,
        });
    }
    if let Some(key) = profile.asks_for {
        let profile = profile.name;
        return Err(Error::Profile { profile, key });
    }
    if let Some(url) = container(cloud)? {
        return of_container(cloud, &url).await;
    }
    Machine::new(cloud)?.credentials().await
}

/// Where this container's credentials are, if it is one that has any.
fn container(cloud: &Cloud) -> Result<Option<Url>, Error> {
    const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
    let wrong = |name, reason| Error::Variable { name, reason };
    if let Some(path) = cloud.value(&[RELATIVE]) {
        let url = Url::parse(CONTAINERS).and_then(|base| base.join(path));
        // A path that names another host is none.
        let url = url
            .ok()
            .filter(|url| url.host_str() == Some("169.254.170.2"));
        return url
            .map(Some)
            .ok_or_else(|| wrong(RELATIVE, "it must be a path"));
    }
    let Some(url) = cloud.value(&[FULL]) else {
        return Ok(None);
    };
    let url = Url::parse(url).map_err(|_| wrong(FULL, "it must be a URL"))?;
    let is_near = |address: IpAddr| {
        address.is_loopback() || CONTAINER_HOSTS.contains(&address.to_string().as_str())
    };
    let is_safe = match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Ipv4(address))) => is_near(address.into()),
        ("http", Some(Host::Ipv6(address))) => is_near(address.into()),
        ("http", Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    };
    if !is_safe {
        let reason = "without https it must be an address of this machine or of AWS's own services";
        return Err(wrong(FULL, reason));
    }
    Ok(Some(url))
}

async fn of_container(cloud: &Cloud, url: &Url) -> Result<Credentials, Error> {
    let mut request = fetch::on_link()?.get(url.clone());
    let file = cloud.value(&["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]);
    let token = match file {
        Some(file) => {
            Some(fetch::token_file(Path::new(file), "the container's token", Kind::Secret).await?)
        }
        None => cloud
            .value(&["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
            .map(Secret::new),
    };
    if let Some(token) = &token {
        request = request.header("Authorization", token.expose());
    }
    let at = url.as_str();
    let answer = CONTAINER.ask(at, request).await?;
    keys(&answer).ok_or_else(|| CONTAINER.nonsense(at, "it holds no keys"))
}

/// Keys of a role that trusts the token in `file`, as for pods.
async fn web_identity(
    cloud: &Cloud,
    file: &Path,
    region: &str,
    proxies: &Proxies,
) -> Result<Credentials, Error> {
    let role = cloud.value(&["AWS_ROLE_ARN"]).ok_or(Error::Variable {
        name: "AWS_ROLE_ARN",
        reason: "it is needed beside AWS_WEB_IDENTITY_TOKEN_FILE",
    })?;
    let token = fetch::token_file(file, "the web identity's token", Kind::Secret).await?;
    let at = match cloud.value(&["AWS_ENDPOINT_URL_STS"]) {
        Some(url) => url.trim_end_matches('/').to_owned(),
        // China's regions have a domain of their own.
        None if region.starts_with("cn-") => format!("https://sts.{region}.amazonaws.com.cn"),
        None => format!("https://sts.{region}.amazonaws.com"),
    };
    let session = cloud.value(&["AWS_ROLE_SESSION_NAME"]).unwrap_or(SESSION);
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", "AssumeRoleWithWebIdentity")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", role)
        .append_pair("RoleSessionName", session)
        .append_pair("WebIdentityToken", token.expose())
        .finish();
    let (client, proxy) = fetch::far(&at, proxies)?;
    let request = client
        .post(format!("{at}/"))
        .header("Content-Type", super::CONTENT_TYPE)
        .body(form);
    let answer = STS.ask(&at, request).await;
    let answer = answer.map_err(|error| error.through(proxy.as_deref()))?;
    let found = || {
        Some(Credentials {
            key_id: element(&answer, "AccessKeyId")?.to_owned(),
            secret: Secret::new(element(&answer, "SecretAccessKey")?),
            session: Some(Secret::new(element(&answer, "SessionToken")?)),
        })
    };
    found().ok_or_else(|| STS.nonsense(&at, "it holds no keys"))
}

/// The text of the only element `name` of an answer in XML. Keys and tokens hold nothing that XML
/// would escape.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim()).filter(|text| !text.is_empty() && !text.contains(['<', '&']))
}

pub(super) fn keys(answer: &str) -> Option<Credentials> {
    let keys: Keys = serde_json::from_str(answer).ok()?;
    let is_complete = !keys.access_key_id.is_empty() && !keys.secret_access_key.is_empty();
    is_complete.then(|| Credentials {
        key_id: keys.access_key_id,
        secret: keys.secret_access_key,
        session: keys.token.filter(|token| !token.is_empty()),
    })
}

/// The metadata service of the machine, version 2: a token first, which a request that was tricked
/// out of a program could not get.
struct Machine {
    http: reqwest::Client,
    at: String,
}

impl Machine {
    fn new(cloud: &Cloud) -> Result<Self, Error> {
        let disabled = cloud.value(&["AWS_EC2_METADATA_DISABLED"]);
        if disabled.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Err(Error::NoAwsCredentials);
        }
        let mode = cloud.value(&["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"]);
        let usual = match mode {
            Some(mode) if mode.eq_ignore_ascii_case("ipv6") => METADATA_IPV6,
            Some(_) | None => METADATA,
        };
        let at = cloud.value(&["AWS_EC2_METADATA_SERVICE_ENDPOINT"]);
        Ok(Self {
            http: fetch::on_link()?,
            at: at.unwrap_or(usual).trim_end_matches('/').to_owned(),
        })
    }

    async fn token(&self) -> Result<Secret, Error> {
        let request = self
            .http
            .put(format!("{}/latest/api/token", self.at))
            .header("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFE);
        let text = MACHINE.ask(&self.at, request).await?;
        fetch::one_word(&text).ok_or_else(|| MACHINE.nonsense(&self.at, "it is no token"))
    }

    async fn read(&self, token: &Secret, path: &str) -> Result<zeroize::Zeroizing<String>, Error> {
        let request = self
            .http
            .get(format!("{}{path}", self.at))
            .header("X-aws-ec2-metadata-token", token.expose());
        MACHINE.ask(&self.at, request).await
    }

    async fn region(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Document {
            region: String,
        }
        let token = self.token().await?;
        let path = "/latest/dynamic/instance-identity/document";
        let document = self.read(&token, path).await?;
        let document: Document = serde_json::from_str(&document)
            .map_err(|_| MACHINE.nonsense(&self.at, "it holds no region"))?;
        Ok(document.region)
    }

    async fn credentials(&self) -> Result<Credentials, Error> {
        let token = self.token().await?;
        let path = "/latest/meta-data/iam/security-credentials/";
        let roles = self.read(&token, path).await?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
        let role = roles.lines().next().unwrap_or_default().trim();
        if role.is_empty() || !role.chars().all(is_name) {
            return Err(MACHINE.nonsense(&self.at, "it names no role"));
        }
        let answer = self.read(&token, &format!("{path}{role}")).await?;
        keys(&answer).ok_or_else(|| MACHINE.nonsense(&self.at, "it holds no keys"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Machine, container, element, keys};
    use crate::config::cloud::Cloud;

    #[test]
    fn container_service_without_tls_must_be_near() {
        let full =
            |url: &str| container(&Cloud::of(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]));
        for good in [
            "http://127.0.0.1:9000/x",
            "http://[::1]/x",
            "http://localhost/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "https://example.com/x",
        ] {
            assert!(matches!(full(good), Ok(Some(_))), "{good}");
        }
        for bad in [
            "http://example.com/x",
            "http://10.0.0.1/x",
            "ftp://localhost",
            "x",
        ] {
            assert!(full(bad).is_err(), "{bad}");
        }
        let relative = |path: &str| {
            container(&Cloud::of(&[(
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                path,
            )]))
        };
        let url = relative("/v2/credentials/x")
            .expect("a path")
            .expect("given");
        assert_eq!(url.as_str(), "http://169.254.170.2/v2/credentials/x");
        assert!(relative("//evil.example/x").is_err());
        assert!(relative("http://evil.example/x").is_err());
        assert!(container(&Cloud::default()).expect("nothing").is_none());
    }

    #[test]
    fn machine_service_follows_the_environment() {
        let at = |variables: &[(&str, &str)]| Machine::new(&Cloud::of(variables)).map(|m| m.at);
        let mode = ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6");
        let given = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1/");
        for (variables, expected) in [
            (&[][..], "http://169.254.169.254"),
            (&[mode], "http://[fd00:ec2::254]"),
            (&[mode, given], "http://127.0.0.1:1"),
            (
                &[("AWS_EC2_METADATA_DISABLED", "false")],
                "http://169.254.169.254",
            ),
        ] {
            assert_eq!(at(variables).expect("an address"), expected);
        }
        assert!(at(&[("AWS_EC2_METADATA_DISABLED", "TRUE")]).is_err());
    }

    #[test]
    fn answers_without_keys_are_none() {
        let good = r#"{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"s","Token":"t","Expiration":"x"}"#;
        let found = keys(good).expect("keys");
        assert_eq!(found.key_id, "A");
        assert_eq!(found.session.as_ref().map(|t| t.expose()), Some("t"));
        for bad in [
            "",
            "{}",
            r#"{"Code":"Failed"}"#,
            r#"{"AccessKeyId":"","SecretAccessKey":"s"}"#,
        ] {
            assert!(keys(bad).is_none(), "{bad}");
        }
        let xml = "<R><AccessKeyId>A</AccessKeyId><SessionToken> </SessionToken><X>a&amp;</X></R>";
        assert_eq!(element(xml, "AccessKeyId"), Some("A"));
        assert_eq!(element(xml, "SessionToken"), None);
        assert_eq!(element(xml, "X"), None);
        assert_eq!(element(xml, "Other"), None);
    }
}
