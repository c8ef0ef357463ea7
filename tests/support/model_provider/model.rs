//! The model itself: clients, accounts and tokens. It knows nothing of HTTP, and its time is a parameter.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::credentials::Client;
use super::family::{Family, Presented};
use super::ledger::Refusal;
use super::settings::Settings;

/// Clients, accounts and tokens.
pub struct Model {
    settings: Settings,
    clients: HashMap<String, Vec<String>>,
    families: Vec<OwnedFamily>,
    /// The family that counts, by account.
    current: HashMap<String, usize>,
    refresh_tokens: HashMap<String, RefreshTokenPlace>,
    /// How many refresh tokens were made, by account.
    made: HashMap<String, u64>,
    access_tokens: Vec<AccessToken>,
    /// The places of the access tokens.
    places: HashMap<String, usize>,
}

struct OwnedFamily {
    account: String,
    client: String,
    family: Family,
    /// The texts of its tokens and their serial numbers, by place.
    tokens: Vec<(String, u64)>,
}

#[derive(Clone, Copy)]
struct RefreshTokenPlace {
    family: usize,
    place: usize,
}

struct AccessToken {
    text: String,
    account: String,
    family: Option<usize>,
    expires_at: DateTime<Utc>,
    is_replaced: bool,
}

/// A token that was made.
pub struct Granted {
    /// The access token.
    pub access_token: String,
    /// Its serial number, over all accounts.
    pub access_serial: u64,
    /// The refresh token that the answer names, and its serial number.
    pub refresh_token: Option<(String, u64)>,
}

/// Why none was.
pub enum Denied {
    /// The refresh token was spent, and its family has ended by being presented again.
    Reused,
    /// It was refused, and nothing has changed.
    Refused(Refusal),
}

impl Model {
    /// It knows no client and no account yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            clients: HashMap::new(),
            families: Vec::new(),
            current: HashMap::new(),
            refresh_tokens: HashMap::new(),
            made: HashMap::new(),
            access_tokens: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Accepts these secrets of a client, all of them, and no others.
    pub fn set_client_secrets(&mut self, client: &str, secrets: &[&str]) {
        self.clients.insert(client.to_owned(), secrets.iter().map(|secret| (*secret).to_owned()).collect());
    }

    pub(super) fn knows_client(&self, client: &str) -> bool {
        self.clients.contains_key(client)
    }

    /// The place of the client's secret among those that count.
    pub(super) fn client_secret(&self, client: &Client) -> Option<usize> {
        self.clients.get(&client.id)?.iter().position(|secret| *secret == client.secret)
    }

    /// The merchant authorises: the account gets a new family of refresh tokens, of which this is the first.
    pub fn authorise(&mut self, account: &str, client: &str, now: DateTime<Utc>) -> String {
        self.revoke(account);
        let index = self.families.len();
        self.families.push(OwnedFamily {
            account: account.to_owned(),
            client: client.to_owned(),
            family: Family::new(now),
            tokens: Vec::new(),
        });
        self.current.insert(account.to_owned(), index);
        self.make_refresh_token(index).0
    }

    pub(super) fn revoke(&mut self, account: &str) {
        if let Some(index) = self.current.get(account) {
            self.families[*index].family.revoke();
        }
    }

    /// Whose refresh token it is, and its serial number.
    pub fn owner(&self, refresh_token: &str) -> Option<(&str, u64)> {
        let at = self.refresh_tokens.get(refresh_token)?;
        let family = &self.families[at.family];
        Some((&family.account, family.tokens[at.place].1))
    }

    /// A token for the client itself.
    pub fn client_credentials(&mut self, client: &Client, now: DateTime<Utc>) -> Granted {
        let (access_token, access_serial) = self.make_access_token(client.id.clone(), None, now);
        Granted { access_token, access_serial, refresh_token: None }
    }

    /// With `keep` the refresh token is left as it is, and the answer names none.
    ///
    /// # Errors
    /// Why no token was made.
    pub fn refresh(
        &mut self,
        client: &Client,
        refresh_token: &str,
        keep: bool,
        now: DateTime<Utc>,
    ) -> Result<Granted, Denied> {
        let invalid = Err(Denied::Refused(Refusal::InvalidGrant));
        let Some(at) = self.refresh_tokens.get(refresh_token).copied() else { return invalid };
        let owned = &mut self.families[at.family];
        if owned.client != client.id {
            return invalid;
        }
        let named = match owned.family.present(at.place, now, &self.settings, keep) {
            Presented::Kept => None,
            Presented::Succeeded(place) if place < owned.tokens.len() => Some(owned.tokens[place].clone()),
            Presented::Succeeded(_) => Some(self.make_refresh_token(at.family)),
            Presented::Reused => return Err(Denied::Reused),
            Presented::Dead => return invalid,
        };
        let account = self.families[at.family].account.clone();
        let (access_token, access_serial) = self.make_access_token(account, Some(at.family), now);
        Ok(Granted { access_token, access_serial, refresh_token: named })
    }

    /// The newest refresh token of the account that is good, if any is.
    pub fn refresh_token(&self, account: &str, now: DateTime<Utc>) -> Option<String> {
        let owned = &self.families[*self.current.get(account)?];
        owned.family.newest(now, &self.settings).map(|place| owned.tokens[place].0.clone())
    }

    pub(super) fn serial_of(&self, refresh_token: &str) -> Option<u64> {
        self.owner(refresh_token).map(|(_, serial)| serial)
    }

    pub(super) fn access_tokens(&self, account: &str, now: DateTime<Utc>) -> Vec<String> {
        let valid =
            self.access_tokens.iter().filter(|token| token.account == account && self.serves(token, now));
        valid.map(|token| token.text.clone()).collect()
    }

    /// Whether an API behind the provider would take the access token now.
    pub fn is_valid(&self, access_token: &str, now: DateTime<Utc>) -> bool {
        let place = self.places.get(access_token);
        place.is_some_and(|place| self.serves(&self.access_tokens[*place], now))
    }

    fn serves(&self, token: &AccessToken, now: DateTime<Utc>) -> bool {
        let has_ended = token.family.is_some_and(|family| self.families[family].family.is_revoked());
        !has_ended && !token.is_replaced && now < token.expires_at
    }

    fn make_refresh_token(&mut self, family: usize) -> (String, u64) {
        let made = self.made.entry(self.families[family].account.clone()).or_default();
        *made += 1;
        let token = (format!("refresh-{}", Uuid::new_v4().simple()), *made);
        let owned = &mut self.families[family];
        self.refresh_tokens.insert(token.0.clone(), RefreshTokenPlace { family, place: owned.tokens.len() });
        owned.tokens.push(token.clone());
        token
    }

    fn make_access_token(
        &mut self,
        account: String,
        family: Option<usize>,
        now: DateTime<Utc>,
    ) -> (String, u64) {
        if self.settings.one_access_token {
            let before = self.access_tokens.iter_mut().filter(|token| token.account == account);
            before.for_each(|token| token.is_replaced = true);
        }
        let text = format!("access-{}", Uuid::new_v4().simple());
        let expires_at = now + self.settings.access_token_lifetime;
        self.places.insert(text.clone(), self.access_tokens.len());
        self.access_tokens.push(AccessToken {
            text: text.clone(),
            account,
            family,
            expires_at,
            is_replaced: false,
        });
        (text, self.access_tokens.len() as u64)
    }
}
