//! Which headers travel on, and which belong to one connection only. Pure.

use hyper::HeaderMap;
use hyper::header::{CONNECTION, EXPECT, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};

use super::kubernetes::ACTION_HEADER;

/// Fields of one connection, besides those that `Connection` names (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes what concerns only the connection that the message came on.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Removes from a request's trailers what is not for the target: actions, which are no more its
/// business here than in the head, and fields of one connection. The library leaves out what
/// RFC 9110 §6.5.1 forbids, such as `Authorization`.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    trailers.remove(ACTION_HEADER);
    strip_hop_by_hop(trailers);
}

/// True when the body has no transfer coding, or `chunked` alone: the only one that this program
/// undoes and does again.
pub(super) fn is_plain_or_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Removes the wish for `100 Continue` and says whether it was there. The client's side of this
/// program grants it when the target's side begins to read the body, so the target has nothing to
/// grant.
pub(super) fn take_expect_continue(headers: &mut HeaderMap) -> bool {
    let expects = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let found = headers.get(EXPECT).is_some_and(expects);
    if found {
        headers.remove(EXPECT);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{is_plain_or_chunked, strip_hop_by_hop, take_expect_continue};
    use hyper::HeaderMap;
    use hyper::header::{HeaderName, HeaderValue};

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                    HeaderValue::from_str(value).expect("a value"),
                )
            })
            .collect()
    }

    #[test]
    fn only_fields_of_the_connection_are_removed() {
        let mut all = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Once"),
            ("connection", " x-twice ,, \"odd\""),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("x-once", "1"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("cookie", "a=b"),
            ("trailer", "x-sum"),
            ("x-thrice", "3"),
        ] {
            all.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        strip_hop_by_hop(&mut all);
        let mut left: Vec<&str> = all.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["cookie", "trailer", "x-thrice"]);
    }

    #[test]
    fn only_chunked_is_understood() {
        for (coding, understood) in [
            ("chunked", true),
            ("Chunked ", true),
            ("gzip, chunked", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(
                is_plain_or_chunked(&headers(&[("transfer-encoding", coding)])),
                understood,
                "{coding:?}"
            );
        }
        assert!(is_plain_or_chunked(&HeaderMap::new()));
    }

    #[test]
    fn other_expectations_are_the_targets_business() {
        let mut asks = headers(&[("expect", "100-Continue")]);
        assert!(take_expect_continue(&mut asks));
        assert!(asks.is_empty());
        let mut other = headers(&[("expect", "tea")]);
        assert!(!take_expect_continue(&mut other));
        assert_eq!(other.len(), 1);
    }
}
