//! The identification line of each side (RFC 4253 §4.2). Pure.

use crate::Error;
use infisical_runtime::error::printable;

/// What we say, without line end.
pub(crate) const OURS: &str = "SSH-2.0-infisical";
/// Longest identification, line end included (RFC 4253 §4.2).
const MAX_LINE: usize = 255;
/// Bytes that a server may say before it identifies itself; a client says nothing.
const MAX_PREAMBLE: usize = 8 * 1024;

/// What the first bytes of the peer are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not complete yet.
    Incomplete,
    /// The identification without its line end, and how many bytes it and all before it took.
    Identified { version: String, consumed: usize },
}

/// Looks for the peer's identification. Lines before it are passed over if `may_have_preamble`.
pub(crate) fn parse(input: &[u8], may_have_preamble: bool) -> Result<Parsed, Error> {
    let mut consumed = 0_usize;
    loop {
        let rest = input.get(consumed..).unwrap_or_default();
        let looks_right = b"SSH-".starts_with(rest.get(..4).unwrap_or(rest));
        if !looks_right && !may_have_preamble {
            return Err(Error::Protocol("the peer does not speak SSH".to_owned()));
        }
        if consumed > MAX_PREAMBLE {
            return Err(Error::Protocol(
                "the peer says too much before it identifies itself".to_owned(),
            ));
        }
        let limit = if looks_right { MAX_LINE } else { MAX_PREAMBLE };
        let Some(end) = rest.iter().take(limit).position(|byte| *byte == b'\n') else {
            return if rest.len() >= limit {
                Err(Error::Protocol(
                    "the peer's first line does not end".to_owned(),
                ))
            } else {
                Ok(Parsed::Incomplete)
            };
        };
        let line = rest.get(..end).unwrap_or_default();
        consumed = consumed.saturating_add(end).saturating_add(1);
        if line.starts_with(b"SSH-") {
            return identify(line).map(|version| Parsed::Identified { version, consumed });
        }
    }
}

fn identify(line: &[u8]) -> Result<String, Error> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| Error::Protocol("the peer's identification is not text".to_owned()))?;
    // 1.99 is what a server that also speaks 1.x says (RFC 4253 §5.1).
    if text.starts_with("SSH-2.0-") || text.starts_with("SSH-1.99-") {
        Ok(text.to_owned())
    } else {
        Err(Error::Protocol(format!(
            "the peer speaks another version of SSH: {}",
            printable(text)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::{Parsed, parse};

    fn identified(version: &str, consumed: usize) -> Parsed {
        Parsed::Identified {
            version: version.to_owned(),
            consumed,
        }
    }

    #[test]
    fn version_is_found_with_either_line_end() {
        for (input, consumed) in [(&b"SSH-2.0-Go\r\nrest"[..], 12), (b"SSH-2.0-Go\nrest", 11)] {
            assert_eq!(
                parse(input, false).expect("parsed"),
                identified("SSH-2.0-Go", consumed)
            );
        }
        let old = parse(b"SSH-1.99-x y\r\n", false).expect("parsed");
        assert_eq!(old, identified("SSH-1.99-x y", 14));
    }

    #[test]
    fn only_servers_may_send_lines_before_it() {
        let input = b"hello\r\nthere\r\nSSH-2.0-x\r\n";
        assert!(parse(input, false).is_err());
        assert_eq!(
            parse(input, true).expect("parsed"),
            identified("SSH-2.0-x", input.len())
        );
        assert!(parse(&b"hello\n".repeat(2000), true).is_err());
        assert!(parse(&b"hello".repeat(2000), true).is_err());
    }

    #[test]
    fn incomplete_version_waits_wrong_one_is_refused() {
        let line = b"SSH-2.0-x\r\n";
        for end in 0..line.len() {
            assert_eq!(
                parse(&line[..end], false).expect("so far"),
                Parsed::Incomplete
            );
        }
        for wrong in [
            &b"GET / HTTP/1.1"[..],
            b"SSH-1.5-x\n",
            b"SSH-2.0-\xff\n",
            b"\x16\x03\x01",
        ] {
            assert!(parse(wrong, false).is_err(), "{wrong:?}");
        }
        assert!(parse(&[&b"SSH-2.0-"[..], &[b'x'; 300]].concat(), false).is_err());
    }
}
