//! From a provider's answer to a grant or a classified failure. Pure; nothing of the answer is ever quoted.

mod life;
mod refusal;

#[cfg(test)]
mod tests;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::domain::channel::Channel;
use crate::domain::connection::Grant;
use crate::domain::failure::{Failure, FailureClass};
use crate::domain::secret::{Secret, SecretJson};

use super::Provider;
use super::definition::Lifetime;
use life::Asked;

/// A complete answer. The body holds secrets, so there is no `Debug`.
#[derive(Clone)]
pub struct ProviderAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header as received.
    pub retry_after: Option<String>,
    /// The body as received.
    pub body: Zeroizing<Vec<u8>>,
}

impl ProviderAnswer {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What a token whose life cannot be read is taken to live, where asking again would cost the grant. Short, so that it is
/// renewed soon.
const CAUTIOUS_LIFETIME: TimeDelta = TimeDelta::minutes(10);

impl Provider {
    /// Reads the answer to a request that was sent at `sent_at`; `observed` is how long the connection's token before this
    /// one was said to live.
    ///
    /// # Errors
    /// A failure by the definition's rules, by status, by the error code of RFC 6749, 5.2, or for an answer that is not
    /// what the definition says.
    pub fn interpret(
        &self,
        answer: &ProviderAnswer,
        sent_at: DateTime<Utc>,
        now: DateTime<Utc>,
        observed: Option<TimeDelta>,
    ) -> Result<Grant, Failure> {
        let parsed = SecretJson::parse(&answer.body);
        let json = parsed.as_ref().ok().map(SecretJson::expose);
        if let Some(failure) = self.ruled_out(answer, json, now) {
            return Err(failure);
        }
        if !answer.is_success() {
            return Err(self.refused(answer, json, now));
        }
        let body = match &parsed {
            Ok(body) => body.expose(),
            Err(error) => {
                return Err(malformed(format!(
                    "the answer ({} bytes) is not JSON (line {}, column {})",
                    answer.body.len(),
                    error.line(),
                    error.column()
                )));
            }
        };
        let response = &self.definition.token.response;
        if let Some(success) = &response.success
            && body.pointer(&success.pointer) != Some(&success.equals)
        {
            // The provider itself says that it did nothing.
            let said = malformed(format!("the answer's {} is not {}", success.pointer, success.equals));
            return Err(Failure { may_have_spent: false, ..said });
        }
        let access_token = match body.pointer(&response.access_token).and_then(Value::as_str) {
            Some(token) if !token.is_empty() => Secret::new(token),
            _ => return Err(self.without_token(body)),
        };
        self.grant(access_token, body, sent_at, observed)
    }

    fn grant(
        &self,
        access_token: Secret,
        body: &Value,
        sent_at: DateTime<Utc>,
        observed: Option<TimeDelta>,
    ) -> Result<Grant, Failure> {
        let asked = Asked { body, token: &access_token, sent_at, observed, fixed: self.token_lifetime };
        let sources = &self.definition.token.response.lifetime.0;
        let (lifetime, lifetime_source) = match asked.first(sources) {
            Some((place, lifetime)) => (lifetime, Some(place)),
            // The old refresh token is spent: a token that is stored and renewed too soon loses nothing, a refusal would.
            None if self.rotation().spends() => (Some(observed.unwrap_or(CAUTIOUS_LIFETIME)), None),
            None => return Err(malformed(life::unreadable(sources))),
        };
        // Columns may hold whole seconds and would round up: a token must never seem to live longer than it does.
        let expires_at = lifetime.map(|lifetime| (sent_at + lifetime).trunc_subsecs(0));
        let (refresh_token, refresh_token_expires_at) = self.refresh_token(&asked);
        Ok(Grant {
            access_token,
            expires_at,
            lifetime,
            lifetime_source,
            refresh_token,
            refresh_token_expires_at,
        })
    }

    /// The new refresh token if there is one, and when the one that is good from now on dies, if that is said.
    fn refresh_token(&self, asked: &Asked<'_>) -> (Option<Secret>, Option<DateTime<Utc>>) {
        let Some(known) = &self.definition.refresh_token else { return (None, None) };
        let answered = known.answer.as_ref().and_then(|pointer| asked.body.pointer(pointer)?.as_str());
        let token = answered.filter(|token| !token.is_empty()).map(Secret::new);
        // The operator's word is about the access token, and a life that the answer does not say is a new token's.
        let asked = &Asked { fixed: None, observed: None, ..*asked };
        let is_said = |source: &Lifetime| token.is_some() || source.pointer().is_some();
        let life =
            known.lifetime.iter().flat_map(|sources| sources.0.iter().filter(|source| is_said(source)));
        let life = life.filter_map(|source| asked.first(std::slice::from_ref(source))?.1).next();
        let unused = known.inactivity.and_then(|inactivity| TimeDelta::from_std(inactivity).ok());
        let shorter = life.into_iter().chain(unused).min();
        (token, shorter.map(|life| (asked.sent_at + life).trunc_subsecs(0)))
    }

    /// Reads the answer of the platform's refresh-connection endpoint for one channel.
    ///
    /// # Errors
    /// If it is not a success, not JSON, lacks a member, or is about another channel.
    pub fn interpret_refresh_connection(
        &self,
        answer: &ProviderAnswer,
        channel_id: i64,
    ) -> Result<Channel, Failure> {
        if !answer.is_success() {
            return Err(Failure::new(
                FailureClass::ServerError,
                format!("the refresh-connection endpoint answered {}: see its log", answer.status),
            ));
        }
        let channel: Channel = serde_json::from_slice(&answer.body).map_err(|error| {
            malformed(format!(
                "the refresh-connection answer lacks a member or is not JSON (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        if channel.id != channel_id {
            return Err(malformed("the refresh-connection answer is about another channel".into()));
        }
        Ok(channel)
    }
}

/// The provider said yes, and we do not understand what else it said.
fn malformed(detail: String) -> Failure {
    Failure::of_unknown_effect(
        FailureClass::MalformedAnswer,
        format!("{detail}: compare the provider's documentation with its definition"),
    )
}
