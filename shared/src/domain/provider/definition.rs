//! The definition file: all that a provider needs, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::template::{Template, Variable};

/// A provider's definition, as in its TOML file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The name by which messages, settings and logs call it: lower case, digits, `-`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// The `channels.integrationType` of its connections, where the platform's is known.
    #[serde(default)]
    pub integration_type: Option<String>,
    /// Its queue pool: providers in one pool share queues and hold each other back.
    #[serde(default = "shared_pool")]
    pub pool: String,
    /// How a connection's environment is chosen.
    pub environment: EnvironmentChoice,
    /// The environments, each with its values.
    pub environments: BTreeMap<String, BTreeMap<String, String>>,
    /// The members of `inputFields` that are used.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// The call that creates a token.
    pub token: Token,
    /// The ready `Authorization` headers that the cache offers.
    #[serde(default)]
    pub authorizations: Vec<Authorization>,
    /// The platform's own endpoint that renews a channel, called in the urgent lane where its host is set.
    #[serde(default)]
    pub refresh_connection: Option<RefreshConnection>,
}

fn shared_pool() -> String {
    "shared".into()
}

/// How a connection's environment is chosen.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentChoice {
    /// The member of `inputFields` that chooses, if one does.
    #[serde(default)]
    pub choose_by: Option<String>,
    /// Which value of that member chooses which environment.
    #[serde(default)]
    pub choices: BTreeMap<String, String>,
    /// The environment where the member is missing.
    pub default: String,
}

/// A member of `inputFields`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its key.
    pub key: String,
    /// Its value where it is missing; without one it is required.
    #[serde(default)]
    pub default: Option<String>,
    /// The most characters that it may have.
    #[serde(default)]
    pub longest: Option<usize>,
    /// Whether it is a secret: encrypted at rest where that is switched on, and masked where a request is shown.
    #[serde(default)]
    pub secret: bool,
}

/// The call that creates a token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What is sent.
    pub request: Request,
    /// What comes back.
    pub response: Response,
}

/// What is sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: Method,
    /// Where to, without the query.
    pub url: Template,
    /// Query parameters in order.
    #[serde(default)]
    pub query: Vec<(String, Template)>,
    /// Header fields in order.
    #[serde(default)]
    pub headers: Vec<(String, Template)>,
    /// Form parameters in order (`application/x-www-form-urlencoded`).
    #[serde(default)]
    pub form: Vec<(String, Template)>,
}

/// The HTTP method of a token call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
}

impl Method {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// What comes back. Places in the JSON answer are JSON pointers (RFC 6901).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// What the answer must say besides its status.
    #[serde(default)]
    pub success: Option<Success>,
    /// Where the token stands.
    pub access_token: String,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Where an error code of RFC 6749, 5.2 stands.
    #[serde(default)]
    pub error: Option<String>,
}

/// A member that has to hold a value.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Success {
    /// Where it stands.
    pub pointer: String,
    /// What it has to be.
    pub equals: Value,
}

/// How long a token lives.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Lifetime {
    /// Always as long.
    Fixed(#[serde(with = "humantime_serde")] Duration),
    /// As many seconds as the answer says at this pointer (RFC 6749, 5.1 `expires_in`).
    Seconds(String),
}

/// One ready `Authorization` header.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// The operations that it serves.
    pub operations: Vec<String>,
    /// Its value. With `{token}` it dies with the token, without it never.
    pub value: Template,
}

impl Authorization {
    /// Whether the header holds the token.
    pub fn uses_token(&self) -> bool {
        self.value.variables().any(|variable| *variable == Variable::Token)
    }
}

/// The platform's own endpoint that renews a channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshConnection {
    /// Where it is; `{setting.refresh_connection_host}` is the operator's.
    pub url: Template,
}

/// A definition that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("provider definition {file}: {message}")]
pub struct DefinitionError {
    /// The file's name.
    pub file: String,
    /// Key, line where known, and what is wrong.
    pub message: String,
}

impl Definition {
    /// Reads a definition file.
    ///
    /// # Errors
    /// With file, line and key of the first fault.
    pub fn parse(file: &str, text: &str) -> Result<Self, DefinitionError> {
        let fail = |message: String| DefinitionError { file: file.into(), message };
        let definition: Self = toml::from_str(text).map_err(|error| fail(error.to_string()))?;
        definition.check().map_err(fail)?;
        Ok(definition)
    }

    fn check(&self) -> Result<(), String> {
        check_name("name", &self.name)?;
        check_name("pool", &self.pool)?;
        let environments = self.environment.choices.values().chain([&self.environment.default]);
        for environment in environments {
            if !self.environments.contains_key(environment) {
                return Err(format!("environment: `{environment}` is not one of [environments]"));
            }
        }
        if self.environment.choose_by.is_none() && !self.environment.choices.is_empty() {
            return Err("environment.choices: needs environment.choose_by".into());
        }
        if self.token.request.method == Method::Get && !self.token.request.form.is_empty() {
            return Err("token.request.form: a GET request has no form".into());
        }
        self.check_variables()?;
        self.check_operations()
    }

    fn check_variables(&self) -> Result<(), String> {
        let request = &self.token.request;
        let pairs = [("query", &request.query), ("headers", &request.headers), ("form", &request.form)];
        let mut places = vec![("token.request.url".to_owned(), &request.url, false)];
        for (part, pairs) in pairs {
            places.extend(
                pairs.iter().map(|(key, value)| (format!("token.request.{part}.{key}"), value, false)),
            );
        }
        let authorizations = self.authorizations.iter().enumerate();
        places.extend(
            authorizations.map(|(index, one)| (format!("authorizations[{index}].value"), &one.value, true)),
        );
        places.extend(
            self.refresh_connection.iter().map(|one| ("refresh_connection.url".to_owned(), &one.url, false)),
        );
        for (place, template, may_use_token) in places {
            for variable in template.variables() {
                let known = match variable {
                    Variable::Input(key) => self.inputs.iter().any(|input| input.key == *key),
                    // A value may be left to the operator's settings.
                    Variable::Environment(_) => true,
                    Variable::Setting(key) => key == "refresh_connection_host",
                    Variable::Token => may_use_token,
                };
                if !known {
                    return Err(format!(
                        "{place}: `{{{}}}` is not declared or not allowed here",
                        variable.name()
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_operations(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for (index, authorization) in self.authorizations.iter().enumerate() {
            if authorization.operations.is_empty() {
                return Err(format!("authorizations[{index}].operations: names no operation"));
            }
            for operation in &authorization.operations {
                check_name(&format!("authorizations[{index}].operations"), operation)?;
                if !seen.insert(operation) {
                    return Err(format!("authorizations[{index}].operations: `{operation}` is there twice"));
                }
            }
        }
        Ok(())
    }
}

/// Names go into queue names, cache keys and labels.
fn check_name(key: &str, name: &str) -> Result<(), String> {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(valid) {
        return Err(format!("{key}: `{name}` is not 1 to 64 lower-case letters, digits, `-` or `_`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
name = "example"
title = "Example"
environment = { default = "production" }
[environments.production]
base_url = "https://example.test"
[[inputs]]
key = "user"
[token.request]
method = "GET"
url = "{environment.base_url}/{input.user}"
[token.response]
access_token = "/token"
lifetime = { fixed = "1h" }
"#;

    #[test]
    fn a_minimal_definition_is_enough() {
        let definition = Definition::parse("example.toml", MINIMAL).unwrap();
        assert_eq!(definition.pool, "shared");
        assert!(definition.integration_type.is_none());
    }

    #[test]
    fn a_fault_is_named_with_file_and_key_and_line_where_it_has_one() {
        let cases = [
            ("title", "titel", &["line 3", "titel"][..]),
            ("method = \"GET\"", "method = \"FETCH\"", &["line 10", "FETCH"]),
            ("{input.user}", "{input.name}", &["token.request.url", "{input.name}"]),
            ("{input.user}", "{token}", &["token.request.url", "{token}"]),
            ("{input.user}", "{inputs.user}", &["line 11", "{inputs.user}"]),
            ("default = \"production\"", "default = \"live\"", &["environment", "live"]),
            ("name = \"example\"", "name = \"Example Shop\"", &["name", "Example Shop"]),
            ("fixed = \"1h\"", "fixed = \"soon\"", &["line 14"]),
            ("fixed = \"1h\"", "guessed = \"1h\"", &["line 14", "guessed"]),
        ];
        for (from, to, parts) in cases {
            let error =
                Definition::parse("example.toml", &MINIMAL.replacen(from, to, 1)).unwrap_err().to_string();
            for part in parts.iter().chain(&["example.toml"]) {
                assert!(error.contains(part), "{to}: `{part}` is not in: {error}");
            }
        }
    }

    #[test]
    fn operations_are_named_once() {
        let twice = format!(
            "{MINIMAL}\n[[authorizations]]\noperations = [\"push\"]\nvalue = \"a\"\n[[authorizations]]\noperations = [\"push\"]\nvalue = \"b\"\n"
        );
        let error = Definition::parse("example.toml", &twice).unwrap_err();
        assert!(error.message.contains("authorizations[1]") && error.message.contains("push"), "{error}");
    }
}
