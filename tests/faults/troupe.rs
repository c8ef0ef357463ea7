//! The processes of the product, and what is done to them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use freshet_tests::binaries::{Binary, Ended, Process, TestFolder};
use freshet_tests::fleet::now;
use freshet_tests::model_provider::CALLER_HEADER;
use nix::sys::signal::Signal;

use crate::network::{Network, Part};
use crate::proxy::Mode;
use crate::said::Said;
use crate::stage::Stage;

/// Longer than the workers' own grace period.
const GRACE: Duration = Duration::from_secs(40);

const NO_PLACE: &str = "there is no such place";

/// What a worker says that gives a job back which it had begun.
const GIVEN_BACK: [&str; 2] = ["grace period over", "message goes back to its queue"];

/// Processes of one kind, each in its place.
pub(crate) struct Troupe {
    name: &'static str,
    environment: HashMap<String, String>,
    definitions: Vec<(String, String)>,
    members: Vec<Member>,
    /// Of each place.
    networks: Vec<Network>,
    started: u32,
    /// By those that have ended.
    pub(crate) said: Said,
}

/// A process that was asked to end.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) who: String,
    pub(crate) asked: DateTime<Utc>,
    pub(crate) ended: DateTime<Utc>,
    /// What is wrong with its end: it was not in good order within its grace period, or it gave back what it had
    /// begun.
    pub(crate) wrong: Option<String>,
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
    pub(crate) async fn start(name: &'static str, number: usize, stage: &Stage) -> Result<Self> {
        let mut troupe = Self {
            name,
            environment: stage.environment.clone(),
            definitions: stage.definitions.clone(),
            members: Vec::new(),
            networks: Vec::new(),
            started: 0,
            said: Said::default(),
        };
        for place in 0..number {
            troupe.networks.push(Network::lay(&stage.servers).await?);
            let member = troupe.another(place)?;
            troupe.members.push(member);
        }
        Ok(troupe)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The places of those who are none of `others`.
    pub(crate) fn places_without(&self, others: &[&str]) -> Vec<usize> {
        let is_other = |member: &Member| others.contains(&member.caller.as_str());
        (0..).zip(&self.members).filter(|(_, member)| !is_other(member)).map(|(place, _)| place).collect()
    }

    /// Where it is, if it is still there.
    pub(crate) fn place_of(&self, caller: &str) -> Option<usize> {
        self.members.iter().position(|member| member.caller == caller)
    }

    /// Puts this between the one in this place and one of those it speaks to. Answers who it is.
    pub(crate) fn disturb(&self, place: usize, part: Part, mode: Mode) -> Result<&str> {
        self.network_of(place)?.set(part, mode);
        Ok(&self.members.get(place).context(NO_PLACE)?.caller)
    }

    fn network_of(&self, place: usize) -> Result<&Network> {
        self.networks.get(place).context(NO_PLACE)
    }

    fn another(&mut self, place: usize) -> Result<Member> {
        self.started += 1;
        let caller = format!("{}-{}", self.name, self.started);
        let folder = TestFolder::create()?;
        let network = self.network_of(place)?;
        let environment = self.environment.iter().map(|(name, value)| (name, network.through(value)));
        for (file, text) in &self.definitions {
            let named = format!("[token.request]\nheaders = [[\"{CALLER_HEADER}\", \"{caller}\"]]\n");
            folder.write(file, &network.through(text).replace("[token.request]\n", &named))?;
        }
        let process = Binary::new(self.name)?
            .arguments(["run"])
            .variables(environment)
            .variable("FRESHET_PROVIDER_DIRECTORY", folder.path())
            .start()?;
        Ok(Member { caller, process, _folder: folder })
    }

    /// Kills one; another takes its place. Answers who it was.
    pub(crate) async fn kill(&mut self, place: usize) -> Result<String> {
        let member = self.take(place)?;
        member.process.signal(Signal::SIGKILL)?;
        let ended = member.process.ended(GRACE).await?;
        self.said.hear(&member.caller, &ended);
        Ok(member.caller)
    }

    /// Asks one to end; another takes its place.
    pub(crate) async fn terminate(&mut self, place: usize) -> Result<End> {
        let member = self.take(place)?;
        Ok(self.dismissed(member).await)
    }

    /// Lets one stand still; it goes on by the same with another signal. Answers who it is.
    pub(crate) fn signal(&self, place: usize, signal: Signal) -> Result<String> {
        let member = self.members.get(place).context(NO_PLACE)?;
        member.process.signal(signal)?;
        Ok(member.caller.clone())
    }

    /// Those that have ended by themselves are started again, as a supervisor does. Answers who that were, and what each
    /// complained of last.
    pub(crate) async fn revive(&mut self) -> Result<Vec<(String, String)>> {
        let mut gone = Vec::new();
        for place in 0..self.members.len() {
            let member = self.members.get_mut(place).context(NO_PLACE)?;
            if !member.process.is_running()? {
                let member = self.take(place)?;
                let ended = member.process.ended(GRACE).await?;
                self.said.hear(&member.caller, &ended);
                let why = format!("{}: exit code {:?}, {}", member.caller, ended.code, last_error(&ended));
                gone.push((member.caller, why));
            }
        }
        Ok(gone)
    }

    fn take(&mut self, place: usize) -> Result<Member> {
        let next = self.another(place)?;
        let member = self.members.get_mut(place).context(NO_PLACE)?;
        Ok(std::mem::replace(member, next))
    }

    /// Ends them all in good order.
    pub(crate) async fn dismiss(&mut self) -> Vec<End> {
        let mut ends = Vec::new();
        for member in std::mem::take(&mut self.members) {
            ends.push(self.dismissed(member).await);
        }
        ends
    }

    async fn dismissed(&mut self, member: Member) -> End {
        let (caller, asked) = (member.caller, now());
        let result = member.process.terminate(GRACE).await;
        let ended = now();
        let wrong = match result {
            Err(error) => Some(format!("{error:#}")),
            Ok(ended) => {
                self.said.hear(&caller, &ended);
                wrong_with(&ended)
            }
        };
        End { who: caller, asked, ended, wrong }
    }
}

fn wrong_with(ended: &Ended) -> Option<String> {
    if ended.code != Some(0) {
        return Some(format!("exit code {:?}, {}", ended.code, last_error(ended)));
    }
    let gave_back = |line: &&str| GIVEN_BACK.into_iter().any(|words| line.contains(words));
    ended.stderr.lines().find(gave_back).map(str::to_owned)
}

/// What it complained of last tells why it ended.
fn last_error(ended: &Ended) -> &str {
    let error = ended.stderr.lines().rfind(|line| line.contains("\"ERROR\""));
    // Who does not come to its log says it plainly.
    error.or_else(|| ended.stderr.lines().last()).unwrap_or("and it said nothing")
}
