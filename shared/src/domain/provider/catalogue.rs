//! All providers of a process: the shipped definitions, those of a directory, bound to the operator's settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;
use thiserror::Error;

use super::definition::{Definition, DefinitionError};
use super::egress::HostPattern;
use super::secrets::OperatorSecrets;
use super::template::Variable;
use super::{Provider, ProviderSettings};
use crate::domain::fingerprint::of_text;
use crate::domain::secret::Secret;

/// The definitions that are part of the program, as file name and text.
pub const SHIPPED: [(&str, &str); 21] = [
    ("fynd.toml", include_str!("../../../providers/fynd.toml")),
    ("very.toml", include_str!("../../../providers/very.toml")),
    ("allegro.toml", include_str!("../../../providers/allegro.toml")),
    ("amazon-selling-partner.toml", include_str!("../../../providers/amazon-selling-partner.toml")),
    ("bol.toml", include_str!("../../../providers/bol.toml")),
    ("ebay.toml", include_str!("../../../providers/ebay.toml")),
    ("etsy.toml", include_str!("../../../providers/etsy.toml")),
    ("lightspeed-x.toml", include_str!("../../../providers/lightspeed-x.toml")),
    ("mercado-libre.toml", include_str!("../../../providers/mercado-libre.toml")),
    ("oauth2-client-credentials.toml", include_str!("../../../providers/oauth2-client-credentials.toml")),
    (
        "oauth2-client-credentials-body.toml",
        include_str!("../../../providers/oauth2-client-credentials-body.toml"),
    ),
    ("oauth2-refresh-token.toml", include_str!("../../../providers/oauth2-refresh-token.toml")),
    ("oauth2-refresh-token-body.toml", include_str!("../../../providers/oauth2-refresh-token-body.toml")),
    ("shopify.toml", include_str!("../../../providers/shopify.toml")),
    ("shopify-offline.toml", include_str!("../../../providers/shopify-offline.toml")),
    ("square.toml", include_str!("../../../providers/square.toml")),
    ("tiktok-shop.toml", include_str!("../../../providers/tiktok-shop.toml")),
    ("walmart.toml", include_str!("../../../providers/walmart.toml")),
    ("wix.toml", include_str!("../../../providers/wix.toml")),
    ("zalando.toml", include_str!("../../../providers/zalando.toml")),
    ("zoho-commerce.toml", include_str!("../../../providers/zoho-commerce.toml")),
];

/// All providers of a process, by name.
#[derive(Debug, Clone)]
pub struct Providers(BTreeMap<String, Arc<Provider>>);

/// Providers that contradict each other or their settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogueError {
    /// A definition cannot be read.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// Settings for a provider of which there is no definition.
    #[error("providers.{name}: there is no definition of that name; there are: {known}")]
    UnknownProvider {
        /// The name in the settings.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A key of a provider's settings holds what it must not.
    #[error("providers.{name}.{key}: {problem}")]
    Setting {
        /// The provider.
        name: String,
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// Two providers claim the same rows of `channels`.
    #[error(
        "providers.{first}.integration_type and providers.{second}.integration_type are both `{integration_type}`: give each provider its own"
    )]
    SharedIntegrationType {
        /// One of them.
        first: String,
        /// The other.
        second: String,
        /// What both claim.
        integration_type: String,
    },
}

impl Providers {
    /// Binds the shipped definitions and `more` (file name and text; one of the same name takes the place of a shipped
    /// one) to the settings.
    ///
    /// # Errors
    /// Names the file, or the configuration key, that is at fault.
    pub fn new(
        more: &[(String, String)],
        settings: &BTreeMap<String, ProviderSettings>,
    ) -> Result<Self, CatalogueError> {
        let shipped = SHIPPED.iter().map(|(file, text)| (*file, *text));
        let more = more.iter().map(|(file, text)| (file.as_str(), text.as_str()));
        Self::only(shipped.chain(more), settings)
    }

    /// Binds these definitions, as file name and text, and no shipped ones.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn only<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        settings: &BTreeMap<String, ProviderSettings>,
    ) -> Result<Self, CatalogueError> {
        let mut providers = BTreeMap::new();
        for (file, text) in files {
            let definition = Definition::parse(file, text)?;
            let settings = settings.get(&definition.name).cloned().unwrap_or_default();
            providers.insert(definition.name.clone(), Arc::new(bind(definition, settings)?));
        }
        if let Some(name) = settings.keys().find(|name| !providers.contains_key(*name)) {
            let known = providers.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(CatalogueError::UnknownProvider { name: name.clone(), known });
        }
        let providers = Self(providers);
        providers.check_integration_types()?;
        Ok(providers)
    }

    /// The provider of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Provider>> {
        self.0.get(name)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.0.values()
    }

    /// Those whose connections are looked for.
    pub fn scanned(&self) -> impl Iterator<Item = &Provider> {
        self.iter().map(Arc::as_ref).filter(|provider| provider.integration_type.is_some())
    }

    /// The queue pools that they use, each once.
    pub fn pools(&self) -> Vec<String> {
        let pools: std::collections::BTreeSet<_> =
            self.iter().map(|provider| provider.pool().to_owned()).collect();
        pools.into_iter().collect()
    }

    /// Gives every provider that is scanned the secrets which its definition names. `read` fetches one provider's secret by
    /// key, in the order in which they are tried.
    ///
    /// # Errors
    /// Names the key that is not set, or says what `read` says.
    pub fn with_secrets<E: From<CatalogueError>>(
        mut self,
        read: impl Fn(&str, &str) -> Result<Option<Vec<Secret>>, E>,
    ) -> Result<Self, E> {
        for (name, provider) in &mut self.0 {
            if provider.integration_type.is_none() {
                continue;
            }
            let mut secrets = Vec::new();
            for declared in &provider.definition.secrets {
                let found = read(name, &declared.key)?.filter(|list| !list.is_empty());
                let list = found.ok_or_else(|| CatalogueError::Setting {
                    name: name.clone(),
                    key: format!("secrets.{}", declared.key),
                    problem: "is not set: say where the secret is, as file:/path or env:NAME".into(),
                })?;
                secrets.push((declared.key.clone(), list));
            }
            Arc::make_mut(provider).secrets = OperatorSecrets::from_iter(secrets);
        }
        Ok(self)
    }

    fn check_integration_types(&self) -> Result<(), CatalogueError> {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for provider in self.iter() {
            let Some(integration_type) = provider.integration_type.as_deref() else { continue };
            if let Some(first) = seen.insert(integration_type, provider.name()) {
                return Err(CatalogueError::SharedIntegrationType {
                    first: first.into(),
                    second: provider.name().into(),
                    integration_type: integration_type.into(),
                });
            }
        }
        Ok(())
    }
}

fn bind(mut definition: Definition, settings: ProviderSettings) -> Result<Provider, CatalogueError> {
    let name = definition.name.clone();
    let fail =
        |key: &str, problem: String| CatalogueError::Setting { name: name.clone(), key: key.into(), problem };
    for (environment, values) in settings.environments {
        definition.environments.entry(environment).or_default().extend(values);
    }
    if let Some(environment) = settings.environment {
        if !definition.environments.contains_key(&environment) {
            let known = definition.environments.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(fail("environment", format!("`{environment}` is not one of: {known}")));
        }
        definition.environment.default = environment;
    }
    let token_lifetime = match settings.token_lifetime.map(TimeDelta::from_std) {
        None => None,
        Some(Ok(lifetime)) if lifetime >= TimeDelta::seconds(1) => Some(lifetime),
        Some(_) => return Err(fail("token_lifetime", "must be at least 1 s".into())),
    };
    for key in settings.secrets.keys() {
        if !definition.secrets.iter().any(|secret| secret.key == *key) {
            let known: Vec<_> = definition.secrets.iter().map(|secret| secret.key.as_str()).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(fail(
                &format!("secrets.{key}"),
                format!("the definition names no such secret; it names: {known}"),
            ));
        }
    }
    let allowed_hosts: Arc<[_]> =
        definition.allowed_hosts.iter().cloned().chain(settings.allowed_hosts).collect();
    definition.limits = settings.limits.or(definition.limits);
    let integration_type = settings.integration_type.or_else(|| definition.integration_type.clone());
    if integration_type.as_deref() == Some("") {
        return Err(fail("integration_type", "is empty".into()));
    }
    let host = match settings.refresh_connection_host {
        None => None,
        Some(host) => {
            let pattern = host.parse::<HostPattern>();
            let pattern = pattern.map_err(|problem| fail("refresh_connection_host", problem.to_string()))?;
            Some((host, pattern))
        }
    };
    let revision = of_text(&format!("{definition:?} {token_lifetime:?} {host:?} {allowed_hosts:?}"));
    let wants_request_id = definition.uses(&Variable::RequestId);
    Ok(Provider {
        definition,
        integration_type,
        token_lifetime,
        refresh_connection_host: host,
        secrets: OperatorSecrets::default(),
        allowed_hosts,
        revision,
        wants_request_id,
    })
}

#[cfg(test)]
pub(crate) fn shipped(name: &str) -> Provider {
    let providers = Providers::new(&[], &BTreeMap::new()).unwrap();
    providers.get(name).unwrap().as_ref().clone()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::channel::Channel;
    use crate::domain::connection::ConnectionId;
    use crate::domain::failure::FailureClass;
    use crate::domain::input_fields::InputFields;
    use crate::domain::provider::environment::Spending;

    fn input(value: &serde_json::Value) -> InputFields {
        InputFields::parse(Some(&Secret::new(value.to_string()))).ok().unwrap()
    }

    fn settings(toml: &str) -> BTreeMap<String, ProviderSettings> {
        toml::from_str(toml).unwrap()
    }

    fn very_input() -> serde_json::Value {
        json!({
            "useSandbox": false, "companyRefId": 850_135, "apiKey": "AD0D7AEB25F3F676450F5C79ED6",
            "clientId": "id", "clientSecret": "a b&c"
        })
    }

    #[test]
    fn fynds_request_is_the_contracts() {
        let input = input(&json!({"x-integration-id": "loc&1", "x-integration-token": "p+ss w%rd"}));
        let request = shipped("fynd").token_request(&input, Spending::default()).ok().unwrap();
        assert_eq!(request.method.as_str(), "GET");
        assert_eq!(
            request.url.expose(),
            "https://api.fynd.com/hogwarts/api/v1/Eshopbox/shipment/authToken?username=loc%261&password=p%2Bss%20w%25rd"
        );
        assert!(request.body.is_none() && request.headers.is_empty());
        assert!(!request.endpoint.contains("loc"));
    }

    #[test]
    fn fynds_environment_is_chosen_by_the_operator_or_by_the_merchants_host() {
        let providers = Providers::new(&[], &settings("[fynd]\nenvironment = \"sandbox\"")).unwrap();
        let fynd = providers.get("fynd").unwrap();
        let fields = json!({"x-integration-id": "a", "x-integration-token": "b", "aggregator": "Own"});
        let url = |fields: &serde_json::Value| {
            fynd.token_request(&input(fields), Spending::default())
                .map(|request| request.url.expose().to_owned())
        };
        assert!(url(&fields).unwrap().starts_with("https://api.fyndx1.de/hogwarts/api/v1/Own/"));
        let mut chosen = fields.clone();
        chosen["oms_host"] = json!("https://api.fynd.com/hogwarts");
        assert!(url(&chosen).unwrap().starts_with("https://api.fynd.com/hogwarts/"));
        chosen["oms_host"] = json!("https://elsewhere.test");
        let failure = url(&chosen).unwrap_err();
        assert!(failure.detail.contains("oms_host") && !failure.detail.contains("elsewhere"), "{failure}");
    }

    #[test]
    fn verys_request_and_headers_are_the_contracts() {
        let very = shipped("very");
        let input = input(&very_input());
        let request = very.token_request(&input, Spending::default()).ok().unwrap();
        assert_eq!(request.url.expose(), "https://oauth.kornitx.net/token");
        assert_eq!(
            request.body.as_ref().unwrap().expose(),
            "client_id=id&client_secret=a+b%26c&grant_type=client_credentials&scope=api-sl-2-3.order-shipment.create+api-sl-2-3.order-cancellation.create+api-sl-2-3.order-return.create"
        );
        let headers = very.ready_headers(&input, &Secret::new("jwt"));
        let shown: Vec<_> = headers
            .iter()
            .map(|header| (header.operation.as_str(), header.value.expose(), header.uses_token))
            .collect();
        let basic = "Basic 850135:AD0D7AEB25F3F676450F5C79ED6";
        assert_eq!(
            shown,
            [
                ("order_push", basic, false),
                ("stock_update", basic, false),
                ("order_ship", "Bearer jwt", true),
                ("order_cancel", "Bearer jwt", true),
                ("order_return", "Bearer jwt", true),
            ]
        );
    }

    #[test]
    fn missing_and_wrong_input_is_named() {
        let mut sandbox = very_input();
        sandbox["useSandbox"] = json!(true);
        let mut no_key = very_input();
        no_key.as_object_mut().unwrap().remove("clientSecret");
        let mut no_api_key = very_input();
        no_api_key.as_object_mut().unwrap().remove("apiKey");
        let mut long = very_input();
        long["clientId"] = json!("x".repeat(256));
        let mut odd = very_input();
        odd["useSandbox"] = json!("perhaps");
        for (fields, part) in [
            (sandbox, "providers.very.environments.sandbox.token_url"),
            (no_key, "inputFields.clientSecret is missing"),
            (no_api_key, "inputFields.apiKey is missing"),
            (long, "inputFields.clientId has 256 characters"),
            (odd, "inputFields.useSandbox must be one of: false, true"),
        ] {
            let failure = shipped("very").token_request(&input(&fields), Spending::default()).err().unwrap();
            assert_eq!(failure.class, FailureClass::Misconfigured);
            assert!(failure.detail.contains(part), "{failure}");
        }
        let failure = shipped("fynd")
            .token_request(&input(&json!({"x-integration-id": "a"})), Spending::default())
            .err()
            .unwrap();
        assert!(failure.detail.contains("inputFields.x-integration-token is missing"), "{failure}");
    }

    #[test]
    fn the_refresh_connection_call_is_made_only_where_its_host_is_set() {
        let channel = Channel {
            id: 4,
            account_id: json!(2),
            channel_id: json!("c"),
            additional_details: json!({"k": "v"}),
        };
        let fields = input(&json!({"x-integration-id": "a", "x-integration-token": "b"}));
        let call = |provider: &Provider| {
            provider.refresh_connection_request(&fields, ConnectionId(9), &channel).ok().unwrap()
        };
        assert!(call(&shipped("fynd")).is_none());
        let providers =
            Providers::new(&[], &settings("[fynd]\nrefresh_connection_host = \"platform:8080\"")).unwrap();
        let request = call(providers.get("fynd").unwrap()).unwrap();
        assert_eq!(request.url.expose(), "http://platform:8080/api/fynd/refresh/connection");
        let body: serde_json::Value = serde_json::from_str(request.body.unwrap().expose()).unwrap();
        assert_eq!(
            body,
            json!({"connectionId": 9, "id": 4, "account_id": 2, "channel_id": "c", "additionalDetails": {"k": "v"}})
        );
    }

    #[test]
    fn contradicting_settings_are_named() {
        let cases = [
            ("[fyndd]\n", "providers.fyndd: there is no definition of that name; there are: "),
            (
                "[very]\nintegration_type = \"15\"",
                "providers.fynd.integration_type and providers.very.integration_type",
            ),
            ("[very]\nintegration_type = \"\"", "providers.very.integration_type: is empty"),
            (
                "[fynd]\nenvironment = \"live\"",
                "providers.fynd.environment: `live` is not one of: production, sandbox",
            ),
            ("[fynd]\ntoken_lifetime = \"10ms\"", "providers.fynd.token_lifetime: must be at least 1 s"),
            (
                "[fynd]\nrefresh_connection_host = \"platform/api\"",
                "providers.fynd.refresh_connection_host: ",
            ),
        ];
        for (toml, expected) in cases {
            let error = Providers::new(&[], &settings(toml)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_definition_of_the_same_name_takes_the_place_of_a_shipped_one() {
        let own = SHIPPED[0].1.replace("Eshopbox", "Other");
        let providers = Providers::new(&[("own.toml".into(), own)], &BTreeMap::new()).unwrap();
        assert_eq!(providers.iter().count(), SHIPPED.len());
        assert_eq!(providers.get("fynd").unwrap().definition.inputs[0].default.as_deref(), Some("Other"));
    }
}
