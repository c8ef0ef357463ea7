//! Faults that were ordered beforehand.

use std::collections::{HashMap, VecDeque};

use super::fault::Fault;

/// The scripts of one provider.
#[derive(Default)]
pub(super) struct Scripts {
    accounts: HashMap<String, VecDeque<Fault>>,
    next: VecDeque<Fault>,
    /// What every request without a script meets.
    pub(super) standing: Option<Fault>,
}

impl Scripts {
    pub(super) fn add(&mut self, account: Option<&str>, faults: impl IntoIterator<Item = Fault>) {
        let queue = match account {
            Some(account) => self.accounts.entry(account.to_owned()).or_default(),
            None => &mut self.next,
        };
        queue.extend(faults);
    }

    /// What the next request of this account meets: its own script goes first.
    pub(super) fn take(&mut self, account: Option<&str>) -> Fault {
        let own = account.and_then(|account| self.accounts.get_mut(account)).and_then(VecDeque::pop_front);
        own.or_else(|| self.next.pop_front()).or_else(|| self.standing.clone()).unwrap_or_else(Fault::none)
    }

    pub(super) fn waiting(&self) -> usize {
        self.next.len() + self.accounts.values().map(VecDeque::len).sum::<usize>()
    }
}
