//! The server's side of HTTP CONNECT (RFC 9110 §9.3.6). The head of a request is bounded, and not
//! one byte beyond it is read: what follows is the target's.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Refusal, RequestError};
use crate::target::Target;

/// Most bytes of a head. Programs send a few hundred, with a cookie some thousand.
const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 64;

pub(super) async fn receive<S>(stream: &mut S) -> Result<Target, RequestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::with_capacity(512);
    while !(head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n")) {
        if head.len() >= MAX_HEAD {
            answer(
                stream,
                "431 Request Header Fields Too Large",
                "",
                "the head is too long",
            )
            .await?;
            return Err(RequestError::Invalid("the head is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request
        .parse(&head)
        .is_ok_and(|status| status.is_complete());
    let (Some(method), Some(path), true) = (request.method, request.path, parsed) else {
        answer(stream, "400 Bad Request", "", "this is no HTTP request").await?;
        return Err(RequestError::Invalid("no HTTP request"));
    };
    if method != "CONNECT" {
        const TEXT: &str = "only CONNECT is served here: a program must use this proxy as a tunnel";
        answer(stream, "405 Method Not Allowed", "Allow: CONNECT\r\n", TEXT).await?;
        return Err(RequestError::Invalid("another method than CONNECT"));
    }
    let Ok(target) = path.parse() else {
        answer(stream, "400 Bad Request", "", "CONNECT needs HOST:PORT").await?;
        return Err(RequestError::Invalid("the host or the port is none"));
    };
    Ok(target)
}

pub(super) async fn accept<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    stream.flush().await
}

pub(super) async fn refuse<S: AsyncWrite + Unpin>(
    stream: &mut S,
    refusal: Refusal,
    text: &str,
) -> io::Result<()> {
    let status = match refusal {
        Refusal::NotAllowed => "403 Forbidden",
        Refusal::Unreachable => "502 Bad Gateway",
        Refusal::Failed => "503 Service Unavailable",
    };
    answer(stream, status, "", text).await
}

async fn answer<S: AsyncWrite + Unpin>(
    stream: &mut S,
    status: &str,
    header: &str,
    text: &str,
) -> io::Result<()> {
    let length = text.len() + 1;
    let message = format!(
        "HTTP/1.1 {status}\r\n{header}Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{text}\n"
    );
    stream.write_all(message.as_bytes()).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::{MAX_HEAD, receive};

    #[tokio::test]
    async fn target_is_read_and_nothing_behind_it() {
        for (line, expected) in [
            ("CONNECT db.internal:5432 HTTP/1.1", "db.internal:5432"),
            ("CONNECT [::1]:22 HTTP/1.0", "[::1]:22"),
        ] {
            let (mut program, mut ours) = duplex(1024);
            let sent = format!("{line}\r\nHost: x\r\n\r\nbytes of the target");
            program.write_all(sent.as_bytes()).await.expect("room");
            let target = receive(&mut ours).await.expect("a target");
            assert_eq!(target.to_string(), expected);
            drop(program);
            let mut rest = String::new();
            ours.read_to_string(&mut rest).await.expect("the rest");
            assert_eq!(rest, "bytes of the target");
        }
    }

    #[tokio::test]
    async fn bad_requests_are_answered() {
        let long = format!("CONNECT a:1 HTTP/1.1\r\nx: {}", "x".repeat(MAX_HEAD));
        for (sent, status) in [
            ("GET http://db.internal/ HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
            ("CONNECT db.internal HTTP/1.1\r\n\r\n", "400"),
            ("CONNECT http://db:1/ HTTP/1.1\r\n\r\n", "400"),
            ("\x05\x01\x00\r\n\r\n", "400"),
            (long.as_str(), "431"),
        ] {
            let (mut program, mut ours) = duplex(2 * MAX_HEAD);
            program.write_all(sent.as_bytes()).await.expect("room");
            receive(&mut ours).await.expect_err(status);
            drop(ours);
            let mut told = String::new();
            program.read_to_string(&mut told).await.expect("an answer");
            assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        }
    }
}
