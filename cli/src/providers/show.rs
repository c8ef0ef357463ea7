//! `freshet providers show` and `freshet providers list`.

use std::fmt::Write;

use freshet_shared::domain::provider::Provider;
use humantime::format_duration;

use super::describe;
use super::masks::{MaskedRequest, Masks, in_environment, masked_request};

/// A provider in readable lines. Its secrets have to come from `masks`.
///
/// # Errors
/// If there is no such environment, or no request can be made whatever its values are.
pub(super) fn show(provider: &Provider, environment: Option<&str>, masks: &Masks) -> anyhow::Result<String> {
    let request = masked_request(provider, environment, masks)?;
    let chosen = in_environment(provider, environment)?;
    let definition = &provider.definition;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{name:<17} {value}");
    };
    line("name", &definition.name);
    line("title", &definition.title);
    for page in &definition.documentation {
        line("documentation", page);
    }
    line("integration type", provider.integration_type.as_deref().unwrap_or("not set: not scanned"));
    line("queue pool", &definition.pool);
    line("environment", &environments(&chosen));
    for input in &definition.inputs {
        let default = input.default.as_ref().map(|default| format!(", default \"{default}\""));
        let secret = if input.secret { ", secret" } else { "" };
        line("input", &format!("{}{secret}{}", input.key, default.unwrap_or_default()));
    }
    for secret in &definition.secrets {
        line(
            "operator's secret",
            &format!("{} (providers.{}.secrets.{})", secret.key, definition.name, secret.key),
        );
    }
    if provider.wants_request_id() {
        line("request id", "‹request.id›: a new random UUID for each call");
    }
    line("allowed hosts", &request.hosts.clone().unwrap_or_else(|| super::hosts(&chosen)));
    line("limits", &describe::limits(provider));
    line("", "");
    request_lines(&request, &mut line);
    line("", "");
    answer_lines(provider, &mut line);
    Ok(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n")
}

fn environments(provider: &Provider) -> String {
    let choice = &provider.definition.environment;
    let known: Vec<&str> = provider.definition.environments.keys().map(String::as_str).collect();
    let chosen_by = choice.choose_by.as_ref().map(|key| format!(", chosen by inputFields.{key}"));
    format!("{} of {}{}", choice.default, known.join(", "), chosen_by.unwrap_or_default())
}

fn request_lines(request: &MaskedRequest, line: &mut dyn FnMut(&str, &str)) {
    line("request", &format!("{} {}", request.method, request.url));
    for (name, value) in &request.headers {
        line("", &format!("{name}: {value}"));
    }
    match &request.body {
        Some(body) => {
            line("", "");
            line("", body);
        }
        None => line("", "no body"),
    }
}

fn answer_lines(provider: &Provider, line: &mut dyn FnMut(&str, &str)) {
    let response = &provider.definition.token.response;
    if let Some(success) = &response.success {
        line("success", &format!("a 2xx status, and {} is {}", success.pointer, success.equals));
    } else {
        line("success", "a 2xx status");
    }
    line("access token", &format!("at {}", response.access_token));
    line("lifetime", &describe::lifetimes(&response.lifetime));
    if let Some(refresh_token) = &provider.definition.refresh_token {
        let answer = refresh_token.answer.as_ref().map(|pointer| format!("; a new one at {pointer}"));
        line("refresh token", &format!("{}{}", describe::rotation(provider), answer.unwrap_or_default()));
        if let Some(lifetime) = &refresh_token.lifetime {
            line("", &format!("lives: {}", describe::lifetimes(lifetime)));
        }
        if let Some(inactivity) = refresh_token.inactivity {
            line("", &format!("dies unused after {}", format_duration(inactivity)));
        }
    }
    for rule in &response.failures {
        line("failure", &describe::failure(rule));
    }
    if let Some(pointer) = &response.error {
        line("failure", &format!("codes of RFC 6749, 5.2, at {pointer} → their classes"));
    }
    line("failure", "429 → rate_limited, 5xx → server_error, 3xx → egress_blocked");
    line("", "404, 405, 410, 415 → misconfigured, any other 4xx → invalid_credentials");
}

/// One line per provider.
pub(super) fn list<'a>(providers: impl Iterator<Item = &'a Provider>) -> String {
    let header = ["NAME", "TITLE", "GRANT", "REFRESH TOKEN", "LIFETIME", "HOSTS"].map(str::to_owned);
    let mut rows = vec![header];
    rows.extend(providers.map(|provider| {
        [
            provider.name().to_owned(),
            provider.definition.title.clone(),
            describe::grant(provider).to_owned(),
            describe::rotation(provider),
            describe::first_lifetime(&provider.definition.token.response.lifetime),
            super::hosts(provider),
        ]
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
