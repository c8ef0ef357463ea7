//! Running a script by its hash.

use fred::clients::Client;
use fred::interfaces::LuaInterface;
use fred::types::scripts;
use fred::types::{FromValue, Value};

use super::link::Link;
use super::problem::Problem;

/// A script, known to the server by its hash.
pub(super) struct Script(scripts::Script);

impl Script {
    pub(super) fn new(source: &'static str) -> Self {
        Self(scripts::Script::from_lua(source))
    }

    /// Redis forgets scripts when it restarts, fails over or is told to. The whole text then makes it run and
    /// remember in one step, so that it cannot be forgotten in between. The first try did nothing in that case.
    pub(super) async fn answer<T: FromValue>(
        &self,
        link: &Link,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<T, Problem> {
        let (hash, keys_again, arguments_again) = (self.0.sha1().clone(), keys.clone(), arguments.clone());
        let by_hash = async |client: Client| client.evalsha::<Value, _, _, _>(hash, keys, arguments).await;
        let answer = link.ask(by_hash).await;
        let answer = match (answer, self.0.lua()) {
            (Err(error), Some(source)) if error.details().starts_with("NOSCRIPT") => {
                let source = source.clone();
                link.ask(async |client: Client| client.eval(source, keys_again, arguments_again).await).await
            }
            (answer, _) => answer,
        };
        Ok(answer?.convert()?)
    }
}
