//! AWS's answers and files, as text of a fuzzer's choice.

use super::credentials;
use super::profile::Profile;

pub(in crate::login) fn answer(text: &str) {
    for in_config in [false, true] {
        let profile = Profile::of(text, in_config);
        assert!(profile.key_id.is_none() || text.contains("aws_access_key_id"));
        assert!(profile.secret.is_none() || text.contains("aws_secret_access_key"));
    }
    if let Some(found) = credentials::element(text, "AccessKeyId") {
        assert!(!found.is_empty() && !found.contains(['<', '&']));
    }
    if let Some(keys) = credentials::keys(text) {
        assert!(!keys.key_id.is_empty() && !keys.secret.is_empty());
    }
}
