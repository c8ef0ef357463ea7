//! What it costs to find what is due among many that are not, and to claim and publish it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_producer::census::Census;
use freshet_producer::leadership::Leadership;
use freshet_producer::scan::Target;
use freshet_producer::settled::Settled;
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::domain::lane::Lane;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::store::{Due, DueScan, ScanStore};
use tokio::time::Instant;

use super::Scale;
use crate::bare::publish_bare;
use crate::figures::Figure;
use crate::results::Measured;
use crate::stage::{Setting, Stage, URGENT};
use crate::table::number;

const PAGE: u32 = 1_000;
/// Pages that one run reads of each kind; their median is its value.
const PAGES: usize = 20;
/// Connections that are due while pages are read.
const DUE: u64 = 5_000;

const METHOD: &str = "\
Tables of a platform are made in the database: nine of ten connections are active, four of five belong to Fynd; their tokens \
die between two and three hours from now; one in a thousand waits for its merchant with a token that is long \
dead; all are enrolled. 5,000 connections, spread over the table, are due. A page is the product's own query for the first \
1,000 of them, with the indexes that `freshet migrate` makes; each run reads it 20 times and takes the median. A producer that \
scans begins behind what it knows to wait; finding out where that is, and looking again at a part of it, comes before \
each urgent scan and is measured by itself, and so is the page of the first scan after a start, which walks over all that waits. \
MariaDB may keep 1 GiB (4 GiB for the larger table) in memory.

Claiming and publishing is a whole `producer once` over 20,000 due connections: find, enrol, claim, publish with confirms, \
write down. A census counts all of them by \
expiry and state, for the metrics. Bare lapin publishes as many messages of the same kind to the same queue with confirms, and does nothing else.";

pub(super) async fn measure(scale: &Scale) -> Result<Measured> {
    let sizes = [scale.pick(1_000_000, 100_000), scale.pick(10_000_000, 1_000_000)];
    let small = platform(scale, sizes[0], 1024).await?;
    let large = platform(scale, sizes[1], if scale.is_quick { 1024 } else { 4096 }).await?;
    let stages = [&small, &large];
    let mut urgent = [Vec::new(), Vec::new()];
    let mut first = [Vec::new(), Vec::new()];
    let mut settled = [Vec::new(), Vec::new()];
    let mut early = [Vec::new(), Vec::new()];
    let mut idle = [Vec::new(), Vec::new()];
    let mut counted = [Vec::new(), Vec::new()];
    let (mut published, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..scale.runs {
        for (index, (stage, size)) in stages.into_iter().zip(sizes).enumerate() {
            stage.let_be_due(DUE, size, "INTERVAL 5 MINUTE").await?;
            let (from, took) = settle(stage).await?;
            settled[index].push(took);
            let within = TimeDelta::minutes(10);
            urgent[index].push(page(stage, Due::ExpiredOrExpiring { from, within }).await?);
            first[index].push(page(stage, Due::ExpiredOrExpiring { from: None, within }).await?);
            stage.let_be_due(DUE, size, "INTERVAL 20 MINUTE").await?;
            early[index].push(page(stage, Due::Expiring(TimeDelta::minutes(30))).await?);
            stage.let_be_due(DUE, size, "INTERVAL 150 MINUTE").await?;
            idle[index].push(nothing_due(stage).await?);
            counted[index].push(census(stage, size).await?);
        }
        let count = scale.pick(20_000, 5_000);
        small.let_be_due(count, sizes[0], "INTERVAL 5 MINUTE").await?;
        published.push(scan_and_publish(&small, count).await?);
        small.purge(URGENT).await?;
        bare.push(publish_bare(&small, count).await?);
        small.purge(URGENT).await?;
        small.let_be_due(count, sizes[0], "INTERVAL 150 MINUTE").await?;
    }
    let mut figures = Vec::new();
    for (index, size) in sizes.into_iter().enumerate() {
        let size = number(size as f64);
        let mut add = |name: &str, values: &Vec<f64>| {
            figures.push(Figure::new(format!("{name}, {size} connections"), "ms", values.clone()));
        };
        add("page of 1,000 due, urgent lane", &urgent[index]);
        add("before that, finding where an urgent scan begins", &settled[index]);
        add("page of 1,000 due, urgent lane, after a start", &first[index]);
        add("page of 1,000 due, early lane", &early[index]);
        add("urgent, early and retry scan with nothing due", &idle[index]);
        let name = format!("census, {size} connections");
        figures.push(Figure::new(name, "s", counted[index].clone()));
    }
    figures.push(Figure::new("found, claimed and published", "/s", published.clone()));
    figures.push(Figure::new("published by bare lapin with confirms", "/s", bare.clone()));
    let [small_page, large_page] = &urgent;
    let bars = vec![
        Figure::new("page of 1,000 due at the smaller size", "ms", small_page.clone()).at_most(5.0),
        Figure::ratio("page at ten times the connections", large_page, small_page)
            .at_most(1.3)
            .or_fail_at(3.0),
        Figure::ratio("found, claimed and published, over bare lapin's", &published, &bare)
            .at_least(0.7)
            .or_fail_at(0.3),
    ];
    Ok(Measured { method: METHOD.to_owned(), figures, bars, curves: Vec::new() })
}

async fn platform(scale: &Scale, connections: u64, buffer_pool_mib: u32) -> Result<Stage> {
    let stage = Stage::set(scale, Setting { buffer_pool_mib, ..Setting::default() }).await?;
    stage.add_platform(connections).await?;
    // Declares the queues.
    stage.producer(&["once", "--lane", "urgent"])?.run().await?;
    Ok(stage)
}

/// Milliseconds.
async fn page(stage: &Stage, due: Due) -> Result<f64> {
    let scan = DueScan { integration_type: "15".to_owned(), due, now: SystemClock.now() };
    let mut times = Vec::new();
    for attempt in 0..=PAGES {
        let started = Instant::now();
        let page = stage.store.due_page(&scan, None, PAGE).await?;
        ensure!(page.due.len() == PAGE as usize, "a page of {} and not of {PAGE}", page.due.len());
        // The first brings into memory what the update before has changed.
        if attempt > 0 {
            times.push(milliseconds(started.elapsed()));
        }
    }
    Ok(Figure::new("", "", times).median())
}

/// Where an urgent scan begins in a producer that has been scanning, and the milliseconds that it takes to find out.
async fn settle(stage: &Stage) -> Result<(Option<DateTime<Utc>>, f64)> {
    let settled = Settled::default();
    let mut times = Vec::new();
    let mut from = None;
    for attempt in 0..=PAGES {
        let started = Instant::now();
        from = settled.until(&stage.store, "15", PAGE, SystemClock.now()).await?;
        ensure!(from.is_some() == (attempt > 0), "at first nothing is known, and then something");
        // The first walks over all.
        if attempt > 0 {
            times.push(milliseconds(started.elapsed()));
        }
    }
    Ok((from, Figure::new("", "", times).median()))
}

/// Milliseconds of what a producer does every minute in vain.
async fn nothing_due(stage: &Stage) -> Result<f64> {
    let producer =
        freshet_producer::app::App::build(&stage.configuration()?, Leadership::without_election()).await?;
    let mut times = Vec::new();
    for _ in 0..PAGES {
        let started = Instant::now();
        for target in [Target::Lane(Lane::Urgent), Target::Lane(Lane::Early), Target::NextAttempts] {
            let report = producer.once(target).await?;
            ensure!(report.found == 0, "{} connections are due by {target}", report.found);
        }
        times.push(milliseconds(started.elapsed()));
    }
    Ok(Figure::new("", "", times).median())
}

/// Seconds that it takes to count all of them for the metrics.
async fn census(stage: &Stage, connections: u64) -> Result<f64> {
    let configuration = stage.configuration()?;
    let census = Census {
        store: Arc::new(stage.store.clone()),
        providers: configuration.providers()?,
        windows: configuration.scan.windows(),
        clock: Arc::new(SystemClock),
        every: configuration.monitoring.census_every,
    };
    let counted = census.take().await?;
    let all: u64 = counted.connections.values().flatten().sum();
    // Four of five are Fynd's, and all of those are active.
    ensure!(all * 5 == connections * 4, "{all} of {connections} were counted");
    Ok(counted.took.as_secs_f64())
}

/// Connections per second.
async fn scan_and_publish(stage: &Stage, count: u64) -> Result<f64> {
    let configuration = stage.configuration()?;
    let (report, took) = super::on_all_cores(async move {
        let producer =
            freshet_producer::app::App::build(&configuration, Leadership::without_election()).await?;
        let started = Instant::now();
        let report = producer.once(Target::Lane(Lane::Urgent)).await?;
        Ok((report, started.elapsed()))
    })
    .await?;
    ensure!(report.published == count, "{count} are due; the scan says: {report}");
    Ok(count as f64 / took.as_secs_f64())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
