//! Why the platform's certificate is refused: the chain that it presents, and whether this machine's
//! clock is to blame, which makes a good certificate look expired or not valid yet.

use std::time::Duration;

use super::layer::{Check, Fault, PLATFORM_TLS, blocked};
use super::platform::judge;
use crate::api::unverified::{self, Unverified};
use crate::config::settings::CommonSettings;
use crate::error::{CertificateFault, HandshakeFault, certificate_fault, chain, handshake_fault};
use crate::trust::Certificate;

/// How long the platform may take to show its chain.
const ANSWER: Duration = Duration::from_secs(3);

/// TLS failed with `error`. Gives what that means, and the clock where it was compared.
pub(super) async fn refused(
    error: &(dyn std::error::Error + 'static),
    settings: &CommonSettings,
) -> (Check, Option<Check>) {
    let text = chain(error).to_string();
    let Some(fault) = certificate_fault(error) else {
        let (cause, fix) = no_session(handshake_fault(error));
        let fault = Fault::new(text, cause, fix);
        return (Check::failed(&PLATFORM_TLS, fault), None);
    };
    let seen = unverified::ask(&settings.domain, &settings.proxies, ANSWER).await;
    let clock = match (fault, seen.date) {
        (CertificateFault::Dates, Some(_)) => Some(judge(&seen.clock)),
        _ => None,
    };
    if let (Some(clock), Some(date)) = (&clock, seen.date)
        && seen.chain.iter().all(|shown| shown.is_valid_at(date))
        && let Some(tls) = blocked(&PLATFORM_TLS, &[clock])
    {
        return (tls, Some(clock.clone()));
    }
    let fault = fault_of(fault, described(text, &seen.chain), &seen);
    (Check::failed(&PLATFORM_TLS, fault), clock)
}

/// TLS did not come as far as a certificate.
fn no_session(fault: HandshakeFault) -> (&'static str, &'static str) {
    match fault {
        HandshakeFault::NotTls => (
            "What answers on this port does not speak TLS.",
            "Set the domain to the port where the platform, or the proxy before it, speaks TLS; \
             begin it with http:// if none does.",
        ),
        HandshakeFault::Cut => (
            "Something on the way, or before the platform, cuts the connection when TLS begins.",
            "Let firewalls and proxies on the way pass TLS to the platform, and see the log of \
             the proxy before the platform.",
        ),
        HandshakeFault::Other => (
            "No TLS session with the platform can be made.",
            "Check that the port speaks TLS, and that no firewall or proxy on the way breaks it.",
        ),
    }
}

/// `text`, and each certificate of `chain`.
fn described(mut text: String, chain: &[Certificate]) -> String {
    for (index, certificate) in chain.iter().enumerate() {
        let place = match index {
            0 => "presented: ",
            _ => "then ",
        };
        text.push_str("; ");
        text.push_str(place);
        text.push_str(&certificate.to_string());
    }
    text
}

fn fault_of(fault: CertificateFault, detail: String, seen: &Unverified) -> Fault {
    let (cause, fix) = match fault {
        CertificateFault::UnknownCa => {
            let ca = seen.chain.last().map(|last| last.issuer.as_str());
            let named = ca.map_or_else(String::new, |ca| format!(" ({ca})"));
            (
                format!(
                    "The CA of the platform's certificate{named} is not among the roots of this machine."
                ),
                format!(
                    "Give the certificate of that CA{named} with --ca-file FILE (INFISICAL_CA_FILE), or add it to the \
                     system's roots."
                ),
            )
        }
        CertificateFault::Dates => dates(seen),
        CertificateFault::Name => (
            "The platform's certificate is for another name than the one in the domain.".to_owned(),
            "Set the domain to a name of the certificate, or issue one for this name.".to_owned(),
        ),
        CertificateFault::Other => (
            "The platform's certificate is not acceptable.".to_owned(),
            "Issue a certificate for the platform without what the detail names.".to_owned(),
        ),
    };
    Fault::new(detail, cause, fix)
}

/// A certificate has expired, or is not valid yet: by the platform's own time, where that is known.
fn dates(seen: &Unverified) -> (String, String) {
    let Some(date) = seen.date else {
        return (
            "The platform's certificate has expired, or this machine's clock is wrong.".to_owned(),
            "Set the clock if it is wrong; otherwise renew the platform's certificate.".to_owned(),
        );
    };
    let bad = seen.chain.iter().find(|shown| !shown.is_valid_at(date));
    let Some(bad) = bad else {
        return (
            "The platform's certificate is not valid at the time of this machine.".to_owned(),
            "Compare the clocks of this machine and the platform with the dates in the detail."
                .to_owned(),
        );
    };
    let subject = &bad.subject;
    match date > bad.not_after {
        true => (
            format!("The platform's certificate {subject} has expired, by its own clock too."),
            "On the platform, or the proxy before it, renew the platform's certificate.".to_owned(),
        ),
        false => (
            format!("The platform's certificate {subject} is not valid yet, by its own clock too."),
            "On the platform, or the proxy before it, install a certificate that is valid now."
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{CertificateFault, Unverified, described, fault_of};
    use crate::trust::Certificate;

    const DAY: u64 = 86_400;

    fn at(day: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(20_000 * DAY + day * DAY)
    }

    fn certificate(subject: &str, issuer: &str, days: [u64; 2]) -> Certificate {
        Certificate {
            subject: subject.to_owned(),
            issuer: issuer.to_owned(),
            not_before: at(days[0]),
            not_after: at(days[1]),
        }
    }

    fn seen(date: Option<u64>) -> Unverified {
        Unverified {
            chain: vec![
                certificate("CN=platform", "CN=Intermediate", [10, 20]),
                certificate("CN=Intermediate", "CN=Corp Root", [0, 90]),
            ],
            date: date.map(at),
            ..Unverified::default()
        }
    }

    #[test]
    fn chain_and_missing_ca_are_named() {
        let seen = seen(None);
        let detail = described("refused".to_owned(), &seen.chain);
        let expected = "refused; presented: CN=platform, issued by CN=Intermediate, valid from \
                        2024-10-14 00:00:00 UTC until 2024-10-24 00:00:00 UTC; then CN=Intermediate, issued by CN=Corp Root";
        assert!(detail.starts_with(expected), "{detail}");
        let fault = fault_of(CertificateFault::UnknownCa, detail, &seen);
        assert!(
            fault.fix.contains("CA (CN=Corp Root) with --ca-file FILE"),
            "{}",
            fault.fix
        );
    }

    #[test]
    fn platform_time_tells_expired_from_wrong_clock() {
        for (date, cause) in [
            (None, "expired, or this machine's clock is wrong"),
            (Some(21), "CN=platform has expired, by its own clock"),
            (Some(9), "CN=platform is not valid yet, by its own clock"),
        ] {
            let fault = fault_of(CertificateFault::Dates, String::new(), &seen(date));
            assert!(fault.cause.contains(cause), "{}", fault.cause);
        }
    }
}
