//! What this binary does as a client of HTTP inside the container, where there is no curl: one
//! request, whose answer it prints.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use crate::container::Container;
use crate::lab::HARNESS;

/// Asks for `page` at `place`, an address and a port or `unix:PATH`.
pub(crate) fn run(place: &str, page: &str) -> ExitCode {
    let answer = match place.strip_prefix("unix:") {
        Some(path) => UnixStream::connect(path).and_then(|stream| ask(stream, page)),
        None => TcpStream::connect(place).and_then(|stream| ask(stream, page)),
    };
    match answer {
        Ok(answer) => {
            print!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{place}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask(mut stream: impl Read + Write, page: &str) -> io::Result<String> {
    write!(stream, "GET {page} HTTP/1.1\r\nHost: test\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The status and the body of `page` at `place` inside `container`, or why there is none.
pub(crate) fn get(container: &Container, place: &str, page: &str) -> Result<(u16, String), String> {
    let output = container.run([HARNESS, "request", place, page]);
    let answer = || {
        let (head, body) = output.stdout.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    answer().ok_or_else(|| format!("{output:?}"))
}
