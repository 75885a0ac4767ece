//! The server's side of SOCKS5 (RFC 1928): CONNECT, without a login. The two messages of a program
//! have at most 257 and 262 bytes, and not one byte beyond them is read.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Refusal, RequestError};
use crate::target::Target;

const VERSION: u8 = 5;
/// §3.
const NO_LOGIN: u8 = 0x00;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
/// §4.
const CONNECT: u8 = 0x01;
const IPV4: u8 = 0x01;
const NAME: u8 = 0x03;
const IPV6: u8 = 0x04;
/// §6.
const SUCCEEDED: u8 = 0x00;
const GENERAL_FAILURE: u8 = 0x01;
const NOT_ALLOWED: u8 = 0x02;
const HOST_UNREACHABLE: u8 = 0x04;
const COMMAND_NOT_SUPPORTED: u8 = 0x07;
const ADDRESS_NOT_SUPPORTED: u8 = 0x08;

pub(super) async fn receive<S>(stream: &mut S) -> Result<Target, RequestError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let [version, methods] = read(stream).await?;
    if version != VERSION {
        return Err(RequestError::Invalid("the program does not speak SOCKS5"));
    }
    let mut offered = vec![0; usize::from(methods)];
    stream.read_exact(&mut offered).await?;
    if !offered.contains(&NO_LOGIN) {
        stream.write_all(&[VERSION, NO_ACCEPTABLE_METHOD]).await?;
        return Err(RequestError::Invalid("the program wants to log in"));
    }
    stream.write_all(&[VERSION, NO_LOGIN]).await?;

    let [version, command, _, kind] = read(stream).await?;
    if version != VERSION {
        return Err(RequestError::Invalid("the program does not speak SOCKS5"));
    }
    let host = match kind {
        IPV4 => Some(Ipv4Addr::from(read::<4, _>(stream).await?).to_string()),
        IPV6 => Some(format!(
            "[{}]",
            Ipv6Addr::from(read::<16, _>(stream).await?)
        )),
        NAME => {
            let [length] = read(stream).await?;
            let mut name = vec![0; usize::from(length)];
            stream.read_exact(&mut name).await?;
            String::from_utf8(name).ok().map(bracketed)
        }
        _ => {
            reply(stream, ADDRESS_NOT_SUPPORTED).await?;
            return Err(RequestError::Invalid("an unknown kind of address"));
        }
    };
    let port = u16::from_be_bytes(read(stream).await?);
    if command != CONNECT {
        reply(stream, COMMAND_NOT_SUPPORTED).await?;
        return Err(RequestError::Invalid("another command than CONNECT"));
    }
    let target = host.and_then(|host| format!("{host}:{port}").parse().ok());
    let Some(target) = target else {
        reply(stream, GENERAL_FAILURE).await?;
        return Err(RequestError::Invalid("the host or the port is none"));
    };
    Ok(target)
}

pub(super) async fn accept<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    reply(stream, SUCCEEDED).await
}

pub(super) async fn refuse<S: AsyncWrite + Unpin>(
    stream: &mut S,
    refusal: Refusal,
) -> io::Result<()> {
    let code = match refusal {
        Refusal::NotAllowed => NOT_ALLOWED,
        Refusal::Unreachable => HOST_UNREACHABLE,
        Refusal::Failed => GENERAL_FAILURE,
    };
    reply(stream, code).await
}

/// The address at which the connection is made is the gateway's affair: 0.0.0.0:0.
async fn reply<S: AsyncWrite + Unpin>(stream: &mut S, code: u8) -> io::Result<()> {
    let message = [VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0];
    stream.write_all(&message).await?;
    stream.flush().await
}

async fn read<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Some programs give an IPv6 address as a name.
fn bracketed(name: String) -> String {
    match name.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => name,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::receive;

    const GREETING: &[u8] = &[5, 1, 0];

    /// The target of `sent`, and our answer.
    async fn ask(sent: &[u8]) -> (Option<String>, Vec<u8>) {
        let (mut program, mut ours) = duplex(1024);
        program.write_all(sent).await.expect("room");
        program.shutdown().await.expect("an end");
        let target = receive(&mut ours).await.ok();
        drop(ours);
        let mut told = Vec::new();
        program.read_to_end(&mut told).await.expect("an end");
        (target.map(|target| target.to_string()), told)
    }

    #[tokio::test]
    async fn every_kind_of_address_is_understood() {
        for (request, target) in [
            (
                &b"\x05\x01\x00\x01\x0a\x00\x00\x07\x15\x38"[..],
                "10.0.0.7:5432",
            ),
            (
                b"\x05\x01\x00\x03\x0bdb.internal\x15\x38",
                "db.internal:5432",
            ),
            (b"\x05\x01\x00\x03\x03::1\x00\x16", "[::1]:22"),
            (
                b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x16",
                "[::1]:22",
            ),
        ] {
            let (asked, told) = ask(&[GREETING, request].concat()).await;
            assert_eq!(asked.as_deref(), Some(target));
            assert_eq!(told, [5, 0]);
        }
    }

    #[tokio::test]
    async fn bad_requests_are_answered() {
        let chosen = [5, 0];
        let answer = |code| [&chosen[..], &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
        for (sent, told) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![]),
            (vec![4, 1, 0, 80, 10, 0, 0, 7, 0], vec![]),
            (vec![5, 1, 2], vec![5, 0xff]),
            // BIND, an unknown kind of address, port 0, a name that is none, half a request.
            (
                [GREETING, b"\x05\x02\x00\x01\x0a\x00\x00\x07\x00\x16"].concat(),
                answer(7),
            ),
            ([GREETING, b"\x05\x01\x00\x07"].concat(), answer(8)),
            (
                [GREETING, b"\x05\x01\x00\x01\x0a\x00\x00\x07\x00\x00"].concat(),
                answer(1),
            ),
            (
                [GREETING, b"\x05\x01\x00\x03\x03a/b\x00\x16"].concat(),
                answer(1),
            ),
            (
                [GREETING, b"\x05\x01\x00\x03\x02\xff\xfe\x00\x16"].concat(),
                answer(1),
            ),
            (
                [GREETING, b"\x05\x01\x00\x03\xffdb"].concat(),
                chosen.to_vec(),
            ),
        ] {
            assert_eq!(ask(&sent).await, (None, told), "{sent:?}");
        }
    }
}
