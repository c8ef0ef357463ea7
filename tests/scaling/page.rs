//! deploy/scaling.md and its chart.

use std::fmt::Write;
use std::fs;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use freshet_tests::chart::Curve;
use freshet_tests::chart::lines::{Band, Panel, panels};
use freshet_tests::fleet::now;

use crate::manifests::{Manifests, deploy};
use crate::play::{Played, Seen};
use crate::scenario::{CALL, IN_HAND, Provider, Scenario};
use crate::stage::Stage;
use crate::verdict::Verdict;

/// Writes both.
pub(crate) fn write(
    stage: &Stage,
    manifests: &Manifests,
    scenario: &Scenario,
    played: &Played,
    verdict: &Verdict,
) -> Result<()> {
    for (name, text) in
        [("scaling.svg", chart(scenario, played)), ("scaling.md", text(stage, manifests, scenario, verdict)?)]
    {
        let path = deploy().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn text(stage: &Stage, manifests: &Manifests, scenario: &Scenario, verdict: &Verdict) -> Result<String> {
    let scaling = &manifests.scaling;
    let value = scaling.triggers.first().context("there is no trigger")?.metadata.value()?;
    let mut text = format!(
        "# A scaling rehearsal\n\n\
         Written by `tests/rehearsal --write`, on {day} with {cores} cores; `tests/run` plays a short form of it.\n\n\
         Real producers and workers on MariaDB, RabbitMQ and Redis. Workers are started, and ended by SIGTERM, as the ScaledObject \
         in `kubernetes/components/keda` says, whose numbers are read from the file: {least} to {most} workers, {value} messages for \
         each, asked for every {polling} s by RabbitMQ's management API as KEDA's scaler does; then what Kubernetes documents of its \
         autoscaler: `ceil(depth / value)` outside of a tenth of the target, the windows that recommendations are looked back on \
         over, and the policies of each direction. Of the workers the busiest is ended, which is the worst that Kubernetes may \
         choose. KEDA and Kubernetes themselves were not run.\n\n\
         All times pass {speed} times as fast, those of the manifests and those of Freshet's windows, claims, retries and time-outs; \
         grace periods are as they are, and a call may take 2 s. The load is divided by {load}: a worker has {IN_HAND} calls in hand, {target} messages \
         are one worker's, and the breaker's `minimum` is the calls in hand. Lanes are scanned every second, so that load comes evenly. Each call takes {call} ms. Each connection \
         comes due once, half an hour (of the manifests' time) before its token expires.\n\n\
         ![Messages, workers and freshness over time](scaling.svg)\n\n\
         | figure | |\n| --- | --- |\n",
        day = now().format("%Y-%m-%d"),
        cores = available_parallelism()?,
        least = scaling.min_replica_count,
        most = scaling.max_replica_count,
        polling = scaling.polling().as_secs(),
        speed = scenario.speed,
        load = stage.load,
        target = value / stage.load,
        call = CALL.as_millis(),
    );
    for (name, value) in &verdict.figures {
        writeln!(text, "| {name} | {value} |")?;
    }
    writeln!(text, "\n| must not happen | times |\n| --- | --- |")?;
    for (name, found) in &verdict.violations {
        writeln!(text, "| {name} | {} |", found.len())?;
    }
    text.push_str(
        "\n\"Granted twice\" would be a refresh that was interrupted: its message comes back, and its provider is called again. \
         That the rehearsal finds it is tested by ending workers by SIGKILL (`tests/rehearsal --quick --ending kill`).\n",
    );
    Ok(text)
}

fn chart(scenario: &Scenario, played: &Played) -> String {
    let curve = |name: &str, value: &dyn Fn(&Seen) -> f64| Curve {
        name: name.to_owned(),
        points: played.seen.iter().map(|seen| (seen.minute, value(seen))).collect(),
    };
    let panel = |title: &str, curves: Vec<Curve>| Panel { title: title.to_owned(), curves };
    let shown = [
        panel(
            "Messages",
            vec![
                curve("waiting or in hand", &|seen| seen.depth),
                curve("value × workers", &|seen| played.target * f64::from(seen.replicas)),
            ],
        ),
        panel("Workers", vec![steps(&played.seen)]),
        panel(
            "Minutes until the first token expires, up to 30",
            vec![curve("", &|seen| seen.soonest.clamp(0.0, 30.0))],
        ),
        panel("Good tokens, of a hundred", vec![curve("", &|seen| seen.valid)]),
    ];
    let outages = scenario.plan().filter(|(.., phase)| phase.provider != Provider::Serves);
    let bands: Vec<Band> = outages
        .map(|(from, until, phase)| Band {
            from,
            until,
            label: match phase.provider {
                Provider::Hangs => "provider hangs",
                _ => "provider: 503",
            }
            .to_owned(),
        })
        .collect();
    panels("Scaling by queue depth, over minutes of the manifests' time", "min", &shown, &bands)
}

/// A number of workers stays until it changes.
fn steps(seen: &[Seen]) -> Curve {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for seen in seen {
        let now = f64::from(seen.replicas);
        if let Some((_, before)) = points.last().copied().filter(|(_, before)| *before != now) {
            points.push((seen.minute, before));
        }
        points.push((seen.minute, now));
    }
    Curve { name: "workers".to_owned(), points }
}
