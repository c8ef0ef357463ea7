//! Whose endpoint a request addresses, told from its path.

/// Whose endpoint a request addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// The marketplace Fynd; its account is the `username`.
    Fynd,
    /// KornitX, the way to Very; its account is the `client_id`.
    KornitX,
    /// Not a marketplace: the platform's own refresh-connection endpoint; its account is the `connectionId`.
    Platform,
}

pub(super) const FYND_BASE: &str = "/hogwarts";
pub(super) const KORNITX_TOKEN: &str = "/token";
const PLATFORM_REFRESH: &str = "/api/fynd/refresh/connection";

impl Provider {
    /// The provider whose endpoint stands at `path`, which carries no query.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            KORNITX_TOKEN => Some(Self::KornitX),
            PLATFORM_REFRESH => Some(Self::Platform),
            _ => {
                let aggregator = path
                    .strip_prefix(FYND_BASE)?
                    .strip_prefix("/api/v1/")?
                    .strip_suffix("/shipment/authToken")?;
                (!aggregator.is_empty() && !aggregator.contains('/')).then_some(Self::Fynd)
            }
        }
    }

    /// Whether it hands out tokens, which is what the drawn faults strike.
    pub(super) fn is_marketplace(self) -> bool {
        match self {
            Self::Fynd | Self::KornitX => true,
            Self::Platform => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_provider() {
        for (path, provider) in [
            ("/hogwarts/api/v1/Eshopbox/shipment/authToken", Some(Provider::Fynd)),
            ("/hogwarts/api/v1//shipment/authToken", None),
            ("/hogwarts/api/v1/a/b/shipment/authToken", None),
            ("/api/v1/Eshopbox/shipment/authToken", None),
            ("/token", Some(Provider::KornitX)),
            ("/token/", None),
            ("/api/fynd/refresh/connection", Some(Provider::Platform)),
            ("/", None),
        ] {
            assert_eq!(Provider::at(path), provider, "{path}");
        }
    }
}
