//! Forms in which one address stands for another one.
//!
//! IPv6 addresses that carry an IPv4 address reach that one where a translator or a tunnel is on
//! the way. Translators with a prefix of the network's own cannot be recognized.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Every address at which a connection to `address` may end.
#[must_use]
pub fn forms(address: IpAddr) -> Vec<IpAddr> {
    let canonical = address.to_canonical();
    let mut forms = vec![address, canonical];
    if let IpAddr::V6(address) = address {
        forms.extend(carried(address).map(IpAddr::V4));
    }
    // Linux connects to this machine instead (ip(7)).
    if canonical.is_unspecified() {
        forms.push(match canonical {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    forms.dedup();
    forms
}

/// The addresses at which a connection to `address` ends for certain.
pub(super) fn allowed_forms(address: IpAddr) -> Vec<IpAddr> {
    let mut forms = vec![address.to_canonical()];
    if let IpAddr::V6(address) = address
        && let [0x64, 0xff9b, 0, 0, 0, 0, ..] = address.segments()
    {
        forms.push(low(address).into());
    }
    forms
}

/// The IPv4 address that `address` carries, if its form has one.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible (RFC 4291 §2.5.5.1), IPv4-mapped (§2.5.5.2), IPv4-translated (RFC 7915).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(low(address)),
        // NAT64: the well-known prefix (RFC 6052 §2.1) and that for local use (RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => Some(low(address)),
        // 6to4 (RFC 3056 §2).
        [0x2002, high, low, ..] => Some(from_segments(high, low)),
        // Teredo (RFC 4380 §4).
        [0x2001, 0, .., high, low] => Some(from_segments(!high, !low)),
        // ISATAP (RFC 5214 §6.1).
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(low(address)),
        _ => None,
    }
}

fn low(address: Ipv6Addr) -> Ipv4Addr {
    let [.., high, low] = address.segments();
    from_segments(high, low)
}

fn from_segments(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{allowed_forms, forms};

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn carried_ipv4_addresses_are_found() {
        let metadata = address("169.254.169.254");
        for form in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "2001:0:0102:0304:0:0:5601:5601",
            "fe80::5efe:169.254.169.254",
            "fe80::200:5efe:169.254.169.254",
        ] {
            assert!(forms(address(form)).contains(&metadata), "{form}");
        }
        for other in ["::", "::1", "fd00::a9fe:a9fe", "2001:db8::a9fe:a9fe"] {
            assert!(
                !forms(address(other)).iter().any(IpAddr::is_ipv4),
                "{other}"
            );
        }
    }

    #[test]
    fn unspecified_address_is_this_machine() {
        for (form, local) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "::1"),
            ("::ffff:0.0.0.0", "127.0.0.1"),
        ] {
            assert!(forms(address(form)).contains(&address(local)), "{form}");
        }
    }

    #[test]
    fn allow_rules_see_through_certain_forms_only() {
        for (form, ends_at) in [
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("64:ff9b::10.0.0.1", "10.0.0.1"),
        ] {
            assert!(
                allowed_forms(address(form)).contains(&address(ends_at)),
                "{form}"
            );
        }
        for form in [
            "::10.0.0.1",
            "2002:a00:1::1",
            "64:ff9b:1::10.0.0.1",
            "0.0.0.0",
        ] {
            assert_eq!(allowed_forms(address(form)), [address(form)]);
        }
    }
}
