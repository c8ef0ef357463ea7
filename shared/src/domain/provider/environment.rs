//! Where a connection's values come from: its input, its environment, the operator's settings and secrets.

use crate::domain::failure::{Failure, FailureClass};
use crate::domain::input_fields::InputFields;
use crate::domain::secret::Secret;

use super::Provider;
use super::template::Variable;

/// What a token call spends besides the connection's input.
#[derive(Clone, Copy, Default)]
pub struct Spending<'a> {
    /// The connection's refresh token, where it has one.
    pub refresh_token: Option<&'a Secret>,
    /// Which of the operator's secrets, where several are listed: 0 is the first. Beyond the end it is the last one.
    pub secret: usize,
    /// What tells this call from every other, where [`Provider::wants_request_id`].
    pub request_id: Option<&'a str>,
}

/// The values of one connection of a provider.
pub(super) struct Values<'a> {
    provider: &'a Provider,
    input: &'a InputFields,
    environment: &'a str,
    spending: Spending<'a>,
}

fn misconfigured(detail: String) -> Failure {
    Failure::new(FailureClass::Misconfigured, detail)
}

impl<'a> Values<'a> {
    /// Chooses the connection's environment.
    pub(super) fn of(
        provider: &'a Provider,
        input: &'a InputFields,
        spending: Spending<'a>,
    ) -> Result<Self, Failure> {
        let choice = &provider.definition.environment;
        let chosen = choice.choose_by.as_deref().and_then(|key| Some((key, input.text(key)?)));
        let environment = match chosen {
            None => &choice.default,
            Some((key, value)) => choice.choices.get(value.expose()).ok_or_else(|| {
                let known: Vec<_> = choice.choices.keys().map(String::as_str).collect();
                misconfigured(format!("inputFields.{key} must be one of: {}", known.join(", ")))
            })?,
        };
        Ok(Self { provider, input, environment, spending })
    }

    /// The value for a place in a template.
    pub(super) fn get(&self, variable: &Variable, token: Option<&Secret>) -> Result<Secret, Failure> {
        match variable {
            Variable::Input(key) => self.input(key),
            Variable::Environment(key) => self.environment(key),
            Variable::Setting(_) => self
                .provider
                .refresh_connection_host
                .as_ref()
                .map(|(host, _)| Secret::new(host.as_str()))
                .ok_or_else(|| self.unset("refresh_connection_host")),
            Variable::Secret(key) => self
                .provider
                .secrets
                .get(key, self.spending.secret)
                .cloned()
                .ok_or_else(|| self.unset(&format!("secrets.{key}"))),
            Variable::RefreshToken => {
                self.spending.refresh_token.filter(|token| !token.is_empty()).cloned().ok_or_else(|| {
                    misconfigured("the connection has no refreshToken: the merchant has to authorise".into())
                })
            }
            // Definitions allow the place in the token call only, for which one is drawn.
            Variable::RequestId => self
                .spending
                .request_id
                .map(Secret::new)
                .ok_or_else(|| misconfigured("{request.id} stands where no call is made".into())),
            // Definitions allow the place only where there is a token.
            Variable::Token => {
                token.cloned().ok_or_else(|| misconfigured("{token} stands where none is".into()))
            }
        }
    }

    fn input(&self, key: &str) -> Result<Secret, Failure> {
        let declared = self.provider.definition.inputs.iter().find(|input| input.key == key);
        let default = declared.and_then(|input| input.default.as_deref().map(Secret::new));
        let value = self.input.text(key).or(default).ok_or_else(|| {
            misconfigured(format!("inputFields.{key} is missing: the merchant has to enter it"))
        })?;
        if let Some(longest) = declared.and_then(|input| input.longest)
            && value.characters() > longest
        {
            return Err(misconfigured(format!(
                "inputFields.{key} has {} characters, at most {longest} are allowed: correct it",
                value.characters()
            )));
        }
        Ok(value)
    }

    fn environment(&self, key: &str) -> Result<Secret, Failure> {
        let values = self.provider.definition.environments.get(self.environment);
        values
            .and_then(|values| values.get(key))
            .map(|value| Secret::new(value.as_str()))
            .ok_or_else(|| self.unset(&format!("environments.{}.{key}", self.environment)))
    }

    fn unset(&self, key: &str) -> Failure {
        misconfigured(format!(
            "configuration key providers.{}.{key} is not set: set it",
            self.provider.name()
        ))
    }
}
