use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::{Answer, describe, title};
use crate::error::Error;
use crate::types::GatewayCredentials;
use infisical_runtime::error::{Class, Reason};

const URL: &str = "https://platform.example/api/v2/gateways";

/// What an answer is taken for, whose content is used.
fn read(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Value, Error> {
    with(status, headers, body, |answer| answer.content())
}

fn with<T>(
    status: u16,
    headers: &[(&str, &str)],
    body: &str,
    read: impl FnOnce(&Answer<'_>) -> T,
) -> T {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::try_from(*name).expect("a name");
        map.insert(name, HeaderValue::from_str(value).expect("a value"));
    }
    read(&Answer {
        action: "registering the gateway",
        url: URL,
        proxy: None,
        status: StatusCode::from_u16(status).expect("a status"),
        headers: &map,
        body: body.as_bytes(),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
    })
}

fn failure(status: u16, headers: &[(&str, &str)], body: &str) -> Error {
    read(status, headers, body).expect_err("not a success")
}

#[test]
fn every_platform_status_has_its_class() {
    let seconds = Duration::from_secs;
    for (status, retry_after, class) in [
        (400, None, Class::Fatal(Reason::Configuration)),
        (401, None, Class::Reauthenticate),
        (403, None, Class::Fatal(Reason::Permission)),
        (404, None, Class::Fatal(Reason::Configuration)),
        (422, None, Class::Fatal(Reason::Configuration)),
        (429, None, Class::RetryAfter(seconds(10))),
        (429, Some("3"), Class::RetryAfter(seconds(3))),
        (429, Some("999999"), Class::RetryAfter(seconds(600))),
        (429, Some("-1"), Class::RetryAfter(seconds(10))),
        (
            429,
            Some("Mon, 21 Sep 2026 14:14:00 GMT"),
            Class::RetryAfter(seconds(40)),
        ),
        (500, None, Class::Retry),
        (502, None, Class::Retry),
        (503, Some("5"), Class::RetryAfter(seconds(5))),
        (503, Some("1.5"), Class::RetryAfter(seconds(2))),
    ] {
        let headers: Vec<_> = retry_after
            .map(|value| ("retry-after", value))
            .into_iter()
            .collect();
        let error = failure(status, &headers, r#"{"message":"no"}"#);
        assert_eq!(error.class(), class, "{status} {retry_after:?}");
        assert_eq!(error.status(), Some(status));
    }
}

#[test]
fn only_the_platforms_json_is_a_verdict() {
    for status in [400, 401, 403, 404, 407, 409, 418, 500, 503] {
        for body in [
            "",
            "{}",
            "[]",
            "forbidden",
            r#"{"message":""}"#,
            r#"{"message":null,"statusCode":403}"#,
            r#"{"message":7}"#,
            r#"{"error":"forbidden"}"#,
            "<html><title>Blocked</title></html>",
        ] {
            let error = failure(status, &[], body);
            assert_eq!(error.class(), Class::Retry, "{status} {body}");
            assert_eq!(error.status(), None, "{status} {body}");
        }
    }
    let error = failure(407, &[], r#"{"message":"proxy authentication required"}"#);
    assert_eq!(error.class(), Class::Retry);
    let text = error.to_string();
    assert!(text.contains("comes from a proxy on the way"), "{text}");
    assert!(text.contains("set HTTPS_PROXY"), "{text}");
    let error = failure(429, &[("retry-after", "7")], "slow down");
    assert_eq!(error.class(), Class::RetryAfter(Duration::from_secs(7)));
}

#[test]
fn pages_are_described() {
    let html = "<!DOCTYPE html><html><head>\n<TITLE lang=en> Sign in &amp;\n accept </TITLE>";
    let html_type = [("content-type", "text/html; charset=utf-8")];
    for status in [200, 403, 511] {
        let text = failure(status, &html_type, html).to_string();
        for part in [
            "registering the gateway",
            URL,
            &status.to_string(),
            "text/html; charset=utf-8",
            "\"Sign in & accept\"",
            "captive portal",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let text = failure(404, &[], "").to_string();
    assert!(
        text.contains("404 Not Found") && !text.contains("titled"),
        "{text}"
    );
    assert_eq!(title(b"<title></title>"), None);
    assert_eq!(title(b"<title>open"), None);
    assert_eq!(
        title("<title>\u{e9}\u{7}</title>".as_bytes()).as_deref(),
        Some("\u{e9} ")
    );
}

#[test]
fn acknowledgements_need_no_content() {
    let accepted = |status, headers: &[_], body| {
        with(status, headers, body, |answer| answer.acknowledgement())
    };
    for body in ["", "OK", "null", "[]", "{", r#"{"message":7}"#] {
        accepted(200, &[], body).expect("a success");
        accepted(204, &[("content-type", "text/plain")], body).expect("a success");
    }
    // A captive portal did not let the request through.
    let html = [("content-type", "text/html")];
    accepted(200, &html, "<html>").expect_err("a page");
    accepted(200, &[], " \n<!DOCTYPE HTML>").expect_err("a page");
    accepted(401, &[], r#"{"message":"revoked"}"#).expect_err("refused");
}

#[test]
fn redirects_name_target_and_domain_to_set() {
    for (location, shown, hint) in [
        (
            "https://eu.platform.example/api/v2/gateways",
            "to https://eu.platform.example/api/v2/gateways",
            "--domain https://eu.platform.example",
        ),
        (
            "https://new.example/base/api/v2/gateways?token=hunter2#hunter2",
            "to https://new.example/base/api/v2/gateways",
            "--domain https://new.example/base",
        ),
        (
            "http://platform.example/api/v2/gateways",
            "to http://platform.example/api/v2/gateways",
            "not encrypted",
        ),
        (
            "https://user:hunter2@portal.example/login?next=hunter2",
            "to https://portal.example/login",
            "--domain https://portal.example; otherwise check any login page",
        ),
        (
            "https://platform.example:8443/",
            "to https://platform.example:8443/",
            "--domain https://platform.example:8443; otherwise",
        ),
        (
            "http://portal.example/login",
            "to http://portal.example/login",
            "not encrypted",
        ),
        (
            "mailto:admin@platform.example",
            "to mailto:",
            "captive portal",
        ),
        (
            "/login",
            "to https://platform.example/login",
            "captive portal",
        ),
        (
            "https://[",
            "to an address that is not valid",
            "captive portal",
        ),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let error = failure(status, &[("location", location)], "<html>moved</html>");
            let text = error.to_string();
            assert!(text.contains(shown) && text.contains(hint), "{text}");
            assert!(text.contains(URL) && !text.contains("hunter2"), "{text}");
            assert_eq!(error.class(), Class::Retry);
        }
    }
    assert!(matches!(failure(301, &[], ""), Error::Foreign(_)));
    assert!(matches!(failure(304, &[], ""), Error::Foreign(_)));
}

#[test]
fn messages_and_request_ids_are_shown() {
    let error = failure(
        403,
        &[],
        r#"{"message":"no license","reqId":"req-7","statusCode":403}"#,
    );
    assert_eq!(
        error.to_string(),
        "registering the gateway was refused with 403 Forbidden: no license \
         (request req-7, https://platform.example/api/v2/gateways)"
    );
    // Of other types than usual.
    let body = r#"{"message":"no license","reqId":7,"statusCode":"403","error":{"name":"x"}}"#;
    let error = failure(403, &[], body);
    assert!(
        error
            .to_string()
            .contains(": no license (request 7, https:"),
        "{error}"
    );
}

#[test]
fn validation_details_are_shown_without_control_characters() {
    let error = failure(
        422,
        &[],
        r#"{"message":[{"path":["name"],"message":"too\nlong"}]}"#,
    );
    assert!(error.to_string().contains("too"), "{error}");
    let error = failure(400, &[], "{\"message\":\"a\\u001b[31mb\\nc\"}");
    assert!(error.to_string().contains(": a [31mb c (https:"), "{error}");
}

#[test]
fn malformed_answers_content_is_not_shown() {
    let missing = serde_json::from_str::<GatewayCredentials>(r#"{"gatewayId":"g"}"#);
    assert_eq!(
        describe(&missing.expect_err("incomplete")),
        "field `relayHost` is missing"
    );
    let wrong = serde_json::from_str::<GatewayCredentials>(r#"{"gatewayId":"s3cr3t s3cr3t"}"#);
    assert!(!describe(&wrong.expect_err("not an id")).contains("s3cr3t"));
    let error = failure(200, &[], "\u{feff}{\"a\":");
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    assert_eq!(
        read(200, &[], "\u{feff}{}").expect("JSON"),
        serde_json::json!({})
    );
}
