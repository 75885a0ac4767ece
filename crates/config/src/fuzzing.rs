//! What reads foreign bytes, as functions of bytes, for fuzzers and tests.

use std::net::{IpAddr, Ipv4Addr};

use crate::file;
use crate::targets::{Rule, TargetHost, TargetPolicy};

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

/// Rules for targets, and the host of a target.
pub fn target_rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let rules = match Rule::parse_list(text) {
        Ok(rules) => rules,
        Err(error) => {
            let wrong = error.0.len();
            assert!(wrong > 0 && error.to_string().len() < 1024 * wrong);
            return;
        }
    };
    for rule in &rules {
        let again: Result<Rule, _> = rule.to_string().parse();
        assert_eq!(again.as_ref(), Ok(rule));
    }
    let address = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
    let policy = TargetPolicy {
        allow: rules.clone(),
        deny: Vec::new(),
    };
    for host in text.split_whitespace() {
        let Ok(host) = TargetHost::parse(host) else {
            continue;
        };
        let exact = |rule: &Rule| rule.to_string().contains("169.254.169.254");
        let verdict = policy.judge(&host, 80, address, None);
        let is_mapped = text.contains("ffff");
        assert!(
            !verdict.is_allowed() || is_mapped || rules.iter().any(exact),
            "{verdict:?}"
        );
    }
}
