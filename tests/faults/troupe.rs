//! The processes of the product, and what is done to them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use freshet_shared::configuration::Configuration;
use freshet_tests::binaries::{Binary, Ended, Process, TestFolder};
use freshet_tests::fleet::now;
use freshet_tests::model_provider::CALLER_HEADER;
use nix::sys::signal::Signal;

use crate::network::{Network, Part};
use crate::proxy::Mode;
use crate::said::Said;
use crate::stage::Stage;

/// Longer than any process may take for its end, so that it can be seen which one takes too long.
const GRACE: Duration = Duration::from_secs(60);
/// What a signal and an exit take on a busy machine.
const NOTICED: Duration = Duration::from_secs(2);

const NO_PLACE: &str = "there is no such place";

/// What a worker says that gives a job back which it had begun.
const GIVEN_BACK: &str = "message goes back to its queue";
/// What it says whose jobs were not at their end in time. It ends by the first exit code then.
const GRACE_OVER: &str = "grace period over";
/// The last words of a process that does not come to its work because there is no database. Whoever has begun does not say them.
const REFUSED_STARTS: [&str; 2] =
    ["error: the database did not accept a connection", "error: the database's version cannot be read"];
/// What is said of a panic, wherever it was.
const PANICKED: &str = "panicked";

/// Processes of one kind, each in its place.
pub(crate) struct Troupe {
    name: &'static str,
    environment: HashMap<String, String>,
    definitions: Vec<(String, String)>,
    members: Vec<Member>,
    /// Of each place.
    networks: Vec<Network>,
    started: u32,
    /// From SIGTERM to the end, as the product has it for this configuration.
    longest_stop: Duration,
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
    pub(crate) wrong: Option<Wrong>,
}

/// What is wrong with an end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) what: String,
    pub(crate) kind: Kind,
}

/// Two of these are what is left to a process that has no database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It gave back in time what it could not write down.
    GivenBack,
    /// Its jobs were not at their end in time.
    GraceOver,
    /// A panic, another exit code, or an end that took too long.
    Other,
}

/// A process that ended by itself.
#[derive(Debug)]
pub(crate) struct GaveUp {
    pub(crate) who: String,
    /// Since when it was there.
    pub(crate) started: DateTime<Utc>,
    /// When it still ran.
    pub(crate) last_seen: DateTime<Utc>,
    /// When it did not any more.
    pub(crate) noticed: DateTime<Utc>,
    /// What it complained of last.
    pub(crate) why: String,
    /// Whether it said by its exit code that it cannot go on, and did not panic.
    pub(crate) is_in_order: bool,
    /// Whether it had not begun its work: its start was refused.
    pub(crate) is_refused_start: bool,
}

struct Member {
    /// As it calls providers.
    caller: String,
    process: Process,
    started: DateTime<Utc>,
    last_seen: DateTime<Utc>,
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
            longest_stop: longest_stop(name, &stage.environment)?,
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
        let started = now();
        let process = Binary::new(self.name)?
            .arguments(["run"])
            .variables(environment)
            .variable("FRESHET_PROVIDER_DIRECTORY", folder.path())
            .start()?;
        Ok(Member { caller, process, started, last_seen: started, _folder: folder })
    }

    /// Kills one; another takes its place. Answers who it was, unless it had ended by itself just before.
    pub(crate) async fn kill(&mut self, place: usize) -> Result<Result<String, GaveUp>> {
        let member = self.take(place)?;
        member.process.signal(Signal::SIGKILL)?;
        let ended = member.process.ended(GRACE).await?;
        self.said.hear(&member.caller, &ended);
        // Whoever is killed has no exit code.
        Ok(match ended.code {
            None => Ok(member.caller),
            Some(_) => Err(gave_up(member.caller, [member.started, member.last_seen], &ended)),
        })
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

    /// Those that have ended by themselves are started again, as a supervisor does. Answers who that were.
    pub(crate) async fn revive(&mut self) -> Result<Vec<GaveUp>> {
        let mut gone = Vec::new();
        for place in 0..self.members.len() {
            gone.extend(self.revive_in(place).await?);
        }
        Ok(gone)
    }

    /// The same in this place alone.
    pub(crate) async fn revive_in(&mut self, place: usize) -> Result<Option<GaveUp>> {
        let member = self.members.get_mut(place).context(NO_PLACE)?;
        // From before the look, after which it may end at once.
        let looked = now();
        if member.process.is_running()? {
            member.last_seen = looked;
            return Ok(None);
        }
        let member = self.take(place)?;
        let ended = member.process.ended(GRACE).await?;
        self.said.hear(&member.caller, &ended);
        Ok(Some(gave_up(member.caller, [member.started, member.last_seen], &ended)))
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
            Err(error) => Some(Wrong { what: format!("{error:#}"), kind: Kind::Other }),
            Ok(end) => {
                self.said.hear(&caller, &end);
                let took = (ended - asked).to_std().unwrap_or_default();
                too_late(took, self.longest_stop).or_else(|| wrong_with(&end))
            }
        };
        End { who: caller, asked, ended, wrong }
    }
}

/// How long a process of this name may take from SIGTERM to its end.
fn longest_stop(name: &str, environment: &HashMap<String, String>) -> Result<Duration> {
    let configuration = Configuration::load(None, environment)?;
    Ok(match name {
        "worker" => freshet_worker::app::longest_stop(&configuration),
        _ => freshet_producer::app::longest_stop(&configuration),
    })
}

/// Whoever kills a process later than the product says cuts nothing off, whatever was away meanwhile.
fn too_late(took: Duration, longest: Duration) -> Option<Wrong> {
    let what = format!(
        "its end took {:.1} s, and {:.1} s is the longest",
        took.as_secs_f64(),
        longest.as_secs_f64()
    );
    (took > longest + NOTICED).then_some(Wrong { what, kind: Kind::Other })
}

fn wrong_with(ended: &Ended) -> Option<Wrong> {
    let wrong = |what: &str, kind| Some(Wrong { what: what.to_owned(), kind });
    if let Some(line) = said(ended, PANICKED) {
        return wrong(line, Kind::Other);
    }
    match (ended.code, said(ended, GRACE_OVER), said(ended, GIVEN_BACK)) {
        (Some(0 | 1), Some(line), _) => wrong(line, Kind::GraceOver),
        (Some(0), _, Some(line)) => wrong(line, Kind::GivenBack),
        (Some(0), None, None) => None,
        (code, ..) => wrong(&format!("exit code {code:?}, {}", last_error(ended)), Kind::Other),
    }
}

fn gave_up(who: String, [started, last_seen]: [DateTime<Utc>; 2], ended: &Ended) -> GaveUp {
    let is_refused_start = REFUSED_STARTS.iter().any(|words| said(ended, words).is_some());
    GaveUp {
        is_refused_start,
        why: format!("{who}: exit code {:?}, {}", ended.code, last_error(ended)),
        is_in_order: ended.code == Some(1) && said(ended, PANICKED).is_none(),
        who,
        started,
        last_seen,
        noticed: now(),
    }
}

/// The first line with these words.
fn said<'a>(ended: &'a Ended, words: &str) -> Option<&'a str> {
    ended.stderr.lines().find(|line| line.contains(words))
}

/// What it complained of last tells why it ended.
fn last_error(ended: &Ended) -> &str {
    let error = ended.stderr.lines().rfind(|line| line.contains("\"ERROR\""));
    // Who does not come to its log says it plainly.
    error.or_else(|| ended.stderr.lines().last()).unwrap_or("and it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: Option<i32>, stderr: &str) -> Ended {
        Ended { name: "worker", code, stdout: String::new(), stderr: stderr.into(), took: Duration::ZERO }
    }

    #[test]
    fn only_giving_back_what_was_begun_can_be_excused() {
        let wrong = |code, stderr: &str| wrong_with(&ended(code, stderr)).map(|wrong| wrong.kind);
        assert_eq!(wrong(Some(0), "all is well"), None);
        let (over, given_back) =
            ("grace period over; messages come again", "message goes back to its queue: x");
        assert_eq!(wrong(Some(1), over), Some(Kind::GraceOver));
        assert_eq!(wrong(Some(0), over), Some(Kind::GraceOver));
        assert_eq!(wrong(Some(0), given_back), Some(Kind::GivenBack));
        assert_eq!(wrong(Some(1), given_back), Some(Kind::Other), "not by the grace");
        assert_eq!(wrong(Some(1), "error: no"), Some(Kind::Other));
        assert_eq!(wrong(Some(78), over), Some(Kind::Other));
        assert_eq!(wrong(None, over), Some(Kind::Other));
        for code in [0, 1] {
            let panicked = format!("panicked: as it stands in the program\n{over}\n{given_back}");
            assert_eq!(wrong(Some(code), &panicked), Some(Kind::Other));
        }
    }

    #[test]
    fn an_end_takes_no_longer_than_the_product_says_of_itself() {
        let worker = longest_stop("worker", &HashMap::new()).unwrap();
        let another = [("FRESHET_WORKER__SHUTDOWN_GRACE".to_owned(), "5s".to_owned())].into();
        assert_eq!(worker - longest_stop("worker", &another).unwrap(), Duration::from_secs(20));
        assert!(longest_stop("producer", &another).unwrap() < GRACE && worker + NOTICED < GRACE);
        assert_eq!(too_late(worker + NOTICED, worker), None);
        let late = too_late(worker + NOTICED + Duration::from_millis(1), worker).unwrap();
        assert_eq!(late.kind, Kind::Other, "nothing excuses that");
    }

    #[test]
    fn who_gives_up_says_so_by_its_exit_code_and_does_not_panic() {
        let is_in_order =
            |code, stderr: &str| gave_up("a".into(), [now(); 2], &ended(code, stderr)).is_in_order;
        assert!(is_in_order(Some(1), "error: no database"));
        for (code, stderr) in [(Some(1), "panicked: x"), (Some(0), ""), (Some(101), ""), (None, "")] {
            assert!(!is_in_order(code, stderr), "{code:?} {stderr}");
        }
    }

    #[test]
    fn a_start_is_refused_by_words_that_nobody_says_later() {
        let is_refused =
            |stderr: &str| gave_up("a".into(), [now(); 2], &ended(Some(1), stderr)).is_refused_start;
        assert!(is_refused("error: the database's version cannot be read: the database did not answer: x"));
        assert!(is_refused("error: the database did not accept a connection: x"));
        assert!(!is_refused("error: no session with RabbitMQ for 300s (rabbitmq.give_up_after): x"));
        assert!(!is_refused(r#"{"level":"WARN","message":"the database did not accept a connection: x"}"#));
    }
}
