//! What the kernel says of a TCP connection (tcp(7), `TCP_INFO`).

use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;

/// `struct tcp_info` up to `tcpi_bytes_acked`, in words of four bytes.
const WORDS: usize = 32;

#[derive(Debug, Clone, Copy)]
struct Info;

nix::getsockopt_impl!(
    Info,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u32; WORDS],
    GetStruct<[u32; WORDS]>
);

/// The part of it that tells whether the peer is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TcpInfo {
    /// Packets that were sent and not acknowledged.
    pub(super) unacknowledged: u32,
    /// Zero window probes in a row that were not answered.
    pub(super) probes: u8,
    /// Packets that were sent again, ever.
    pub(super) retransmitted: u32,
    /// Since the last acknowledgement of any kind.
    pub(super) since_acknowledgement: Duration,
    /// Bytes that the peer has acknowledged, ever.
    pub(super) bytes_acknowledged: u64,
}

impl TcpInfo {
    /// `None` if the kernel does not say.
    pub(super) fn of(socket: &impl AsFd) -> Option<Self> {
        let words = getsockopt(socket, Info).ok()?;
        let word = |number: usize| words.get(number).copied().unwrap_or_default();
        let [_, _, _, probes] = word(0).to_ne_bytes();
        let (first, second) = (word(30).to_ne_bytes(), word(31).to_ne_bytes());
        let mut bytes = [0; 8];
        for (byte, from) in bytes.iter_mut().zip(first.into_iter().chain(second)) {
            *byte = from;
        }
        Some(Self {
            unacknowledged: word(6),
            probes,
            retransmitted: word(25),
            since_acknowledgement: Duration::from_millis(word(14).into()),
            bytes_acknowledged: u64::from_ne_bytes(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::TcpInfo;
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn acknowledged_bytes_are_those_that_were_sent() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut near = TcpStream::connect(address).expect("connected");
        let (mut far, _) = listener.accept().expect("accepted");
        let before = TcpInfo::of(&near).expect("Linux says");
        near.write_all(&[7; 1000]).expect("written");
        far.read_exact(&mut [0; 1000]).expect("read");
        // Its acknowledgement comes with the answer.
        far.write_all(b"answer").expect("written");
        near.read_exact(&mut [0; 6]).expect("read");
        let after = TcpInfo::of(&near).expect("Linux says");
        assert_eq!(after.bytes_acknowledged - before.bytes_acknowledged, 1000);
        assert_eq!((after.unacknowledged, after.probes), (0, 0));
    }
}
