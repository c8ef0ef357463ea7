//! Everything that connections share, under one lock, so that the ledger's order is the model's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::PATH;
use super::answer::Answer;
use super::credentials::Client;
use super::fault::Fault;
use super::ledger::{CALLER_HEADER, Did, GrantType, LedgerEntry, Refusal, Sent};
use super::model::{Denied, Granted, Model};
use super::request::{Form, Request};
use super::script::Scripts;
use super::settings::Settings;

pub(super) struct State {
    settings: Settings,
    shared: Mutex<Shared>,
}

struct Shared {
    model: Model,
    scripts: Scripts,
    ledger: Vec<LedgerEntry>,
    /// Its entries that are not settled yet.
    pending: usize,
}

/// What is to be done about a request that the model has dealt with.
pub(super) struct Planned {
    /// Its place in the ledger.
    pub(super) place: usize,
    pub(super) answer: Answer,
    pub(super) fault: Fault,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        let shared = Shared {
            model: Model::new(settings.clone()),
            scripts: Scripts::default(),
            ledger: Vec::new(),
            pending: 0,
        };
        Self { settings, shared: Mutex::new(shared) }
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.settings.clock.now()
    }

    pub(super) fn model<T>(&self, act: impl FnOnce(&mut Model) -> T) -> T {
        act(&mut self.lock().model)
    }

    pub(super) fn scripts<T>(&self, act: impl FnOnce(&mut Scripts) -> T) -> T {
        act(&mut self.lock().scripts)
    }

    pub(super) fn ledger(&self) -> Vec<LedgerEntry> {
        self.lock().ledger.clone()
    }

    /// Asked often, of a ledger that may be long.
    pub(super) fn called_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let shared = self.lock();
        let newest_first = shared.ledger.iter().rev().map(|entry| entry.arrived_at);
        newest_first.take_while(|at| *at > moment).last()
    }

    /// Writes the request down and lets the model act, unless a fault stands before it.
    pub(super) fn take(&self, request: &Request) -> Planned {
        let now = self.now();
        let mut shared = self.lock();
        let mut entry = LedgerEntry {
            arrived_at: now,
            at_once: shared.pending + 1,
            account: None,
            caller: request.header(CALLER_HEADER).map(str::to_owned),
            grant_type: None,
            presented: None,
            client_secret: None,
            did: Did::NotAsked,
            fault: None,
            sent: Sent::Pending,
        };
        let (mut answer, fault) = if request.path != PATH {
            (Answer::page(404), Fault::none())
        } else if request.method != "POST" {
            (Answer::page(405), Fault::none())
        } else {
            shared.answer(request, &mut entry, &self.settings, now)
        };
        for edit in &fault.edits {
            edit.apply(&mut answer);
        }
        shared.ledger.push(entry);
        shared.pending += 1;
        Planned { place: shared.ledger.len() - 1, answer, fault }
    }

    /// Writes down what the caller got to see.
    pub(super) fn sent(&self, place: usize, sent: Sent) {
        let mut shared = self.lock();
        let before = std::mem::replace(&mut shared.ledger[place].sent, sent);
        shared.pending -= usize::from(before == Sent::Pending && sent != Sent::Pending);
    }

    /// A test that fails by a panic while it holds the lock leaves everything whole.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn answer(
        &mut self,
        request: &Request,
        entry: &mut LedgerEntry,
        settings: &Settings,
        now: DateTime<Utc>,
    ) -> (Answer, Fault) {
        let form = request.form();
        let client = form.as_ref().map(|form| Client::read(request, form, settings.authentication));
        self.identify(form.as_ref(), client.as_ref().and_then(|client| client.as_ref().ok()), entry);
        let fault = self.scripts.take(entry.account.as_deref());
        entry.fault = (fault.name != Fault::none().name).then_some(fault.name);
        if !fault.asks_model {
            return (Answer::page(503), fault);
        }
        let outcome = match (form, client) {
            (Some(form), Some(Ok(client))) => {
                self.ask(&form, &client, &fault, entry.client_secret.is_some(), now)
            }
            (_, Some(Err(refusal))) => Err(Denied::Refused(refusal)),
            _ => Err(Denied::Refused(Refusal::InvalidRequest)),
        };
        let (did, answer) = match outcome {
            Ok(granted) => {
                let refresh_token = granted.refresh_token.as_ref().map(|(_, serial)| *serial);
                let did = Did::Granted { access_token: granted.access_serial, refresh_token };
                (did, Answer::granted(&granted, settings))
            }
            Err(Denied::Reused) => (Did::ReuseDetected, Answer::refused(Refusal::InvalidGrant)),
            Err(Denied::Refused(refusal)) => (Did::Refused(refusal), Answer::refused(refusal)),
        };
        entry.did = did;
        (answer, fault)
    }

    /// Whose request it is, as far as it says, whether or not it is a good one.
    fn identify(&self, form: Option<&Form>, client: Option<&Client>, entry: &mut LedgerEntry) {
        let Some(form) = form else { return };
        let member = |name| form.one(name).ok().flatten();
        entry.grant_type = match member("grant_type") {
            Some("client_credentials") => Some(GrantType::ClientCredentials),
            Some("refresh_token") => Some(GrantType::RefreshToken),
            _ => None,
        };
        let owner = member("refresh_token").and_then(|token| self.model.owner(token));
        entry.presented = owner.map(|(_, serial)| serial);
        let client_id = client.map(|client| client.id.as_str()).filter(|id| self.model.knows_client(id));
        entry.account = owner.map(|(account, _)| account).or(client_id).map(str::to_owned);
        entry.client_secret = client.and_then(|client| self.model.client_secret(client));
    }

    fn ask(
        &mut self,
        form: &Form,
        client: &Client,
        fault: &Fault,
        is_authenticated: bool,
        now: DateTime<Utc>,
    ) -> Result<Granted, Denied> {
        if !is_authenticated {
            return Err(Denied::Refused(Refusal::InvalidClient));
        }
        let required = |name| form.one(name).ok().flatten().ok_or(Denied::Refused(Refusal::InvalidRequest));
        match required("grant_type")? {
            "client_credentials" => Ok(self.model.client_credentials(client, now)),
            "refresh_token" => {
                self.model.refresh(client, required("refresh_token")?, fault.keeps_refresh_token, now)
            }
            _ => Err(Denied::Refused(Refusal::UnsupportedGrantType)),
        }
    }
}
