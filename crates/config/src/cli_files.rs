//! Domains in files of the deployed CLI, for a person at a terminal: that of the login, and that of
//! the project in the current directory. Root and services have neither. Nothing else of the files
//! is used, no token above all.
//!
//! A file that another user owns is ignored: in a shared directory it could direct a person's
//! tokens to another platform.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::file;
use crate::secret::Secret;

/// Below the home directory.
const LOGIN_FILE: &str = ".infisical/infisical-config.json";
/// In the current directory, or one above it.
const PROJECT_FILE: &str = ".infisical.json";

/// A domain, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliDomain {
    /// The domain, as it is written.
    pub text: Secret,
    /// Where it stands, for a person.
    pub place: String,
}

/// What the files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CliDomains {
    /// Where the person is logged in.
    pub login: Option<CliDomain>,
    /// Where the project is.
    pub project: Option<CliDomain>,
}

impl CliDomains {
    /// Reads the files of the user `uid`, whose home and current directory these are. Blocks.
    #[must_use]
    pub fn read(home: Option<&Path>, directory: Option<&Path>, uid: u32) -> Self {
        let login = home.map(|home| home.join(LOGIN_FILE));
        let mut above = directory.into_iter().flat_map(Path::ancestors);
        let project = above.find_map(|directory| {
            let path = directory.join(PROJECT_FILE);
            fs::symlink_metadata(&path).is_ok().then_some(path)
        });
        let domain = |path: &Path, of: fn(&Value) -> Option<String>, what: &str| {
            let text = of(&read(path, uid)?).filter(|text| !text.trim().is_empty())?;
            Some(CliDomain {
                text: Secret::new(text.trim()),
                place: format!("{what} {}", path.display()),
            })
        };
        Self {
            login: login
                .and_then(|path| domain(&path, login_domain, "login of the infisical CLI in")),
            project: project.and_then(|path| domain(&path, project_domain, "domain in")),
        }
    }
}

/// The JSON in a file that `uid` or root owns; `None` if there is none that can be used.
fn read(path: &Path, uid: u32) -> Option<Value> {
    let text = file::read_owned(path, uid).ok()?;
    serde_json::from_str(&text).ok()
}

/// The domain of the login that is in use. Newer versions have profiles, of which one is active.
fn login_domain(config: &Value) -> Option<String> {
    if text(config, "loggedInUserEmail").is_some() {
        return text(config, "LoggedInUserDomain");
    }
    let active = text(config, "activeProfile")?;
    let profiles = field(config, "profiles")?.as_array()?;
    let is_active = |profile: &&Value| text(profile, "name").as_ref() == Some(&active);
    text(profiles.iter().find(is_active)?, "domain")
}

fn project_domain(project: &Value) -> Option<String> {
    text(project, "domain")
}

/// A text that is not empty.
fn text(object: &Value, key: &str) -> Option<String> {
    let text = field(object, key)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// Go reads keys in any case.
fn field<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    let object = object.as_object()?;
    let exact = object.get(key);
    exact.or_else(|| {
        let mut others = object.iter();
        let found = others.find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::{CliDomains, login_domain};

    #[test]
    fn active_logins_domain_is_found() {
        let profiles =
            json!([{"name": "a", "domain": "https://a"}, {"name": "b", "domain": "https://b"}]);
        for (config, domain) in [
            (json!({}), None),
            (json!([]), None),
            (json!({"LoggedInUserDomain": "https://d"}), None),
            (
                json!({"loggedInUserEmail": "e", "LoggedInUserDomain": "https://d"}),
                Some("https://d"),
            ),
            (
                json!({"loggedInUserEmail": "e", "loggedInUserDomain": "https://d"}),
                Some("https://d"),
            ),
            (
                json!({"loggedInUserEmail": "e", "LoggedInUserDomain": null}),
                None,
            ),
            (
                json!({"loggedInUserEmail": "", "activeProfile": "b", "profiles": profiles}),
                Some("https://b"),
            ),
            (json!({"activeProfile": "c", "profiles": profiles}), None),
        ] {
            assert_eq!(login_domain(&config).as_deref(), domain, "{config}");
        }
    }

    #[test]
    fn a_file_of_another_user_is_ignored() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).expect("made");
        let file = directory.path().join(".infisical.json");
        fs::write(&file, r#"{"domain": "https://project"}"#).expect("written");
        let uid = nix::unistd::geteuid().as_raw();
        let found = CliDomains::read(None, Some(&inner), uid)
            .project
            .expect("a domain");
        assert_eq!(found.text.expose(), "https://project");
        assert_eq!(found.place, format!("domain in {}", file.display()));
        if uid != 0 {
            let found = CliDomains::read(None, Some(&inner), uid + 1);
            assert_eq!(found, CliDomains::default());
        }
        fs::write(&file, "{").expect("written");
        assert_eq!(
            CliDomains::read(None, Some(&inner), uid),
            CliDomains::default()
        );
    }
}
