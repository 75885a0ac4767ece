//! The first line of an `infisical-http-proxy` connection: how TLS to the target is verified
//! (protocol.md §5).
//!
//! White-space separated words up to the first `\n`: `ca=` with base64 of PEM certificates, and
//! `verify=true` or `verify=false`. Any other word is ignored, and so is an empty line. The last of
//! several equal words counts. Bytes after the line stay in the reader: they are HTTP.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use super::trust::Roots;
use crate::pki;

/// Longest line, its end included: a bundle of a dozen certificates fits.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// What the line says.
#[derive(Debug, Default)]
pub struct ConfigLine {
    /// The only roots that may vouch for an https target; the system's where absent.
    pub roots: Option<Roots>,
    /// Whether an https target's certificate is verified. Absent means no, as deployed.
    pub verify: bool,
}

/// Why the line cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("the connection ended before the end of the configuration line")]
    Unfinished,
    /// More than [`MAX_LINE`] bytes without a line end.
    #[error("the configuration line is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("no configuration line within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("the connection failed before the end of the configuration line")]
    Io(#[source] io::Error),
    #[error("the word ca= of the configuration line is not base64")]
    CaEncoding(#[source] base64::DecodeError),
    #[error("the word ca= of the configuration line is not usable")]
    Ca(#[source] pki::Error),
    #[error("the word verify= of the configuration line must be true or false, not {0:?}")]
    Verify(String),
}

/// Reads the line within `deadline` and nothing beyond it.
///
/// # Errors
/// See [`Error`].
pub(crate) async fn read<R>(reader: &mut R, deadline: Duration) -> Result<ConfigLine, Error>
where
    R: AsyncBufRead + Unpin,
{
    let mut line = Vec::new();
    let mut bounded = reader.take(MAX_LINE as u64);
    tokio::time::timeout(deadline, bounded.read_until(b'\n', &mut line))
        .await
        .map_err(|_| Error::TimedOut(deadline))?
        .map_err(Error::Io)?;
    match line.last() {
        Some(b'\n') => parse(&line),
        _ if line.len() >= MAX_LINE => Err(Error::TooLong),
        _ => Err(Error::Unfinished),
    }
}

/// Reads the words of a line; its end may be there or not.
///
/// # Errors
/// A word that is known, with a value that is not.
pub(crate) fn parse(line: &[u8]) -> Result<ConfigLine, Error> {
    let mut config = ConfigLine::default();
    for word in line.split(u8::is_ascii_whitespace) {
        if let Some(value) = word.strip_prefix(b"ca=") {
            config.roots = parse_ca(value)?;
        } else if let Some(value) = word.strip_prefix(b"verify=") {
            config.verify = match value {
                b"true" => true,
                b"false" => false,
                _ => return Err(Error::Verify(excerpt(value))),
            };
        }
    }
    Ok(config)
}

/// An empty value means no CA, as deployed.
fn parse_ca(value: &[u8]) -> Result<Option<Roots>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    let pem = STANDARD.decode(value).map_err(Error::CaEncoding)?;
    Roots::parse("ca", &pem).map(Some).map_err(Error::Ca)
}

/// As much of a foreign value as an error may repeat.
fn excerpt(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::{ConfigLine, Error, MAX_LINE, STANDARD, parse, read};
    use crate::error::chain;
    use base64::Engine as _;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};

    const DEADLINE: Duration = Duration::from_secs(10);

    fn ca() -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::default();
        STANDARD.encode(params.self_signed(&key).expect("a certificate").pem())
    }

    /// What a test compares: whether there are roots, and whether they count.
    fn outcome(result: Result<ConfigLine, Error>) -> Result<(bool, bool), String> {
        result
            .map(|line| (line.roots.is_some(), line.verify))
            .map_err(|error| chain(&error).to_string())
    }

    #[test]
    fn last_word_of_its_kind_counts() {
        let ca = ca();
        let twice = STANDARD.encode(STANDARD.decode(&ca).expect("PEM").repeat(2));
        let commented = STANDARD.encode(
            [
                b"caf\xe9\n",
                STANDARD.decode(&ca).expect("PEM").as_slice(),
                b"\n#",
            ]
            .concat(),
        );
        for (line, roots, verify) in [
            (String::new(), false, false),
            ("\n".to_owned(), false, false),
            (" \t\r\n".to_owned(), false, false),
            ("CONFIG\n".to_owned(), false, false),
            ("CONFIG verify=true\r\n".to_owned(), false, true),
            ("verify=true verify=false".to_owned(), false, false),
            ("verify=false CONFIG verify=true".to_owned(), false, true),
            (
                "VERIFY=true Verify=x CA=x xca=y =z ca verify".to_owned(),
                false,
                false,
            ),
            (format!("CONFIG ca={ca} verify=true\n"), true, true),
            (format!("verify=false\tca={ca}\n"), true, false),
            (format!("ca={twice}"), true, false),
            (format!("ca={commented}"), true, false),
            ("ca=\n".to_owned(), false, false),
            (format!("ca={ca} ca= verify=true"), false, true),
        ] {
            assert_eq!(
                outcome(parse(line.as_bytes())),
                Ok((roots, verify)),
                "{line}"
            );
        }
        assert_eq!(
            outcome(parse(b"\xff\xfe verify=true \x00")),
            Ok((false, true))
        );
    }

    #[test]
    fn bad_value_is_named_and_shortened() {
        let no_certificate = STANDARD.encode("-----BEGIN CERTIFICATE-----\nAAAA\n-----END");
        let key = STANDARD.encode("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        for (line, word) in [
            ("verify=".to_owned(), "verify="),
            ("verify=True".to_owned(), "verify="),
            ("verify=1".to_owned(), "verify="),
            ("verify=true,".to_owned(), "verify="),
            (format!("verify={}", "long".repeat(1000)), "verify="),
            ("ca=not-base64".to_owned(), "ca="),
            ("ca=QQ".to_owned(), "ca="),
            ("ca=AAAA".to_owned(), "ca="),
            (format!("ca={no_certificate} verify=true"), "ca="),
            (format!("ca={key}"), "ca="),
            (
                format!("ca={}", STANDARD.encode("-----BEGIN ".repeat(4000))),
                "ca=",
            ),
        ] {
            let error = outcome(parse(line.as_bytes())).expect_err(&line);
            assert!(error.contains(&format!("the word {word}")), "{error}");
            assert!(error.len() < 400, "{} bytes: {error}", error.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn line_has_maximum_length_and_deadline() {
        let longest = "x".repeat(MAX_LINE - 1) + "\nrest";
        let mut reader = longest.as_bytes();
        read(&mut reader, DEADLINE).await.expect("just right");
        assert_eq!(reader, b"rest");
        let mut longer = &*vec![b'x'; MAX_LINE + 1];
        let error = read(&mut longer, DEADLINE).await.expect_err("too long");
        assert!(matches!(error, Error::TooLong));
        let error = read(&mut &b"CONFIG"[..], DEADLINE)
            .await
            .expect_err("no end");
        assert!(matches!(error, Error::Unfinished));
        let (_held, silent) = tokio::io::duplex(16);
        let error = read(&mut BufReader::new(silent), DEADLINE).await;
        assert!(matches!(error, Err(Error::TimedOut(DEADLINE))));
    }

    /// A reproducible source of chance (the increments of the golden ratio, mixed).
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 27)
        }

        fn below(&mut self, end: usize) -> usize {
            usize::try_from(self.next() % end as u64).expect("it fits")
        }

        fn byte(&mut self) -> u8 {
            self.next().to_le_bytes()[3]
        }
    }

    /// Some fixed seeds, and one that is new in each run: a failure prints it.
    fn seeds() -> impl Iterator<Item = u64> {
        (0..4)
            .chain([crate::backoff::random()])
            .inspect(|seed| println!("seed {seed}"))
    }

    /// One word, sensible or not, without white space.
    fn word(chance: &mut Chance, ca: &str) -> Vec<u8> {
        let mut word = match chance.below(8) {
            0 => b"CONFIG".to_vec(),
            1 => b"verify=true".to_vec(),
            2 => b"verify=false".to_vec(),
            3 => b"verify=".to_vec(),
            4 => format!("ca={ca}").into_bytes(),
            5 => format!("ca={}", &ca[..chance.below(ca.len())]).into_bytes(),
            6 => {
                // Another content in sound base64.
                let mut pem = STANDARD.decode(ca).expect("PEM");
                for _ in 0..=chance.below(4) {
                    let at = chance.below(pem.len());
                    pem[at] = chance.byte();
                }
                format!("ca={}", STANDARD.encode(pem)).into_bytes()
            }
            _ => (0..chance.below(20)).map(|_| chance.byte()).collect(),
        };
        if chance.below(4) == 0 && !word.is_empty() {
            let at = chance.below(word.len());
            word[at] ^= 1 << chance.below(8);
        }
        word.retain(|byte| !byte.is_ascii_whitespace());
        word
    }

    #[test]
    fn arbitrary_lines_are_judged_per_word() {
        let ca = ca();
        for seed in seeds() {
            let mut chance = Chance(seed);
            for _ in 0..400 {
                let words: Vec<Vec<u8>> = (0..chance.below(5))
                    .map(|_| word(&mut chance, &ca))
                    .collect();
                let got = outcome(parse(&words.join(&b' ')));
                // Each word means the same alone; the first bad one decides, else the last of its
                // kind.
                let mut expected = Ok((false, false));
                for word in &words {
                    match (outcome(parse(word)), &mut expected) {
                        (Err(error), _) => {
                            expected = Err(error);
                            break;
                        }
                        (Ok((roots, _)), Ok(so_far)) if word.starts_with(b"ca=") => {
                            so_far.0 = roots;
                        }
                        (Ok((_, verify)), Ok(so_far)) if word.starts_with(b"verify=") => {
                            so_far.1 = verify;
                        }
                        (Ok(_), _) => {}
                    }
                }
                assert_eq!(
                    got,
                    expected,
                    "seed {seed}: {}",
                    words.join(&b' ').escape_ascii()
                );
                if let Err(error) = got {
                    assert!(error.contains("the word "), "seed {seed}: {error}");
                    assert!(error.len() < 400, "seed {seed}: {} bytes", error.len());
                    assert!(!error.contains(char::is_control), "seed {seed}: {error:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn bytes_after_the_line_are_kept() {
        let ca = ca();
        for seed in seeds() {
            let mut chance = Chance(seed);
            for _ in 0..50 {
                let mut line = Vec::new();
                for _ in 0..chance.below(4) {
                    line.extend(word(&mut chance, &ca));
                    line.push(b' ');
                }
                let rest: Vec<u8> = (0..chance.below(300)).map(|_| chance.byte()).collect();
                let sent = [&line[..], b"\n", &rest].concat();
                let (mut writer, reader) = tokio::io::duplex(1 + chance.below(100));
                let mut reader = BufReader::with_capacity(1 + chance.below(100), reader);
                let writing = async {
                    let mut left = &sent[..];
                    while !left.is_empty() {
                        let (now, later) = left.split_at(1 + chance.below(left.len()));
                        writer.write_all(now).await.expect("write");
                        left = later;
                    }
                    writer.shutdown().await.expect("half-close");
                };
                let reading = async {
                    let got = outcome(read(&mut reader, DEADLINE).await);
                    let mut after = Vec::new();
                    reader.read_to_end(&mut after).await.expect("the rest");
                    (got, after)
                };
                let ((), (got, after)) = tokio::join!(writing, reading);
                assert_eq!(got, outcome(parse(&line)), "seed {seed}");
                assert!(after == rest, "seed {seed}: what follows the line differs");
            }
        }
    }

    #[test]
    fn any_bytes_at_all_never_panic() {
        for seed in seeds() {
            let mut chance = Chance(seed);
            for _ in 0..2000 {
                let line: Vec<u8> = (0..chance.below(200)).map(|_| chance.byte()).collect();
                let _ = parse(&line);
                let _ = parse(&[b"ca=", &line[..]].concat());
                let _ = parse(format!("ca={}", STANDARD.encode(&line)).as_bytes());
                let _ = parse(&[b"verify=", &line[..]].concat());
            }
        }
    }
}
