//! Running a script by its hash.

use fred::clients::Client;
use fred::interfaces::LuaInterface;
use fred::types::scripts;
use fred::types::{FromValue, Value};

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
        client: &Client,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<T, Problem> {
        let answer =
            client.evalsha::<Value, _, _, _>(self.0.sha1().clone(), keys.clone(), arguments.clone()).await;
        let answer = match (answer, self.0.lua()) {
            (Err(error), Some(source)) if error.details().starts_with("NOSCRIPT") => {
                client.eval(source.clone(), keys, arguments).await
            }
            (answer, _) => answer,
        };
        Ok(answer?.convert()?)
    }
}
