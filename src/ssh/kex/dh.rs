//! Diffie-Hellman in the groups of RFC 3526, as RFC 8268 names them. Their primes are safe and their
//! generator is 2, so that only 1 and p - 1 are in a small subgroup.

use aws_lc_rs::rand;
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd, Resize as _};
use zeroize::Zeroizing;

use super::Error;
use super::primes::{GROUP_14, GROUP_16, GROUP_18};
use crate::ssh::wire::{Write as _, magnitude};

/// The generator of every group here (RFC 3526).
const GENERATOR: u8 = 2;
/// Bytes of the length in front of an `mpint`.
const LENGTH: usize = 4;

/// A group, by the bits of its prime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Modp2048,
    Modp4096,
    Modp8192,
}

impl Group {
    fn prime(self) -> Odd<BoxedUint> {
        match self {
            Self::Modp2048 => (&GROUP_14).into(),
            Self::Modp4096 => (&GROUP_16).into(),
            Self::Modp8192 => (&GROUP_18).into(),
        }
    }

    fn bits(self) -> u32 {
        match self {
            Self::Modp2048 => 2048,
            Self::Modp4096 => 4096,
            Self::Modp8192 => 8192,
        }
    }

    /// Bytes of a private exponent. It need not be longer than twice the strength of the group (SP 800-56A
    /// rev. 3 §5.6.1.1.1; its appendix D gives strengths of 112, 152 and 200 bits), and a longer one costs
    /// time for nothing.
    fn exponent_length(self) -> usize {
        match self {
            Self::Modp2048 => 32,
            Self::Modp4096 => 48,
            Self::Modp8192 => 64,
        }
    }

    /// Reads a peer's public value. RFC 4253 §8 refuses what is outside [1, p - 1]; 1 and p - 1 themselves
    /// are refused as well, since with them the secret is one of two numbers that everybody knows.
    pub(super) fn peer(self, body: &[u8]) -> Result<BoxedUint, Error> {
        let digits = magnitude(body).map_err(|_| Error::NotANumber)?;
        let value = BoxedUint::from_be_slice(digits, self.bits()).map_err(|_| Error::OutOfRange)?;
        self.contains(&value)
            .then_some(value)
            .ok_or(Error::OutOfRange)
    }

    fn contains(self, value: &BoxedUint) -> bool {
        let one = BoxedUint::one_with_precision(self.bits());
        let most = self.prime().get().wrapping_sub(&one);
        *value > one && *value < most
    }

    /// `base` to the power of `exponent`, in a time that depends on the length of the exponent only. The
    /// library does not wipe what it needs on the way.
    fn power(self, base: &BoxedUint, exponent: &BoxedUint) -> Zeroizing<BoxedUint> {
        let parameters = BoxedMontyParams::new_vartime(self.prime());
        let base = BoxedMontyForm::new(base.clone(), &parameters);
        let power = Zeroizing::new(base.pow(exponent));
        Zeroizing::new(power.retrieve())
    }
}

/// One side's half.
pub(super) struct Half {
    group: Group,
    exponent: Zeroizing<BoxedUint>,
    public: Vec<u8>,
}

impl Half {
    pub(super) fn try_new(group: Group) -> Result<Self, Error> {
        let mut random = Zeroizing::new(vec![0; group.exponent_length()]);
        rand::fill(&mut random).map_err(|_| Error::Local("no random numbers"))?;
        Self::of(group, &random)
    }

    fn of(group: Group, exponent: &[u8]) -> Result<Self, Error> {
        // The precision is a matter of the group alone: it decides how long a power takes.
        let bits = u32::try_from(group.exponent_length() * 8)
            .map_err(|_| Error::Local("an exponent is too long"))?;
        let exponent = BoxedUint::from_be_slice(exponent, bits)
            .map(Zeroizing::new)
            .map_err(|_| Error::Local("an exponent is too long"))?;
        let generator = BoxedUint::from(GENERATOR).resize(group.bits());
        let public = group.power(&generator, &exponent);
        if !group.contains(&public) {
            return Err(Error::Local("an exponent of no use"));
        }
        let mut field = Vec::new();
        field.put_mpint(&public.to_be_bytes());
        Ok(Self {
            group,
            exponent,
            public: field.split_off(LENGTH),
        })
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// The secret, a number in as many bytes as the prime has.
    pub(super) fn agree(&self, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.raise(&self.group.peer(peer)?)
    }

    /// The same, from a public value that [`Group::peer`] has read.
    pub(super) fn raise(&self, peer: &BoxedUint) -> Result<Zeroizing<Vec<u8>>, Error> {
        let secret = self.group.power(peer, &self.exponent);
        if *secret <= BoxedUint::one() {
            return Err(Error::NoSecret);
        }
        Ok(Zeroizing::new(secret.to_be_bytes().into_vec()))
    }
}

#[cfg(test)]
mod tests {
    use crypto_bigint::{BoxedUint, Resize as _};

    use super::{Group, Half};
    use crate::ssh::kex::Error;
    use crate::ssh::kex::tests::{hex, sha256};
    use crate::ssh::wire::{Reader, Write as _};

    const GROUPS: [Group; 3] = [Group::Modp2048, Group::Modp4096, Group::Modp8192];

    fn field(number: &BoxedUint) -> Vec<u8> {
        let mut message = Vec::new();
        message.put_mpint(&number.to_be_bytes());
        Reader::new(&message).string().unwrap().to_vec()
    }

    #[test]
    fn two_is_a_square_modulo_every_prime() {
        // So 2^((p - 1) / 2) is 1 (Euler): were one digit of a prime wrong, it would not be.
        for group in GROUPS {
            let half = group.prime().get().shr(1);
            let two = BoxedUint::from(2_u8).resize(group.bits());
            assert_eq!(*group.power(&two, &half), BoxedUint::one(), "{group:?}");
        }
    }

    #[test]
    fn the_groups_agree_with_numbers_made_elsewhere() {
        // Hashes of both public values and of the secret, for private values of bytes 0x11 and 0xee.
        for (group, client_public, server_public, shared) in [
            (
                Group::Modp2048,
                "c85a0f6b26cfb262a8720babf5077ba1b65f08d6e6eee34dbcc6ff9e0a72e4f0",
                "6affb24b41ec52906c85de1a2aa7d4b83cdcc565838850feef5b527763b75efb",
                "87827acbe6e3713e57a036e9c9c2b66d51de16ddbfb23626b8132266894fe1c8",
            ),
            (
                Group::Modp4096,
                "17b57f0c6eb3f7bee12265404bdc76f9555d495d5d578beb332a193f77166da5",
                "ac086637dc2433050afe7c4ba53abf97aff47a3e48dadc8d92bfc1af0b41712d",
                "839de13a971c1d79aaeff221277d8ca24b30c21be5166faed8d1300f5f4cd482",
            ),
            (
                Group::Modp8192,
                "7e4f7aacba9a610ade1fb7bd040456995cddd4c63c5787a8f9ac29fc3862b26e",
                "8bf16979062b355efd2cd3cd930f116d4972998de51f129a080785e8bea08a0d",
                "77d045d968ca6c605e923763f4763c98f7300797235aedc70c1c8736196064d9",
            ),
        ] {
            let length = group.exponent_length();
            let client = Half::of(group, &vec![0x11; length]).unwrap();
            let server = Half::of(group, &vec![0xee; length]).unwrap();
            assert_eq!(sha256(client.public()), hex(client_public), "{group:?}");
            assert_eq!(sha256(server.public()), hex(server_public), "{group:?}");
            for secret in [client.agree(server.public()), server.agree(client.public())] {
                assert_eq!(sha256(&secret.unwrap()), hex(shared), "{group:?}");
            }
        }
    }

    #[test]
    fn a_value_at_the_edge_of_the_group_or_beyond_is_refused() {
        for group in GROUPS {
            let prime = group.prime().get();
            let one = BoxedUint::one_with_precision(group.bits());
            let two = one.wrapping_add(&one);
            let less_one = prime.wrapping_sub(&one);
            let less_two = prime.wrapping_sub(&two);
            for good in [&two, &less_two] {
                assert_eq!(group.peer(&field(good)).as_ref(), Ok(good), "{group:?}");
            }
            for bad in [&one, &less_one, &prime, &prime.wrapping_add(&one)] {
                assert_eq!(group.peer(&field(bad)), Err(Error::OutOfRange), "{group:?}");
            }
            // Zero is the empty number; the last two have more digits than the prime.
            let length = group.prime().to_be_bytes().len();
            for bad in [vec![], vec![0x01; length + 1], vec![0x7f; 32 * 1024]] {
                assert_eq!(group.peer(&bad), Err(Error::OutOfRange), "{group:?}");
            }
        }
    }

    #[test]
    fn a_number_in_another_than_its_only_form_is_refused() {
        for group in GROUPS {
            for bad in [&[0][..], &[0, 2], &[0x80], &[0xff; 100], &[0, 0, 0x80]] {
                assert_eq!(group.peer(bad), Err(Error::NotANumber), "{group:?}");
            }
        }
    }

    #[test]
    fn an_exponent_of_no_use_is_not_used() {
        for group in GROUPS {
            let zero = vec![0; group.exponent_length()];
            let error = Half::of(group, &zero).err();
            assert!(matches!(error, Some(Error::Local(_))), "{group:?}");
        }
    }

    #[test]
    fn a_secret_that_is_one_is_refused() {
        // It cannot come of a value that was checked, so the check is skipped here.
        let one = BoxedUint::one_with_precision(2048);
        let half = Half::try_new(Group::Modp2048).unwrap();
        assert_eq!(half.raise(&one), Err(Error::NoSecret));
    }
}
