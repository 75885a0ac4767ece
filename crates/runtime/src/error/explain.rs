//! The one place where errors of libraries are put into words.
//!
//! Nothing here knows which object an error is about: the levels above name it.

use std::error::Error as StdError;
use std::io;

use super::{http, tls};

/// What one level of a chain of errors says to a person.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Nothing that the levels around it do not say better.
    Silent,
    /// This.
    Text(String),
    /// This, and the levels below have nothing to add.
    Last(String),
}

/// The error that an I/O error wraps, if it wraps one.
pub(super) fn unwrap<'a>(mut error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    while let Some(inner) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        error = inner;
    }
    error
}

/// The words for one level.
pub(super) fn level(error: &(dyn StdError + 'static)) -> Level {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Level::Last(tls::tls_error(error));
    }
    if let Some(error) = error.downcast_ref::<rustls_pki_types::pem::Error>() {
        return Level::Last(tls::pem_error(error));
    }
    if let Some(error) = error.downcast_ref::<rustls::client::VerifierBuilderError>() {
        return Level::Last(tls::verifier_error(error));
    }
    #[cfg(feature = "http")]
    if let Some(error) = error.downcast_ref::<reqwest::Error>() {
        return http::client(error);
    }
    #[cfg(feature = "http")]
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return http::connection(error);
    }
    // "client error (Connect)": the levels below say why.
    #[cfg(feature = "http")]
    if error.is::<hyper_util::client::legacy::Error>() {
        return Level::Silent;
    }
    if error.is::<tokio::time::error::Elapsed>() {
        return Level::Last("no answer in time".to_owned());
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return Level::Last(io_error(error));
    }
    let text = error.to_string();
    tls::handshake_text(&text)
        .or_else(|| http::connector_text(&text))
        .unwrap_or(Level::Text(text))
}

/// An error of the operating system, without its number; lower case, as every level.
fn io_error(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text
        .split_once(" (os error ")
        .map_or(text.as_str(), |(words, _)| words);
    let mut rest = text.chars();
    // "I/O error" and "RPC failed" begin with a word that stays as it is.
    match (rest.next(), rest.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(rest).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::chain;

    #[test]
    fn os_errors_have_no_number() {
        for (code, words) in [
            (111, "connection refused"),
            (32, "broken pipe"),
            (28, "no space left on device"),
            (13, "permission denied"),
            (104, "connection reset by peer"),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(chain(&error).to_string(), words);
        }
    }

    #[test]
    fn wrapped_errors_are_found() {
        let inner = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let error = io::Error::other(io::Error::other(inner));
        assert_eq!(chain(&error).to_string(), "this port does not speak TLS");
    }
}
