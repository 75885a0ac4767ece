//! The data types of SSH (RFC 4251 §5): read without leaving the message, written without surprise.
//! Pure.

/// The message ends early, goes on too long, or holds what its type forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed message")]
pub(super) struct Malformed;

/// What of a message is still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// So many bytes, as they are.
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(first)
    }

    /// Any value but 0 is true.
    pub(super) fn bool(&mut self) -> Result<bool, Malformed> {
        self.u8().map(|byte| byte != 0)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*taken))
    }

    /// A `string`: arbitrary bytes.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        self.bytes(length)
    }

    /// A `string` that must be UTF-8.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.string()?).map_err(|_| Malformed)
    }

    /// A `name-list`: ASCII, names separated by commas, none empty.
    pub(super) fn name_list(&mut self) -> Result<&'a str, Malformed> {
        let list = self.text()?;
        let is_well_formed = list.is_empty() || list.split(',').all(is_name);
        is_well_formed.then_some(list).ok_or(Malformed)
    }

    /// A non-negative `mpint`: its magnitude, big-endian and without leading zeros.
    pub(super) fn mpint(&mut self) -> Result<&'a [u8], Malformed> {
        magnitude(self.string()?)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left over.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        self.rest.is_empty().then_some(()).ok_or(Malformed)
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The magnitude of an `mpint`'s body; negative numbers and needless leading zeros are refused.
pub(super) fn magnitude(body: &[u8]) -> Result<&[u8], Malformed> {
    match body {
        [] => Ok(body),
        [0, rest @ ..] => match rest.first() {
            Some(first) if *first >= 0x80 => Ok(rest),
            _ => Err(Malformed),
        },
        [first, ..] if *first >= 0x80 => Err(Malformed),
        _ => Ok(body),
    }
}

/// Appends the data types to a message.
pub(super) trait Write {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    fn put_bool(&mut self, value: bool) {
        self.put(&[u8::from(value)]);
    }

    fn put_u32(&mut self, number: u32) {
        self.put(&number.to_be_bytes());
    }

    /// Nothing longer than a `u32` can say is ever written here: messages are bounded far below.
    fn put_string(&mut self, bytes: impl AsRef<[u8]>)
    where
        Self: Sized,
    {
        let bytes = bytes.as_ref();
        self.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.put(bytes);
    }

    /// A non-negative number from its big-endian magnitude, leading zeros or not.
    fn put_mpint(&mut self, magnitude: &[u8]) {
        let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
        let digits = magnitude.get(zeros..).unwrap_or_default();
        let sign = digits.first().is_some_and(|first| *first >= 0x80);
        let length = digits.len() + usize::from(sign);
        self.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        if sign {
            self.put(&[0]);
        }
        self.put(digits);
    }
}

impl Write for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{Malformed, Reader, Write as _};

    #[test]
    fn what_is_written_is_read() {
        let mut message = Vec::new();
        message.put_u8(7);
        message.put_bool(true);
        message.put_u32(0x0102_0304);
        message.put_string("text");
        message.put_string("one,two");
        message.put_mpint(&[0, 0, 0x80, 1]);
        message.put_mpint(&[]);
        message.put(b"rest");
        let mut reader = Reader::new(&message);
        assert_eq!(reader.u8(), Ok(7));
        assert_eq!(reader.bool(), Ok(true));
        assert_eq!(reader.u32(), Ok(0x0102_0304));
        assert_eq!(reader.text(), Ok("text"));
        assert_eq!(reader.name_list(), Ok("one,two"));
        assert_eq!(reader.mpint(), Ok(&[0x80, 1][..]));
        assert_eq!(reader.mpint(), Ok(&[][..]));
        assert_eq!(reader.finish(), Err(Malformed));
        assert_eq!(reader.rest(), b"rest");
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn truncated_input_is_malformed() {
        let mut message = Vec::new();
        message.put_string("text");
        for end in 0..message.len() {
            assert_eq!(Reader::new(&message[..end]).string(), Err(Malformed));
        }
        assert_eq!(
            Reader::new(&u32::MAX.to_be_bytes()).string(),
            Err(Malformed)
        );
    }

    #[test]
    fn numbers_have_one_form_only() {
        // RFC 4251 §5: its examples, then what it forbids.
        for (wire, magnitude) in [
            (&[0, 0, 0, 2, 0, 0x80][..], &[0x80][..]),
            (&[0, 0, 0, 1, 0x79], &[0x79]),
        ] {
            assert_eq!(Reader::new(wire).mpint(), Ok(magnitude));
        }
        for wire in [
            &[0, 0, 0, 1, 0][..],
            &[0, 0, 0, 2, 0, 0x79],
            &[0, 0, 0, 1, 0x80],
        ] {
            assert_eq!(Reader::new(wire).mpint(), Err(Malformed));
        }
    }

    #[test]
    fn name_list_rejects_empty_and_control_characters() {
        for list in ["a,,b", ",", "a,", "a b", "a\n"] {
            let mut message = Vec::new();
            message.put_string(list);
            assert_eq!(
                Reader::new(&message).name_list(),
                Err(Malformed),
                "{list:?}"
            );
        }
    }
}
