//! One account's refresh tokens, from the one that the merchant's authorisation made to the newest.

use chrono::{DateTime, TimeDelta, Utc};

use super::settings::{Rotation, Settings, Successor};

/// The tokens that descend from one authorisation. It knows them by their place in the order of their making.
pub(super) struct Family {
    tokens: Vec<Token>,
    is_revoked: bool,
}

struct Token {
    made_at: DateTime<Utc>,
    last_used_at: Option<DateTime<Utc>>,
    /// When it was used first, where using spends.
    spent_at: Option<DateTime<Utc>>,
    successors: Vec<usize>,
}

/// What presenting a refresh token came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presented {
    /// It serves on; the answer names no other.
    Kept,
    /// The answer names the token at this place. A place that was not there before is a token to be made.
    Succeeded(usize),
    /// It was spent. The family has ended by it.
    Reused,
    /// It is too old, or its family has ended before.
    Dead,
}

impl Family {
    pub(super) fn new(now: DateTime<Utc>) -> Self {
        Self { tokens: vec![Token::new(now)], is_revoked: false }
    }

    /// Uses the token at a place. With `keep` the provider leaves it at that, as one may (RFC 6749, 6).
    pub(super) fn present(
        &mut self,
        place: usize,
        now: DateTime<Utc>,
        settings: &Settings,
        keep: bool,
    ) -> Presented {
        if !self.is_alive(place, now, settings) {
            return Presented::Dead;
        }
        let rotates = settings.rotation != Rotation::None;
        let again = match (self.tokens[place].spent_at, settings.rotation) {
            (Some(spent_at), Rotation::Leeway { window, again })
                if self.is_lenient(place, spent_at + window, now) =>
            {
                Some(again)
            }
            (Some(_), _) => {
                self.is_revoked = true;
                return Presented::Reused;
            }
            (None, _) => None,
        };
        self.tokens[place].last_used_at = Some(now);
        if keep || !rotates {
            return Presented::Kept;
        }
        if let (Some(Successor::Same), Some(first)) = (again, self.tokens[place].successors.first()) {
            return Presented::Succeeded(*first);
        }
        let successor = self.tokens.len();
        self.tokens.push(Token::new(now));
        let token = &mut self.tokens[place];
        token.spent_at.get_or_insert(now);
        token.successors.push(successor);
        Presented::Succeeded(successor)
    }

    pub(super) fn revoke(&mut self) {
        self.is_revoked = true;
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.is_revoked
    }

    /// The newest token that is good and unspent.
    pub(super) fn newest(&self, now: DateTime<Utc>, settings: &Settings) -> Option<usize> {
        (0..self.tokens.len())
            .rev()
            .find(|place| self.tokens[*place].spent_at.is_none() && self.is_alive(*place, now, settings))
    }

    fn is_alive(&self, place: usize, now: DateTime<Utc>, settings: &Settings) -> bool {
        let token = &self.tokens[place];
        let lasts = |from: DateTime<Utc>, life: Option<TimeDelta>| life.is_none_or(|life| now < from + life);
        !self.is_revoked
            && lasts(token.made_at, settings.refresh_token_lifetime)
            && lasts(token.last_used_at.unwrap_or(token.made_at), settings.inactivity)
    }

    /// Whether a spent token still serves: its time is not over, and it is the one before the newest.
    fn is_lenient(&self, place: usize, until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let mut successors = self.tokens[place].successors.iter();
        now < until && successors.all(|successor| self.tokens[*successor].spent_at.is_none())
    }
}

impl Token {
    fn new(now: DateTime<Utc>) -> Self {
        Self { made_at: now, last_used_at: None, spent_at: None, successors: Vec::new() }
    }
}
