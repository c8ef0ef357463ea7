//! Answers decided beforehand by a test.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{provider::Provider, reply::Reply};

/// Which requests a script is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    provider: Option<Provider>,
    account: Option<String>,
}

impl Matcher {
    /// Every request, unknown paths included.
    pub fn any() -> Self {
        Self::default()
    }

    /// The requests to one provider.
    pub fn provider(provider: Provider) -> Self {
        Self { provider: Some(provider), account: None }
    }

    /// Only those of one account, as decoded: `username`, `client_id` or `connectionId`.
    #[must_use]
    pub fn account(self, account: impl Into<String>) -> Self {
        Self { account: Some(account.into()), ..self }
    }
}

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum ScriptedAnswer {
    /// As if there were no script: latency, drawn faults, honest checks.
    Normal,
    /// This answer, at once.
    Reply(Reply),
    /// The connection is reset without an answer, after the request was read.
    Reset,
    /// Nothing for a while, then the rest.
    After(Duration, Box<ScriptedAnswer>),
}

impl ScriptedAnswer {
    /// Nothing for a while, then the normal answer.
    pub fn delay(delay: Duration) -> Self {
        Self::Normal.after(delay)
    }

    /// The same, later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }
}

impl From<Reply> for ScriptedAnswer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// The scripts of one simulation, found by hash so that a test may script every account of a fleet.
#[derive(Default)]
pub(super) struct Scripts {
    /// How many answers wait; while it is zero no request takes the lock.
    waiting: AtomicUsize,
    shelves: Mutex<HashMap<Option<Provider>, Shelf>>,
}

#[derive(Default)]
struct Shelf {
    accounts: HashMap<String, VecDeque<ScriptedAnswer>>,
    every_account: VecDeque<ScriptedAnswer>,
}

impl Scripts {
    pub(super) fn add(&self, matcher: Matcher, answers: impl IntoIterator<Item = ScriptedAnswer>) {
        let mut shelves = self.lock();
        let shelf = shelves.entry(matcher.provider).or_default();
        let queue = match matcher.account {
            Some(account) => shelf.accounts.entry(account).or_default(),
            None => &mut shelf.every_account,
        };
        let before = queue.len();
        queue.extend(answers);
        self.waiting.fetch_add(queue.len() - before, Ordering::Release);
    }

    /// Takes the next answer for such a request, the most particular script first.
    pub(super) fn take(&self, provider: Option<Provider>, account: Option<&str>) -> Option<ScriptedAnswer> {
        if self.waiting() == 0 {
            return None;
        }
        let mut shelves = self.lock();
        let any_provider = provider.is_some().then_some(None);
        let answer = [Some(provider), any_provider]
            .into_iter()
            .flatten()
            .find_map(|key| shelves.get_mut(&key).and_then(|shelf| shelf.take(account)))?;
        self.waiting.fetch_sub(1, Ordering::Release);
        Some(answer)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<Provider>, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn take(&mut self, account: Option<&str>) -> Option<ScriptedAnswer> {
        account
            .and_then(|account| self.accounts.get_mut(account))
            .and_then(VecDeque::pop_front)
            .or_else(|| self.every_account.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    fn numbered(number: u16) -> ScriptedAnswer {
        Reply::new(StatusCode::from_u16(number).unwrap_or_default(), "").into()
    }

    fn number(answer: Option<ScriptedAnswer>) -> Option<u16> {
        match answer? {
            ScriptedAnswer::Reply(reply) => Some(reply.status.as_u16()),
            _ => None,
        }
    }

    #[test]
    fn the_most_particular_script_goes_first() {
        let scripts = Scripts::default();
        scripts.add(Matcher::any(), [numbered(500)]);
        scripts.add(Matcher::any().account("a"), [numbered(501)]);
        scripts.add(Matcher::provider(Provider::Fynd), [numbered(502)]);
        scripts.add(Matcher::provider(Provider::Fynd).account("a"), [numbered(503), numbered(504)]);
        scripts.add(Matcher::provider(Provider::Fynd).account("a"), [numbered(505)]);
        assert_eq!(scripts.waiting(), 6);

        let take = |provider, account| number(scripts.take(provider, account));
        assert_eq!(take(Some(Provider::KornitX), Some("b")), Some(500));
        assert_eq!(take(Some(Provider::KornitX), Some("b")), None);
        for expected in [503, 504, 505, 502, 501] {
            assert_eq!(take(Some(Provider::Fynd), Some("a")), Some(expected));
        }
        assert_eq!(take(Some(Provider::Fynd), Some("a")), None);
        assert_eq!(scripts.waiting(), 0);
    }

    #[test]
    fn requests_without_provider_take_only_what_is_for_all() {
        let scripts = Scripts::default();
        scripts.add(Matcher::any(), [numbered(500)]);
        scripts.add(Matcher::provider(Provider::Fynd), [numbered(501)]);
        assert_eq!(number(scripts.take(None, None)), Some(500));
        assert_eq!(number(scripts.take(None, None)), None);
    }
}
