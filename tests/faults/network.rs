//! The network between one process and all that it speaks to.

use std::net::SocketAddr;

use anyhow::Result;

use crate::proxy::{Mode, Proxy};

/// What a process speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Database,
    Broker,
    Cache,
    Provider,
}

/// A proxy between the process and each server, so that it alone can be cut off from one of them.
pub(crate) struct Network {
    wires: Vec<Wire>,
}

struct Wire {
    part: Part,
    server: SocketAddr,
    proxy: Proxy,
}

impl Network {
    /// To these servers.
    pub(crate) async fn lay(servers: &[(Part, SocketAddr)]) -> Result<Self> {
        let mut wires = Vec::new();
        for (part, server) in servers {
            wires.push(Wire { part: *part, server: *server, proxy: Proxy::start(*server).await? });
        }
        Ok(Self { wires })
    }

    /// The text with the proxies' addresses in place of the servers'.
    pub(crate) fn through(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for wire in &self.wires {
            text = replace_address(&text, wire.server, wire.proxy.address());
        }
        text
    }

    /// From now on it does this to what goes to or comes from this part.
    pub(crate) fn set(&self, part: Part, mode: Mode) {
        self.wires.iter().filter(|wire| wire.part == part).for_each(|wire| wire.proxy.set(mode));
    }
}

/// A port is not the beginning of another one.
fn replace_address(text: &str, server: SocketAddr, proxy: SocketAddr) -> String {
    let server = server.to_string();
    let mut parts = text.split(&server);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_whole = !part.starts_with(|next: char| next.is_ascii_digit());
        match is_whole {
            true => replaced.push_str(&proxy.to_string()),
            false => replaced.push_str(&server),
        }
        replaced.push_str(part);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freshet_tests::binaries::DesertedAddress;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn an_address_is_replaced_wherever_it_is_whole() {
        let [server, proxy] = ["127.0.0.1:330", "127.0.0.1:44000"].map(|address| address.parse().unwrap());
        assert_eq!(
            replace_address("mysql://127.0.0.1:330/chaos, 127.0.0.1:3301, 127.0.0.1:330", server, proxy),
            "mysql://127.0.0.1:44000/chaos, 127.0.0.1:3301, 127.0.0.1:44000"
        );
    }

    #[tokio::test]
    async fn only_the_part_that_is_meant_is_cut_off() {
        // An open proxy lets go in good order where nobody listens.
        let deserted = DesertedAddress::take().unwrap();
        let nobody = deserted.address().unwrap();
        let network = Network::lay(&[(Part::Database, nobody), (Part::Broker, nobody)]).await.unwrap();
        network.set(Part::Broker, Mode::Reset);
        let is_reset = async |wire: usize| {
            let mut stream = TcpStream::connect(network.wires[wire].proxy.address()).await.unwrap();
            timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await.unwrap().is_err()
        };
        assert_eq!((is_reset(0).await, is_reset(1).await), (false, true));
    }
}
