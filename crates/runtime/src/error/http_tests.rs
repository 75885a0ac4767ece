use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::error::chain;

/// What `reqwest` says of an answer of which only this comes.
async fn error_of(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await.expect("a request");
        stream.write_all(answer).await.expect("an answer");
    };
    let ask = async {
        let client = reqwest::Client::builder().no_proxy().build();
        let request = client.expect("a client").get(format!("http://{address}/"));
        let answer = request.send().await.expect("a head");
        chain(&answer.bytes().await.expect_err("a cut answer")).to_string()
    };
    tokio::join!(serve, ask).1
}

#[tokio::test]
async fn a_cut_answer_is_named_as_such() {
    assert_eq!(
        error_of(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[1").await,
        "the answer broke off: it is shorter than its Content-Length"
    );
    assert_eq!(
        error_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n").await,
        "the answer broke off: its last chunk did not come"
    );
}

#[test]
fn client_errors_are_silent_or_sentences() {
    for (text, words) in [
        (
            "failed to lookup address information: Name or service not known",
            "the name cannot be resolved: name or service not known",
        ),
        ("deadline has elapsed", "no answer in time"),
        (
            "tunnel error: unsuccessful",
            "the proxy refused the connection",
        ),
        ("error resolving DNS", ""),
        ("client error (Connect)", ""),
        ("anything else", "anything else"),
    ] {
        assert_eq!(chain(&io::Error::other(text)).to_string(), words);
    }
}
