//! What a login needs of this machine: files, and services of its cloud. All of it within bounds of
//! time and size.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{RequestBuilder, redirect};
use tokio::io::AsyncReadExt as _;
use url::Url;
use zeroize::Zeroizing;

use super::Error;
use crate::config::env::Kind;
use crate::config::proxy::Proxies;
use crate::config::value;
use crate::resolve::Resolver;
use crate::secret::Secret;
use crate::trust;
use crate::{answer, outbound};
use infisical_runtime::error::printable;

/// Largest answer and largest file, in bytes; tokens are a few KiB.
const MAX_SIZE: usize = 256 << 10;
/// Limit for a file. It is on a local disk, or what the machine makes look like one.
const FILE_DEADLINE: Duration = Duration::from_secs(10);
/// Limits for a service on the machine's own link: one that is there answers within milliseconds,
/// but for tokens it may have to ask others.
const LINK_CONNECT: Duration = Duration::from_secs(3);
const LINK_DEADLINE: Duration = Duration::from_secs(10);
/// Limits for a service on the internet.
const FAR_CONNECT: Duration = Duration::from_secs(10);
const FAR_DEADLINE: Duration = Duration::from_secs(30);
/// Longest part of a service's refusal that is shown, in characters.
pub(super) const MAX_SHOWN: usize = 300;

/// A service of a cloud, as errors name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    /// What it is.
    pub(super) name: &'static str,
    /// What to think of when it is not there; empty, or begins with a semicolon.
    pub(super) absent: &'static str,
    /// What to think of when it refuses; empty, or begins with a semicolon.
    pub(super) refused: &'static str,
}

/// For services on the machine's own link. A proxy has other neighbours than this machine, and a
/// redirect would send a token elsewhere.
pub(super) fn on_link() -> Result<reqwest::Client, Error> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(trust::roots().client_config()?)
        .dns_resolver(Arc::new(Resolver))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(LINK_CONNECT)
        .timeout(LINK_DEADLINE)
        .build()
        .map_err(Error::Local)
}

/// For the service on the internet at the URL `at`, by way of `proxies`. Also gives the proxy, for
/// errors.
pub(super) fn far(at: &str, proxies: &Proxies) -> Result<(reqwest::Client, Option<String>), Error> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(trust::roots().client_config()?)
        .dns_resolver(Arc::new(Resolver))
        .redirect(redirect::Policy::none())
        .connect_timeout(FAR_CONNECT)
        .timeout(FAR_DEADLINE);
    let (builder, proxy) = match Url::parse(at) {
        Ok(url) => outbound::route(builder, proxies, &url).map_err(Error::Local)?,
        // The request itself will fail.
        Err(_) => (builder.no_proxy(), None),
    };
    Ok((builder.build().map_err(Error::Local)?, proxy))
}

/// For the OpenID provider at the URL `at`, by way of `proxies`. A person waits for the answer.
pub(crate) fn provider(at: &str, proxies: &Proxies) -> Result<reqwest::Client, Error> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(trust::roots().client_config()?)
        .dns_resolver(Arc::new(Resolver))
        .redirect(redirect::Policy::none())
        .connect_timeout(LINK_CONNECT)
        .timeout(LINK_DEADLINE);
    let builder = match Url::parse(at) {
        Ok(url) => {
            outbound::route(builder, proxies, &url)
                .map_err(Error::Local)?
                .0
        }
        // The request itself will fail.
        Err(_) => builder.no_proxy(),
    };
    builder.build().map_err(Error::Local)
}

impl Service {
    /// Sends `request` and reads the whole answer.
    pub(super) async fn ask(
        &self,
        at: &str,
        request: RequestBuilder,
    ) -> Result<Zeroizing<String>, Error> {
        let at = host(at);
        let unreachable = |source: reqwest::Error| Error::Unreachable {
            service: self.name,
            at: at.clone(),
            proxy: String::new(),
            hint: self.absent,
            source: source.without_url(),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len().saturating_add(chunk.len()) > MAX_SIZE {
                return Err(self.nonsense(&at, "it is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(Error::Refused {
                service: self.name,
                at,
                status,
                message: words(&body),
                is_page: answer::is_page(response.headers(), &body),
                hint: self.refused,
            });
        }
        let text = std::str::from_utf8(&body).map_err(|_| self.nonsense(&at, "it is no text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// The answer of the service at `at` is of no use.
    pub(super) fn nonsense(&self, at: &str, reason: &'static str) -> Error {
        Error::Nonsense {
            service: self.name,
            at: host(at),
            reason,
        }
    }
}

/// The host and port of an address, and nothing else that it may hold.
fn host(at: &str) -> String {
    let without_scheme = at.split_once("://").map_or(at, |(_, rest)| rest);
    let authority = without_scheme.split(['/', '?', '#']).next();
    let host = authority.and_then(|authority| authority.rsplit('@').next());
    host.unwrap_or_default().to_owned()
}

/// A refusal in the service's words: of JSON the sentence alone.
pub(super) fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let places = [
        "/error_description",
        "/error/message",
        "/message",
        "/Message",
    ];
    let sentence = json.as_ref().and_then(|json| {
        let mut found = places
            .iter()
            .filter_map(|place| json.pointer(place)?.as_str());
        found.next()
    });
    let shown = printable(sentence.unwrap_or(&text));
    shown.trim().chars().take(MAX_SHOWN).collect()
}

/// Reads the file at `path`, which holds `what`.
pub(super) async fn file(path: &Path, what: &'static str) -> Result<Zeroizing<String>, Error> {
    let failed = |source| Error::File {
        what,
        path: path.to_owned(),
        source,
    };
    let reading = async {
        // Opening a pipe would wait for the one who writes to it.
        if !tokio::fs::metadata(path).await?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let file = tokio::fs::File::open(path).await?;
        let mut text = Zeroizing::new(String::new());
        let limit = u64::try_from(MAX_SIZE)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        file.take(limit).read_to_string(&mut text).await?;
        Ok(text)
    };
    let text = tokio::time::timeout(FILE_DEADLINE, reading)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
        .map_err(failed)?;
    if text.len() > MAX_SIZE {
        return Err(content(path, what, "it is too long"));
    }
    Ok(text)
}

/// The file at `path` does not hold `what`.
pub(super) fn content(path: &Path, what: &'static str, reason: &'static str) -> Error {
    Error::Content {
        what,
        path: path.to_owned(),
        reason,
    }
}

/// Reads a file that holds a token of this kind and nothing else.
pub(super) async fn token_file(
    path: &Path,
    what: &'static str,
    kind: Kind,
) -> Result<Secret, Error> {
    let text = file(path, what).await?;
    let token = value::clean(&text);
    let invalid = |source| Error::NotAToken {
        what,
        path: path.to_owned(),
        source,
    };
    kind.check(token).map_err(invalid)?;
    Ok(Secret::new(token))
}

/// A token: one word, without the line's end.
pub(super) fn one_word(text: &str) -> Option<Secret> {
    let word = text.trim();
    let is_one = !word.is_empty() && word.chars().all(|c| !c.is_control() && !c.is_whitespace());
    is_one.then(|| Secret::new(word))
}

#[cfg(test)]
mod tests {
    use super::{Error, Service, far, host, on_link, one_word, words};
    use crate::config::proxy::Proxies;
    use std::time::Duration;
    use tokio::net::TcpListener;

    /// The clock jumps when nothing else is left to do.
    #[tokio::test(start_paused = true)]
    async fn silent_service_is_given_up() {
        const SERVICE: Service = Service {
            name: "the service",
            absent: "; is it there?",
            refused: "",
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address").to_string();
        for client in [
            on_link(),
            far(&format!("http://{at}"), &Proxies::default()).map(|(client, _)| client),
        ] {
            let request = client.expect("a client").get(format!("http://{at}/"));
            let asking = SERVICE.ask(&at, request);
            let asked = tokio::time::timeout(Duration::from_secs(60), asking);
            let error = asked.await.expect("given up").expect_err("no answer");
            assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
            let expected = format!("the service at {at} does not answer; is it there?");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn address_is_named_by_host_alone() {
        for (address, expected) in [
            ("http://169.254.169.254", "169.254.169.254"),
            ("https://u:hunter2@[fd00::1]:80/a@b?c", "[fd00::1]:80"),
            ("metadata.google.internal", "metadata.google.internal"),
            ("", ""),
        ] {
            assert_eq!(host(address), expected);
        }
    }

    #[test]
    fn a_refusal_is_one_bounded_line() {
        let long = "x".repeat(1000);
        for (body, shown) in [
            (r#"{"error":{"message":"a\nb"}}"#, "a b"),
            (r#"{"message":"c"}"#, "c"),
            (r#"{"other":1}"#, r#"{"other":1}"#),
            (" two\nlines \n", "two lines"),
            (&long, &long[..300]),
        ] {
            assert_eq!(words(body.as_bytes()), shown);
        }
        assert_eq!(words(&[0xff, b'a']), "\u{fffd}a");
    }

    #[test]
    fn a_token_is_one_word() {
        for (text, word) in [
            ("a\r\n", Some("a")),
            ("", None),
            ("a b", None),
            ("a\u{7}b", None),
        ] {
            let found = one_word(text);
            assert_eq!(found.as_ref().map(|word| word.expose()), word, "{text:?}");
        }
    }
}
