//! Contradictions between the keys of a definition.

use std::collections::BTreeSet;
use std::fmt;

use super::{Definition, Lifetime, Lifetimes, Method, Rotation};
use crate::domain::provider::template::{Template, Variable};

/// A contradiction, under the key that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, as a path like `token.request.url` or `inputs[1].key`.
    pub key: String,
    /// What is wrong with it and what to do.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.key, self.problem)
    }
}

fn fault(key: impl Into<String>, problem: impl Into<String>) -> Fault {
    Fault { key: key.into(), problem: problem.into() }
}

/// Where a template stands, and what may stand in it.
struct Place<'a> {
    key: String,
    template: &'a Template,
    kind: PlaceKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    Request,
    Authorization,
    Platform,
}

impl Definition {
    /// Finds the first contradiction.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }

    /// Finds every contradiction.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        name("name", &self.name, &mut faults);
        name("pool", &self.pool, &mut faults);
        self.check_environments(&mut faults);
        self.check_keys(&mut faults);
        self.check_request(&mut faults);
        self.check_variables(&mut faults);
        self.check_hosts(&mut faults);
        self.check_response(&mut faults);
        self.check_refresh_token(&mut faults);
        self.check_operations(&mut faults);
        faults
    }

    fn check_environments(&self, faults: &mut Vec<Fault>) {
        let choices = self
            .environment
            .choices
            .iter()
            .map(|(value, name)| (format!("environment.choices.{value}"), name));
        for (key, environment) in
            choices.chain([("environment.default".to_owned(), &self.environment.default)])
        {
            if !self.environments.contains_key(environment) {
                faults.push(fault(key, format!("`{environment}` is not one of [environments]")));
            }
        }
        if self.environment.choose_by.is_none() && !self.environment.choices.is_empty() {
            faults.push(fault("environment.choices", "needs environment.choose_by"));
        }
    }

    fn check_keys(&self, faults: &mut Vec<Fault>) {
        let inputs = self.inputs.iter().map(|input| &input.key);
        twice("inputs", inputs, faults);
        twice("secrets", self.secrets.iter().map(|secret| &secret.key), faults);
        for (index, secret) in self.secrets.iter().enumerate() {
            name(&format!("secrets[{index}].key"), &secret.key, faults);
        }
    }

    fn check_request(&self, faults: &mut Vec<Fault>) {
        let request = &self.token.request;
        if request.method == Method::Get && (!request.form.is_empty() || request.json.is_some()) {
            faults.push(fault(
                "token.request.method",
                "a GET request has no body: leave out form and json, or use POST",
            ));
        }
        if !request.form.is_empty() && request.json.is_some() {
            faults.push(fault("token.request.json", "a request has one body: either form or json"));
        }
        for (key, _) in &request.headers {
            let key = key.to_ascii_lowercase();
            if key == "authorization" && request.basic.is_some() {
                faults.push(fault("token.request.basic", "the headers hold an Authorization already"));
            }
            if key == "content-type" && (!request.form.is_empty() || request.json.is_some()) {
                faults.push(fault("token.request.headers", "content-type is set by form and json"));
            }
        }
    }

    fn places(&self) -> Vec<Place<'_>> {
        let request = &self.token.request;
        let mut places = Vec::new();
        let mut add = |key: String, template, kind| places.push(Place { key, template, kind });
        add("token.request.url".into(), &request.url, PlaceKind::Request);
        for (part, pairs) in
            [("query", &request.query), ("headers", &request.headers), ("form", &request.form)]
        {
            for (key, value) in pairs {
                add(format!("token.request.{part}.{key}"), value, PlaceKind::Request);
            }
        }
        if let Some(basic) = &request.basic {
            add("token.request.basic.username".into(), &basic.username, PlaceKind::Request);
            add("token.request.basic.password".into(), &basic.password, PlaceKind::Request);
        }
        for (path, template) in request.json.iter().flat_map(|json| json.templates()) {
            add(format!("token.request.json{path}"), template, PlaceKind::Request);
        }
        for (index, authorization) in self.authorizations.iter().enumerate() {
            add(format!("authorizations[{index}].value"), &authorization.value, PlaceKind::Authorization);
        }
        if let Some(endpoint) = &self.refresh_connection {
            add("refresh_connection.url".into(), &endpoint.url, PlaceKind::Platform);
        }
        places
    }

    /// Whether it stands anywhere.
    pub fn uses(&self, variable: &Variable) -> bool {
        self.places().iter().any(|place| place.template.variables().any(|used| used == variable))
    }

    fn check_variables(&self, faults: &mut Vec<Fault>) {
        for place in self.places() {
            for variable in place.template.variables() {
                let problem = match variable {
                    Variable::Input(key) if !self.inputs.iter().any(|input| input.key == *key) => {
                        "is not declared: add [[inputs]] with this key"
                    }
                    Variable::Secret(key) if !self.secrets.iter().any(|secret| secret.key == *key) => {
                        "is not declared: add [[secrets]] with this key"
                    }
                    Variable::Secret(_) | Variable::RefreshToken | Variable::RequestId
                        if place.kind != PlaceKind::Request =>
                    {
                        "is allowed in token.request only"
                    }
                    Variable::RefreshToken if self.refresh_token.is_none() => {
                        "needs the table [refresh_token]"
                    }
                    Variable::Token if place.kind != PlaceKind::Authorization => {
                        "is allowed in authorizations only"
                    }
                    Variable::Setting(key) if key != "refresh_connection_host" => {
                        "is unknown: the only setting is refresh_connection_host"
                    }
                    // A value of an environment may be left to the operator's settings.
                    _ => continue,
                };
                faults.push(fault(&place.key, format!("`{{{}}}` {problem}", variable.name())));
            }
        }
    }

    fn check_hosts(&self, faults: &mut Vec<Fault>) {
        if self.is_host_made_of_inputs() && self.allowed_hosts.is_empty() {
            faults.push(fault(
                "token.request.url",
                "its host is made of an input: name the hosts that it may be in allowed_hosts, like \"*.example.com\"",
            ));
        }
    }

    fn check_response(&self, faults: &mut Vec<Fault>) {
        let response = &self.token.response;
        pointer("token.response.access_token", &response.access_token, faults);
        if let Some(success) = &response.success {
            pointer("token.response.success.pointer", &success.pointer, faults);
        }
        if let Some(error) = &response.error {
            pointer("token.response.error", error, faults);
        }
        lifetimes("token.response.lifetime", &response.lifetime, faults);
        for (index, rule) in response.failures.iter().enumerate() {
            let key = format!("token.response.failures[{index}]");
            let has_value = rule.equals.is_some() || !rule.one_of.is_empty();
            match &rule.pointer {
                Some(text) => pointer(&format!("{key}.pointer"), text, faults),
                None if rule.status.is_none() => {
                    faults.push(fault(&key, "fits every answer: give it a status or a pointer"));
                }
                None => {}
            }
            if !rule.class.is_answer() {
                faults.push(fault(
                    format!("{key}.class"),
                    format!("`{}` is nothing that an answer says", rule.class),
                ));
            }
            if rule.pointer.is_some() != has_value {
                faults.push(fault(&key, "pointer and equals (or one_of) go together"));
            }
        }
    }

    fn check_refresh_token(&self, faults: &mut Vec<Fault>) {
        let Some(refresh_token) = &self.refresh_token else { return };
        if !self.uses(&Variable::RefreshToken) {
            faults.push(fault("refresh_token", "is not used: token.request has no {refresh_token}"));
        }
        if refresh_token.rotation.spends() && refresh_token.answer.is_none() {
            faults.push(fault(
                "refresh_token.rotation",
                "a token that is replaced has to be found in the answer: add refresh_token.answer",
            ));
        }
        if let Rotation::Leeway(leeway) = refresh_token.rotation
            && leeway.as_secs() < 1
        {
            faults.push(fault("refresh_token.rotation", "a leeway below 1 s is none: use \"strict\""));
        }
        if let Some(answer) = &refresh_token.answer {
            pointer("refresh_token.answer", answer, faults);
        }
        if let Some(sources) = &refresh_token.lifetime {
            lifetimes("refresh_token.lifetime", sources, faults);
            let of_access_token =
                |source: &Lifetime| matches!(source, Lifetime::Jwt | Lifetime::Observed | Lifetime::Unknown);
            if sources.0.iter().any(of_access_token) {
                let problem =
                    "is said by the answer or fixed: jwt, observed and unknown are about the access token";
                faults.push(fault("refresh_token.lifetime", problem));
            }
        }
        if refresh_token.inactivity.is_some_and(|inactivity| inactivity.is_zero()) {
            faults.push(fault("refresh_token.inactivity", "must be more than 0"));
        }
    }

    fn check_operations(&self, faults: &mut Vec<Fault>) {
        let mut seen = BTreeSet::new();
        for (index, authorization) in self.authorizations.iter().enumerate() {
            let key = format!("authorizations[{index}].operations");
            if authorization.operations.is_empty() {
                faults.push(fault(&key, "names no operation"));
            }
            for operation in &authorization.operations {
                name(&key, operation, faults);
                if !seen.insert(operation) {
                    faults.push(fault(&key, format!("`{operation}` is there twice")));
                }
            }
        }
    }
}

fn twice<'a>(table: &str, keys: impl Iterator<Item = &'a String>, faults: &mut Vec<Fault>) {
    let mut seen = BTreeSet::new();
    for (index, key) in keys.enumerate() {
        if !seen.insert(key) {
            faults.push(fault(format!("{table}[{index}].key"), format!("`{key}` is there twice")));
        }
    }
}

/// Names go into queue names, cache keys and labels.
fn name(key: &str, name: &str, faults: &mut Vec<Fault>) {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(valid) {
        faults.push(fault(key, format!("`{name}` is not 1 to 64 lower-case letters, digits, `-` or `_`")));
    }
}

fn pointer(key: &str, pointer: &str, faults: &mut Vec<Fault>) {
    if !pointer.starts_with('/') {
        faults.push(fault(
            key,
            format!("`{pointer}` is not a JSON pointer: it begins with `/`, like /data/token"),
        ));
    }
}

fn lifetimes(key: &str, lifetimes: &Lifetimes, faults: &mut Vec<Fault>) {
    if lifetimes.0.is_empty() {
        faults.push(fault(key, "says nothing: use \"unknown\" if nobody knows"));
    }
    for (index, lifetime) in lifetimes.0.iter().enumerate() {
        if let Some(text) = lifetime.pointer() {
            pointer(key, text, faults);
        }
        let is_last = index + 1 == lifetimes.0.len();
        if matches!(lifetime, Lifetime::Fixed(_) | Lifetime::Unknown) && !is_last {
            faults.push(fault(key, "what comes after a fixed or unknown life is never looked at"));
        }
        if matches!(lifetime, Lifetime::Fixed(fixed) if fixed.as_secs() < 1) {
            faults.push(fault(key, "a fixed life must be at least 1 s"));
        }
    }
}
