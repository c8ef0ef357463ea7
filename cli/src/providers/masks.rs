//! A request with names in the places of its values: built by the code that builds the real one.
//!
//! Values that no encoding changes are put in, and afterwards each is replaced by the name of its place.

use std::cell::RefCell;

use anyhow::anyhow;
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::definition::{Basic, BasicEncoding, EnvironmentChoice};
use freshet_shared::domain::provider::environment::Spending;
use freshet_shared::domain::provider::template::Variable;
use freshet_shared::domain::secret::Secret;
use serde_json::{Map, Value};

/// How each of them begins.
const MASK: &str = "freshetmask";

/// A request as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MaskedRequest {
    pub(super) method: &'static str,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
    /// The hosts that it may go to; `None` where a setting has to say them.
    pub(super) hosts: Option<String>,
}

/// What stands for each value until the request is built: letters and digits only.
#[derive(Default)]
pub(super) struct Masks(RefCell<Vec<(String, String)>>);

impl Masks {
    /// A value for the place of that name.
    pub(super) fn value(&self, name: &str) -> String {
        let mut masks = self.0.borrow_mut();
        let value = format!("{MASK}{:04}end", masks.len());
        masks.push((value.clone(), format!("‹{name}›")));
        value
    }

    /// A value that can stand for a URL's beginning.
    fn url(&self, name: &str) -> String {
        let value = format!("https://{}.invalid", self.value(name));
        if let Some(mask) = self.0.borrow_mut().last_mut() {
            mask.0.clone_from(&value);
        }
        value
    }

    fn named(&self, text: &str) -> String {
        self.0.borrow().iter().fold(text.to_owned(), |text, (value, name)| text.replace(value, name))
    }
}

/// The request of a provider in one of its environments, masked. The provider's secrets have to come from `masks`.
///
/// # Errors
/// If no request can be made whatever its values are.
pub(super) fn masked_request(
    provider: &Provider,
    environment: Option<&str>,
    masks: &Masks,
) -> anyhow::Result<MaskedRequest> {
    let mut provider = in_environment(provider, environment)?;
    fill_environment(&mut provider, masks);
    let mut input = Map::new();
    for declared in &mut provider.definition.inputs {
        declared.longest = None;
        let value = masks.value(&format!("input.{}", declared.key));
        input.insert(declared.key.clone(), Value::String(value));
    }
    let input = InputFields::parse(Some(&Secret::new(Value::Object(input).to_string())));
    let input = input.map_err(|failure| anyhow!("{failure}"))?;
    let refresh_token = Secret::new(masks.value("refresh_token"));
    let request_id = masks.value("request.id");
    let spending = Spending { refresh_token: Some(&refresh_token), secret: 0, request_id: Some(&request_id) };
    let request = provider.token_request(&input, spending).map_err(|failure| anyhow!("{failure}"))?;
    let basic = provider.definition.token.request.basic.as_ref();
    let headers = request
        .headers
        .iter()
        .map(|(name, value)| match basic {
            Some(basic) if name == "authorization" => (name.clone(), describe_basic(basic)),
            _ => (name.clone(), masks.named(value.expose())),
        })
        .collect();
    let hosts: Vec<String> = request.egress.hosts.iter().map(ToString::to_string).collect();
    Ok(MaskedRequest {
        hosts: hosts.iter().all(|host| !host.contains(MASK)).then(|| hosts.join(", ")),
        method: request.method.as_str(),
        url: masks.named(request.url.expose()),
        headers,
        body: request.body.map(|body| masks.named(body.expose())),
    })
}

/// The provider as it is for a connection of that environment, whatever the connection's input says.
///
/// # Errors
/// Names the environments that there are.
pub(super) fn in_environment(provider: &Provider, environment: Option<&str>) -> anyhow::Result<Provider> {
    let mut provider = provider.clone();
    let definition = &mut provider.definition;
    if let Some(environment) = environment {
        let known = || definition.environments.keys().cloned().collect::<Vec<_>>().join(", ");
        anyhow::ensure!(
            definition.environments.contains_key(environment),
            "`{environment}` is no environment of {}: there are {}",
            definition.name,
            known()
        );
        definition.environment = EnvironmentChoice {
            choose_by: None,
            choices: Default::default(),
            default: environment.to_owned(),
        };
    }
    Ok(provider)
}

/// Values that the operator has not set are named too.
fn fill_environment(provider: &mut Provider, masks: &Masks) {
    let definition = &mut provider.definition;
    let request = &definition.token.request;
    let of_host: Vec<Variable> = request.url.host_variables().cloned().collect();
    let mut templates = vec![&request.url];
    templates
        .extend(request.query.iter().chain(&request.headers).chain(&request.form).map(|(_, value)| value));
    templates.extend(request.basic.iter().flat_map(|basic| [&basic.username, &basic.password]));
    templates.extend(request.json.iter().flat_map(|json| json.templates()).map(|(_, template)| template));
    let used: Vec<String> = templates
        .into_iter()
        .flat_map(|template| template.variables())
        .filter_map(|variable| match variable {
            Variable::Environment(key) => Some(key.clone()),
            _ => None,
        })
        .collect();
    let chosen = definition.environment.default.clone();
    let Some(values) = definition.environments.get_mut(&chosen) else { return };
    for key in used {
        let is_host = of_host.contains(&Variable::Environment(key.clone()));
        let name = format!("environment.{key}");
        values.entry(key).or_insert_with(|| if is_host { masks.url(&name) } else { masks.value(&name) });
    }
}

fn describe_basic(basic: &Basic) -> String {
    let named = |source: &str| source.replace('{', "‹").replace('}', "›");
    let (username, password) = (named(basic.username.source()), named(basic.password.source()));
    match basic.encoding {
        BasicEncoding::Form => format!("Basic base64(form({username}):form({password}))"),
        BasicEncoding::Plain => format!("Basic base64({username}:{password})"),
        BasicEncoding::Raw => format!("Basic {username}:{password}"),
    }
}
