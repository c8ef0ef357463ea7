//! Dashboard and alerts against what processes really show: no panel is empty, and no alert silent, because of a name.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use freshet_tests::fleet::{NewConnection, TestFleet};
use freshet_tests::monitoring::dashboard::{RULES, panels, read};
use freshet_tests::monitoring::{AtWork, Exposition};

const RULE_TESTS: &str = "deploy/prometheus/rules_test.yml";

/// Labels that Prometheus adds.
const ADDED: &[&str] = &["instance", "job", "le"];
/// Labels of KEDA's metrics.
const OF_THE_SCALER: &[&str] = &["metric", "scaledObject", "scaler"];
/// Labels of whose values a fleet of a test shows a few only.
const OPEN: &[&str] = &["provider", "queue", "le"];

/// The queries of the rules, each as it stands behind `expr:` or in the lines below it.
fn queries_of_rules(text: &str) -> Vec<String> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut queries = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(query) = line.trim_start().strip_prefix("expr:") else { continue };
        let mut query = query.trim().trim_start_matches('|').to_owned();
        while let Some(next) = lines.next_if(|next| query.is_empty() || indentation(next) > indentation(line))
        {
            query = format!("{query} {}", next.trim());
        }
        queries.push(query);
    }
    queries
}

/// One metric as a query names it.
#[derive(Debug, PartialEq, Eq)]
struct Selector {
    name: String,
    /// Label, operator and value.
    matchers: Vec<(String, String, String)>,
}

/// All of our metrics in a query.
fn selectors(query: &str) -> Result<Vec<Selector>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find("freshet") {
        let is_begin = !rest[..start].ends_with(is_name) && !rest[..start].ends_with(['"', '-']);
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if !is_begin || !(name.starts_with("freshet_") || name.starts_with("freshet:")) {
            continue;
        }
        let mut matchers = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            let (inside, after) = inside.split_once('}').context("no end of the labels")?;
            rest = after;
            for part in inside.split("\",").filter(|part| !part.trim().is_empty()) {
                let (label, value) = part.split_once('"').context("no value")?;
                let label = label.trim();
                let at = label.find(['=', '!']).context("no operator")?;
                let (label, operator) = label.split_at(at);
                let value = value.trim_end().trim_end_matches('"');
                matchers.push((label.to_owned(), operator.to_owned(), value.to_owned()));
            }
        }
        found.push(Selector { name: name.to_owned(), matchers });
    }
    Ok(found)
}

/// The labels that a query keeps, in every `by (…)`.
fn kept(query: &str) -> impl Iterator<Item = &str> {
    let groups = query.split("by (").skip(1).filter_map(|rest| rest.split_once(')'));
    groups.flat_map(|(labels, _)| labels.split(',').map(str::trim)).filter(|label| !label.is_empty())
}

fn check(query: &str, shown: &Exposition, recorded: &BTreeSet<String>) -> Result<()> {
    let mut labels: BTreeSet<&str> = ADDED.iter().chain(OF_THE_SCALER).copied().collect();
    let selectors = selectors(query)?;
    let mut is_recorded = false;
    for Selector { name, matchers } in &selectors {
        if name.contains(':') {
            ensure!(recorded.contains(name), "nobody records {name}");
            is_recorded = true;
            continue;
        }
        let series: Vec<_> = shown.samples.iter().filter(|sample| sample.name == *name).collect();
        ensure!(!series.is_empty(), "no process shows {name}");
        labels.extend(series.iter().flat_map(|sample| sample.labels.keys().map(String::as_str)));
        for (label, operator, value) in matchers {
            ensure!(labels.contains(label.as_str()), "{name} has no label {label}");
            if ADDED.contains(&label.as_str()) || OPEN.contains(&label.as_str()) {
                continue;
            }
            let values: Vec<&str> = match operator.as_str() {
                "=" | "!=" => vec![value],
                "=~" | "!~" => value.split('|').collect(),
                _ => bail!("operator {operator}"),
            };
            for value in values {
                let is_shown =
                    series.iter().any(|sample| sample.labels.get(label).is_some_and(|is| is == value));
                ensure!(is_shown, "no {name} has {label} {value}");
            }
        }
    }
    for label in kept(query).filter(|_| !is_recorded) {
        ensure!(labels.contains(label), "by ({label}): none of its metrics has that label");
    }
    Ok(())
}

#[tokio::test]
async fn rules_and_dashboard_name_only_what_processes_show() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    let at_work = AtWork::start(fleet).await?;
    let shown = at_work
        .until(
            "all is shown",
            &[
                ("freshet_refreshes_total", &[("outcome", "refreshed")], 1.0),
                ("freshet_connections", &[("provider", "fynd")], 1.0),
                ("freshet_queue_ready", &[("queue", "freshet.dead.v1")], 0.0),
            ],
        )
        .await?;
    let (rules, tests) = (read(RULES)?, read(RULE_TESTS)?);
    let recorded: BTreeSet<String> = rules
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("record:"))
        .map(|name| name.trim().to_owned())
        .collect();
    let of_rules = queries_of_rules(&rules);
    let of_dashboard: Vec<String> = panels()?.into_iter().flat_map(|panel| panel.queries).collect();
    assert!(of_rules.len() > 30 && of_dashboard.len() > 30, "{} {}", of_rules.len(), of_dashboard.len());
    for query in of_rules.iter().chain(&of_dashboard) {
        check(query, &shown, &recorded).with_context(|| query.clone())?;
    }
    // The series that the rules are tested with are those that processes show.
    for line in tests.lines().filter_map(|line| line.split_once("series: '")) {
        let series = line.1.split_once('\'').context("no end of the series")?.0;
        check(series, &shown, &recorded).with_context(|| series.to_owned())?;
    }
    at_work.end().await
}

#[test]
fn a_name_a_label_or_a_value_that_nobody_shows_is_found() -> Result<()> {
    let shown = Exposition::parse(
        "freshet_a_total{provider=\"fynd\",outcome=\"failed\"} 1\nfreshet_b_bucket{le=\"+Inf\"} 0\n",
    )?;
    let recorded = BTreeSet::from(["freshet:c".to_owned()]);
    let is_right = |query: &str| check(query, &shown, &recorded).is_ok();
    for query in [
        "sum by (provider) (rate(freshet_a_total{outcome=\"failed\", provider=\"x\"}[5m])) > 0",
        "histogram_quantile(0.9, sum by (le) (freshet_b_bucket))",
        "freshet:c{any=\"thing\"} and freshet_a_total",
        "max(keda_scaler_metrics_value{scaledObject=~\"freshet.*\"}) == 0",
    ] {
        assert!(is_right(query), "{query}: {:?}", check(query, &shown, &recorded));
    }
    for query in [
        "freshet_z",
        "freshet:d",
        "freshet_a_total{class=\"x\"}",
        "freshet_a_total{outcome=\"done\"}",
        "freshet_a_total{outcome=~\"failed|done\"}",
        "sum by (state) (freshet_a_total)",
    ] {
        assert!(!is_right(query), "{query}");
    }
    let text = "  - alert: A\n    expr: freshet_a_total > 0\n  - alert: B\n    expr: |\n      freshet_a_total\n        > 1\n    for: 1m\n";
    assert_eq!(queries_of_rules(text), ["freshet_a_total > 0", " freshet_a_total > 1"]);
    Ok(())
}
