//! The names of the cache's keys, in one place. Other systems read the first three: neither name nor form changes.

use crate::domain::connection::{ConnectionId, IdempotencyKey};

/// Names keys behind a common prefix.
#[derive(Clone)]
pub(in crate::adapters) struct Keys {
    prefix: String,
}

impl Keys {
    pub(in crate::adapters) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// The bare access token.
    pub(in crate::adapters) fn token(&self, id: ConnectionId) -> String {
        format!("{}connectionAccessToken_{id}", self.prefix)
    }

    /// The channel rows as a JSON array.
    pub(in crate::adapters) fn details(&self, id: ConnectionId) -> String {
        format!("{}connectionDetail_{id}", self.prefix)
    }

    /// A ready `Authorization` header.
    pub(in crate::adapters) fn authorization(&self, id: ConnectionId, operation: &str) -> String {
        format!("{}connectionAuthorization_{id}:{operation}", self.prefix)
    }

    /// The generation of the token that was written last. Ours alone.
    pub(in crate::adapters) fn generation(&self, id: ConnectionId) -> String {
        format!("{}freshet:generation:{id}", self.prefix)
    }

    /// Who has a refresh in flight. Ours alone.
    pub(in crate::adapters) fn attempt(&self, key: IdempotencyKey) -> String {
        format!("{}freshet:attempt:{key}", self.prefix)
    }

    /// Whether the cache is filled. Ours alone; missing once Redis has lost everything.
    pub(in crate::adapters) fn warm(&self) -> String {
        format!("{}freshet:warm", self.prefix)
    }

    /// How far ahead of its rate a provider is. Ours alone.
    pub(in crate::adapters) fn rate(&self, provider: &str) -> String {
        format!("{}freshetPace_{provider}", self.prefix)
    }

    /// When the turns end that were given to what was put off because of this provider's rate. Ours alone.
    pub(in crate::adapters) fn turns(&self, provider: &str) -> String {
        format!("{}freshetTurns_{provider}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::connection::Generation;

    #[test]
    fn the_names_are_those_of_the_contract() {
        let (id, generation) = (ConnectionId(42), Generation(7));
        for prefix in ["", "test:"] {
            let keys = Keys::new(prefix.into());
            assert_eq!(keys.token(id), format!("{prefix}connectionAccessToken_42"));
            assert_eq!(keys.details(id), format!("{prefix}connectionDetail_42"));
            assert_eq!(
                keys.authorization(id, "order_ship"),
                format!("{prefix}connectionAuthorization_42:order_ship")
            );
            assert_eq!(keys.generation(id), format!("{prefix}freshet:generation:42"));
            let attempt = keys.attempt(IdempotencyKey { connection_id: id, generation });
            assert_eq!(attempt, format!("{prefix}freshet:attempt:42:7"));
            assert_eq!(keys.warm(), format!("{prefix}freshet:warm"));
            assert_eq!(keys.rate("fynd"), format!("{prefix}freshetPace_fynd"));
            assert_eq!(keys.turns("fynd"), format!("{prefix}freshetTurns_fynd"));
        }
    }
}
