//! `freshet providers`: what an operator wants to know of definitions before the fleet uses them.

mod check;
mod describe;
mod files;
mod masks;
mod show;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use freshet_shared::configuration::{Configuration, ConfigurationError};
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::provider::egress::HostPattern;
use freshet_shared::domain::provider::template::Variable;
use freshet_shared::domain::provider::{Provider, ProviderSettings};
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::provider::ProviderCaller;
use freshet_shared::ports::randomness::Randomness;

use crate::arguments::{ProvidersCommand, ShowArguments, TryArguments};
pub use check::{CheckReport, Fault, check};
pub use files::{DefinitionFile, definition_files};
use masks::Masks;
use trial::{Trial, TrialReport};

/// Does what the command line asks for. Only `try` calls anybody.
///
/// # Errors
/// Names the file, the provider or the key that is at fault.
pub async fn execute(
    command: ProvidersCommand,
    configuration: &Configuration,
    caller: &dyn ProviderCaller,
    clock: &dyn Clock,
    randomness: &dyn Randomness,
) -> anyhow::Result<ExitCode> {
    match command {
        ProvidersCommand::Check(arguments) => {
            let files = definition_files(
                arguments.directory.as_deref(),
                configuration.provider_directory.as_deref(),
            )?;
            let report = check(&files);
            report.print();
            Ok(ExitCode::from(u8::from(!report.faults.is_empty())))
        }
        ProvidersCommand::List => {
            let providers = catalogue(configuration, &configuration.providers)?;
            print(&show::list(providers.iter().map(Arc::as_ref)));
            Ok(ExitCode::SUCCESS)
        }
        ProvidersCommand::Show(arguments) => {
            print(&show_provider(&arguments, configuration)?);
            Ok(ExitCode::SUCCESS)
        }
        ProvidersCommand::Try(arguments) => {
            let report = try_provider(&arguments, configuration, caller, clock, randomness).await?;
            print(&report.text);
            Ok(ExitCode::from(u8::from(!report.is_granted)))
        }
    }
}

#[expect(clippy::print_stdout, reason = "what was asked for")]
fn print(text: &str) {
    print!("{text}");
}

/// The hosts that a token call may go to, or which setting will say them.
fn hosts(provider: &Provider) -> String {
    let definition = &provider.definition;
    let mut hosts: Vec<String> = definition.allowed_hosts.iter().map(ToString::to_string).collect();
    let url = &definition.token.request.url;
    let of_host: Vec<_> = url.host_variables().collect();
    if hosts.is_empty() && of_host.is_empty() {
        hosts.extend(HostPattern::of_url(url.source()).map(|host| host.to_string()));
    } else if hosts.is_empty() {
        for (environment, values) in &definition.environments {
            for variable in &of_host {
                let Variable::Environment(key) = variable else { continue };
                let unset =
                    || format!("providers.{}.environments.{environment}.{key}, not set", definition.name);
                let host = values.get(key).and_then(|value| HostPattern::of_url(value).ok());
                hosts.push(host.map_or_else(unset, |host| host.to_string()));
            }
        }
    }
    hosts.dedup();
    hosts.join(", ")
}

/// All providers, bound to these settings.
fn catalogue(configuration: &Configuration, settings: &Settings) -> anyhow::Result<Providers> {
    let files = definition_files(None, configuration.provider_directory.as_deref())?;
    let more: Vec<_> =
        files.into_iter().filter(|file| !file.is_shipped).map(|file| (file.name, file.text)).collect();
    Ok(Providers::new(&more, settings).map_err(ConfigurationError::from)?)
}

type Settings = BTreeMap<String, ProviderSettings>;

/// One provider with secrets that `read` gives it by their key. Secrets are for providers that are scanned, so it is one
/// for the time being; what integration type it has by itself is `None` or its own.
fn provider_with_secrets(
    name: &str,
    configuration: &Configuration,
    read: impl Fn(&str) -> Result<Option<Vec<Secret>>, ConfigurationError>,
) -> anyhow::Result<Provider> {
    let known = catalogue(configuration, &configuration.providers)?;
    let is_scanned = known.get(name).with_context(|| unknown(name, &known))?.integration_type.is_some();
    let mut settings = configuration.providers.clone();
    if !is_scanned {
        settings.entry(name.to_owned()).or_default().integration_type = Some(format!("{name}, not scanned"));
    }
    let of_others = || Ok(Some(vec![Secret::new("not used")]));
    let providers = catalogue(configuration, &settings)?
        .with_secrets(|of, key| if of == name { read(key) } else { of_others() })?;
    let mut provider = providers.get(name).with_context(|| unknown(name, &providers))?.as_ref().clone();
    if !is_scanned {
        provider.integration_type = None;
    }
    Ok(provider)
}

fn unknown(name: &str, providers: &Providers) -> String {
    let known: Vec<&str> = providers.iter().map(|provider| provider.name()).collect();
    format!("there is no definition named `{name}`; there are: {}", known.join(", "))
}

fn show_provider(arguments: &ShowArguments, configuration: &Configuration) -> anyhow::Result<String> {
    let masks = Masks::default();
    let read = |key: &str| Ok(Some(vec![Secret::new(masks.value(&format!("secret.{key}")))]));
    let provider = provider_with_secrets(&arguments.name, configuration, read)?;
    show::show(&provider, arguments.environment.as_deref(), &masks)
}

async fn try_provider(
    arguments: &TryArguments,
    configuration: &Configuration,
    caller: &dyn ProviderCaller,
    clock: &dyn Clock,
    randomness: &dyn Randomness,
) -> anyhow::Result<TrialReport> {
    let text = trial::read_secret(&arguments.input)?;
    let input = InputFields::parse(Some(&text))
        .map_err(|failure| anyhow::anyhow!("{}: {}", arguments.input.display(), failure.detail))?;
    let refresh_token = arguments.refresh_token_file.as_deref().map(trial::read_secret).transpose()?;
    // What the settings do not say may stand beside the merchant's input.
    let read = |key: &str| {
        let set = configuration.provider_secret(&arguments.name, key)?;
        Ok(set.or_else(|| input.text(key).map(|secret| vec![secret])))
    };
    let provider = provider_with_secrets(&arguments.name, configuration, read)?;
    let provider = masks::in_environment(&provider, arguments.environment.as_deref())?;
    let trial = Trial { input, refresh_token, may_spend: arguments.spend };
    trial::make(&provider, &trial, caller, clock, randomness).await
}
