//! Answers of the HTTP service that break off: the client has what came before, and then an
//! abnormal end.

use infisical_pki::stream::SecureStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::transfer::{BYTES, bytes, reset_now};
use crate::support::lab::Lab;
use crate::support::soon;
use crate::support::targets::Target;

/// A target that answers with `head` and [`BYTES`] bytes of body, and then resets the connection.
async fn breaking(host: std::net::Ipv4Addr, head: &'static str) -> Target {
    Target::serve(host, move |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&bytes()).await?;
        infisical_runtime::net::reset::delivered(&stream).await;
        reset_now(&stream);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_answer_never_looks_complete() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf4240\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ] {
        for version in ["1.1", "1.0"] {
            let target = breaking(lab.host, head).await;
            let way = lab.way(target.address);
            let stream = way
                .offer(&["infisical-http-proxy"])
                .await
                .expect("the service");
            // The library alone would lose what comes in the same read as the alert.
            let mut stream = SecureStream::new(stream);
            let request = format!("CONFIG\nGET / HTTP/{version}\r\nHost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("written");
            let mut answer = Vec::new();
            let end = soon("the end", stream.read_to_end(&mut answer)).await;
            let error = end.expect_err("an alert").to_string();
            assert!(error.contains("reports"), "{head}: {error}");
            let answer = String::from_utf8(answer).expect("text");
            assert!(answer.starts_with("HTTP/1."), "{answer}");
            assert!(!answer.ends_with("0\r\n\r\n"), "the last chunk came");
            // All lines of it, whatever the chunks are.
            let last = format!("{:09}", BYTES / 10 - 1);
            let has_last = answer.contains(&last);
            assert!(has_last, "{head:?} {version}: {} bytes", answer.len());
        }
    }
}
