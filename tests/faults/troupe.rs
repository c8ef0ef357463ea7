//! The processes of the product, and what is done to them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use freshet_tests::binaries::{Binary, Process, TestFolder};
use freshet_tests::model_provider::CALLER_HEADER;
use nix::sys::signal::Signal;

use crate::stage::Stage;

/// Longer than the workers' own grace period.
const GRACE: Duration = Duration::from_secs(40);

/// What a worker says that gives a job back which it had begun.
const GIVEN_BACK: [&str; 2] = ["grace period over", "message goes back to its queue"];

/// Processes of one kind, each in its place.
pub(crate) struct Troupe {
    name: &'static str,
    environment: HashMap<String, String>,
    definitions: Vec<(String, String)>,
    members: Vec<Member>,
    started: u32,
}

struct Member {
    /// As it calls providers.
    caller: String,
    process: Process,
    /// Its own definitions, which let it call under its name.
    _folder: TestFolder,
}

impl Troupe {
    /// Starts so many.
    pub(crate) fn start(name: &'static str, number: usize, stage: &Stage) -> Result<Self> {
        let mut troupe = Self {
            name,
            environment: stage.environment.clone(),
            definitions: stage.definitions.clone(),
            members: Vec::new(),
            started: 0,
        };
        for _ in 0..number {
            let member = troupe.another()?;
            troupe.members.push(member);
        }
        Ok(troupe)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    fn another(&mut self) -> Result<Member> {
        self.started += 1;
        let caller = format!("{}-{}", self.name, self.started);
        let folder = TestFolder::create()?;
        for (file, text) in &self.definitions {
            let named = format!("[token.request]\nheaders = [[\"{CALLER_HEADER}\", \"{caller}\"]]\n");
            folder.write(file, &text.replace("[token.request]\n", &named))?;
        }
        let process = Binary::new(self.name)?
            .arguments(["run"])
            .variables(&self.environment)
            .variable("FRESHET_PROVIDER_DIRECTORY", folder.path())
            .start()?;
        Ok(Member { caller, process, _folder: folder })
    }

    /// Kills one; another takes its place. Answers who it was.
    pub(crate) async fn kill(&mut self, place: usize) -> Result<String> {
        let member = self.take(place)?;
        member.process.signal(Signal::SIGKILL)?;
        let _ = member.process.ended(GRACE).await?;
        Ok(member.caller)
    }

    /// Asks one to end; another takes its place. An error text if it did not end in good order within its grace period, or
    /// gave back what it had begun.
    pub(crate) async fn terminate(&mut self, place: usize) -> Result<Option<String>> {
        Ok(dismissed(self.take(place)?).await)
    }

    /// Lets one stand still; it goes on by [`Self::signal`]. Answers who it is.
    pub(crate) fn signal(&self, place: usize, signal: Signal) -> Result<String> {
        let member = self.members.get(place).context("there is no such place")?;
        member.process.signal(signal)?;
        Ok(member.caller.clone())
    }

    /// Those that have ended by themselves are started again, as a supervisor does. Answers who that were.
    pub(crate) fn revive(&mut self) -> Result<Vec<String>> {
        let mut ended = Vec::new();
        for place in 0..self.members.len() {
            let member = self.members.get_mut(place).context("there is no such place")?;
            if !member.process.is_running()? {
                ended.push(self.take(place)?.caller);
            }
        }
        Ok(ended)
    }

    fn take(&mut self, place: usize) -> Result<Member> {
        let next = self.another()?;
        let member = self.members.get_mut(place).context("there is no such place")?;
        Ok(std::mem::replace(member, next))
    }

    /// Ends them all in good order; answers which did not.
    pub(crate) async fn dismiss(self) -> Vec<String> {
        let mut failed = Vec::new();
        for member in self.members {
            failed.extend(dismissed(member).await);
        }
        failed
    }
}

async fn dismissed(member: Member) -> Option<String> {
    let caller = member.caller;
    match member.process.terminate(GRACE).await {
        Err(error) => Some(format!("{caller}: {error:#}")),
        Ok(ended) if ended.code != Some(0) => Some(format!("{caller}: exit code {:?}", ended.code)),
        Ok(ended) => {
            let said = GIVEN_BACK.into_iter().find(|words| ended.stderr.contains(words))?;
            Some(format!("{caller}: {said}"))
        }
    }
}
