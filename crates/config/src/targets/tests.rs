//! What rules mean, by tables and by properties of random policies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Rule, TargetHost, TargetPolicy, Verdict};

fn policy(allow: &str, deny: &str) -> TargetPolicy {
    TargetPolicy {
        allow: Rule::parse_list(allow).expect(allow),
        deny: Rule::parse_list(deny).expect(deny),
    }
}

/// The verdict on `host`, with `port`, at `address`.
fn word(policy: &TargetPolicy, host: &str, port: u16, address: &str) -> &'static str {
    let host = TargetHost::parse(host).expect(host);
    let address: IpAddr = address.parse().expect(address);
    policy.judge(&host, port, address, None).word()
}

#[test]
fn rules_match_hosts_and_ports() {
    for (rule, host, port, address, matches) in [
        ("10.0.0.0/16:443", "10.0.3.4", 443, "10.0.3.4", true),
        ("10.0.0.0/16:443", "10.0.3.4", 444, "10.0.3.4", false),
        ("10.0.0.0/16:443", "10.1.0.1", 443, "10.1.0.1", false),
        ("10.0.0.1", "10.0.0.1", 1, "10.0.0.1", true),
        ("10.0.0.1", "10.0.0.2", 1, "10.0.0.2", false),
        ("[fd00::/8]:8000-8999", "fd12::1", 8000, "fd12::1", true),
        ("[fd00::/8]:8000-8999", "fd12::1", 8999, "fd12::1", true),
        ("[fd00::/8]:8000-8999", "fd12::1", 9000, "fd12::1", false),
        ("fd00::/8", "fe80::1%lo", 1, "fe80::1", false),
        ("fe80::/10", "fe80::1%lo", 1, "fe80::1", true),
        ("[fd00::1]", "fd00::1", 7, "fd00::1", true),
        ("db.internal:5432", "db.internal", 5432, "10.9.9.9", true),
        ("db.internal:5432", "DB.INTERNAL.", 5432, "10.9.9.9", true),
        ("DB.Internal.:5432", "db.internal", 5432, "10.9.9.9", true),
        ("db.internal:5432", "db.internal", 5433, "10.9.9.9", false),
        ("db.internal", "db.internal.evil", 1, "10.9.9.9", false),
        ("db.internal", "x.db.internal", 1, "10.9.9.9", false),
        ("*.internal", "a.b.internal", 1, "10.9.9.9", true),
        (".internal", "a.internal", 1, "10.9.9.9", true),
        (".internal", "internal", 1, "10.9.9.9", false),
        (".internal", "notinternal", 1, "10.9.9.9", false),
        ("*", "anything", 1, "8.8.8.8", true),
        ("*:443", "anything", 443, "2001:db8::1", true),
        ("*:443", "anything", 80, "8.8.8.8", false),
        // By name or by address: a name that resolves into a network of the list.
        ("10.0.0.0/8", "db.internal", 1, "10.9.9.9", true),
        // Other forms of the same address.
        ("10.0.0.0/8", "::ffff:10.1.1.1", 1, "::ffff:10.1.1.1", true),
        ("::ffff:10.0.0.0/104", "10.1.1.1", 1, "10.1.1.1", true),
        ("10.0.0.0/8", "x", 1, "64:ff9b::10.1.1.1", true),
        ("10.0.0.0/8", "0xa010101", 1, "10.1.1.1", true),
    ] {
        let by_allow = word(&policy(rule, ""), host, port, address);
        let expected = if matches { "allowed" } else { "not_listed" };
        assert_eq!(
            by_allow, expected,
            "allow {rule}: {host}:{port} at {address}"
        );
        let by_deny = word(&policy("", rule), host, port, address);
        let expected = if matches { "denied" } else { "unrestricted" };
        assert_eq!(by_deny, expected, "deny {rule}: {host}:{port} at {address}");
    }
}

#[test]
fn deny_rules_see_through_every_form() {
    let policy = policy("*", "10.0.0.0/8 127.0.0.0/8 ::1");
    for address in [
        "10.0.0.1",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "2002:a00:1::1",
        "64:ff9b:1::10.0.0.1",
        "0.0.0.0",
        "::",
    ] {
        assert_eq!(word(&policy, "name", 1, address), "denied", "{address}");
    }
    assert_eq!(word(&policy, "name", 1, "11.0.0.1"), "allowed");
}

#[test]
fn metadata_is_refused_unless_named_exactly() {
    for address in [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "169.254.170.2",
        "168.63.129.16",
    ] {
        for allow in [
            "",
            "*",
            "0.0.0.0/0 ::/0",
            "metadata.internal",
            "169.254.169.0/24",
        ] {
            let verdict = word(&policy(allow, ""), "metadata.internal", 80, address);
            assert_eq!(verdict, "metadata", "{address} with {allow:?}");
        }
        let exact = policy(&format!("[::ffff:1.2.3.4]:80,{}", bracketed(address)), "");
        assert_eq!(word(&exact, "x", 80, address), "allowed", "{address}");
        let port = policy(&format!("{}:80", bracketed(address)), "");
        assert_eq!(word(&port, "x", 81, address), "metadata", "{address}");
        let denied = policy(address, &bracketed(address));
        assert_eq!(word(&denied, "x", 80, address), "denied", "{address}");
    }
}

fn bracketed(address: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]"),
        false => address.to_owned(),
    }
}

#[test]
fn own_sockets_are_refused_unless_named_exactly() {
    let own: SocketAddr = "127.0.0.1:9090".parse().expect("an address");
    let host = TargetHost::parse("127.0.0.1").expect("a host");
    for (allow, is_allowed) in [
        ("", false),
        ("*", false),
        ("127.0.0.0/8", false),
        ("127.0.0.1:9091", false),
        ("127.0.0.1:9090", true),
        ("127.0.0.1/32", true),
    ] {
        let policy = policy(allow, "");
        let verdict = policy.judge(&host, 9090, own.ip(), Some(own));
        assert_eq!(verdict.is_allowed(), is_allowed, "{allow}: {verdict}");
    }
}

#[test]
fn denied_name_needs_no_lookup() {
    let policy = policy("", "*.internal:22 10.0.0.0/8");
    for (host, port, denied) in [
        ("a.internal", 22, true),
        ("a.internal", 23, false),
        ("10.0.0.1", 22, false),
        ("other", 22, false),
    ] {
        let host = TargetHost::parse(host).expect(host);
        assert_eq!(policy.judge_name(&host, port).is_some(), denied, "{host:?}");
    }
}

#[test]
fn wrong_rules_are_explained_with_their_number() {
    for (rule, reason) in [
        (":443", "it has no host; write * for every host"),
        ("10.0.0.0/33", "is no network such as"),
        ("10.0.0.5/16", "bits behind its prefix; write 10.0.0.0/16"),
        ("fd00::1/8", "bits behind its prefix; write fd00::/8"),
        ("fd00::/8:443", "needs brackets before a port"),
        ("[fd00::/8]443", "a bracket is missing"),
        ("[fd00::/8", "a bracket is missing"),
        ("[db.internal]:1", "a bracket is missing"),
        ("db:0", "is no port from 1 to 65535"),
        ("db:65536", "is no port from 1 to 65535"),
        ("db:+1", "is no port from 1 to 65535"),
        ("db:", "is no port from 1 to 65535"),
        ("db:http", "is no port from 1 to 65535"),
        ("db:9-8", "the range of ports ends before it begins"),
        ("fe80::1%eth0", "a zone"),
        ("127.1", "four decimal numbers"),
        ("010.0.0.1", "four decimal numbers"),
        ("0x7f000001", "four decimal numbers"),
        ("2130706433", "four decimal numbers"),
        ("a.*.b", "* stands alone"),
        ("*a.b", "* stands alone"),
        ("bücher.internal", "ASCII form, xn--bcher-kva.internal"),
        ("a..b", "neither an address"),
        ("http://db", "is no port"),
        ("db/path", "is no network"),
        ("a b!c", "neither an address"),
    ] {
        let list = format!("10.0.0.1, {rule}");
        let error = Rule::parse_list(&list).expect_err(rule).to_string();
        assert!(error.contains(reason), "{rule}: {error}");
        assert!(error.starts_with("rule "), "{rule}: {error}");
    }
    let error = Rule::parse_list("a.b, 127.1, c.d:0")
        .expect_err("wrong")
        .to_string();
    assert!(
        error.contains("rule 2 (127.1)") && error.contains("rule 3 (c.d:0)"),
        "{error}"
    );
}

/// xorshift64*, so that a failure repeats with its seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % below
    }

    /// One of a small space, so that rules match often.
    fn address(&mut self) -> IpAddr {
        let low = u32::try_from(self.next(64)).expect("small");
        match self.next(3) {
            0 => Ipv4Addr::from(0x0a00_0000 | low).into(),
            1 => Ipv4Addr::from(0x0a00_0000 | low).to_ipv6_mapped().into(),
            _ => Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(low)).into(),
        }
    }

    fn host(&mut self) -> String {
        [
            "a.internal",
            "b.a.internal",
            "A.internal.",
            "other",
            "internal",
        ][usize::try_from(self.next(5)).expect("small")]
        .to_owned()
    }

    fn rule(&mut self) -> String {
        let host = match self.next(4) {
            0 => self.host(),
            1 => ".internal".to_owned(),
            2 => format!("10.0.0.{}/{}", self.next(8) * 8, 29),
            _ => format!("[fd00::{:x}/125]", self.next(8) * 8),
        };
        match self.next(3) {
            0 => host,
            1 => format!("{host}:{}", 1 + self.next(4)),
            _ => format!("{host}:2-{}", 2 + self.next(3)),
        }
    }

    fn rules(&mut self) -> Vec<Rule> {
        let count = self.next(4);
        (0..count)
            .map(|_| self.rule().parse().expect("a rule"))
            .collect()
    }
}

#[test]
fn random_policies_keep_their_promises() {
    for seed in 1..=20_000 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let policy = TargetPolicy {
            allow: random.rules(),
            deny: random.rules(),
        };
        let (address, text) = (random.address(), random.host());
        let port = u16::try_from(1 + random.next(6)).expect("small");
        let host = TargetHost::parse(&text).expect("a host");
        let verdict = policy.judge(&host, port, address, None);
        let context = format!("seed {seed}: {policy:?} {text}:{port} at {address}: {verdict:?}");

        // The same as each rule on its own says.
        let alone = |rule: &Rule| {
            let only = TargetPolicy {
                deny: vec![rule.clone()],
                ..TargetPolicy::default()
            };
            !only.judge(&host, port, address, None).is_allowed()
        };
        let denied = policy.deny.iter().any(alone);
        let listed = policy.allow.is_empty() || policy.allow.iter().any(alone);
        assert_eq!(verdict.is_allowed(), !denied && listed, "{context}");
        assert_eq!(matches!(verdict, Verdict::Denied(_)), denied, "{context}");

        // One deny rule more never allows; one allow rule more never refuses, if there were some.
        let one: Rule = random.rule().parse().expect("a rule");
        let mut stricter = policy.clone();
        stricter.deny.push(one.clone());
        let is_stricter = stricter.judge(&host, port, address, None).is_allowed();
        assert!(verdict.is_allowed() || !is_stricter, "{context}");
        let mut wider = policy.clone();
        wider.allow.push(one);
        let is_wider = wider.judge(&host, port, address, None).is_allowed();
        assert!(
            policy.allow.is_empty() || is_wider || !verdict.is_allowed(),
            "{context}"
        );

        // Neither the case of a name, nor its last dot, nor the form of an address counts.
        for other in [
            text.to_uppercase(),
            format!("{}.", text.trim_end_matches('.')),
        ] {
            let other = TargetHost::parse(&other).expect("a host");
            let same = policy.judge(&other, port, address, None);
            assert_eq!(same, verdict, "{context}");
        }
        let same = policy.judge(&host, port, address.to_canonical(), None);
        assert_eq!(same, verdict, "{context}");
        if policy.judge_name(&host, port).is_some() {
            assert!(denied, "{context}");
        }
    }
}
