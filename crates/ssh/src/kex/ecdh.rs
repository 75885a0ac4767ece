//! Exchanges on elliptic curves: X25519 (RFC 8731) and P-256 (RFC 5656).

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey, X25519};
use zeroize::Zeroizing;

use super::Error;

/// First byte of an uncompressed point (SEC 1 §2.3.3), the only form that is taken and sent.
const UNCOMPRESSED: u8 = 0x04;

/// A curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    X25519,
    P256,
}

impl Curve {
    fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::X25519 => &X25519,
            Self::P256 => &ECDH_P256,
        }
    }

    /// Bytes of a public value: a coordinate (RFC 7748 §5), or two of them behind [`UNCOMPRESSED`].
    pub(super) fn public_length(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::P256 => 65,
        }
    }

    /// Refuses what has not the one form of a public value. The library would take others too, so
    /// this comes first; that the point is on the curve is the library's to check.
    fn check_form(self, public: &[u8]) -> Result<(), Error> {
        let expected = self.public_length();
        if public.len() != expected {
            return Err(Error::WrongLength {
                expected,
                found: public.len(),
            });
        }
        match self {
            Self::P256 if public.first() != Some(&UNCOMPRESSED) => Err(Error::NotAPoint),
            Self::X25519 | Self::P256 => Ok(()),
        }
    }

    /// What is wrong with a value of the right form that the library refuses: on P-256 that it is
    /// no point (RFC 5656 §4), on X25519, where all values are, that the secret is all zeros (RFC
    /// 8731 §3).
    fn refusal(self) -> Error {
        match self {
            Self::X25519 => Error::NoSecret,
            Self::P256 => Error::NotAPoint,
        }
    }
}

/// One side's half.
pub(super) struct Half {
    curve: Curve,
    private: PrivateKey,
    public: agreement::PublicKey,
}

impl Half {
    pub(super) fn try_new(curve: Curve) -> Result<Self, Error> {
        let private = PrivateKey::generate(curve.algorithm())
            .map_err(|_| Error::Local("no private key for a curve"))?;
        Self::of(curve, private)
    }

    fn of(curve: Curve, private: PrivateKey) -> Result<Self, Error> {
        let public = private
            .compute_public_key()
            .map_err(|_| Error::Local("no public key for a curve"))?;
        Ok(Self {
            curve,
            private,
            public,
        })
    }

    pub(super) fn public(&self) -> &[u8] {
        self.public.as_ref()
    }

    /// The secret, a number in so many bytes as the curve's field has. X25519's 32 bytes are read
    /// as a number too, the first one being the most significant, although the curve itself is the
    /// other way round (RFC 8731 §3.1).
    pub(super) fn agree(&self, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.curve.check_form(peer)?;
        agreement::agree(
            &self.private,
            UnparsedPublicKey::new(self.curve.algorithm(), peer),
            self.curve.refusal(),
            |secret| Ok(Zeroizing::new(secret.to_vec())),
        )
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::agreement::PrivateKey;

    use super::{Curve, Half};
    use crate::kex::Error;
    use crate::kex::tests::hex;

    fn half(curve: Curve, private: &[u8]) -> Half {
        let private = PrivateKey::from_private_key(curve.algorithm(), private).unwrap();
        Half::of(curve, private).unwrap()
    }

    #[test]
    fn x25519_agrees_with_its_rfc() {
        // RFC 7748 §5.2, the iterated test: after one round and after a thousand.
        let mut private = hex("09000000000000000000000000000000\
                               00000000000000000000000000000000");
        let mut public = private.clone();
        for round in 1..=1000 {
            let secret = half(Curve::X25519, &private).agree(&public).unwrap();
            public = std::mem::replace(&mut private, secret.to_vec());
            if round == 1 {
                assert_eq!(
                    private,
                    hex("422c8e7a6227d7bca1350b3e2bb7279f\
                         7897b87bb6854b783c60e80311ae3079")
                );
            }
        }
        assert_eq!(
            private,
            hex("684cf59ba83309552800ef566f2f4d3c\
                 1c3887c49360e3875f2eb94d99532c51")
        );
    }

    #[test]
    fn p256_agrees_with_its_rfc() {
        // RFC 5903 §8.1: the initiator's private value and its public one, the responder's, the
        // secret.
        let initiator = half(
            Curve::P256,
            &hex("C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433"),
        );
        assert_eq!(
            initiator.public(),
            hex("04\
                 DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180\
                 5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3")
        );
        let responder = hex("04\
             D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63\
             56FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB");
        assert_eq!(
            *initiator.agree(&responder).unwrap(),
            hex("D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE")
        );
    }

    #[test]
    fn value_of_wrong_length_is_refused() {
        for curve in [Curve::X25519, Curve::P256] {
            let ours = Half::try_new(curve).unwrap();
            let theirs = Half::try_new(curve).unwrap();
            let mut longer = theirs.public().to_vec();
            longer.push(0);
            let expected = curve.public_length();
            for wrong in (0..expected)
                .map(|length| &theirs.public()[..length])
                .chain([&longer[..]])
            {
                let found = wrong.len();
                assert_eq!(
                    ours.agree(wrong),
                    Err(Error::WrongLength { expected, found }),
                    "{curve:?}"
                );
            }
        }
    }

    #[test]
    fn small_order_x25519_value_is_refused() {
        // The points whose order divides 8 (RFC 7748 §6.1 names the danger): 0, 1, p - 1, p, p + 1,
        // and the two of order 8.
        let ours = Half::try_new(Curve::X25519).unwrap();
        for point in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ] {
            assert_eq!(ours.agree(&hex(point)), Err(Error::NoSecret), "{point}");
        }
    }

    #[test]
    fn invalid_p256_point_is_refused() {
        let ours = Half::try_new(Curve::P256).unwrap();
        let theirs = Half::try_new(Curve::P256).unwrap();
        let point = theirs.public();
        let zero = [&[0x04][..], &[0; 64]].concat();
        let mut beside = point.to_vec();
        beside[64] ^= 1;
        let prime = hex("FFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF");
        let unreduced = [&[0x04][..], &prime, &point[33..]].concat();
        for wrong in [zero, beside, unreduced] {
            assert_eq!(ours.agree(&wrong), Err(Error::NotAPoint));
        }
        // The hybrid forms of SEC 1 §2.3.3, and forms that do not exist.
        for form in (0..=u8::MAX).filter(|form| *form != 0x04) {
            let other = [&[form], &point[1..]].concat();
            assert_eq!(ours.agree(&other), Err(Error::NotAPoint), "{form}");
        }
        let infinity = Error::WrongLength {
            expected: 65,
            found: 1,
        };
        assert_eq!(ours.agree(&[0]), Err(infinity));
        assert!(ours.agree(point).is_ok());
    }
}
