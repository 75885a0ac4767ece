//! A login in a browser on this machine: it comes back to a port that only this machine reaches
//! (RFC 8252 §7.3).

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::super::exit::{Code, Failure};
use crate::api::people::{BeginLogin, BegunLogin, FINISH_LOGIN, FinishLogin, LOGIN, LoggedIn};
use crate::api::{self, Client};
use crate::secret::Secret;

/// How long a person may take; the platform forgets the login then.
const DEADLINE: Duration = Duration::from_secs(600);
/// Limit for one connection of the browser.
const CONNECTION: Duration = Duration::from_secs(10);
/// Longest address that the browser may come back with, in bytes.
const MAX_ADDRESS: usize = 8192;

/// What the browser brings back.
enum Brought {
    Code(Secret),
    /// The provider's error, in its words.
    Refusal(String),
}

/// Logs in; the browser is opened unless `opens` is false. `port` is where it comes back to.
pub(super) async fn log_in(
    client: &Client,
    opens: bool,
    port: u16,
    tell: impl Fn(&str),
) -> anyhow::Result<LoggedIn> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let cannot_listen = |error| {
        let text = format!("cannot listen on {address}; give --callback-port, or --device");
        Failure::unavailable(anyhow::Error::new(error).context(text))
    };
    let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let request = BeginLogin {
        redirect_uri: format!("http://{address}/callback"),
    };
    let begun: BegunLogin = client
        .post("beginning the login", LOGIN, None, &request)
        .await
        .map_err(super::refused)?;
    let url = &begun.authorization_url;
    tell(&format!(
        "To log in, open this address in a browser on this machine:\n\n  {url}\n"
    ));
    if opens {
        open(url);
    }
    let waiting = tokio::time::timeout(DEADLINE, callback(&listener, &begun.state));
    let brought = waiting.await.map_err(|_| {
        let minutes = DEADLINE.as_secs() / 60;
        let text = format!("no one has logged in within {minutes} minutes");
        Failure::unavailable(anyhow::Error::msg(text))
    })?;
    let code = match brought? {
        Brought::Code(code) => code,
        Brought::Refusal(words) => {
            let error = anyhow::Error::msg(format!("the provider refused the login: {words}"));
            return Err(Failure::of(Code::Permission, error).into());
        }
    };
    let request = FinishLogin {
        login_secret: begun.login_secret,
        state: begun.state,
        code,
    };
    let answer: Result<LoggedIn, api::Error> =
        client.post("the login", FINISH_LOGIN, None, &request).await;
    answer.map_err(super::refused)
}

/// Has the desktop open `url`; without one the person does it.
fn open(url: &str) {
    // What may be in an argument of a program that others can list.
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    if !is_web {
        return;
    }
    let command = tokio::process::Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = command {
        tracing::debug!(%error, "no browser was opened");
    }
}

/// Waits for the browser that brings back `state`; others are turned away.
async fn callback(listener: &TcpListener, state: &str) -> anyhow::Result<Brought> {
    loop {
        let (stream, _) = listener.accept().await.map_err(Failure::unavailable)?;
        let served = tokio::time::timeout(CONNECTION, serve(stream, state));
        if let Ok(Some(brought)) = served.await {
            return Ok(brought);
        }
    }
}

/// Answers one request.
async fn serve(stream: TcpStream, state: &str) -> Option<Brought> {
    let (tx, mut rx) = tokio::sync::mpsc::channel(1);
    let answer = |request: Request<Incoming>| {
        let (response, brought) = respond(&request, state);
        if let Some(brought) = brought {
            let _ = tx.try_send(brought);
        }
        async move { Ok::<_, std::convert::Infallible>(response) }
    };
    let served = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    if let Err(error) = served.await {
        tracing::debug!(%error, "the browser broke off");
    }
    rx.try_recv().ok()
}

fn respond(request: &Request<Incoming>, state: &str) -> (Response<Full<Bytes>>, Option<Brought>) {
    let uri = request.uri();
    let query = uri.query().unwrap_or_default();
    if request.method() != Method::GET || uri.path() != "/callback" || query.len() > MAX_ADDRESS {
        return (page(StatusCode::NOT_FOUND, "There is nothing here."), None);
    }
    match read(query, state) {
        Some(brought @ Brought::Code(_)) => {
            let text = "You can close this page and go back to the terminal.";
            (page(StatusCode::OK, text), Some(brought))
        }
        Some(brought @ Brought::Refusal(_)) => {
            let text = "The login was refused; the terminal says why.";
            (page(StatusCode::OK, text), Some(brought))
        }
        None => {
            let text = "This belongs to another login.";
            (page(StatusCode::BAD_REQUEST, text), None)
        }
    }
}

/// What the query says, if it is the answer to the login with this state.
fn read(query: &str, state: &str) -> Option<Brought> {
    let parameter = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    if parameter("state").as_deref() != Some(state) {
        return None;
    }
    if let Some(error) = parameter("error") {
        let description = parameter("error_description");
        let words = description.map_or_else(|| error.clone(), |text| format!("{error}: {text}"));
        return Some(Brought::Refusal(crate::error::printable(&words)));
    }
    parameter("code").map(|code| Brought::Code(Secret::new(code)))
}

fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>infisical login</title>\
         <meta name=\"color-scheme\" content=\"light dark\"><h1>infisical login</h1><p>{text}</p></html>\n"
    );
    let mut response = Response::new(Full::new(Bytes::from(html)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        headers.insert(name, hyper::header::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::{Brought, read};

    #[test]
    fn only_the_own_answer_counts() {
        for query in ["", "code=c", "state=t&code=c", "state=s", "state=&code=c"] {
            assert!(read(query, "s").is_none(), "{query}");
        }
        let brought = read("state=s&code=a%20b", "s");
        let Some(Brought::Code(code)) = brought else {
            panic!("a code");
        };
        assert_eq!(code.expose(), "a b");
        let query = "error=access_denied&error_description=not%0Ayou&state=s&code=c";
        let Some(Brought::Refusal(words)) = read(query, "s") else {
            panic!("a refusal");
        };
        assert!(words.starts_with("access_denied: not"), "{words}");
        assert!(!words.contains('\n'), "{words}");
    }
}
