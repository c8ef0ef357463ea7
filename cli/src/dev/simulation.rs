//! The simulated fleet: marketplaces on loopback, and connections in an SQLite database in memory. Everything that
//! follows from a token's hour is scaled down with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use freshet_shared::adapters::database::Database;
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::configuration::{Configuration, TelemetrySection};
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::clock::Clock;

use super::seed::{Seeded, insert};
use crate::arguments::DevArguments;
use crate::simulator::{Latency, Settings, Simulator};

/// The platform's integration type of Very is not published; the simulated platform uses this one.
const VERY: &str = "21";
/// Fynd's, by contract.
const FYND: &str = "15";

/// Running marketplaces.
pub struct Simulation(Simulator);

impl Simulation {
    /// Starts the marketplaces and points the configuration at them.
    ///
    /// # Errors
    /// If no loopback port can be had.
    pub async fn start(arguments: &DevArguments, configuration: &mut Configuration) -> anyhow::Result<Self> {
        let settings = Settings {
            token_lifetime: arguments.token_lifetime,
            latency: Latency { min: Duration::from_millis(5), max: Duration::from_millis(50) },
            rate_limited_share: 0.02,
            server_error_share: 0.02,
            retry_after: Some(Duration::from_secs(1)),
            ..Settings::well_behaved(Arc::new(|| SystemClock.now()))
        };
        let simulator = Simulator::start(settings).await?;
        configure(configuration, &simulator, arguments.token_lifetime);
        Ok(Self(simulator))
    }

    /// Stops them.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

/// Failed attempts are part of the show; only what needs a person is logged, unless a filter was asked for.
pub fn quieten(telemetry: &mut TelemetrySection) {
    if telemetry.filter == "info" {
        "error".clone_into(&mut telemetry.filter);
    }
}

fn configure(configuration: &mut Configuration, simulator: &Simulator, lifetime: Duration) {
    configuration.database.url = Some(Secret::new("sqlite::memory:"));
    configuration.scan.early = "* * * * * *".into();
    configuration.scan.urgent = "* * * * * *".into();
    configuration.scan.retry_every = Duration::from_millis(250);
    configuration.scan.early_window = lifetime / 2;
    configuration.scan.urgent_window = lifetime / 6;
    configuration.scan.claim = lifetime / 4;
    configuration.scan.shortest_interval = lifetime / 60;
    configuration.retry.shortest = Duration::from_millis(200);
    configuration.retry.longest = (lifetime / 12).max(Duration::from_millis(500));
    configuration.retry.recheck = lifetime;
    configuration.call.connect_timeout = Duration::from_secs(1);
    configuration.call.timeout = Duration::from_secs(5);
    // Its marketplaces, and nothing else.
    configuration.egress.allow = vec![simulator.platform_host()];

    // Whatever the environment says of real providers, a simulation calls only its own.
    configuration.providers = BTreeMap::new();
    configuration.provider_directory = None;
    let values = |key: &str, value: String| BTreeMap::from([(key.to_owned(), value)]);
    let fynd = configuration.providers.entry("fynd".into()).or_default();
    fynd.integration_type = Some(FYND.into());
    fynd.token_lifetime = Some(lifetime);
    fynd.refresh_connection_host = Some(simulator.platform_host());
    fynd.environments.insert("production".into(), values("oms_host", simulator.fynd_base_url()));
    let very = configuration.providers.entry("very".into()).or_default();
    very.integration_type = Some(VERY.into());
    very.environments.insert("production".into(), values("token_url", simulator.kornitx_token_url()));
}

/// Founds the fleet: tokens of every age, some about to die, and some merchants that have just connected and have none.
///
/// # Errors
/// If the database refuses.
pub async fn found_fleet(
    database: &Database,
    arguments: &DevArguments,
    clock: &SystemClock,
) -> anyhow::Result<()> {
    let now = clock.now();
    let lifetime = TimeDelta::from_std(arguments.token_lifetime)?;
    let count = arguments.connections;
    let connections = (0..count).map(|index| {
        // Every hundredth is new, every hundredth is nearly dead, the others have between 35 % and 100 % of their life.
        let expires_at = match index % 100 {
            7 => None,
            57 => Some(now + lifetime / 8),
            _ => Some(now + lifetime * 35 / 100 + TimeDelta::milliseconds(spread(lifetime, index, count))),
        };
        let id = i64::from(index) + 1;
        if index % 2 == 0 { Seeded::fynd(id, FYND, expires_at) } else { Seeded::very(id, VERY, expires_at) }
    });
    insert(database, connections, now).await
}

/// The `index`-th part of the remaining 65 % of a life, in milliseconds.
fn spread(lifetime: TimeDelta, index: u32, count: u32) -> i64 {
    lifetime.num_milliseconds() * 65 / 100 * i64::from(index) / i64::from(count)
}
