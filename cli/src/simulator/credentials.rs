//! Which credentials the marketplaces accept.

use std::collections::HashMap;

use super::provider::Provider;

/// The credentials that are accepted. No `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Every account with any secret, as long as both are there.
    #[default]
    Any,
    /// These accounts only, each with its secret.
    Only(HashMap<Provider, HashMap<String, String>>),
}

impl Credentials {
    /// An explicit set, to start from; it accepts nobody yet.
    pub fn none() -> Self {
        Self::Only(HashMap::new())
    }

    /// The same set with one account more (`username` or `client_id`). [`Credentials::Any`] accepts it already.
    #[must_use]
    pub fn with(mut self, provider: Provider, account: impl Into<String>, secret: impl Into<String>) -> Self {
        if let Self::Only(accounts) = &mut self {
            accounts.entry(provider).or_default().insert(account.into(), secret.into());
        }
        self
    }

    pub(super) fn accept(&self, provider: Provider, account: &str, secret: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(accounts) => accounts
                .get(&provider)
                .and_then(|known| known.get(account))
                .is_some_and(|known| known == secret),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_belongs_to_one_provider() {
        let credentials = Credentials::none().with(Provider::Fynd, "shop", "s3cret");
        assert!(credentials.accept(Provider::Fynd, "shop", "s3cret"));
        assert!(!credentials.accept(Provider::Fynd, "shop", "other"));
        assert!(!credentials.accept(Provider::Fynd, "other", "s3cret"));
        assert!(!credentials.accept(Provider::KornitX, "shop", "s3cret"));
        assert!(Credentials::Any.accept(Provider::KornitX, "anyone", "anything"));
    }
}
