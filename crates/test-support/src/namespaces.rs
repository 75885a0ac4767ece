//! A case in network and mount namespaces of its own, with a DNS server of its own. Needs root.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::dns;

/// Where the DNS server listens; the C library knows no other port than 53.
const DNS: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 53), 53);
/// How long the answer to a query is good, in seconds.
const TTL: u8 = 1;

/// A DNS server that answers for some names only: it is silent for those that begin with `hung`.
#[derive(Clone)]
pub struct Dns {
    asked: Arc<Mutex<BTreeMap<Vec<u8>, usize>>>,
}

impl Dns {
    fn start(names: &[(&str, Ipv4Addr)]) -> Self {
        let names: Vec<_> = names
            .iter()
            .map(|(name, address)| (dns::encoded(name), *address))
            .collect();
        let socket = UdpSocket::bind(DNS).expect("the port of DNS");
        let asked = Arc::new(Mutex::new(BTreeMap::new()));
        let counter = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((count, client)) = socket.recv_from(&mut buffer) {
                let Some(query) = buffer.get(..count) else {
                    continue;
                };
                let known = |name: &[u8]| {
                    let mut counter = counter.lock().expect("no panic");
                    *counter.entry(name.to_vec()).or_default() += 1;
                    let mut names = names.iter();
                    let known = names.find(|(known, _)| known == name);
                    known.map(|(_, address)| *address)
                };
                let answer = dns::answer(query, TTL, known);
                let is_hung = query.get(13..17) == Some(b"hung");
                if let Some(answer) = answer.filter(|_| !is_hung) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Self { asked }
    }

    /// How many queries there were for `name`.
    pub fn asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().expect("no panic");
        asked.get(&dns::encoded(name)).copied().unwrap_or_default()
    }
}

/// Runs `case` and all processes that it starts in namespaces of their own, where `names` resolve;
/// skipped visibly without root.
pub fn with_dns(names: &[(&str, Ipv4Addr)], case: impl AsyncFnOnce(Dns) + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can have a DNS server at port 53");
        return;
    }
    // The namespaces are those of a thread and of what it starts.
    let run = || {
        let dir = tempfile::tempdir().expect("a directory");
        enter();
        // A query is repeated after the longest time that there is, so that a lookup hangs for all
        // of the case.
        let files = [
            (
                "/etc/resolv.conf",
                format!("nameserver {}\noptions timeout:30 attempts:5\n", DNS.0),
            ),
            ("/etc/nsswitch.conf", "hosts: files dns\n".to_owned()),
        ];
        for (number, (path, text)) in files.iter().enumerate() {
            let file = dir.path().join(number.to_string());
            std::fs::write(&file, text).expect("a file");
            let bind = MsFlags::MS_BIND;
            mount(Some(&file), *path, None::<&str>, bind, None::<&str>).expect(path);
        }
        let dns = Dns::start(names);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime.block_on(case(dns));
    };
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

fn enter() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("ip").success(), "loopback");
}
