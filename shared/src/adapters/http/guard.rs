//! Whether a URL may be called, by all that can be said before its host is looked up.

use std::net::IpAddr;

use reqwest::Url;

use crate::domain::provider::egress::{Egress, HostPattern};

use super::address;

const FOREIGN: &str = "its host is not one of the provider's: name it in the definition's allowed_hosts";
const TRAILING_DOT: &str = "its host ends with a dot: write it without";
const NO_TLS: &str = "it is not https: where that is meant, name the host in egress.allow";

/// How a URL may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Over TLS, at addresses at which a provider may be.
    Checked,
    /// The operator named the host: with or without TLS, at any address.
    Excepted,
}

/// The rules of the process.
#[derive(Debug)]
pub(super) struct Guard {
    /// Hosts that the operator named.
    pub(super) allow: Vec<HostPattern>,
}

impl Guard {
    pub(super) fn route(&self, url: &Url, egress: &Egress) -> Result<Route, &'static str> {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(FOREIGN);
        };
        // The same host under another name, which patterns, certificates and search domains take for another one.
        if host.ends_with('.') {
            return Err(TRAILING_DOT);
        }
        if !egress.allows(host, port) {
            return Err(FOREIGN);
        }
        if egress.is_named_by_operator || self.allow.iter().any(|pattern| pattern.matches(host, port)) {
            return Ok(Route::Excepted);
        }
        if url.scheme() != "https" {
            return Err(NO_TLS);
        }
        // The connector asks no resolver about an address. The URL's parser has turned every spelling into this one.
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        literal.ok().and_then(address::problem).map_or(Ok(Route::Checked), Err)
    }
}
