//! Who leads, and that never two do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freshet_producer::leadership::Leadership;

use crate::world::World;

/// All producers of a run.
pub(crate) struct Reigns {
    world: Arc<World>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Those that live, by name. One that is stopped leads as long as its own clock would let it.
    producers: HashMap<String, Arc<Leadership>>,
    /// Whose each term of each lease is.
    terms: HashMap<(String, i64), String>,
    /// Who was last given the lease of the scans, and may not know of it.
    holder: Option<String>,
    taken_over: u64,
}

impl Reigns {
    /// Nobody leads.
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { world: world.clone(), inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A producer was started.
    pub(crate) fn begins(&self, name: &str, leadership: &Arc<Leadership>) {
        self.inner().producers.insert(name.to_owned(), leadership.clone());
    }

    /// It has died, or ended.
    pub(crate) fn ends(&self, name: &str) {
        self.inner().producers.remove(name);
    }

    /// The database gave somebody a lease: a term is nobody else's.
    pub(crate) fn granted(&self, lease: &str, term: i64, holder: &str) {
        let mut inner = self.inner();
        let is_new = !inner.terms.contains_key(&(lease.to_owned(), term));
        if lease == "scan" {
            inner.taken_over += u64::from(is_new && term > 1);
            inner.holder = Some(holder.to_owned());
        }
        let owner = inner.terms.entry((lease.to_owned(), term)).or_insert_with(|| holder.to_owned()).clone();
        drop(inner);
        if owner != holder {
            self.world.violated(format!("{owner} and {holder} both have term {term} of the lease `{lease}`"));
        }
    }

    /// Somebody claims what it found, so it leads now.
    pub(crate) fn claims(&self, name: &str) {
        let leads = self.inner().producers.get(name).is_some_and(|leadership| leadership.term().is_some());
        if !leads {
            self.world.violated(format!("{name} claims and does not lead"));
        }
        self.check();
    }

    /// Two never lead at the same time.
    pub(crate) fn check(&self) {
        let mut leading: Vec<(i64, String)> = Vec::new();
        for (name, leadership) in &self.inner().producers {
            leading.extend(leadership.term().map(|term| (term, name.clone())));
        }
        if leading.len() > 1 {
            leading.sort();
            self.world.violated(format!("more than one leads: {leading:?}"));
        }
    }

    /// Who leads.
    pub(crate) fn leader(&self) -> Option<String> {
        let inner = self.inner();
        inner.producers.iter().find(|(_, leadership)| leadership.leads()).map(|(name, _)| name.clone())
    }

    /// Whether all wait for its lease to run out where it does not go on.
    pub(crate) fn may_hold_the_lease(&self, name: &str) -> bool {
        self.leader().is_some_and(|leader| leader == name) || self.inner().holder.as_deref() == Some(name)
    }

    /// How often another term began.
    pub(crate) fn taken_over(&self) -> u64 {
        self.inner().taken_over
    }
}
