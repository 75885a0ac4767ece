//! The way of a request out of this machine: through the proxy that the settings name, or directly.

use reqwest::{ClientBuilder, Proxy};
use url::Url;

use crate::config::proxy::{Proxies, Way};

/// Lets `builder` make clients that take the way of `proxies` to `target`. Also gives the proxy on
/// that way, for errors.
///
/// # Errors
/// The library refuses the proxy's address.
pub(super) fn route(
    builder: ClientBuilder,
    proxies: &Proxies,
    target: &Url,
) -> Result<(ClientBuilder, Option<String>), reqwest::Error> {
    // Otherwise the library reads the environment by rules of its own.
    let builder = builder.no_proxy();
    match proxies.way(target) {
        Way::Proxy(proxy) => {
            let through = Proxy::all(proxy.url().clone())?;
            Ok((builder.proxy(through), Some(proxy.to_string())))
        }
        Way::Direct | Way::Loopback | Way::Bypassed => Ok((builder, None)),
    }
}
