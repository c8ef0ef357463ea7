//! Definition files, and the requests that those make which can be used.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::catalogue::{CatalogueError, Providers, SHIPPED};
use freshet_shared::domain::provider::definition::Definition;
use freshet_shared::domain::provider::environment::Spending;
use freshet_shared::domain::secret::Secret;
use serde_json::{Map, Value};

use crate::campaign::{CANARY, Reading, Target, ensure_discreet};

const FILE: &str = "fuzzed.toml";

pub(crate) const TARGET: Target = Target {
    name: "definitions",
    dictionary: &[
        "name = ",
        "title = ",
        "integration_type = ",
        "pool = ",
        "allowed_hosts = [",
        "environment = { default = \"production\" }\n",
        "[environments.production]\n",
        "[[inputs]]\n",
        "[[secrets]]\n",
        "key = ",
        "default = ",
        "longest = ",
        "secret = true\n",
        "[token.request]\n",
        "method = \"POST\"\n",
        "method = \"GET\"\n",
        "url = ",
        "query = [[",
        "headers = [[",
        "form = [[",
        "json = {",
        "basic = { username = \"{input.a}\", password = \"{input.a}\", encoding = \"raw\" }\n",
        "[token.response]\n",
        "success = { pointer = \"/status\", equals = \"SUCCESS\" }\n",
        "access_token = \"/access_token\"\n",
        "lifetime = { fixed = \"1h\" }\n",
        "lifetime = { seconds = \"/expires_in\" }\n",
        "lifetime = [{ milliseconds = \"/a\" }, \"jwt\", \"observed\"]\n",
        "[[token.response.failures]]\nclass = \"invalid_grant\"\n",
        "[refresh_token]\nrotation = \"strict\"\n",
        "[limits]\nrate = { requests = 2, per = \"1s\" }\n",
        "[[authorizations]]\n",
        "operations = [\"a\"]\n",
        "value = \"Bearer {token}\"\n",
        "{input.",
        "{environment.",
        "{secret.",
        "{refresh_token}",
        "{token}",
        "}",
        "\"\"\"",
        "'''",
        "\\u0000",
        "= \"",
        "\"\n",
        "[",
        "{ a = ",
        "a.",
        "99999999999999999999days",
        "1h",
        "true",
        "1979-05-27T07:32:00Z",
        "nan",
    ],
    seeds: || SHIPPED.iter().map(|(_, text)| text.as_bytes().to_vec()).collect(),
    read,
};

/// What merchants may enter: nothing out of the ordinary, and everything.
const VALUES: [&str; 3] = ["", " &=%+#?/\"\\{}é", "\r\nx: y\0"];

fn read(input: &[u8]) -> Result<Reading> {
    let text = String::from_utf8_lossy(input);
    let definition = match Definition::parse(FILE, &text) {
        Ok(definition) => definition,
        Err(error) => {
            let words = error.to_string();
            ensure!(words.contains(FILE), "the file is not named: {words}");
            return Ok(Reading::Refused(words));
        }
    };
    let secret = |_: &str, _: &str| Ok::<_, CatalogueError>(Some(vec![Secret::new(CANARY)]));
    let providers = Providers::only([(FILE, text.as_ref())], &BTreeMap::new());
    let providers = match providers.and_then(|providers| providers.with_secrets(secret)) {
        Ok(providers) => providers,
        Err(error) => return Ok(Reading::Refused(error.to_string())),
    };
    let provider = providers.get(&definition.name).context("the definition is not in the catalogue")?;
    let mut is_requested = false;
    for value in VALUES {
        is_requested |= request(provider, &format!("{CANARY}{value}"))?;
    }
    Ok(Reading::Accepted(shape(&definition, is_requested)))
}

/// What a definition has, and about how many of each.
fn shape(definition: &Definition, is_requested: bool) -> String {
    let (request, response) = (&definition.token.request, &definition.token.response);
    let counts = [
        definition.environments.len(),
        definition.inputs.len(),
        definition.secrets.len(),
        definition.authorizations.len(),
        definition.allowed_hosts.len(),
        request.query.len(),
        request.headers.len(),
        request.form.len(),
        response.failures.len(),
        response.lifetime.0.len(),
    ]
    .map(|count| ["none", "one", "more"][count.min(2)]);
    let parts = [
        is_requested,
        request.json.is_some(),
        request.basic.is_some(),
        response.success.is_some(),
        definition.environment.choose_by.is_some(),
        definition.refresh_token.is_some(),
        definition.rotation().spends(),
        definition.refresh_connection.is_some(),
    ];
    format!("{counts:?} {parts:?}")
}

/// Whether the definition makes a request for a merchant who enters this everywhere.
fn request(provider: &Provider, value: &str) -> Result<bool> {
    let inputs = provider.definition.inputs.iter();
    let entered: Map<String, Value> = inputs.map(|input| (input.key.clone(), value.into())).collect();
    let entered = Secret::new(Value::Object(entered).to_string());
    let fields = match InputFields::parse(Some(&entered)) {
        Ok(fields) => fields,
        Err(failure) => return ensure_discreet(&failure.to_string()).map(|()| false),
    };
    provider.ready_headers(&fields, &Secret::new(value));
    let token = Secret::new(value);
    match provider
        .token_request(&fields, Spending { refresh_token: Some(&token), secret: 0, request_id: Some("id") })
    {
        Ok(request) => {
            ensure_discreet(&request.endpoint)?;
            if let (Some(_), Some(body)) = (&provider.definition.token.request.json, &request.body) {
                let parsed = serde_json::from_str::<Value>(body.expose());
                ensure!(parsed.is_ok(), "a body that is no JSON: {:?}", body.expose());
            }
            Ok(true)
        }
        Err(failure) => ensure_discreet(&format!("{failure} {failure:?}")).map(|()| false),
    }
}
