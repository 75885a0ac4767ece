//! Diffie-Hellman in the 2048-bit group of RFC 3526, as RFC 8268 names it: the only finite-field
//! group that is spoken here, for deployed gateways, all of which have it. Its prime is safe and
//! its generator is 2, so that only 1 and p - 1 are in a small subgroup.

use std::sync::LazyLock;

use aws_lc_rs::rand;
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Resize as _};
use zeroize::Zeroizing;

use super::Error;
use super::primes::GROUP_14;
use crate::wire::{Write as _, magnitude};

/// The generator (RFC 3526).
const GENERATOR: u8 = 2;
/// Bits of the prime.
const BITS: u32 = 2048;
/// Bytes of a private exponent. It need not be longer than twice the strength of the group (SP
/// 800-56A rev. 3 §5.6.1.1.1; its appendix D gives a strength of 112 bits), and a longer one costs
/// time for nothing.
const EXPONENT_LENGTH: usize = 32;
/// Bytes of the length in front of an `mpint`.
const LENGTH: usize = 4;

/// The prime, made ready once.
static PRIME: LazyLock<BoxedMontyParams> =
    LazyLock::new(|| BoxedMontyParams::new_vartime((&GROUP_14).into()));

/// Reads a peer's public value. RFC 4253 §8 refuses what is outside [1, p - 1]; 1 and p - 1
/// themselves are refused as well, since with them the secret is one of two numbers that everyone
/// knows.
pub(super) fn peer(body: &[u8]) -> Result<BoxedUint, Error> {
    let digits = magnitude(body).map_err(|_| Error::NotANumber)?;
    let value = BoxedUint::from_be_slice(digits, BITS).map_err(|_| Error::OutOfRange)?;
    contains(&value).then_some(value).ok_or(Error::OutOfRange)
}

fn contains(value: &BoxedUint) -> bool {
    let one = BoxedUint::one_with_precision(BITS);
    let most = PRIME.modulus().as_ref().wrapping_sub(&one);
    *value > one && *value < most
}

/// `base` to the power of `exponent`, in a time that depends on the length of the exponent only.
/// The library does not wipe what it needs on the way.
fn power(base: &BoxedUint, exponent: &BoxedUint) -> Zeroizing<BoxedUint> {
    let base = BoxedMontyForm::new(base.clone(), &PRIME);
    let power = Zeroizing::new(base.pow(exponent));
    Zeroizing::new(power.retrieve())
}

/// One side's half.
pub(super) struct Half {
    exponent: Zeroizing<BoxedUint>,
    public: Vec<u8>,
}

impl Half {
    pub(super) fn try_new() -> Result<Self, Error> {
        let mut random = Zeroizing::new([0; EXPONENT_LENGTH]);
        rand::fill(&mut *random).map_err(|_| Error::Local("no random numbers"))?;
        Self::of(&*random)
    }

    fn of(exponent: &[u8]) -> Result<Self, Error> {
        // The precision is always the same: it decides how long a power takes.
        let bits = u32::try_from(EXPONENT_LENGTH * 8)
            .map_err(|_| Error::Local("an exponent is too long"))?;
        let exponent = BoxedUint::from_be_slice(exponent, bits)
            .map(Zeroizing::new)
            .map_err(|_| Error::Local("an exponent is too long"))?;
        let generator = BoxedUint::from(GENERATOR).resize(BITS);
        let public = power(&generator, &exponent);
        if !contains(&public) {
            return Err(Error::Local("an exponent of no use"));
        }
        let mut field = Vec::new();
        field.put_mpint(&public.to_be_bytes());
        Ok(Self {
            exponent,
            public: field.split_off(LENGTH),
        })
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// The secret, a number in as many bytes as the prime has.
    pub(super) fn agree(&self, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.raise(&peer(body)?)
    }

    /// The same, from a public value that [`peer`] has read.
    pub(super) fn raise(&self, peer: &BoxedUint) -> Result<Zeroizing<Vec<u8>>, Error> {
        let secret = power(peer, &self.exponent);
        if *secret <= BoxedUint::one() {
            return Err(Error::NoSecret);
        }
        Ok(Zeroizing::new(secret.to_be_bytes().into_vec()))
    }
}

#[cfg(test)]
mod tests {
    use crypto_bigint::{BoxedUint, Resize as _};

    use super::{BITS, EXPONENT_LENGTH, Half, PRIME, peer, power};
    use crate::kex::Error;
    use crate::kex::tests::{hex, sha256};
    use crate::wire::{Reader, Write as _};

    fn field(number: &BoxedUint) -> Vec<u8> {
        let mut message = Vec::new();
        message.put_mpint(&number.to_be_bytes());
        Reader::new(&message).string().unwrap().to_vec()
    }

    #[test]
    fn two_is_a_square_modulo_the_prime() {
        // So 2^((p - 1) / 2) is 1 (Euler): were one digit of the prime wrong, it would not be.
        let half = PRIME.modulus().as_ref().shr(1);
        let two = BoxedUint::from(2_u8).resize(BITS);
        assert_eq!(*power(&two, &half), BoxedUint::one());
    }

    #[test]
    fn both_sides_agree_with_numbers_made_elsewhere() {
        // Hashes of both public values and of the secret, for private values of bytes 0x11 and
        // 0xee.
        let client = Half::of(&[0x11; EXPONENT_LENGTH]).unwrap();
        let server = Half::of(&[0xee; EXPONENT_LENGTH]).unwrap();
        assert_eq!(
            sha256(client.public()),
            hex("c85a0f6b26cfb262a8720babf5077ba1b65f08d6e6eee34dbcc6ff9e0a72e4f0")
        );
        assert_eq!(
            sha256(server.public()),
            hex("6affb24b41ec52906c85de1a2aa7d4b83cdcc565838850feef5b527763b75efb")
        );
        for secret in [client.agree(server.public()), server.agree(client.public())] {
            assert_eq!(
                sha256(&secret.unwrap()),
                hex("87827acbe6e3713e57a036e9c9c2b66d51de16ddbfb23626b8132266894fe1c8")
            );
        }
    }

    #[test]
    fn value_outside_the_group_is_refused() {
        let prime = PRIME.modulus().as_ref().clone();
        let one = BoxedUint::one_with_precision(BITS);
        let two = one.wrapping_add(&one);
        let less_one = prime.wrapping_sub(&one);
        let less_two = prime.wrapping_sub(&two);
        for good in [&two, &less_two] {
            assert_eq!(peer(&field(good)).as_ref(), Ok(good));
        }
        for bad in [&one, &less_one, &prime, &prime.wrapping_add(&one)] {
            assert_eq!(peer(&field(bad)), Err(Error::OutOfRange));
        }
        // Zero is the empty number; the last two have more digits than the prime.
        let length = prime.to_be_bytes().len();
        for bad in [vec![], vec![0x01; length + 1], vec![0x7f; 32 * 1024]] {
            assert_eq!(peer(&bad), Err(Error::OutOfRange));
        }
    }

    #[test]
    fn number_in_another_form_is_refused() {
        for bad in [&[0][..], &[0, 2], &[0x80], &[0xff; 100], &[0, 0, 0x80]] {
            assert_eq!(peer(bad), Err(Error::NotANumber));
        }
    }

    #[test]
    fn useless_exponent_is_not_used() {
        let error = Half::of(&[0; EXPONENT_LENGTH]).err();
        assert!(matches!(error, Some(Error::Local(_))));
    }

    #[test]
    fn a_secret_that_is_one_is_refused() {
        // It cannot come of a value that was checked, so the check is skipped here.
        let one = BoxedUint::one_with_precision(BITS);
        let half = Half::try_new().unwrap();
        assert_eq!(half.raise(&one), Err(Error::NoSecret));
    }
}
