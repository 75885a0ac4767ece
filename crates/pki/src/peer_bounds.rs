//! Bounds on the certificates that a peer presents, checked before anything in them is verified: a
//! verification must not cost more than the peer's effort to send them. Pure.

use std::sync::Arc;

use rustls::{CertificateError, OtherError};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Certificates beside the leaf. Honest peers present none or the one that signed it.
const MAX_INTERMEDIATES: usize = 4;
/// Bytes of a certificate.
const MAX_LENGTH: usize = 16 * 1024;
/// Bytes of a public key: an RSA modulus of 8192 bits, the longest that the library verifies with,
/// its exponent, and what encloses them.
const MAX_KEY_LENGTH: usize = 1024 + 32;
/// Bits of an RSA exponent, as in aws-lc: a verification takes time in proportion to them.
const MAX_EXPONENT_BITS: usize = 33;

/// Why a peer's certificates are not looked at.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Error {
    #[error("the peer presents {0} certificates beside its own, more than {MAX_INTERMEDIATES}")]
    TooMany(usize),
    #[error("a certificate of the peer has {0} bytes, more than {MAX_LENGTH}")]
    TooLong(usize),
    #[error("a certificate of the peer has a key of {0} bytes, more than {MAX_KEY_LENGTH}")]
    Key(usize),
    #[error("a certificate of the peer has a key that cannot be read")]
    UnreadableKey,
    #[error("a certificate of the peer has an RSA key with an exponent of {0} bits")]
    RsaExponent(usize),
}

/// Checks what a peer presents.
///
/// # Errors
/// One certificate cannot be read, or exceeds a bound.
pub(super) fn check(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), rustls::Error> {
    let refuse = |error: Error| CertificateError::Other(OtherError(Arc::new(error)));
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(refuse(Error::TooMany(intermediates.len())).into());
    }
    for der in std::iter::once(leaf).chain(intermediates) {
        if der.len() > MAX_LENGTH {
            return Err(refuse(Error::TooLong(der.len())).into());
        }
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
        check_key(&certificate).map_err(refuse)?;
    }
    Ok(())
}

fn check_key(certificate: &X509Certificate<'_>) -> Result<(), Error> {
    let key = certificate.public_key();
    let length = key.subject_public_key.data.len();
    if length > MAX_KEY_LENGTH {
        return Err(Error::Key(length));
    }
    match key.parsed().map_err(|_| Error::UnreadableKey)? {
        PublicKey::RSA(key) => match bits(key.exponent) {
            0..=MAX_EXPONENT_BITS => Ok(()),
            exponent => Err(Error::RsaExponent(exponent)),
        },
        // Each of the other kinds has a fixed size.
        _ => Ok(()),
    }
}

/// Significant bits of a number in big-endian bytes.
fn bits(number: &[u8]) -> usize {
    let mut digits = number.iter().skip_while(|byte| **byte == 0);
    digits.next().map_or(0, |first| {
        let top = 8_u32.saturating_sub(first.leading_zeros());
        let rest = digits.count().saturating_mul(8);
        rest.saturating_add(usize::try_from(top).unwrap_or(8))
    })
}

#[cfg(test)]
mod tests {
    use super::{MAX_INTERMEDIATES, bits, check};
    use rustls_pki_types::CertificateDer;

    /// A self-signed P-256 certificate whose key is replaced by an RSA key of these numbers; its
    /// signature is wrong, but that is not what is checked here.
    fn with_rsa(modulus: &[u8], exponent: &[u8]) -> CertificateDer<'static> {
        let integer = |number: &[u8]| {
            let is_negative = number.first().is_some_and(|byte| *byte >= 0x80);
            let sign: &[u8] = if is_negative { &[0] } else { &[] };
            tlv(0x02, &[sign, number].concat())
        };
        let key = tlv(0x30, &[integer(modulus), integer(exponent)].concat());
        // rsaEncryption with NULL.
        let algorithm = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
        let spki = tlv(
            0x30,
            &[&algorithm[..], &tlv(0x03, &[&[0], &key[..]].concat())].concat(),
        );
        let ed25519 = tlv(0x30, b"\x06\x03\x2b\x65\x70");
        let validity = tlv(
            0x30,
            &[tlv(0x17, b"250101000000Z"), tlv(0x17, b"350101000000Z")].concat(),
        );
        let name = tlv(0x30, b"");
        let body = [
            tlv(0xa0, &tlv(0x02, &[2])),
            tlv(0x02, &[1]),
            ed25519.clone(),
            name.clone(),
            validity,
            name,
            spki,
        ];
        let body = tlv(0x30, &body.concat());
        let signature = tlv(0x03, &[0; 65]);
        CertificateDer::from(tlv(0x30, &[body, ed25519, signature].concat()))
    }

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("short").to_be_bytes();
        let mut out = vec![tag];
        match length {
            [0, short @ 0..128] => out.push(short),
            [0, _] => out.extend([0x81, length[1]]),
            _ => out.extend([0x82, length[0], length[1]]),
        }
        out.extend_from_slice(content);
        out
    }

    fn refusal(leaf: &CertificateDer<'_>) -> String {
        let error = check(leaf, &[]).expect_err("refused");
        format!("{error:?}")
    }

    #[test]
    fn rsa_keys_beyond_the_bounds_are_refused() {
        check(&with_rsa(&[0x80; 256], &[1, 0, 1]), &[]).expect("2048 bits");
        check(&with_rsa(&[0x80; 1024], &[1, 0, 1]), &[]).expect("8192 bits");
        let refused = refusal(&with_rsa(&[0x80; 2048], &[1, 0, 1]));
        assert!(refused.contains("Key(20"), "{refused}");
        let refused = refusal(&with_rsa(&[0x80; 256], &[0x80; 5]));
        assert!(refused.contains("RsaExponent(40)"), "{refused}");
    }

    #[test]
    fn many_or_long_certificates_are_refused() {
        let leaf = with_rsa(&[0x80; 256], &[1, 0, 1]);
        let chain = vec![leaf.clone(); MAX_INTERMEDIATES + 1];
        check(&leaf, &chain[1..]).expect("few");
        assert!(check(&leaf, &chain).is_err(), "many");
        let long = refusal(&with_rsa(&[0x80; 20_000], &[1, 0, 1]));
        assert!(long.contains("TooLong"), "{long}");
    }

    #[test]
    fn significant_bits_are_counted() {
        for (number, expected) in [(&[][..], 0), (&[0, 0], 0), (&[0, 1], 1), (&[1, 0, 1], 17)] {
            assert_eq!(bits(number), expected, "{number:?}");
        }
    }
}
