//! Finding a host's addresses, and handing on only those that may be connected to.
//!
//! The check is made on the very addresses that the connector gets. A check before the call would ask the DNS a second
//! time, and whoever answers it could answer differently.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use tracing::debug;

use super::address;

/// Asks for a host's addresses. A port of 0 stands for the URL's.
#[async_trait]
pub(super) trait LookUp: Send + Sync {
    async fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
pub(super) struct SystemLookUp;

#[async_trait]
impl LookUp for SystemLookUp {
    async fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.collect())
    }
}

/// Every address that was found is one at which no provider is. Comes out of the client's error as one of its sources.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) &'static str);

/// The resolver of a client.
pub(super) struct Resolver {
    pub(super) look_up: Arc<dyn LookUp>,
    /// Whether addresses are left out at which no provider is.
    pub(super) is_checking: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let look_up = self.look_up.clone();
        let is_checking = self.is_checking;
        Box::pin(async move {
            let mut addresses = look_up.look_up(name.as_str()).await?;
            if is_checking {
                addresses = permitted(addresses)?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn permitted(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
    let mut first_problem = None;
    let mut permitted = Vec::with_capacity(found.len());
    for socket in found {
        match address::problem(socket.ip()) {
            None => permitted.push(socket),
            Some(problem) => {
                debug!(address = %socket.ip(), problem, "an address is left out");
                first_problem.get_or_insert(problem);
            }
        }
    }
    match first_problem {
        Some(problem) if permitted.is_empty() => Err(Refused(problem)),
        _ => Ok(permitted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(&'static [&'static str]);

    #[async_trait]
    impl LookUp for Fixed {
        async fn look_up(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
            Ok(self.0.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect())
        }
    }

    /// What was found, and what is handed on, or why nothing is.
    type Case = (&'static [&'static str], Result<&'static [&'static str], &'static str>);

    #[tokio::test]
    async fn the_connector_gets_only_what_is_permitted() {
        let cases: [Case; 6] = [
            (&["93.184.215.14", "2606:2800:21f::1"], Ok(&["93.184.215.14", "2606:2800:21f::1"])),
            (&["127.0.0.1", "93.184.215.14", "::1"], Ok(&["93.184.215.14"])),
            (&["64:ff9b::5db8:d70e", "64:ff9b::a00:1"], Ok(&["64:ff9b::5db8:d70e"])),
            (&["10.0.0.1", "127.0.0.1"], Err("private")),
            (&["fe80::1"], Err("link-local")),
            (&[], Ok(&[])),
        ];
        for (found, expected) in cases {
            let resolved = async |is_checking| {
                let resolver = Resolver { look_up: Arc::new(Fixed(found)), is_checking };
                let addresses = resolver.resolve("api.example.com".parse().unwrap()).await;
                addresses.map(|addresses| addresses.map(|socket| socket.ip().to_string()).collect::<Vec<_>>())
            };
            match (resolved(true).await, expected) {
                (Ok(addresses), Ok(expected)) => assert_eq!(addresses, expected),
                (Err(error), Err(part)) => {
                    assert!(error.downcast_ref::<Refused>().unwrap().0.contains(part), "{error}");
                }
                (resolved, _) => panic!("{found:?}: {resolved:?}"),
            }
            assert_eq!(resolved(false).await.unwrap(), found);
        }
    }
}
