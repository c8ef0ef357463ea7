//! The numbers that are shipped, read from the manifests themselves.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use yaml_serde::Value;

/// What deploy/kubernetes says of the fleet.
pub(crate) struct Manifests {
    /// The ScaledObject of the workers.
    pub(crate) scaling: ScaledObject,
    /// Every configuration key that the base sets.
    pub(crate) variables: HashMap<String, String>,
    /// How long a worker may take to end.
    pub(crate) grace: Duration,
    /// Producers.
    pub(crate) producers: usize,
}

/// `spec` of a ScaledObject, as far as a number of replicas follows from it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaledObject {
    #[serde(rename = "pollingInterval")]
    polling_seconds: u64,
    pub(crate) min_replica_count: u32,
    pub(crate) max_replica_count: u32,
    pub(crate) fallback: Fallback,
    advanced: Advanced,
    pub(crate) triggers: Vec<Trigger>,
}

/// What counts while the depth is not known.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fallback {
    pub(crate) failure_threshold: u32,
    pub(crate) replicas: u32,
    pub(crate) behavior: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Advanced {
    horizontal_pod_autoscaler_config: AutoscalerConfig,
}

#[derive(Debug, Clone, Deserialize)]
struct AutoscalerConfig {
    behavior: Behavior,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Behavior {
    scale_up: Rules,
    scale_down: Rules,
}

/// How fast, in one direction.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rules {
    #[serde(rename = "stabilizationWindowSeconds")]
    stabilization_seconds: u64,
    pub(crate) policies: Vec<Policy>,
}

/// So many pods within so long.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Policy {
    r#type: String,
    pub(crate) value: u32,
    period_seconds: u64,
}

/// A queue, and how many of its messages are one worker's.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trigger {
    r#type: String,
    metric_type: String,
    pub(crate) metadata: TriggerMetadata,
}

/// What the scaler is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TriggerMetadata {
    protocol: String,
    mode: String,
    pub(crate) queue_name: String,
    value: String,
}

impl ScaledObject {
    /// How often the depth is asked for. The autoscaler's own period is 15 s too.
    pub(crate) fn polling(&self) -> Duration {
        Duration::from_secs(self.polling_seconds)
    }

    /// How fast workers are added.
    pub(crate) fn up(&self) -> &Rules {
        &self.advanced.horizontal_pod_autoscaler_config.behavior.scale_up
    }

    /// How fast they are taken away.
    pub(crate) fn down(&self) -> &Rules {
        &self.advanced.horizontal_pod_autoscaler_config.behavior.scale_down
    }

    /// Refuses what the rehearsal would play otherwise than KEDA.
    fn check(&self) -> Result<()> {
        for trigger in &self.triggers {
            let TriggerMetadata { protocol, mode, queue_name, .. } = &trigger.metadata;
            let words = [&trigger.r#type, &trigger.metric_type, protocol, mode].map(String::as_str);
            let known = ["rabbitmq", "AverageValue", "http", "QueueLength"];
            ensure!(words == known, "the trigger of {queue_name} is of another kind: {words:?}");
        }
        for policy in self.up().policies.iter().chain(&self.down().policies) {
            ensure!(policy.r#type == "Pods", "a policy counts {} and not Pods", policy.r#type);
        }
        let behavior = &self.fallback.behavior;
        ensure!(behavior == "currentReplicasIfHigher", "the fallback is another: {behavior}");
        Ok(())
    }
}

impl Rules {
    /// The time over which recommendations are looked back on.
    pub(crate) fn stabilization(&self) -> Duration {
        Duration::from_secs(self.stabilization_seconds)
    }
}

impl Policy {
    /// Within how long.
    pub(crate) fn period(&self) -> Duration {
        Duration::from_secs(self.period_seconds)
    }
}

impl TriggerMetadata {
    /// Messages for each worker.
    pub(crate) fn value(&self) -> Result<f64> {
        self.value.parse().with_context(|| format!("value of {} is no number", self.queue_name))
    }
}

impl Manifests {
    /// Reads them.
    pub(crate) fn read() -> Result<Self> {
        let scaled = find("components/keda/scaling.yaml", "ScaledObject")?;
        let scaling: ScaledObject = yaml_serde::from_value(at(&scaled, &["spec"])?.clone())?;
        scaling.check()?;
        let worker = find("base/worker.yaml", "Deployment")?;
        let grace = at(&worker, &["spec", "template", "spec", "terminationGracePeriodSeconds"])?;
        let producer = find("base/producer.yaml", "Deployment")?;
        let producers = at(&producer, &["spec", "replicas"])?.as_u64().context("replicas is no number")?;
        Ok(Self {
            scaling,
            variables: variables(&find("base/kustomization.yaml", "Kustomization")?)?,
            grace: Duration::from_secs(grace.as_u64().context("the grace period is no number")?),
            producers: usize::try_from(producers)?,
        })
    }
}

/// `configMapGenerator`'s literals.
fn variables(kustomization: &Value) -> Result<HashMap<String, String>> {
    let generators = at(kustomization, &["configMapGenerator"])?.as_sequence().context("no list")?;
    let literals = generators.iter().filter_map(|generator| generator.get("literals")?.as_sequence());
    let pairs = literals.flatten().map(|literal| {
        let (name, value) =
            literal.as_str().and_then(|text| text.split_once('=')).context("no NAME=VALUE")?;
        Ok((name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// The folder of the manifests.
pub(crate) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy")
}

fn find(file: &str, kind: &str) -> Result<Value> {
    let path = deploy().join("kubernetes").join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for document in yaml_serde::Deserializer::from_str(&text) {
        let value = Value::deserialize(document).with_context(|| format!("{} is no YAML", path.display()))?;
        if value.get("kind").and_then(Value::as_str) == Some(kind) {
            return Ok(value);
        }
    }
    anyhow::bail!("{} has no {kind}", path.display())
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Result<&'a Value> {
    path.iter()
        .try_fold(value, |value, key| value.get(*key))
        .with_context(|| format!("there is no {}", path.join(".")))
}
