//! What is sent to get a token.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::domain::failure::Failure;
use crate::domain::provider::template::{Encoding, Template, TemplateError, Variable};
use crate::domain::secret::Secret;

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
    /// The body as JSON, in place of a form.
    #[serde(default)]
    pub json: Option<JsonTemplate>,
    /// The `Authorization: Basic` header.
    #[serde(default)]
    pub basic: Option<Basic>,
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

/// User and password in a header.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user, often a client id.
    pub username: Template,
    /// The password, often a client secret.
    pub password: Template,
    /// How both are written.
    pub encoding: BasicEncoding,
}

/// How user and password are written: three ways, and most providers take only one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BasicEncoding {
    /// Each form-encoded, joined by a colon, then base64 (RFC 6749, 2.3.1).
    Form,
    /// As they are, joined by a colon, then base64 (RFC 7617).
    Plain,
    /// As they are, joined by a colon, without base64.
    Raw,
}

/// A JSON body whose texts are templates, at any depth.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub enum JsonTemplate {
    /// A text with places.
    Text(Template),
    /// A number, a truth value or null: sent as it is.
    Plain(Value),
    /// A list.
    Array(Vec<Self>),
    /// Members.
    Object(BTreeMap<String, Self>),
}

impl TryFrom<Value> for JsonTemplate {
    type Error = TemplateError;

    fn try_from(value: Value) -> Result<Self, TemplateError> {
        Ok(match value {
            Value::String(text) => Self::Text(Template::try_from(text)?),
            Value::Array(items) => {
                Self::Array(items.into_iter().map(Self::try_from).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => Self::Object(
                members.into_iter().map(|(key, value)| Ok((key, Self::try_from(value)?))).collect::<Result<
                    _,
                    TemplateError,
                >>(
                )?,
            ),
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => Self::Plain(plain),
        })
    }
}

impl JsonTemplate {
    /// Every text in it, with the key under which it stands.
    pub fn templates(&self) -> Vec<(String, &Template)> {
        let mut templates = Vec::new();
        self.collect(String::new(), &mut templates);
        templates
    }

    fn collect<'a>(&'a self, path: String, templates: &mut Vec<(String, &'a Template)>) {
        match self {
            Self::Text(template) => templates.push((path, template)),
            Self::Plain(_) => {}
            Self::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect(format!("{path}[{index}]"), templates);
                }
            }
            Self::Object(members) => {
                for (key, member) in members {
                    member.collect(format!("{path}.{key}"), templates);
                }
            }
        }
    }

    /// The body, with the values in their places.
    ///
    /// # Errors
    /// As for [`Template::render`].
    pub fn render(&self, value: &dyn Fn(&Variable) -> Result<Secret, Failure>) -> Result<Secret, Failure> {
        let mut body = Zeroizing::new(String::new());
        self.write(value, &mut body)?;
        Ok(Secret::new(body.as_str()))
    }

    fn write(
        &self,
        value: &dyn Fn(&Variable) -> Result<Secret, Failure>,
        body: &mut String,
    ) -> Result<(), Failure> {
        match self {
            Self::Text(template) => {
                body.push('"');
                body.push_str(template.render(Encoding::Json, value)?.expose());
                body.push('"');
            }
            Self::Plain(plain) => body.push_str(&plain.to_string()),
            Self::Array(items) => {
                body.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        body.push(',');
                    }
                    item.write(value, body)?;
                }
                body.push(']');
            }
            Self::Object(members) => {
                body.push('{');
                for (index, (key, member)) in members.iter().enumerate() {
                    if index > 0 {
                        body.push(',');
                    }
                    body.push_str(&Value::from(key.as_str()).to_string());
                    body.push(':');
                    member.write(value, body)?;
                }
                body.push('}');
            }
        }
        Ok(())
    }
}
