//! What a process shows whoever watches it.

mod at_work;
pub mod dashboard;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::binaries::Process;
use crate::fleet::{PATIENCE, TestFleet};

pub use at_work::{AtWork, Expected};

impl TestFleet {
    /// Lets its processes answer probes and show metrics, each on a free port that is in its log.
    pub fn watch(&mut self) {
        let variables = [
            ("FRESHET_MONITORING__LISTEN", "127.0.0.1:0"),
            ("FRESHET_TELEMETRY__FILTER", "info"),
            ("FRESHET_TELEMETRY__FORMAT", "json"),
        ];
        self.environment.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

/// A process that answers.
pub struct Watched {
    base: String,
    client: reqwest::Client,
}

impl Watched {
    /// Waits until it answers. Its fleet has to [`TestFleet::watch`].
    pub async fn of(process: &mut Process) -> Result<Self> {
        const WORDS: &str = "answering /livez, /readyz and /metrics";
        process.until_it_says(WORDS, PATIENCE).await?;
        let said = process.stderr();
        let line = said.lines().find(|line| line.contains(WORDS)).context("no such line")?;
        let line: Value = serde_json::from_str(line)?;
        let base = format!("http://{}", line["address"].as_str().context("no address")?);
        Ok(Self { base, client: reqwest::Client::builder().no_proxy().build()? })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Status and body of an answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// All metrics as they stand.
    pub async fn metrics(&self) -> Result<Exposition> {
        let (status, text) = self.get("/metrics").await?;
        ensure!(status == 200, "{status}: {text}");
        Exposition::parse(&text)
    }
}

/// Metrics as they stood at one moment.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    /// Every series.
    pub samples: Vec<Sample>,
    /// Help and type by name.
    pub families: BTreeMap<String, Family>,
}

/// What is said of a metric.
#[derive(Debug, Clone, Default)]
pub struct Family {
    /// In words.
    pub help: String,
    /// counter, gauge or histogram.
    pub kind: String,
}

/// One series.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Exposition {
    /// Reads Prometheus' text format, without escapes in the values of labels.
    pub fn parse(text: &str) -> Result<Self> {
        let mut exposition = Self::default();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (what, name) = (words.next(), words.next().context("a comment without a name")?);
                let family = exposition.families.entry(name.to_owned()).or_default();
                let rest = words.next().unwrap_or_default().to_owned();
                match what {
                    Some("HELP") => family.help = rest,
                    Some("TYPE") => family.kind = rest,
                    _ => bail!("`{line}` is neither help nor type"),
                }
            } else {
                exposition.samples.push(sample(line).with_context(|| line.to_owned())?);
            }
        }
        Ok(exposition)
    }

    /// The sum of a metric's series that have these labels; `None` where there is no such series.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|is| is == value))
        };
        self.samples.iter().filter(has).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }

    /// With the series of another process.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.samples.extend(other.samples);
        self.families.extend(other.families);
        self
    }
}

fn sample(line: &str) -> Result<Sample> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let value = value.parse()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Ok(Sample { name: series.to_owned(), labels: BTreeMap::new(), value });
    };
    let labels = labels.strip_suffix('}').context("no end of the labels")?;
    let labels = labels
        .trim_end_matches(',')
        .split("\",")
        .map(|pair| {
            let (label, value) = pair.split_once("=\"").context("no value of a label")?;
            Ok((label.to_owned(), value.trim_end_matches('"').to_owned()))
        })
        .collect::<Result<_>>()?;
    Ok(Sample { name: name.to_owned(), labels, value })
}
