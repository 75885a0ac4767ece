//! A proxy to the platform: whether it is there, and makes connections to the platform. It is asked
//! for one (CONNECT, RFC 9110 §9.3.6), since the HTTP client does not tell why it was refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::layer::{Check, Fault, PROXY};
use super::network::connects;
use crate::config::proxy::Proxy;
use crate::error::chain;
use crate::secret::Secret;

/// How long the proxy may take, its own connection to the platform included.
const ANSWER: Duration = Duration::from_secs(4);
/// Around an IPv6 address in a URL.
const BRACKETS: [char; 2] = ['[', ']'];

/// Connects to `proxy`, and asks it for a connection to the platform at `platform`.
pub(super) async fn examine(proxy: &Proxy, platform: &Url) -> Check {
    let url = proxy.url();
    let host = url.host_str().unwrap_or_default().trim_matches(BRACKETS);
    let port = url.port_or_known_default().unwrap_or_default();
    let (check, stream) = connects(&PROXY, (host, port), "the proxy").await;
    let Some(stream) = stream else {
        return check;
    };
    // A request by HTTP is the proxy's to make, and one by SOCKS or TLS is the HTTP client's.
    if url.scheme() != "http" || platform.scheme() != "https" {
        return check;
    }
    let target = format!(
        "{}:{}",
        platform.host_str().unwrap_or_default(),
        platform.port_or_known_default().unwrap_or_default()
    );
    let fault = match timeout(ANSWER, connect(stream, url, &target)).await {
        Ok(Ok(status)) if status.is_success() => {
            return Check::good(&PROXY, format!("{proxy} connects to {target}"));
        }
        Ok(Ok(status)) => refused(proxy, status, &target),
        Ok(Err(error)) => Fault::new(
            format!("{proxy}: {}", chain(&error)),
            "What answers at the proxy's address is no HTTP proxy, or closes the connection.",
            "Correct the proxy's URL; its scheme, host and port are in the detail.",
        ),
        Err(_) => Fault::new(
            format!("{proxy}: no answer in {} s", ANSWER.as_secs()),
            "The proxy accepts connections and hangs, or waits for the platform.",
            format!("Restart the proxy, and see whether it reaches {target}."),
        ),
    };
    Check::failed(&PROXY, fault)
}

/// Asks for a connection to `target`; gives what the proxy says.
async fn connect(stream: TcpStream, proxy: &Url, target: &str) -> hyper::Result<StatusCode> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::CONNECT;
    if let Ok(uri) = target.parse() {
        *request.uri_mut() = uri;
    }
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::try_from(target) {
        headers.insert(HOST, host);
    }
    if let Some(authorization) = authorization(proxy) {
        headers.insert(PROXY_AUTHORIZATION, authorization);
    }
    // The connection ends once nothing can be sent on it any more.
    let answer = async move { sender.send_request(request).await };
    let (answer, _) = tokio::join!(answer, connection);
    Ok(answer?.status())
}

/// The user name and the password in the proxy's URL.
fn authorization(proxy: &Url) -> Option<HeaderValue> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    if proxy.username().is_empty() && proxy.password().is_none() {
        return None;
    }
    let (user, password) = (proxy.username(), proxy.password().unwrap_or_default());
    let both = Secret::new(format!("{}:{}", decoded(user), decoded(password)));
    let encoded = Secret::new(format!("Basic {}", STANDARD.encode(both.expose())));
    let mut value = HeaderValue::try_from(encoded.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn refused(proxy: &Proxy, status: StatusCode, target: &str) -> Fault {
    let detail = format!("{proxy} answers {status} to a connection to {target}");
    let (cause, fix) = if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        (
            "The proxy wants a user name and a password, or refuses those that it was given.",
            "Put them into the proxy's URL: http://USER:PASSWORD@HOST:PORT".to_owned(),
        )
    } else if status.is_server_error() {
        (
            "The proxy cannot reach the platform.",
            format!("Let the proxy reach {target}; its own log says why it does not."),
        )
    } else {
        (
            "The proxy does not let this machine connect to the platform.",
            format!(
                "Allow {target} on the proxy, or name the platform in NO_PROXY if this machine \
                 may connect to it directly."
            ),
        )
    };
    Fault::new(detail, cause, fix)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn user_and_password_are_decoded() {
        let shown = |url: &str| super::authorization(&url.parse().expect("a URL"));
        assert_eq!(shown("http://proxy.example:3128"), None);
        let value = shown("http://us%40er:p%3Aw+@proxy.example").expect("a header");
        assert!(value.is_sensitive());
        let text = value.to_str().expect("text");
        let encoded = text.strip_prefix("Basic ").expect("basic authentication");
        let decoded = STANDARD.decode(encoded).expect("base64");
        assert_eq!(decoded, b"us@er:p:w+");
    }
}
