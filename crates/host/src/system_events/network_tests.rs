use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::super::{SystemEvent, Watcher};
use super::{
    CARRIES, NetworkState, RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK,
    RTM_NEWROUTE,
};

const UP: u32 = CARRIES;
const DOWN: u32 = 0x1;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("short");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn report(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).expect("short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link(kind: u16, index: i32, flags: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend([0xff; 4]);
    body.extend(attributes.concat());
    report(kind, &body)
}

fn address(kind: u16, index: u32, flags: u8, scope: u8, address: &[u8]) -> Vec<u8> {
    let mut body = vec![2, 24, flags, scope];
    body.extend(index.to_ne_bytes());
    body.extend(attribute(1, address));
    report(kind, &body)
}

/// To `to`, through link 2; `marks` are table and kind.
fn route(kind: u16, family: u8, marks: [u8; 2], to: &[u8]) -> Vec<u8> {
    let [table, of] = marks;
    let mut body = vec![family, 0, 0, 0, table, 0, 0, of, 0, 0, 0, 0];
    body.extend(attribute(1, to));
    body.extend(attribute(4, &2_u32.to_ne_bytes()));
    report(kind, &body)
}

const MAIN: [u8; 2] = [254, 1];

#[test]
fn link_matters_when_its_carrier_changes() {
    let mut state = NetworkState::default();
    assert!(
        !state.judge(&link(RTM_NEWLINK, 2, UP, &[])),
        "as far as known"
    );
    assert!(
        !state.judge(&link(RTM_NEWLINK, 2, UP, &[])),
        "statistics, a scan"
    );
    assert!(state.judge(&link(RTM_NEWLINK, 2, DOWN, &[])));
    assert!(state.judge(&link(RTM_NEWLINK, 2, UP, &[])));
    assert!(state.judge(&link(RTM_DELLINK, 2, UP, &[])));
}

#[test]
fn loopback_and_bridged_links_do_not_matter() {
    let veth = attribute(18, &attribute(1, b"veth\0"));
    let in_bridge = [veth, attribute(10, &7_u32.to_ne_bytes())];
    for (flags, attributes, matters) in [
        (0x8, &[][..], false),
        (0, &in_bridge[..], false),
        (0, &in_bridge[1..], true),
        (0, &in_bridge[..1], true),
    ] {
        let mut state = NetworkState::default();
        state.judge(&link(RTM_NEWLINK, 2, UP | flags, attributes));
        let ceases = link(RTM_NEWLINK, 2, DOWN | flags, attributes);
        assert_eq!(state.judge(&ceases), matters);
        let goes = link(RTM_DELLINK, 2, DOWN | flags, attributes);
        assert_eq!(state.judge(&goes), matters);
    }
}

#[test]
fn address_matters_when_usable_and_when_gone() {
    let mut state = NetworkState::default();
    let home = [192, 0, 2, 7];
    assert!(
        !state.judge(&address(RTM_NEWADDR, 2, 0x40, 0, &home)),
        "tentative"
    );
    assert!(state.judge(&address(RTM_NEWADDR, 2, 0x80, 0, &home)));
    assert!(
        !state.judge(&address(RTM_NEWADDR, 2, 0x80, 0, &home)),
        "prolonged"
    );
    assert!(
        state.judge(&address(RTM_NEWADDR, 3, 0x80, 0, &home)),
        "elsewhere"
    );
    assert!(state.judge(&address(RTM_DELADDR, 2, 0x80, 0, &home)));
    assert!(
        state.judge(&address(RTM_NEWADDR, 2, 0x80, 0, &home)),
        "again"
    );
}

#[test]
fn unreachable_addresses_do_not_matter() {
    let mut state = NetworkState::default();
    for (index, scope) in [(2, 253), (2, 254), (1, 0)] {
        for kind in [RTM_NEWADDR, RTM_DELADDR] {
            assert!(!state.judge(&address(kind, index, 0, scope, &[192, 0, 2, 7])));
        }
    }
}

#[test]
fn routes_matter_unless_each_link_has_them() {
    let v4 = [192, 0, 2, 0];
    let v6 = [0x20, 0x01, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let own = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for kind in [RTM_NEWROUTE, RTM_DELROUTE] {
        for (family, marks, to, matters) in [
            (2, MAIN, &v4[..], true),
            (2, [100, 1], &v4[..], true),
            (10, MAIN, &v6[..], true),
            (2, [254, 7], &v4[..], true),
            (10, MAIN, &own[..], false),
            (2, [255, 1], &v4[..], false),
            (2, [254, 2], &v4[..], false),
            (10, [254, 5], &v6[..], false),
        ] {
            let told = NetworkState::default().judge(&route(kind, family, marks, to));
            assert_eq!(told, matters, "{family} {marks:?} {to:?}");
        }
    }
}

#[test]
fn each_report_of_a_datagram_is_judged() {
    let mut state = NetworkState::default();
    let nothing = route(RTM_NEWROUTE, 2, [255, 2], &[192, 0, 2, 7]);
    let something = route(RTM_NEWROUTE, 2, MAIN, &[192, 0, 2, 0]);
    assert!(!state.judge(&nothing));
    assert!(state.judge(&[nothing.clone(), something.clone(), nothing.clone()].concat()));
    assert!(state.judge(&[something, nothing].concat()));
}

#[test]
fn malformed_reports_are_skipped() {
    let good = [
        link(RTM_NEWLINK, 2, DOWN, &[attribute(10, &[1; 4])]),
        address(RTM_NEWADDR, 2, 0, 0, &[192, 0, 2, 7]),
        route(RTM_NEWROUTE, 2, MAIN, &[192, 0, 2, 0]),
    ]
    .concat();
    for end in 0..good.len() {
        NetworkState::default().judge(&good[..end]);
        for byte in [0, 1, 3, 15, 0x7f, 0xff] {
            let mut spoilt = good.clone();
            spoilt[end] = byte;
            NetworkState::default().judge(&spoilt);
        }
    }
    assert!(!NetworkState::default().judge(&[]));
    assert!(!NetworkState::default().judge(&[0; 64]));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut state = NetworkState::default();
    for n in 0..2 * u32::try_from(super::REMEMBERED).expect("small") {
        state.judge(&link(RTM_NEWLINK, n.cast_signed(), UP, &[]));
        state.judge(&address(RTM_NEWADDR, n, 0, 0, &[192, 0, 2, 7]));
        assert!(state.links.len() <= super::REMEMBERED);
        assert!(state.addresses.len() <= super::REMEMBERED);
    }
}

/// Runs `ip` in the network of this thread.
fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.expect("it was here before");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {said}");
}

/// How often the watcher tells of the network until it has nothing more to tell. The kernel may
/// take a second to notice that a link carries something, and a burst must have been quiet.
async fn told(watcher: &mut Watcher) -> usize {
    const CALM: Duration = Duration::from_millis(1600);
    let mut times = 0;
    while let Ok(system_event) = tokio::time::timeout(CALM, watcher.next()).await {
        assert_eq!(system_event, SystemEvent::Network);
        times += 1;
        assert!(times < 10, "there is no end to it");
    }
    times
}

#[tokio::test]
async fn kernel_reports_arrive_except_loopback() {
    // A network of this thread's own, which ends with it.
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        eprintln!("skipped: only root may make a network of its own");
        return;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("skipped: there is no ip(8) here");
        return;
    }
    ip("link add near type veth peer name far");
    let mut watcher = Watcher::new();
    let reported = matches!(watcher.network, super::super::Sight::Reported(_));
    assert!(reported, "root may ask the kernel");
    ip("link set lo up");
    ip("address add 127.0.0.9/8 dev lo");
    ip("link add nothing type veth peer name more");
    assert_eq!(told(&mut watcher).await, 0, "nothing that matters");

    for change in [
        "address add 192.0.2.7/24 dev near",
        "link set near up",
        "link set far up",
        "route add default via 192.0.2.1",
        "link set far down",
        "address delete 192.0.2.7/24 dev near",
    ] {
        ip(change);
        assert!(told(&mut watcher).await > 0, "{change}");
    }
}
