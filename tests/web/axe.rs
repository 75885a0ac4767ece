//! axe-core finds what a page lacks for people who cannot see or use it as others do. Its version is
//! fixed here; npm fetches it once, below `target`.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::browser::Browser;

const VERSION: &str = "4.14.1";
/// WCAG 2.2 at level AA, and what is known to be good beside it.
const RULES: &str = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']";

/// The checker.
pub(crate) struct Axe(String);

impl Axe {
    /// `None`, visibly, where it cannot be had.
    pub(crate) fn fetch() -> Option<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"),
            PathBuf::from,
        );
        let folder = target.join(format!("axe-core-{VERSION}"));
        let script = folder.join("package/axe.min.js");
        if !script.is_file() {
            std::fs::create_dir_all(&folder).expect("a directory");
            let mut pack = Command::new("npm");
            pack.args(["pack", "--silent", &format!("axe-core@{VERSION}")]);
            pack.arg("--pack-destination").arg(&folder);
            let packed = pack.current_dir(&folder).output();
            if !packed.as_ref().is_ok_and(|output| output.status.success()) {
                println!(
                    "SKIPPED: accessibility is not checked, npm cannot fetch axe-core: {packed:?}"
                );
                return None;
            }
            let archive = folder.join(format!("axe-core-{VERSION}.tgz"));
            let mut unpack = Command::new("tar");
            unpack.arg("-xzf").arg(&archive).arg("-C").arg(&folder);
            let unpacked = unpack.status().expect("tar");
            assert!(unpacked.success(), "cannot unpack {}", archive.display());
        }
        Some(Self(std::fs::read_to_string(&script).expect("the script")))
    }

    /// What is wrong with the page that `browser` shows.
    pub(crate) async fn violations(&self, browser: &Browser<'_>) -> Vec<String> {
        let script = format!(
            "{}; const done = arguments[arguments.length - 1];
             axe.run(document, {{runOnly: {RULES}}}).then(done, (error) => done(String(error)));",
            self.0
        );
        let found = browser.run_async(&script).await;
        let violations = found["violations"].as_array();
        let violations = violations.unwrap_or_else(|| panic!("axe: {found}"));
        let passed = found["passes"].as_array().map_or(0, Vec::len);
        assert!(passed > 5, "axe has looked at nothing: {found}");
        let text = |violation: &Value| {
            let nodes = violation["nodes"].as_array().expect("nodes");
            let nodes: Vec<_> = nodes
                .iter()
                .map(|node| format!("{} ({})", node["html"], node["failureSummary"]))
                .collect();
            format!("{}: {}", violation["id"], nodes.join("; "))
        };
        violations.iter().map(text).collect()
    }
}
