//! What a client certificate says: where to (routing), on whose behalf (actor), and for TLS 1 which
//! gateway (the common name). Pure: bytes in, values out (protocol.md §4).

use serde::Deserialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// OID of the routing extension.
pub const ROUTING_OID: &str = "1.3.6.1.4.1.12345.100.1";
/// OID of the actor extension.
pub const ACTOR_OID: &str = "1.3.6.1.4.1.12345.100.2";
/// Longest target host: a DNS name with `https://` before it.
const MAX_HOST: usize = 253 + 8;

/// Where a client wants to go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Name or address; for HTTP it may begin with a scheme.
    pub target_host: String,
    /// The port; 0 where the service needs none.
    pub target_port: u16,
    /// Rules of the embedded platform, one of which must match each address that the gateway dials.
    /// Empty: the platform has decided. Not part of the deployed protocol.
    #[serde(default)]
    pub target_addresses: Vec<String>,
}

/// On whose behalf a client comes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Actor {
    /// `"platform"`, `"user"` …
    #[serde(rename = "type")]
    pub kind: String,
    /// The actor's id.
    #[serde(default)]
    pub id: Option<String>,
    /// The actor's name.
    #[serde(default)]
    pub name: Option<String>,
}

impl Actor {
    /// True for the platform itself, which alone may use privileged actions.
    #[must_use]
    pub fn is_platform(&self) -> bool {
        self.kind == "platform"
    }
}

/// What a TLS 2 client certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Absent for services without a target.
    pub route: Option<Route>,
    /// Absent in certificates that name no actor.
    pub actor: Option<Actor>,
    /// The gateway it is for, from the common name `<actor type>:<gateway id>`.
    pub gateway: String,
}

/// Why a certificate's content cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("the client certificate cannot be read: {0}")]
    Certificate(String),
    #[error("the client certificate's {extension} extension is not valid: {reason}")]
    Extension {
        extension: &'static str,
        reason: String,
    },
    #[error("the client certificate has no usable common name")]
    CommonName,
    /// Not exactly one common name that says for which gateway the certificate is.
    #[error(
        "the client certificate does not say for which gateway it is: its common name must be <actor>:<gateway id>"
    )]
    Gateway,
}

/// Reads routing and actor from a TLS 2 client certificate.
///
/// # Errors
/// A malformed certificate or extension, the same extension twice, or anything but one common name
/// of the form `<actor type>:<gateway id>`: without it, a session could be led to any gateway.
pub fn parse_claims(der: &[u8]) -> Result<Claims, Error> {
    let certificate = parse(der)?;
    let route = json::<Route>(&certificate, ROUTING_OID, "routing")?;
    let actor = json::<Actor>(&certificate, ACTOR_OID, "actor")?;
    if let Some(route) = &route {
        let host = &route.target_host;
        let refuse = |reason: &str| {
            Err(Error::Extension {
                extension: "routing",
                reason: reason.to_owned(),
            })
        };
        if host.len() > MAX_HOST {
            return refuse("the target host is too long");
        }
        if host.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refuse("the target host has white space or control characters");
        }
    }
    let gateway = common_name(&certificate)
        .ok()
        .and_then(|name| name.split_once(':'))
        .filter(|(actor, gateway)| !actor.is_empty() && !gateway.is_empty())
        .map(|(_, gateway)| gateway.to_owned())
        .ok_or(Error::Gateway)?;
    Ok(Claims {
        route,
        actor,
        gateway,
    })
}

/// Reads the common name of a TLS 1 client certificate: the id of the gateway it wants.
///
/// # Errors
/// A malformed certificate, or not exactly one common name.
pub fn parse_common_name(der: &[u8]) -> Result<String, Error> {
    common_name(&parse(der)?).map(str::to_owned)
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, Error> {
    let mut names = certificate.subject().iter_common_name();
    match (
        names
            .next()
            .map(x509_parser::x509::AttributeTypeAndValue::as_str),
        names.next(),
    ) {
        (Some(Ok(name)), None) => Ok(name),
        _ => Err(Error::CommonName),
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Error::Certificate("bytes are left over".to_owned())),
        Err(_) => Err(Error::Certificate("it is damaged".to_owned())),
    }
}

/// The organization on whose behalf a TLS 1 client comes: the id at the end of `O=<org name>-<org
/// id>`, since names change. Empty if the certificate names none.
///
/// # Errors
/// A malformed certificate.
pub fn parse_organization(der: &[u8]) -> Result<String, Error> {
    /// Characters of a UUID.
    const ID: usize = 36;
    let certificate = parse(der)?;
    let mut names = certificate.subject().iter_organization();
    let name = names.next().and_then(|name| name.as_str().ok());
    let name = name.unwrap_or_default();
    let start = name.len().saturating_sub(ID);
    let id = name.get(start..).unwrap_or(name);
    Ok(id.to_owned())
}

fn json<T: for<'de> Deserialize<'de>>(
    certificate: &X509Certificate<'_>,
    oid: &str,
    extension: &'static str,
) -> Result<Option<T>, Error> {
    let mut found = certificate
        .extensions()
        .iter()
        .filter(|e| e.oid.to_id_string() == oid);
    let Some(first) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(Error::Extension {
            extension,
            reason: "it is there twice".to_owned(),
        });
    }
    serde_json::from_slice(first.value)
        .map(Some)
        .map_err(|error| Error::Extension {
            extension,
            reason: if error.is_data() {
                "a value is missing or of the wrong type"
            } else {
                "it is not valid JSON"
            }
            .to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::{
        ACTOR_OID, Claims, ROUTING_OID, parse_claims, parse_common_name, parse_organization,
    };
    use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};

    fn oid(text: &str) -> Vec<u64> {
        text.split('.')
            .map(|n| n.parse().expect("a number"))
            .collect()
    }

    fn certificate(extensions: &[(&str, &[u8])], names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (number, name) in names.iter().enumerate() {
            // Each type may be there once, but this one has two spellings.
            let kind = match number {
                0 => DnType::CommonName,
                _ => DnType::CustomDnType(vec![2, 5, 4, 3]),
            };
            params.distinguished_name.push(kind, *name);
        }
        for (id, value) in extensions {
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(&oid(id), value.to_vec()));
        }
        let key = KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec()
    }

    #[test]
    fn organization_is_known_by_id() {
        const ID: &str = "3b1f7c0a-51d4-4d3f-8d4e-0b6c5d4e3f2a";
        for (name, expected) in [
            (format!("Acme-{ID}"), ID),
            (format!("Acme - Müller & Co-{ID}"), ID),
            (ID.to_owned(), ID),
            ("short".to_owned(), "short"),
            (String::new(), ""),
        ] {
            let mut params = CertificateParams::default();
            params
                .distinguished_name
                .push(DnType::OrganizationName, name.as_str());
            let key = KeyPair::generate().expect("a key");
            let der = params.self_signed(&key).expect("a certificate");
            let organization = parse_organization(der.der()).expect("read");
            assert_eq!(organization, expected, "{name}");
        }
        let der = certificate(&[], &["no organization"]);
        assert_eq!(parse_organization(&der).expect("read"), "");
    }

    #[test]
    fn route_and_actor_are_raw_json() {
        let der = certificate(
            &[
                (
                    ROUTING_OID,
                    br#"{"targetHost":"db.internal","targetPort":5432}"#,
                ),
                (ACTOR_OID, br#"{"type":"platform","extra":1}"#),
            ],
            &["platform:x"],
        );
        let Claims {
            route,
            actor,
            gateway,
        } = parse_claims(&der).expect("claims");
        assert_eq!(gateway, "x");
        let route = route.expect("a route");
        assert_eq!(
            (route.target_host.as_str(), route.target_port),
            ("db.internal", 5432)
        );
        assert!(actor.expect("an actor").is_platform());
        assert_eq!(parse_common_name(&der).expect("a name"), "platform:x");
    }

    #[test]
    fn a_certificate_without_extensions_has_no_claims() {
        let claims = parse_claims(&certificate(&[], &["user:x"])).expect("claims");
        assert_eq!(
            claims,
            Claims {
                route: None,
                actor: None,
                gateway: "x".to_owned()
            }
        );
    }

    #[test]
    fn bad_routing_is_named_in_the_error() {
        for bad in [
            &b""[..],
            b"{",
            b"[]",
            br#"{"targetHost":"h"}"#,
            br#"{"targetHost":"h","targetPort":65536}"#,
            br#"{"targetHost":"h","targetPort":-1}"#,
            br#"{"targetHost":"a b","targetPort":1}"#,
            b"\x04\x02{}",
            b"\xff\xfe",
        ] {
            let error = parse_claims(&certificate(&[(ROUTING_OID, bad)], &["user:x"]));
            let text = error.expect_err("refused").to_string();
            assert!(text.contains("routing extension"), "{text}");
        }
    }

    #[test]
    fn an_ambiguous_common_name_is_refused() {
        assert!(parse_common_name(&certificate(&[], &[])).is_err());
        let two = certificate(&[], &["user:x", "user:x"]);
        assert!(parse_common_name(&two).is_err());
    }

    #[test]
    fn claims_need_one_common_name() {
        for names in [
            &[][..],
            &["x"],
            &[":x"],
            &["user:"],
            &["user:x", "user:y"],
            &["user:x", "x"],
        ] {
            let error = parse_claims(&certificate(&[], names)).expect_err("refused");
            assert!(matches!(error, super::Error::Gateway), "{names:?}: {error}");
        }
    }

    #[test]
    fn garbage_never_panics() {
        let good = certificate(&[(ROUTING_OID, b"{}")], &["user:x"]);
        for end in 0..good.len() {
            let _ = parse_claims(good.get(..end).expect("a prefix"));
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            if let Some(byte) = bad.get_mut(at) {
                *byte ^= 0x55;
            }
            let _ = parse_claims(&bad);
            let _ = parse_common_name(&bad);
        }
    }
}
