//! What the clouds' own variables say: where a cloud keeps the credentials of what runs in it. They
//! are variables of the environment only, with the names that each cloud's own programs read, and
//! no settings of ours.

use crate::secret::Secret;

/// Every variable that is kept. A few are spelled in two ways, as the deployed program reads both.
const NAMES: &[&str] = &[
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_PROFILE",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_ENDPOINT_URL_STS",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "GCE_METADATA_HOST",
    "HOME",
];

/// What the environment held of them at the start. All of it counts as secret, since some of it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cloud {
    values: Vec<(&'static str, Secret)>,
}

/// True for a variable of a cloud.
pub(super) fn is_known(name: &str) -> bool {
    name != "HOME" && NAMES.contains(&name)
}

impl Cloud {
    /// These variables, and those of `weaker` that these do not set.
    #[must_use]
    pub(super) fn or(mut self, weaker: &Self) -> Self {
        for (name, value) in &weaker.values {
            if self.values.iter().all(|(known, _)| known != name) {
                self.values.push((name, value.clone()));
            }
        }
        self
    }

    /// Keeps `value` if `name` is one of a cloud's variables.
    pub(super) fn keep(&mut self, name: &str, value: &str) {
        if let Some(known) = NAMES.iter().find(|known| **known == name) {
            self.values.push((known, Secret::new(value)));
        }
    }

    /// Keeps those of `variables` that are a cloud's.
    #[must_use]
    pub fn of(variables: &[(&str, &str)]) -> Self {
        let mut cloud = Self::default();
        for (name, value) in variables {
            cloud.keep(name, value);
        }
        cloud
    }

    /// The value of the first of `names` that is set and not empty.
    #[must_use]
    pub fn value(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| {
            let found = self.values.iter().find(|(known, _)| known == name)?;
            Some(found.1.expose()).filter(|value| !value.is_empty())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Cloud, NAMES};

    #[test]
    fn only_cloud_variables_are_kept_and_hidden() {
        let cloud = Cloud::of(&[
            ("AWS_ACCESS_KEY", "older"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_REGION", ""),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("AWS_SOMETHING_ELSE", "x"),
        ]);
        let key = cloud.value(&["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"]);
        assert_eq!(key, Some("older"));
        let region = cloud.value(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
        assert_eq!(region, Some("eu-central-1"));
        assert_eq!(cloud.value(&["AWS_SOMETHING_ELSE"]), None);
        assert!(!format!("{cloud:?}").contains("hunter2"));
        assert!(NAMES.is_sorted());
    }
}
