//! The beginning of an SSH connection as an attacker writes it: a proposal and a public value that
//! costs nothing, without any cryptography.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const KEXINIT: u8 = 20;
const KEX_EXCHANGE_INIT: u8 = 30;
const KEX_EXCHANGE_REPLY: u8 = 31;
/// The longest packet that is read.
const MAX_PACKET: usize = 40_000;

fn string(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&length[..], body].concat()
}

/// A packet before there are keys (RFC 4253 §6).
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (5 + payload.len() + 4) % 8) % 8;
    let length = u32::try_from(1 + payload.len() + padding).expect("short");
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).expect("short"));
    packet.extend_from_slice(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

fn proposal(kex: &str) -> Vec<u8> {
    let host_keys = "ecdsa-sha2-nistp256-cert-v01@openssh.com,ssh-ed25519-cert-v01@openssh.com";
    let (cipher, mac) = ("aes128-ctr", "hmac-sha2-256");
    let mut payload = vec![KEXINIT];
    payload.extend([0; 16]);
    for list in [
        kex, host_keys, cipher, cipher, mac, mac, "none", "none", "", "",
    ] {
        payload.extend(string(list.as_bytes()));
    }
    payload.extend([0; 5]);
    packet(&payload)
}

/// A public value that a server accepts, and that no one had to compute.
fn public(kex: &str) -> Vec<u8> {
    /// The generator of P-256 (SEC 2 §2.4.2), uncompressed.
    const P256: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                        4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    let mut x25519 = vec![0; 32];
    x25519[0] = 9;
    match kex {
        "curve25519-sha256" => x25519,
        "ecdh-sha2-nistp256" => (0..P256.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&P256[at..at + 2], 16).expect("hexadecimal"))
            .collect(),
        // An encapsulation key whose coefficients are all zero.
        "mlkem768x25519-sha256" => [vec![0; 1184], x25519].concat(),
        // Of a finite-field group: 2 to the power of 2.
        _ => vec![4],
    }
}

/// All that the attacker sends.
pub(crate) fn opening(kex: &str) -> Vec<u8> {
    let mut init = vec![KEX_EXCHANGE_INIT];
    init.extend(string(&public(kex)));
    [b"SSH-2.0-x\r\n".to_vec(), proposal(kex), packet(&init)].concat()
}

/// True if the server computed its part.
pub(crate) async fn is_answered(stream: &mut TcpStream, opening: &[u8]) -> io::Result<bool> {
    stream.write_all(opening).await?;
    while stream.read_u8().await? != b'\n' {}
    loop {
        match payload(stream).await?.first() {
            Some(&KEX_EXCHANGE_REPLY) => return Ok(true),
            Some(&KEXINIT) => {}
            _ => return Ok(false),
        }
    }
}

async fn payload<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Vec<u8>> {
    let length = usize::try_from(reader.read_u32().await?).expect("32 bits");
    if length > MAX_PACKET {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    Ok(body.split_off(1))
}
