//! What reads foreign bytes, as functions of bytes, for fuzzers and tests.

use crate::service::http::config_line;

/// The line before the requests of an HTTP proxy's client.
pub fn http_proxy_line(line: &[u8]) {
    if let Ok(config) = config_line::parse(line) {
        let words = |name: &[u8]| line.windows(name.len()).any(|word| word == name);
        assert!(config.roots.is_none() || words(b"ca="));
        assert!(!config.verify || words(b"verify=true"));
    }
}
