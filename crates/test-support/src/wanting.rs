//! What is wanting here.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// Why the tests of `make` cannot run here: they need root, `tools` (each a program and its
/// package), and that unshare(1) does what `namespace` says.
pub fn why(make: &str, tools: &[(&str, &str)], namespace: &[&str]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some(format!("which needs root (sudo make {make})"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    let missing: BTreeSet<&str> = tools
        .iter()
        .filter(|(tool, _)| !has(tool))
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        return Some(format!("which needs the packages {missing:?}"));
    }
    let mut unshare = Command::new("unshare");
    unshare.args(namespace);
    let tried = unshare.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_allowed = tried.is_ok_and(|status| status.success());
    (!is_allowed).then(|| "for this root may not make namespaces".to_owned())
}
