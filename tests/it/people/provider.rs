//! The provider as a process, and curl as a person's browser.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::process::{Process, clean};

const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("package.json")),
    ("package-lock.json", include_str!("package-lock.json")),
    ("provider.mjs", include_str!("provider.mjs")),
];

pub(super) struct Provider {
    pub(super) url: String,
    _process: Process,
}

impl Provider {
    /// `None`, and said so, if it cannot be had here.
    pub(super) async fn start(directory: &Path) -> Option<Self> {
        static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let installing = tokio::task::spawn_blocking(|| INSTALLED.get_or_init(install));
        let packages = match installing.await.expect("it ends") {
            Ok(packages) => packages,
            Err(why) => {
                eprintln!("SKIPPED: there is no OpenID provider: {why}");
                return None;
            }
        };
        let mut command = clean("node", directory);
        command.arg(packages.join("provider.mjs")).arg(packages);
        let process = Process::spawn("provider", command);
        let line = process.wait_for_line("serving ").await;
        let (_, url) = line.split_once("serving ").expect("a URL");
        Some(Self {
            url: url.trim().to_owned(),
            _process: process,
        })
    }

    /// Who logs in from now on.
    pub(super) async fn account(&self, directory: &Path, name: &str) {
        let url = format!("{}/account?name={name}", self.url);
        self.curl(directory, &["--cookie-jar", "/dev/null", &url])
            .await;
        let _ = std::fs::remove_file(directory.join("cookies"));
    }

    /// Opens `url` and goes wherever it leads.
    pub(super) async fn browse(&self, directory: &Path, url: &str) -> String {
        let jar = directory.join("cookies").display().to_string();
        let words = ["--location", "--cookie", &jar, "--cookie-jar", &jar, url];
        self.curl(directory, &words).await
    }

    /// The same; where it has led in the end.
    pub(super) async fn destination(&self, directory: &Path, url: &str) -> String {
        let shown = ["--output", "/dev/null", "--write-out", "%{url_effective}"];
        self.curl(
            directory,
            &[&shown[..], &["--location", "--cookie", "", url]].concat(),
        )
        .await
    }

    /// Confirms the code on the page at `url`.
    pub(super) async fn confirm(&self, directory: &Path, url: &str) {
        let page = self.browse(directory, url).await;
        let value = |name: &str| {
            let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let xsrf = value("xsrf").unwrap_or_else(|| panic!("no form in {page}"));
        let (_, code) = url.split_once("user_code=").expect("a code");
        let form = format!("xsrf={xsrf}&user_code={code}&confirm=yes");
        let jar = directory.join("cookies").display().to_string();
        let to = format!("{}/device", self.url);
        let words = ["--location", "--cookie", &jar, "--cookie-jar", &jar];
        self.curl(directory, &[&words[..], &["--data", &form, &to]].concat())
            .await;
    }

    async fn curl(&self, directory: &Path, words: &[&str]) -> String {
        let mut command = clean("curl", directory);
        command.args(["--silent", "--show-error", "--max-time", "30"]);
        command.args(words);
        let process = Process::spawn("curl", command);
        assert_eq!(process.exit_code().await, 0, "{}", process.output());
        process.stdout()
    }
}

/// Puts the provider into a directory that is whole or not there.
fn install() -> Result<PathBuf, String> {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = parent.join("oidc-provider");
    let is_current = FILES.iter().all(|(name, text)| {
        std::fs::read_to_string(directory.join(name)).is_ok_and(|found| found == *text)
    });
    if is_current {
        return Ok(directory);
    }
    let _ = std::fs::remove_dir_all(&directory);
    let building = tempfile::tempdir_in(parent).map_err(|error| error.to_string())?;
    let target = building.path().join("provider");
    std::fs::create_dir(&target).map_err(|error| error.to_string())?;
    for (name, text) in FILES {
        std::fs::write(target.join(name), text).map_err(|error| error.to_string())?;
    }
    let output = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(&target)
        .output()
        .map_err(|error| format!("npm does not start: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    // Fails if another run was faster, and then its result is as good.
    if let Err(error) = std::fs::rename(&target, &directory) {
        assert!(directory.is_dir(), "{}: {error}", directory.display());
    }
    Ok(directory)
}
