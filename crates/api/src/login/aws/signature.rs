//! AWS signature version 4, for requests without a query: what their headers and body come to under
//! a secret key. Pure.

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use time::OffsetDateTime;
use time::macros::format_description;

use super::credentials::Credentials;
use crate::secret::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A request that is to be signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// Without a query, and with nothing that would be escaped.
    pub(super) path: &'a str,
    /// Those that are signed beside what signing adds; names in lower case, in any order.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
}

/// What the request gains.
#[derive(Debug)]
pub(super) struct Signature {
    /// `X-Amz-Date`.
    pub(super) date: String,
    /// `Authorization`: worth a call as the role, for a quarter of an hour.
    pub(super) authorization: Secret,
}

impl Request<'_> {
    /// Signs it for `service` in `region`. A session's token is signed with it, and must be sent as
    /// `X-Amz-Security-Token`.
    pub(super) fn sign(
        &self,
        credentials: &Credentials,
        region: &str,
        service: &str,
        now: OffsetDateTime,
    ) -> Signature {
        let day = date(now);
        let moment = format!("{day}T{}Z", clock(now));
        let mut headers = self.headers.to_vec();
        headers.push(("x-amz-date", &moment));
        if let Some(session) = &credentials.session {
            headers.push(("x-amz-security-token", session.expose()));
        }
        headers.sort_unstable_by_key(|(name, _)| *name);
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{}\n", value.trim()))
            .collect();
        let (method, path, body) = (self.method, self.path, hex(sha256(self.body).as_ref()));
        let canonical = Secret::new(format!("{method}\n{path}\n\n{lines}\n{names}\n{body}"));

        let scope = format!("{day}/{region}/{service}/aws4_request");
        let canonical = hex(sha256(canonical.expose().as_bytes()).as_ref());
        let text = format!("{ALGORITHM}\n{moment}\n{scope}\n{canonical}");
        let secret = Secret::new(format!("AWS4{}", credentials.secret.expose()));
        let mut key = mac(secret.expose().as_bytes(), &day);
        for part in [region, service, "aws4_request"] {
            key = mac(key.as_ref(), part);
        }
        let signature = hex(mac(key.as_ref(), &text).as_ref());
        let id = &credentials.key_id;
        Signature {
            date: moment,
            authorization: Secret::new(format!(
                "{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
            )),
        }
    }
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `20261124`.
fn date(now: OffsetDateTime) -> String {
    now.format(format_description!("[year][month][day]"))
        .unwrap_or_default()
}

/// `123456`.
fn clock(now: OffsetDateTime) -> String {
    now.format(format_description!("[hour][minute][second]"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Credentials, Request};
    use crate::secret::Secret;
    use time::macros::datetime;

    #[test]
    fn signatures_match_the_vectors_of_aws() {
        let credentials = Credentials {
            key_id: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session: None,
        };
        let host = ("host", "example.amazonaws.com");
        let form = ("content-type", "application/x-www-form-urlencoded");
        // get-vanilla, post-vanilla, post-x-www-form-urlencoded of the signature version 4 test
        // suite.
        for (method, headers, body, names, signature) in [
            (
                "GET",
                &[host][..],
                "",
                "host;x-amz-date",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                &[host],
                "",
                "host;x-amz-date",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "POST",
                &[host, form],
                "Param1=value1",
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            let request = Request {
                method,
                path: "/",
                headers,
                body: body.as_bytes(),
            };
            let now = datetime!(2015-08-30 12:36:00 UTC);
            let signed = request.sign(&credentials, "us-east-1", "service", now);
            assert_eq!(signed.date, "20150830T123600Z");
            assert_eq!(
                signed.authorization.expose(),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders={names}, Signature={signature}"
                )
            );
        }
    }
}
