//! The SSH engine against peers that are not ours, in the test's own process: its client and its
//! server are called, and what they talk to is another implementation.

mod asyncssh;
mod bytes;
mod openssh_channels;
mod openssh_client;
mod openssh_newer;
mod openssh_server;
mod russh;
mod russh_blockers;
mod russh_peer;

use crate::support::ssh_ca::run;

/// Combinations of up to eight factors with up to seven values each, such that of any two factors
/// every pair of values occurs: lines through the plane over the field of seven elements. A factor
/// with fewer values takes them modulo their number.
fn pairwise() -> impl Iterator<Item = [usize; 8]> {
    let points = (0..7).flat_map(|x| (0..7).map(move |y| (x, y)));
    points.map(|(x, y)| std::array::from_fn(|k| if k == 7 { y } else { (x + k * y) % 7 }))
}

/// A factor's value.
fn pick<T: Copy>(values: &[T], index: usize) -> T {
    values[index % values.len()]
}

/// Those of the key exchanges that this OpenSSH has.
fn known_to_openssh(names: &[&'static str]) -> Vec<&'static str> {
    let known = run("ssh", &["-Q", "kex"]);
    let (has, lacks): (Vec<_>, Vec<_>) = names
        .iter()
        .partition(|name| known.lines().any(|line| line == **name));
    if !lacks.is_empty() {
        eprintln!("SKIPPED: this OpenSSH does not know {lacks:?}");
    }
    has
}

#[test]
fn every_pair_of_values_occurs() {
    let all: Vec<_> = pairwise().collect();
    for (one, other) in (0..8).flat_map(|one| (0..one).map(move |other| (one, other))) {
        let pairs = all.iter().map(|values| (values[one], values[other]));
        let pairs: std::collections::BTreeSet<_> = pairs.collect();
        assert_eq!(pairs.len(), 49, "factors {one} and {other}");
    }
}
