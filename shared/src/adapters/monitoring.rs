//! `/livez`, `/readyz` and `/metrics` over HTTP, for whoever watches the process.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::configuration::MonitoringSection;
use crate::process::health::{Ailment, Health};
use crate::telemetry::metrics::{self, Metrics};

/// A process that is watched: its health, its metrics, and the server that shows them until this is dropped.
pub struct Monitoring {
    /// What probes are answered.
    pub health: Arc<Health>,
    /// What is counted.
    pub metrics: Metrics,
    server: Option<Server>,
}

struct Server {
    address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Clone)]
struct Watched {
    health: Arc<Health>,
    metrics: Metrics,
}

impl Monitoring {
    /// Answers from now on, where the configuration says so; a process that is starting is alive and not ready.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn start(
        section: &MonitoringSection,
        service: &'static str,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let health = Arc::new(Health::starting(shutdown.clone()));
        let Some(listen) = &section.listen else {
            return Ok(Self { health, metrics: Metrics::off(), server: None });
        };
        let metrics = Metrics::collected(service)?;
        let server = Server::start(listen, Watched { health: health.clone(), metrics: metrics.clone() })
            .await
            .map_err(|error| MonitoringSection::wrong(format!("cannot listen on {listen}: {error}")))?;
        Ok(Self { health, metrics, server: Some(server) })
    }

    /// Where it answers, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(|server| server.address)
    }
}

impl Server {
    async fn start(listen: &str, watched: Watched) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/livez", get(async |State(watched): State<Watched>| answer(watched.health.liveness())))
            .route("/readyz", get(async |State(watched): State<Watched>| answer(watched.health.readiness())))
            .route("/metrics", get(async |State(watched): State<Watched>| exposition(&watched.metrics)))
            .with_state(watched);
        let serving = tokio::spawn(async move {
            // It ends only where it is aborted.
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "probes and metrics are no longer answered");
            }
        });
        tracing::info!(%address, "answering /livez, /readyz and /metrics");
        Ok(Self { address, _serving: AbortOnDropHandle::new(serving) })
    }
}

fn answer(health: Result<(), Ailment>) -> (StatusCode, String) {
    match health {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(ailment) => (StatusCode::SERVICE_UNAVAILABLE, format!("{ailment}\n")),
    }
}

fn exposition(metrics: &Metrics) -> Response {
    match metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics are not shown");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::configuration::ConfigurationError;
    use crate::process::health::Pulse;
    use crate::telemetry::metrics::names;

    async fn start(listen: &str, shutdown: &CancellationToken) -> anyhow::Result<Monitoring> {
        let section =
            MonitoringSection { listen: Some(listen.to_owned()), census_every: Duration::from_secs(30) };
        Monitoring::start(&section, "freshet-test", shutdown).await
    }

    async fn get(monitoring: &Monitoring, path: &str) -> (u16, String) {
        crate::process::install_crypto();
        let url = format!("http://{}{path}", monitoring.address().unwrap());
        let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn probes_tell_how_the_process_is() {
        let shutdown = CancellationToken::new();
        let monitoring = start("127.0.0.1:0", &shutdown).await.unwrap();
        assert_eq!(get(&monitoring, "/livez").await, (200, "ok\n".into()));
        assert_eq!(get(&monitoring, "/readyz").await.0, 503);
        let pulse = Arc::new(Pulse::resting());
        monitoring.health.working(pulse.clone(), || Ok(()));
        assert_eq!(get(&monitoring, "/readyz").await, (200, "ok\n".into()));
        shutdown.cancel();
        assert_eq!(get(&monitoring, "/readyz").await, (503, "stopping\n".into()));
        pulse.beat(Duration::ZERO);
        while get(&monitoring, "/livez").await.0 == 200 {}
        assert_eq!(get(&monitoring, "/livez").await.0, 503);
    }

    #[tokio::test]
    async fn metrics_are_there_from_zero_on() {
        let monitoring = start("127.0.0.1:0", &CancellationToken::new()).await.unwrap();
        let metrics = &monitoring.metrics;
        metrics.counter(&names::SKIPS).with(&["fynd", "gone"]).add(2);
        let _zero = metrics.histogram(&names::LEAD_TIME, &[0.0, 60.0]).with(&["fynd"]);
        metrics.observed(&names::IN_FLIGHT, |observe| observe(3.0, &[]));
        let (status, text) = get(&monitoring, "/metrics").await;
        assert_eq!(status, 200);
        for line in [
            "# TYPE freshet_skips_total counter",
            "freshet_skips_total{provider=\"fynd\",reason=\"gone\"} 2",
            "# TYPE freshet_lead_time_seconds histogram",
            "freshet_lead_time_seconds_bucket{provider=\"fynd\",le=\"60\"} 0",
            "freshet_lead_time_seconds_count{provider=\"fynd\"} 0",
            "# TYPE freshet_in_flight gauge",
            "freshet_in_flight 3",
            "target_info{service_name=\"freshet-test\"",
        ] {
            assert!(text.contains(line), "`{line}` is missing in:\n{text}");
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_a_fault_of_the_configuration() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = start(&address, &CancellationToken::new()).await.err().unwrap();
        let expected = format!("configuration: monitoring.listen: cannot listen on {address}: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(error.is::<ConfigurationError>());
    }
}
