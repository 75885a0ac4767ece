//! Whatever reads foreign bytes, as functions of bytes: a fuzzer chooses them (fuzz/), and so do the tests beside this
//! module, which also read again whatever fuzzers have found (fuzz/corpus). Each panics if something is wrong.
//!
//! Only fuzzers and tests have this module.

pub use crate::api::fuzzing::cloud_answer;
use crate::config::file;
use crate::gateway::service::http::config_line;
use crate::pki::extensions;
pub use crate::ssh::fuzzing::{
    cert as ssh_cert, connection as ssh_connection, kex as ssh_kex, keys as ssh_keys,
    msg_roundtrip as ssh_msg_roundtrip, packet as ssh_packet, version as ssh_version,
};

#[cfg(test)]
mod tests;

/// A client's certificate.
pub fn x509_extensions(der: &[u8]) {
    if let Ok(claims) = extensions::parse_claims(der)
        && let Some(route) = claims.route
    {
        let host = route.target_host;
        assert!(!host.contains(char::is_whitespace) && host.len() < 512);
    }
    let _ = extensions::parse_common_name(der);
}

/// A file of settings, in either form.
pub fn env_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match file::parse(text) {
        Ok(entries) => {
            for entry in entries {
                assert!(text.contains('='), "{:?} out of nothing", entry.key.name);
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(mistake.to_string().len() < 1024 + 8 * text.len());
            }
        }
    }
}

/// The line before the requests of an HTTP proxy's client.
pub fn http_proxy_line(line: &[u8]) {
    if let Ok(config) = config_line::parse(line) {
        let words = |name: &[u8]| line.windows(name.len()).any(|word| word == name);
        assert!(config.roots.is_none() || words(b"ca="));
        assert!(!config.verify || words(b"verify=true"));
    }
}
