//! A steady load, whatever the product does with it: messages at given times, and how long after each its refresh was told.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use freshet_shared::adapters::rabbitmq::EVENTS_EXCHANGE;
use futures_util::stream::StreamExt;
use hdrhistogram::Histogram;
use lapin::options::{
    BasicConsumeOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer, ExchangeKind};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::bare::publish;
use crate::stage::Stage;

/// How often what is due by now is published.
const TICK: Duration = Duration::from_millis(1);
/// In the first part of a load a worker opens its connections; what comes then is not measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long after the last message its refresh may be told at the latest.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever listens to what became of the refreshes.
pub(crate) struct Listener {
    connection: Connection,
    events: Consumer,
}

#[derive(Deserialize)]
struct Event {
    connection_id: i64,
}

impl Listener {
    /// Listens to tokens of Fynd that were renewed, from now on.
    pub(crate) async fn start(stage: &Stage) -> Result<Self> {
        let connection = stage.broker().await?;
        let channel = connection.create_channel().await?;
        // As the worker declares it: whoever comes first.
        let (name, options) =
            (EVENTS_EXCHANGE, ExchangeDeclareOptions { durable: true, ..Default::default() });
        channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await?;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
        for key in ["token.refreshed.fynd", "token.recovered.fynd"] {
            let options = QueueBindOptions::default();
            let name = queue.name().clone();
            channel
                .queue_bind(name, EVENTS_EXCHANGE.into(), key.into(), options, FieldTable::default())
                .await?;
        }
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let name = queue.name().clone();
        let events = channel.basic_consume(name, "".into(), options, FieldTable::default()).await?;
        Ok(Self { connection, events })
    }

    /// Publishes a message for each of the connections, evenly at `rate` per second, and answers how many microseconds
    /// passed from the time at which each was to be published until its refresh was told; not for those of the first
    /// two seconds.
    ///
    /// A publisher that falls behind makes the times longer, not fewer.
    pub(crate) async fn put_under_load(
        mut self,
        ids: RangeInclusive<i64>,
        rate: f64,
    ) -> Result<Histogram<u64>> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let started = Instant::now();
        let first = *ids.start();
        let due = |id: i64| started + Duration::from_secs_f64((id - first) as f64 / rate);
        let count = ids.clone().count();
        let hearing = async {
            let mut times = HashMap::with_capacity(count);
            while times.len() < count {
                let event = timeout(PATIENCE, self.events.next()).await;
                let event =
                    event.with_context(|| format!("{} of {count} refreshes were told of", times.len()))?;
                let event = event.context("the broker sends no more events")??;
                let id = serde_json::from_slice::<Event>(&event.data)?.connection_id;
                ensure!(ids.contains(&id), "an event about connection {id}");
                times.entry(id).or_insert_with(|| due(id).elapsed());
            }
            Ok(times)
        };
        let (times, ()) = tokio::try_join!(hearing, publish_evenly(&channel, ids.clone(), due))?;
        self.connection.close(200, "".into()).await?;
        let mut histogram = Histogram::new(3)?;
        for (id, time) in times {
            if due(id) >= started + WARM_UP {
                histogram.record(u64::try_from(time.as_micros())?)?;
            }
        }
        ensure!(!histogram.is_empty(), "all was over within {WARM_UP:?}");
        Ok(histogram)
    }
}

async fn publish_evenly(
    channel: &Channel,
    ids: RangeInclusive<i64>,
    due: impl Fn(i64) -> Instant,
) -> Result<()> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut ids = ids.peekable();
    let mut confirms = Vec::new();
    while ids.peek().is_some() {
        ticks.tick().await;
        let now = Instant::now();
        while let Some(id) = ids.next_if(|id| due(*id) <= now) {
            confirms.push(publish(channel, id).await?);
        }
    }
    for confirm in confirms {
        if !confirm.await?.is_ack() {
            bail!("the broker does not take a message");
        }
    }
    Ok(())
}
