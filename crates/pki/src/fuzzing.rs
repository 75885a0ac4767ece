//! What reads foreign bytes, as functions of bytes, for fuzzers and tests.

use crate::extensions;

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
