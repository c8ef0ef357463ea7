//! How a client says who it is (RFC 6749, 2.3.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ledger::Refusal;
use super::request::{Form, Request, decode};
use super::settings::ClientAuthentication;

/// What a client says of itself, not checked. No `Debug`: it holds a secret.
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl Client {
    /// Reads it from where it may stand.
    pub(super) fn read(
        request: &Request,
        form: &Form,
        allowed: ClientAuthentication,
    ) -> Result<Self, Refusal> {
        let member = |name| form.one(name).map_err(|_| Refusal::InvalidRequest);
        let (id, secret) = (member("client_id")?, member("client_secret")?);
        match (request.header("authorization"), secret) {
            // Never more than one way in a request (RFC 6749, 2.3).
            (Some(_), Some(_)) => Err(Refusal::InvalidRequest),
            (Some(header), None) if allowed != ClientAuthentication::Body => {
                let client = Self::from_basic(header).ok_or(Refusal::InvalidClient)?;
                if id.is_some_and(|id| id != client.id) { Err(Refusal::InvalidRequest) } else { Ok(client) }
            }
            (None, Some(secret)) if allowed != ClientAuthentication::Basic => {
                let id = id.ok_or(Refusal::InvalidClient)?;
                Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
            }
            _ => Err(Refusal::InvalidClient),
        }
    }

    /// Each half is form-encoded before the two are joined and encoded in base64.
    fn from_basic(header: &str) -> Option<Self> {
        let (scheme, encoded) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let joined = STANDARD.decode(encoded.trim()).ok()?;
        let colon = joined.iter().position(|byte| *byte == b':')?;
        Some(Self { id: decode(&joined[..colon]), secret: decode(&joined[colon + 1..]) })
    }
}
