//! The sessions of the person who types: one file for each platform, below
//! `$XDG_CONFIG_HOME/infisical/sessions` or `~/.config/infisical/sessions`.
//!
//! Invariants: the directory has mode 0700 and each file 0600, from its first byte on; a file is
//! there whole or not at all; one that others can read is not used.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::super::exit::{Code, Failure};
use crate::api::people::{LoggedIn, WhoAmI};
use crate::config::env::Environment;
use crate::config::settings::ApiBase;
use crate::platform;
use crate::secret::Secret;

/// Below the directory for configuration.
const DIRECTORY: &str = "infisical/sessions";
/// Largest file that is read, in bytes.
const MAX_SIZE: u64 = 64 << 10;
/// The version of the files.
const VERSION: u32 = 1;

/// Where they are.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    directory: PathBuf,
    /// The home directory that it is below.
    home: Option<PathBuf>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The platform.
    pub(crate) domain: ApiBase,
    pub(crate) token: Secret,
    pub(crate) who: WhoAmI,
}

/// As the file has it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    version: u32,
    domain: String,
    #[serde(flatten)]
    session: LoggedIn,
}

impl Sessions {
    /// Those of this user; `None` without a home.
    pub(crate) fn of(environment: &Environment) -> Option<Self> {
        // A relative path is none (XDG Base Directory Specification).
        let xdg = environment.xdg_config_home.clone();
        if let Some(xdg) = xdg.filter(|path| path.is_absolute()) {
            return Some(Self {
                directory: xdg.join(DIRECTORY),
                home: None,
            });
        }
        let home = environment.home.clone()?;
        Some(Self {
            directory: home.join(".config").join(DIRECTORY),
            home: Some(home),
        })
    }

    fn path(&self, domain: &ApiBase) -> PathBuf {
        let url = domain.as_url().as_str().trim_end_matches('/');
        // So that two domains never share a name, and none leaves the directory.
        let name: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
        self.directory.join(format!("{name}.json"))
    }

    /// The session at `domain`, valid or not.
    pub(crate) fn load(&self, domain: &ApiBase) -> anyhow::Result<Option<Session>> {
        read(&self.path(domain))
    }

    /// All of them, by domain.
    pub(crate) fn all(&self) -> anyhow::Result<Vec<Session>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &self.directory, error)),
        };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "json")
            })
            .collect();
        paths.sort();
        let sessions = paths.iter().filter_map(|path| read(path).transpose());
        sessions.collect()
    }

    /// Keeps a session, in place of an earlier one at the same domain.
    pub(crate) fn save(&self, domain: &ApiBase, session: LoggedIn) -> anyhow::Result<()> {
        self.refuse_foreign_home()?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| failed("create", &self.directory, error))?;
        let kept = Kept {
            version: VERSION,
            domain: domain.as_url().to_string(),
            session,
        };
        let text = serde_json::to_string(&kept).map_err(Failure::unavailable)?;
        let text = Zeroizing::new(format!("{text}\n"));
        platform::write_private(&self.path(domain), &text).map_err(Failure::unavailable)
    }

    /// Forgets the session at `domain`.
    pub(crate) fn remove(&self, domain: &ApiBase) -> anyhow::Result<()> {
        let path = self.path(domain);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", &path, error)),
        }
    }

    /// Root with the home of someone else, as sudo may leave it, would make directories there that
    /// their owner cannot use.
    pub(crate) fn refuse_foreign_home(&self) -> anyhow::Result<()> {
        let user = nix::unistd::geteuid();
        let Some(home) = self.home.as_ref().filter(|_| user.is_root()) else {
            return Ok(());
        };
        let owner = fs::metadata(home).map(|home| home.uid());
        match owner {
            Ok(owner) if owner != user.as_raw() => {
                let text = format!(
                    "HOME is {}, which is another user's; log in as that user, without sudo",
                    home.display()
                );
                Err(Failure::configuration(anyhow::Error::msg(text)))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl Session {
    /// True if it has ended, by this machine's clock.
    pub(crate) fn has_ended(&self, now: SystemTime) -> bool {
        let end = self.who.expires_at.as_deref();
        let end = end.and_then(|end| OffsetDateTime::parse(end, &Rfc3339).ok());
        end.is_some_and(|end| end <= OffsetDateTime::from(now))
    }

    /// The error of commands that would use it although it has ended.
    pub(crate) fn ended(&self) -> anyhow::Error {
        let text = format!(
            "the login of {} at {} has ended; run: infisical login --domain {}",
            self.who.name,
            self.domain.domain(),
            self.domain.domain()
        );
        Failure::of(Code::Permission, anyhow::Error::msg(text)).into()
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Session>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // No way to it is no session.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(failed("read", path, error)),
    };
    if metadata.mode() & 0o077 != 0 {
        let shown = path.display();
        let text = format!("{shown} is open to other users; run: chmod 600 {shown}");
        return Err(Failure::configuration(anyhow::Error::msg(text)));
    }
    let unusable = || {
        let text = format!(
            "{} is not what infisical login writes; run: infisical login",
            path.display()
        );
        Failure::configuration(anyhow::Error::msg(text))
    };
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        return Err(unusable());
    }
    let text = Zeroizing::new(fs::read(path).map_err(|error| failed("read", path, error))?);
    // The parser's own words could repeat the token.
    let kept: Kept = serde_json::from_slice(&text).map_err(|_| unusable())?;
    let domain = ApiBase::parse(&kept.domain).map_err(|_| unusable())?;
    if kept.version != VERSION {
        return Err(unusable());
    }
    let LoggedIn { access_token, who } = kept.session;
    Ok(Some(Session {
        domain,
        token: access_token,
        who,
    }))
}

fn failed(action: &str, path: &Path, error: io::Error) -> anyhow::Error {
    let text = format!("cannot {action} {}", path.display());
    Failure::unavailable(anyhow::Error::new(error).context(text))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, SystemTime};

    use super::Sessions;
    use crate::api::people::{LoggedIn, WhoAmI};
    use crate::config::env::Environment;
    use crate::config::settings::ApiBase;
    use crate::secret::Secret;

    fn session(name: &str) -> LoggedIn {
        LoggedIn {
            access_token: Secret::new("hunter2"),
            who: WhoAmI {
                id: Some("id".to_owned()),
                name: name.to_owned(),
                roles: vec!["client".to_owned()],
                groups: Vec::new(),
                expires_at: Some("2026-11-28T10:00:00Z".to_owned()),
            },
        }
    }

    #[test]
    fn sessions_are_kept_by_domain() {
        let home = tempfile::tempdir().expect("a directory");
        let home_text = home.path().to_str().expect("text");
        let sessions = Sessions::of(&Environment::from_vars([("HOME", home_text)]));
        let sessions = sessions.expect("a home");
        let domain = |text| ApiBase::parse(text).expect("a domain");
        let (one, two) = (domain("https://one.example"), domain("http://127.0.0.1:1"));
        assert!(sessions.load(&one).expect("readable").is_none());
        assert!(sessions.all().expect("readable").is_empty());
        sessions.save(&one, session("alice")).expect("saved");
        sessions.save(&two, session("bob")).expect("saved");
        sessions.save(&one, session("carol")).expect("saved again");
        let found = sessions.load(&one).expect("readable").expect("it");
        assert_eq!(found.who.name, "carol");
        assert_eq!(found.token, Secret::new("hunter2"));
        assert!(!format!("{found:?}").contains("hunter2"));
        assert_eq!(sessions.all().expect("readable").len(), 2);

        let directory = home.path().join(".config/infisical/sessions");
        let mode = |path: &std::path::Path| {
            let metadata = fs::metadata(path).expect("it is there");
            metadata.permissions().mode() & 0o7777
        };
        assert_eq!(mode(&directory), 0o700);
        let file = fs::read_dir(&directory).expect("listed").next();
        let file = file.expect("a file").expect("a file").path();
        assert_eq!(mode(&file), 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("opened");
        let error = sessions.all().expect_err("others can read it");
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("closed");

        for (at, ended) in [(0, false), (4_000_000_000, true)] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
            assert_eq!(found.has_ended(now), ended);
        }
        sessions.remove(&one).expect("removed");
        sessions.remove(&one).expect("removed before");
        assert!(sessions.load(&one).expect("readable").is_none());
    }

    #[test]
    fn directory_is_the_users_own() {
        let of = |variables: &[(&str, &str)]| {
            let sessions = Sessions::of(&Environment::from_vars(variables.iter().copied()));
            sessions.map(|sessions| sessions.directory.display().to_string())
        };
        let xdg = ("XDG_CONFIG_HOME", "/xdg");
        let expected = Some("/xdg/infisical/sessions".to_owned());
        assert_eq!(of(&[("HOME", "/home/u"), xdg]), expected);
        let home = Some("/home/u/.config/infisical/sessions".to_owned());
        let relative = ("XDG_CONFIG_HOME", "xdg");
        assert_eq!(of(&[("HOME", "/home/u"), relative]), home);
        assert_eq!(of(&[]), None);
    }
}
