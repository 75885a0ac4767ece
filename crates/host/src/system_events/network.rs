//! Changes of the network, as the kernel reports them (rtnetlink(7)), and which of them can matter
//! to a connection.
//!
//! Reports are also sent for what no connection notices: an address whose lifetime was prolonged, a
//! wireless link that looked around, the addresses and routes that each link has by itself. And
//! containers come and go on the same machine. All these are passed over.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Larger than any report: the kernel sends a page or two.
const BUFFER: usize = 32 * 1024;
/// Reports read in a row before others get their turn.
const IN_A_ROW: usize = 64;
/// Links and addresses that are remembered. A machine with more hears of changes too often rather
/// than too rarely.
const REMEMBERED: usize = 4096;

/// The kernel's reports.
#[derive(Debug)]
pub(super) struct Network {
    socket: AsyncFd<OwnedFd>,
    state: NetworkState,
}

impl Network {
    /// Begins to listen, in the network namespace of this thread.
    ///
    /// # Errors
    /// The sandbox does not allow such sockets.
    pub(super) fn listen() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that might not own their descriptor; this one does"
        )]
        let socket = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self {
            socket,
            state: NetworkState::now(),
        })
    }

    /// Waits for a change that can matter. Cancel-safe: what was read has been judged.
    ///
    /// # Errors
    /// The socket is broken.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut guard = self.socket.readable().await?;
            let state = &mut self.state;
            let read = guard.try_io(|fd| read(fd.get_ref(), state));
            match read {
                Ok(Ok(false)) => tokio::task::yield_now().await,
                Ok(Ok(true)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                // There was nothing after all.
                Err(_) => {}
            }
        }
    }
}

/// Reads what is there, within limits; true if something of it matters.
fn read(fd: &OwnedFd, state: &mut NetworkState) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER];
    let mut matters = false;
    for n in 0..IN_A_ROW {
        match recvfrom::<NetlinkAddr>(fd.as_raw_fd(), &mut buffer) {
            Ok((length, sender)) => {
                // Anyone who is root may send to us too; only the kernel is number 0.
                if sender.is_some_and(|sender| sender.pid() == 0) {
                    matters |= state.judge(buffer.get(..length).unwrap_or_default());
                }
            }
            // More than fitted into the socket's memory: something happened, whatever it was.
            Err(Errno::ENOBUFS) => matters = true,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if n > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(matters)
}

/// What is the case, and has been told if it was not so at the start.
#[derive(Debug, Default)]
struct NetworkState {
    /// Of each link its flags, as far as they matter.
    links: HashMap<i32, u32>,
    /// Links and their usable addresses.
    addresses: HashSet<(u32, Vec<u8>)>,
}

/// Of a link's flags those that decide whether it carries anything: IFF_UP, IFF_RUNNING.
const CARRIES: u32 = 0x1 | 0x40;
const IFF_LOOPBACK: u32 = 0x8;
/// The loopback's number in every network namespace.
const LOOPBACK: u32 = 1;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

impl NetworkState {
    /// As it is before the first report. Without it, a few reports more are believed to be news.
    fn now() -> Self {
        let mut state = Self::default();
        for entry in getifaddrs().into_iter().flatten().take(REMEMBERED) {
            let Ok(index) = if_nametoindex(entry.interface_name.as_str()) else {
                continue;
            };
            if let Ok(index) = i32::try_from(index) {
                let flags = u32::from_ne_bytes(entry.flags.bits().to_ne_bytes());
                state.links.insert(index, flags & CARRIES);
            }
            let address = entry.address;
            let v4 = address.and_then(|a| a.as_sockaddr_in().map(|a| a.ip().octets().to_vec()));
            let v6 = address.and_then(|a| a.as_sockaddr_in6().map(|a| a.ip().octets().to_vec()));
            state
                .addresses
                .extend(v4.or(v6).map(|address| (index, address)));
        }
        state
    }

    /// Judges each report of a datagram; true if one of them can matter. What is malformed is
    /// passed over.
    fn judge(&mut self, mut datagram: &[u8]) -> bool {
        let mut matters = false;
        while let Some(length) = field(datagram, 0).map(u32::from_ne_bytes) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let (Some(kind), Some(body)) = (
                field(datagram, 4).map(u16::from_ne_bytes),
                datagram.get(HEADER..length),
            ) else {
                break;
            };
            matters |= match kind {
                RTM_NEWLINK => self.link(body).unwrap_or(false),
                RTM_DELLINK => self.link_gone(body).unwrap_or(false),
                RTM_NEWADDR => self.address(body).unwrap_or(false),
                RTM_DELADDR => self.address_gone(body).unwrap_or(false),
                RTM_NEWROUTE | RTM_DELROUTE => route(body).unwrap_or(false),
                _ => false,
            };
            datagram = datagram.get(aligned(length)..).unwrap_or_default();
        }
        matters
    }

    fn link(&mut self, body: &[u8]) -> Option<bool> {
        let (index, flags) = link(body)?;
        if self.links.len() >= REMEMBERED {
            self.links.clear();
        }
        let before = self.links.insert(index, flags & CARRIES);
        // One that appears carries nothing before it has an address, which is reported as well.
        let is_change = before.is_some_and(|before| before != flags & CARRIES);
        Some(is_change && !is_foreign(body, flags))
    }

    fn link_gone(&mut self, body: &[u8]) -> Option<bool> {
        let (index, flags) = link(body)?;
        self.links.remove(&index);
        Some(!is_foreign(body, flags))
    }

    fn address(&mut self, body: &[u8]) -> Option<bool> {
        const IFA_F_TENTATIVE: u8 = 0x40;
        let [flags] = field(body, 2)?;
        let Some(address) = usable_address(body) else {
            return Some(false);
        };
        // No one may use it yet; when someone may, that is reported.
        if flags & IFA_F_TENTATIVE != 0 {
            return Some(false);
        }
        if self.addresses.len() >= REMEMBERED {
            self.addresses.clear();
        }
        Some(self.addresses.insert(address))
    }

    fn address_gone(&mut self, body: &[u8]) -> Option<bool> {
        let address = usable_address(body)?;
        self.addresses.remove(&address);
        Some(true)
    }
}

/// Of `struct ifinfomsg`: the link's number and flags.
fn link(body: &[u8]) -> Option<(i32, u32)> {
    let index = field(body, 4).map(i32::from_ne_bytes)?;
    let flags = field(body, 8).map(u32::from_ne_bytes)?;
    Some((index, flags))
}

/// Whether a link is the loopback, or a container's end in a bridge.
fn is_foreign(body: &[u8], flags: u32) -> bool {
    const IFLA_MASTER: u16 = 10;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    let rest = body.get(16..).unwrap_or_default();
    let kind = attribute(rest, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
    let is_veth = kind.is_some_and(|kind| kind.starts_with(b"veth"));
    flags & IFF_LOOPBACK != 0 || (is_veth && attribute(rest, IFLA_MASTER).is_some())
}

/// Of `struct ifaddrmsg`: the link's number and the address, if other machines can reach it.
fn usable_address(body: &[u8]) -> Option<(u32, Vec<u8>)> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    /// RT_SCOPE_LINK; the one behind it is RT_SCOPE_HOST.
    const LINK: u8 = 253;
    let [scope] = field(body, 3)?;
    let index = field(body, 4).map(u32::from_ne_bytes)?;
    let rest = body.get(8..)?;
    let address = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS))?;
    (scope < LINK && index != LOOPBACK).then(|| (index, address.to_vec()))
}

/// Of `struct rtmsg`: whether someone may be reached by it, or not any more.
fn route(body: &[u8]) -> Option<bool> {
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RT_TABLE_LOCAL: u8 = 255;
    const RTM_F_CLONED: u32 = 0x200;
    /// RTN_UNICAST, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT; the others are made with
    /// addresses, by the kernel.
    const KINDS: [u8; 4] = [1, 6, 7, 8];
    let [table] = field(body, 4)?;
    let [kind] = field(body, 7)?;
    let flags = field(body, 8).map(u32::from_ne_bytes)?;
    let rest = body.get(12..)?;
    let is_link_local = matches!(
        (body.first(), attribute(rest, RTA_DST)),
        (Some(&10), Some([0xfe, second, ..])) if second & 0xc0 == 0x80
    );
    let out = attribute(rest, RTA_OIF).and_then(|out| field(out, 0));
    let is_loopback = out.map(u32::from_ne_bytes) == Some(LOOPBACK);
    Some(
        table != RT_TABLE_LOCAL
            && KINDS.contains(&kind)
            && flags & RTM_F_CLONED == 0
            && !is_link_local
            && !(is_loopback && kind == 1),
    )
}

/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// The first attribute of that kind in a list of `struct rtattr`.
fn attribute(mut list: &[u8], wanted: u16) -> Option<&[u8]> {
    /// NLA_TYPE_MASK: the rest are flags.
    const KIND: u16 = 0x3fff;
    loop {
        let length = usize::from(field(list, 0).map(u16::from_ne_bytes)?);
        let kind = field(list, 2).map(u16::from_ne_bytes)?;
        let value = list.get(4..length)?;
        if kind & KIND == wanted {
            return Some(value);
        }
        list = list.get(aligned(length)..)?;
    }
}

/// NLMSG_ALIGN and RTA_ALIGN.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
