//! How long a token lives, from the places where a definition says that it is said.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::domain::provider::definition::Lifetime;
use crate::domain::secret::Secret;

/// Longer lives are taken for a mistake of the provider's.
const LONGEST: TimeDelta = TimeDelta::days(3_650);
const SHORTEST: TimeDelta = TimeDelta::seconds(1);

/// From here on a number is milliseconds since 1970 and not seconds: it would be the year 5138.
const FIRST_MILLISECONDS: f64 = 1e11;

/// What a lifetime may be read from.
pub(super) struct Asked<'a> {
    /// The answer.
    pub(super) body: &'a Value,
    /// The access token.
    pub(super) token: &'a Secret,
    /// A life is counted from before the request, so that it is never too long.
    pub(super) sent_at: DateTime<Utc>,
    /// How long the token before was said to live.
    pub(super) observed: Option<TimeDelta>,
    /// The operator's own word.
    pub(super) fixed: Option<TimeDelta>,
}

impl Asked<'_> {
    /// The first source that says something credible, and what: no life where nobody knows it.
    pub(super) fn first(&self, sources: &[Lifetime]) -> Option<(usize, Option<TimeDelta>)> {
        sources.iter().enumerate().find_map(|(place, source)| {
            let life = match source {
                Lifetime::Unknown if self.fixed.is_none() => return Some((place, None)),
                source => self.read(source)?,
            };
            (life >= SHORTEST && life <= LONGEST).then_some((place, Some(life)))
        })
    }

    fn read(&self, source: &Lifetime) -> Option<TimeDelta> {
        let at = |pointer: &str| self.body.pointer(pointer);
        match source {
            Lifetime::Fixed(fixed) => self.fixed.or_else(|| TimeDelta::from_std(*fixed).ok()),
            Lifetime::Unknown => self.fixed,
            Lifetime::Seconds(pointer) => from_milliseconds(number(at(pointer)?)? * 1_000.0),
            Lifetime::Milliseconds(pointer) => from_milliseconds(number(at(pointer)?)?),
            Lifetime::Timestamp(pointer) => Some(time(at(pointer)?)? - self.sent_at),
            Lifetime::Jwt => Some(expiry_of_jwt(self.token)? - self.sent_at),
            Lifetime::Observed => self.observed,
        }
    }
}

/// What to say when no source said anything.
pub(super) fn unreadable(sources: &[Lifetime]) -> String {
    let places: Vec<String> = sources
        .iter()
        .map(|source| {
            source.pointer().map_or_else(|| source.describe(), |pointer| format!("the answer's {pointer}"))
        })
        .collect();
    format!("{} says no life of the token between 1 s and 10 years", places.join(", or "))
}

/// A number, or a text that holds one.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

/// Whole milliseconds, the rest dropped: never longer than it was said.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is beyond i64 saturates and is then refused as too long"
)]
fn from_milliseconds(milliseconds: f64) -> Option<TimeDelta> {
    TimeDelta::try_milliseconds(milliseconds.floor() as i64)
}

/// Seconds or milliseconds since 1970, or RFC 3339.
fn time(value: &Value) -> Option<DateTime<Utc>> {
    if let Value::String(text) = value
        && let Ok(time) = DateTime::parse_from_rfc3339(text.trim())
    {
        return Some(time.to_utc());
    }
    since_1970(number(value)?)
}

#[expect(clippy::cast_possible_truncation, reason = "what is beyond i64 saturates and is then no time")]
fn since_1970(number: f64) -> Option<DateTime<Utc>> {
    let milliseconds = if number < FIRST_MILLISECONDS { number * 1_000.0 } else { number };
    DateTime::from_timestamp_millis(milliseconds.floor() as i64)
}

/// RFC 7519 allows fractions of a second, and some providers send them.
#[derive(Deserialize)]
struct Claims {
    exp: f64,
}

fn expiry_of_jwt(token: &Secret) -> Option<DateTime<Utc>> {
    // Not verified: whoever could forge the answer could as well send another token.
    let claims = jsonwebtoken::dangerous::insecure_decode::<Claims>(token.expose()).ok()?.claims;
    since_1970(claims.exp)
}
