//! Commands of many jobs in one call of a script: each command through the client costs as much as dozens inside it.

use std::sync::Arc;

use fred::types::Value;

use crate::adapters::grouping::Grouping;
use crate::domain::connection::ConnectionId;

use super::link::Links;
use super::problem::Problem;
use super::script::Script;

/// Calls under way at a time on one connection, and commands in one of them at most: the server does nothing else
/// meanwhile, so it is a matter of a millisecond.
const FLIGHTS: usize = 2;
const MOST: usize = 128;

/// One command of `batch.lua`.
pub(super) struct Command {
    name: &'static str,
    keys: Vec<String>,
    arguments: Vec<Value>,
}

impl Command {
    pub(super) fn new(name: &'static str, keys: Vec<String>, arguments: Vec<Value>) -> Self {
        Self { name, keys, arguments }
    }

    /// A key and an argument before all others.
    pub(super) fn put_first(&mut self, key: String, argument: Value) {
        self.keys.insert(0, key);
        self.arguments.insert(0, argument);
    }

    pub(super) fn add_key(&mut self, key: String) {
        self.keys.push(key);
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

/// Gathers commands, each connection's own.
pub(super) struct Batches {
    shared: Arc<Shared>,
    of_link: Vec<Grouping<Command, Result<i64, Problem>>>,
}

struct Shared {
    links: Arc<Links>,
    script: Script,
}

impl Batches {
    pub(super) fn new(links: Arc<Links>) -> Self {
        let of_link = (0..links.count()).map(|_| Grouping::new(FLIGHTS, MOST)).collect();
        let script = Script::new(include_str!("batch.lua"));
        Self { shared: Arc::new(Shared { links, script }), of_link }
    }

    /// The number that the command answers.
    pub(super) async fn run(&self, id: ConnectionId, command: Command) -> Result<i64, Problem> {
        let link = self.shared.links.index(id);
        let grouping = self.of_link.get(link).ok_or_else(|| Problem::not_connected(None))?;
        let shared = self.shared.clone();
        let fly = move |commands: Vec<Command>| {
            let shared = shared.clone();
            async move {
                let count = commands.len();
                match shared.run_all(link, commands).await {
                    Ok(answers) => answers.into_iter().map(number).collect(),
                    Err(problem) => (0..count).map(|_| Err(problem.clone())).collect(),
                }
            }
        };
        let given_up = || Err(Problem::new("the call was given up"));
        grouping.ask(command, fly).await.unwrap_or_else(given_up)
    }
}

impl Shared {
    async fn run_all(&self, link: usize, commands: Vec<Command>) -> Result<Vec<Value>, Problem> {
        let link = self.links.at(link).await?;
        let (mut keys, mut arguments) = (Vec::new(), Vec::new());
        for command in commands {
            arguments.push(command.name.into());
            arguments.push(count(command.keys.len()));
            arguments.push(count(command.arguments.len()));
            keys.extend(command.keys);
            arguments.extend(command.arguments);
        }
        self.script.answer(link, keys, arguments).await
    }
}

fn count(number: usize) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

/// A text in the place of a number says why the command failed.
fn number(answer: Value) -> Result<i64, Problem> {
    answer.as_i64().ok_or_else(|| match answer.as_str() {
        Some(message) => Problem::of_message(&message),
        None => Problem::new("Redis answers something else than a number"),
    })
}
