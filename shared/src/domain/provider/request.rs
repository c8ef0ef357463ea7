//! From a definition and a connection's input to a request. The only place where a secret becomes part of one.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::domain::channel::Channel;
use crate::domain::connection::ConnectionId;
use crate::domain::failure::{Failure, FailureClass};
use crate::domain::input_fields::InputFields;
use crate::domain::secret::Secret;

use super::Provider;
use super::definition::{Basic, BasicEncoding, Method};
use super::egress::{Egress, HostPattern};
use super::environment::{Spending, Values};
use super::template::{Encoding, Template, Variable};

/// A request ready to be sent. Holds secrets in URL, headers and body, so it has no `Debug`.
#[derive(Clone)]
pub struct ProviderRequest {
    /// The method.
    pub method: Method,
    /// The URL with its query: never to be logged.
    pub url: Secret,
    /// The URL's template, which stands for it in logs, spans and errors.
    pub endpoint: String,
    /// Header fields, `content-type` included.
    pub headers: Vec<(String, Secret)>,
    /// The body.
    pub body: Option<Secret>,
    /// Where it may go to.
    pub egress: Egress,
}

/// A ready `Authorization` header.
pub struct ReadyHeader {
    /// The operation that it serves.
    pub operation: String,
    /// Its value.
    pub value: Secret,
    /// Whether it dies with the token.
    pub uses_token: bool,
}

impl Provider {
    /// The request that creates a token for the connection with this input, and with what it has to spend.
    ///
    /// # Errors
    /// [`crate::domain::failure::FailureClass::Misconfigured`], naming the input or the configuration key.
    pub fn token_request(
        &self,
        input: &InputFields,
        spending: Spending<'_>,
    ) -> Result<ProviderRequest, Failure> {
        let values = Values::of(self, input, spending)?;
        // All of them, so that a header which needs one that this call does not is not missing silently.
        for declared in &self.definition.inputs {
            values.get(&Variable::Input(declared.key.clone()), None)?;
        }
        let request = &self.definition.token.request;
        let value = |variable: &Variable| values.get(variable, None);
        let render = |template: &Template, encoding| template.render(encoding, &value);
        let mut url = render(&request.url, Encoding::Url)?;
        if !request.query.is_empty() {
            let query = self.pairs(&request.query, Encoding::Query, &render)?;
            url = Secret::new(format!("{}?{}", url.expose(), query.expose()));
        }
        let mut headers = Vec::with_capacity(request.headers.len() + 2);
        for (name, template) in &request.headers {
            headers.push((name.clone(), render(template, Encoding::Header)?));
        }
        if let Some(basic) = &request.basic {
            headers.push(("authorization".into(), basic_header(basic, &render)?));
        }
        let (body, content_type) = match &request.json {
            Some(json) => (Some(json.render(&value)?), "application/json"),
            None if request.form.is_empty() => (None, ""),
            None => (
                Some(self.pairs(&request.form, Encoding::Form, &render)?),
                "application/x-www-form-urlencoded",
            ),
        };
        if body.is_some() {
            headers.push(("content-type".into(), Secret::new(content_type)));
        }
        // Where none are named, no input is part of the host: it comes from the definition or the operator.
        let hosts = if self.allowed_hosts.is_empty() {
            HostPattern::of_url(url.expose()).into_iter().collect()
        } else {
            self.allowed_hosts.clone()
        };
        Ok(ProviderRequest {
            method: request.method,
            url,
            endpoint: request.url.source().into(),
            headers,
            body,
            egress: Egress { hosts, is_named_by_operator: false },
        })
    }

    /// The ready headers of the connection with this input and token; one whose input is missing is left out.
    pub fn ready_headers(&self, input: &InputFields, token: &Secret) -> Vec<ReadyHeader> {
        self.headers(input, Some(token))
    }

    /// Those of them that need no token, and so are good whatever becomes of it.
    pub fn static_headers(&self, input: &InputFields) -> Vec<ReadyHeader> {
        self.headers(input, None)
    }

    fn headers(&self, input: &InputFields, token: Option<&Secret>) -> Vec<ReadyHeader> {
        let Ok(values) = Values::of(self, input, Spending::default()) else { return Vec::new() };
        let mut headers = Vec::new();
        for authorization in &self.definition.authorizations {
            let value = |variable: &Variable| values.get(variable, token);
            let Ok(value) = authorization.value.render(Encoding::Header, &value) else { continue };
            headers.extend(authorization.operations.iter().map(|operation| ReadyHeader {
                operation: operation.clone(),
                value: value.clone(),
                uses_token: authorization.uses_token(),
            }));
        }
        headers
    }

    /// Names come from the definition and are written as they are.
    fn pairs(
        &self,
        pairs: &[(String, Template)],
        encoding: Encoding,
        render: &dyn Fn(&Template, Encoding) -> Result<Secret, Failure>,
    ) -> Result<Secret, Failure> {
        let mut parts = Vec::with_capacity(pairs.len());
        for (name, template) in pairs {
            let value = render(template, encoding)?;
            if value.is_empty() && self.is_optional(template) {
                continue;
            }
            parts.push(Zeroizing::new(format!("{name}={}", value.expose())));
        }
        let parts: Vec<&str> = parts.iter().map(|part| part.as_str()).collect();
        Ok(Secret::new(parts.join("&")))
    }

    /// Whether a parameter is left out where it has no value: it is an input that may be missing, and nothing else. RFC 6749,
    /// 3.2 makes no difference between the two; some servers do.
    fn is_optional(&self, template: &Template) -> bool {
        let Some(Variable::Input(key)) = template.only_variable() else { return false };
        let declared = self.definition.inputs.iter().find(|input| input.key == *key);
        declared.is_some_and(|input| input.default.as_deref() == Some(""))
    }

    /// The request to the platform's own refresh-connection endpoint, `None` where it is not configured.
    ///
    /// # Errors
    /// As for [`Self::token_request`].
    pub fn refresh_connection_request(
        &self,
        input: &InputFields,
        connection_id: ConnectionId,
        channel: &Channel,
    ) -> Result<Option<ProviderRequest>, Failure> {
        let Some(endpoint) = &self.definition.refresh_connection else { return Ok(None) };
        let Some((_, host)) = &self.refresh_connection_host else { return Ok(None) };
        let values = Values::of(self, input, Spending::default())?;
        let egress = Egress { hosts: Arc::new([host.clone()]), is_named_by_operator: true };
        let url = endpoint.url.render(Encoding::Url, &|variable| values.get(variable, None))?;
        let mut body = json!(channel);
        if let Value::Object(members) = &mut body {
            members.insert("connectionId".into(), json!(connection_id));
        }
        Ok(Some(ProviderRequest {
            method: Method::Post,
            url,
            endpoint: endpoint.url.source().into(),
            headers: vec![("content-type".into(), Secret::new("application/json"))],
            body: Some(Secret::new(body.to_string())),
            egress,
        }))
    }
}

/// The value of the `Authorization` header.
fn basic_header(
    basic: &Basic,
    render: &dyn Fn(&Template, Encoding) -> Result<Secret, Failure>,
) -> Result<Secret, Failure> {
    let encoding = match basic.encoding {
        BasicEncoding::Form => Encoding::Form,
        BasicEncoding::Plain => Encoding::Plain,
        BasicEncoding::Raw => Encoding::Header,
    };
    let (username, password) = (render(&basic.username, encoding)?, render(&basic.password, encoding)?);
    // RFC 7617, 2: the first colon ends the user.
    if basic.encoding != BasicEncoding::Raw && username.expose().contains(':') {
        return Err(Failure::new(
            FailureClass::Misconfigured,
            format!(
                "the user of the Basic header, {}, holds a colon, which none may: correct it",
                basic.username.source()
            ),
        ));
    }
    let pair = Zeroizing::new(format!("{}:{}", username.expose(), password.expose()));
    Ok(match basic.encoding {
        BasicEncoding::Raw => Secret::new(format!("Basic {}", *pair)),
        BasicEncoding::Form | BasicEncoding::Plain => {
            let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
            Secret::new(format!("Basic {}", *encoded))
        }
    })
}
