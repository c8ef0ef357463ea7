//! The dashboard and the rules as they are shipped.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// Alerts and recorded series.
pub const RULES: &str = "deploy/prometheus/rules.yml";
const DASHBOARD: &str = "deploy/grafana/freshet.json";

/// One panel.
pub struct Panel {
    /// Its title.
    pub title: String,
    /// What it asks Prometheus.
    pub queries: Vec<String>,
}

/// A file of the repository.
pub fn path(file: &str) -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?.join(file))
}

/// Its text.
pub fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(path(file)?).with_context(|| file.to_owned())
}

/// The panels of the dashboard that ask something.
pub fn panels() -> Result<Vec<Panel>> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    panels.iter().filter(|panel| panel["targets"].is_array()).map(panel).collect()
}

fn panel(panel: &Value) -> Result<Panel> {
    let title = panel["title"].as_str().context("a panel without a title")?.to_owned();
    let targets = panel["targets"].as_array().context("no targets")?;
    let query = |target: &Value| Ok(target["expr"].as_str().context("a target without a query")?.to_owned());
    Ok(Panel { queries: targets.iter().map(query).collect::<Result<_>>().context(title.clone())?, title })
}
