//! How the HTTP client finds the platform's addresses: as everything else here does.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::net::resolve;

/// The resolver of [`crate::net`]. The port is the client's business.
#[derive(Debug)]
pub(super) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = resolve::lookup(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Resolver;
    use reqwest::dns::Resolve as _;

    #[tokio::test]
    async fn client_uses_the_systems_resolver() {
        let name = "localhost".parse().expect("a name");
        let addresses = Resolver.resolve(name).await.expect("known everywhere");
        let addresses: Vec<_> = addresses.collect();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }
}
