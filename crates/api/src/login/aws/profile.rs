//! AWS's shared files: a profile's keys and region. Parsing is pure.

use std::path::{Path, PathBuf};

use super::super::{Error, fetch};
use crate::config::cloud::Cloud;
use crate::secret::Secret;

/// Keys of a profile that ask for what this program does not do.
const NOT_SUPPORTED: [&str; 4] = [
    "role_arn",
    "sso_session",
    "sso_start_url",
    "credential_process",
];

/// One profile, of both files.
#[derive(Debug, Default)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) region: Option<String>,
    pub(super) key_id: Option<String>,
    pub(super) secret: Option<Secret>,
    pub(super) session: Option<Secret>,
    /// The first of [`NOT_SUPPORTED`] that it has.
    pub(super) asks_for: Option<&'static str>,
    found: bool,
}

impl Profile {
    /// The profile that the environment names, else the default one. Files that are not there say
    /// nothing.
    pub(super) async fn load(cloud: &Cloud) -> Result<Self, Error> {
        let named = cloud.value(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]);
        let mut profile = Self {
            name: named.unwrap_or("default").to_owned(),
            ..Self::default()
        };
        // The keys of the first file win, as AWS has it.
        for (variable, name, in_config) in [
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials", false),
            ("AWS_CONFIG_FILE", "config", true),
        ] {
            let home = || {
                let home = Path::new(cloud.value(&["HOME"])?);
                Some(home.join(".aws").join(name))
            };
            let given = cloud.value(&[variable]).map(PathBuf::from);
            let is_given = given.is_some();
            let Some(path) = given.or_else(home) else {
                continue;
            };
            match fetch::file(&path, "AWS profiles").await {
                Ok(text) => profile.take(&text, in_config),
                // What no one named may be absent, or in a home that is closed to us.
                Err(Error::File { .. }) if !is_given => {}
                Err(error) => return Err(error),
            }
        }
        if named.is_some() && !profile.found {
            return Err(Error::Variable {
                name: "AWS_PROFILE",
                reason: "there is no such profile in the files that AWS programs share",
            });
        }
        Ok(profile)
    }

    /// The default profile of one file.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn of(text: &str, in_config: bool) -> Self {
        let mut profile = Self {
            name: "default".to_owned(),
            ..Self::default()
        };
        profile.take(text, in_config);
        profile
    }

    /// Adds what `text` says and no one said before.
    fn take(&mut self, text: &str, in_config: bool) {
        let mut is_ours = false;
        for line in text.lines() {
            // An indented line belongs to a nested setting, of which none is read.
            let is_nested = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(section) = line.strip_prefix('[') {
                let section = section.split(']').next().unwrap_or_default().trim();
                let name = match section.strip_prefix("profile ") {
                    Some(name) if in_config => Some(name.trim()),
                    Some(_) => None,
                    None if in_config && section != "default" => None,
                    None => Some(section),
                };
                is_ours = name == Some(self.name.as_str());
                self.found |= is_ours;
                continue;
            }
            if let Some((key, value)) = line.split_once('=').filter(|_| is_ours && !is_nested) {
                self.set(key.trim(), value.trim());
            }
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        let asked = NOT_SUPPORTED.iter().find(|name| **name == key);
        if self.asks_for.is_none() {
            self.asks_for = asked.copied();
        }
        let secret = || Secret::new(value);
        match key {
            "region" if self.region.is_none() => self.region = Some(value.to_owned()),
            "aws_access_key_id" if self.key_id.is_none() => self.key_id = Some(value.to_owned()),
            "aws_secret_access_key" if self.secret.is_none() => self.secret = Some(secret()),
            "aws_session_token" if self.session.is_none() => self.session = Some(secret()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Profile;

    fn profile(name: &str, credentials: &str, config: &str) -> Profile {
        let mut profile = Profile {
            name: name.to_owned(),
            ..Profile::default()
        };
        profile.take(credentials, false);
        profile.take(config, true);
        profile
    }

    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=hunter2/=\n\n\
                               [ work ]\naws_access_key_id=AKIA2\naws_secret_access_key=s\naws_session_token = t==\n";
    const CONFIG: &str = "[work]\nregion=no\n[default]\ns3 =\n  region = nested\nregion = eu-central-1\n\
                          aws_access_key_id=ignored\n[profile work]\nregion=us-west-2\n; c\n\
                          [profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = work\n";

    #[test]
    fn a_profile_is_read_from_both_files() {
        let found = profile("default", CREDENTIALS, CONFIG);
        assert_eq!(found.region.as_deref(), Some("eu-central-1"));
        assert_eq!(found.key_id.as_deref(), Some("AKIA1"));
        assert_eq!(found.secret.as_ref().map(|s| s.expose()), Some("hunter2/="));
        assert!(found.session.is_none() && found.asks_for.is_none() && found.found);
        assert!(!format!("{found:?}").contains("hunter2"));
        let work = profile("work", CREDENTIALS, CONFIG);
        assert_eq!(work.region.as_deref(), Some("us-west-2"));
        assert_eq!(work.session.as_ref().map(|s| s.expose()), Some("t=="));
    }

    #[test]
    fn unsupported_profile_is_named_nonsense_is_ignored() {
        let role = profile("role", CREDENTIALS, CONFIG);
        assert_eq!(role.asks_for, Some("role_arn"));
        let none = profile("x", "[x", "]\n=\nregion\n[profile]\n[default\nregion=a");
        assert!(none.region.is_none());
        assert!(!profile("absent", CREDENTIALS, CONFIG).found);
    }
}
