//! What real processes count.

use std::collections::BTreeSet;

use anyhow::Result;
use freshet_cli::simulator::{Matcher, Reply, StatusCode};
use freshet_shared::domain::failure::FailureClass;
use freshet_shared::domain::outcome::Outcome;
use freshet_shared::telemetry::metrics::names::{self, Instrument};
use freshet_tests::fleet::{NewConnection, TestFleet};
use freshet_tests::monitoring::AtWork;

#[tokio::test]
async fn what_a_fleet_does_is_counted() -> Result<()> {
    let fleet = TestFleet::found().await?;
    // Two urgent ones, of which one has expired; one early; one that the marketplace refuses; one that is not due.
    fleet
        .add([
            NewConnection::fynd(1, 300),
            NewConnection::fynd(2, -60),
            NewConnection::fynd(3, 1_500),
            NewConnection::very(4, 1_500),
            NewConnection::fynd(5, 3_000),
        ])
        .await?;
    fleet
        .marketplaces
        .script(Matcher::any().account("client 4"), [Reply::json(StatusCode::UNAUTHORIZED, "{}").into()]);
    let at_work = AtWork::start(fleet).await?;
    let refreshes = "freshet_refreshes_total";
    let seen = at_work
        .until(
            "all is counted",
            &[
                (refreshes, &[("provider", "fynd"), ("outcome", "refreshed"), ("class", "none")], 3.0),
                (refreshes, &[("provider", "very"), ("class", "invalid_credentials")], 1.0),
                ("freshet_expired_before_refresh_total", &[("provider", "fynd")], 1.0),
                ("freshet_lead_time_seconds_count", &[("provider", "fynd")], 3.0),
                ("freshet_due_to_fresh_seconds_count", &[("provider", "fynd")], 3.0),
                ("freshet_permit_wait_seconds_count", &[("provider", "fynd")], 3.0),
                ("freshet_publishes_total", &[("lane", "urgent"), ("result", "confirmed")], 2.0),
                ("freshet_scanned_total", &[("scan", "urgent"), ("step", "published")], 2.0),
                ("freshet_connections", &[("provider", "fynd"), ("state", "active")], 4.0),
                ("freshet_connections_valid", &[("provider", "fynd")], 4.0),
                ("freshet_connections_overdue", &[], 0.0),
                ("freshet_expiry_seconds", &[("provider", "fynd"), ("state", "active"), ("le", "1800")], 0.0),
                ("freshet_expiry_seconds", &[("provider", "fynd"), ("state", "active"), ("le", "+Inf")], 4.0),
                ("freshet_queue_ready", &[("queue", "freshet.refresh.shared.urgent.v1")], 0.0),
                ("freshet_queue_consumers", &[("queue", "freshet.refresh.shared.early.v1")], 1.0),
                ("freshet_amqp_session", &[("purpose", "consume")], 1.0),
                ("freshet_amqp_session", &[("purpose", "events")], 1.0),
                ("freshet_amqp_session", &[("purpose", "publish")], 1.0),
                ("freshet_amqp_session", &[("purpose", "observe")], 1.0),
                ("freshet_breaker_open", &[], 0.0),
                ("freshet_leader", &[], 1.0),
                ("freshet_concurrency", &[], 32.0),
            ],
        )
        .await?;
    for scan in ["urgent", "early", "retry"] {
        let completed = seen.sum("freshet_scans_total", &[("scan", scan), ("result", "completed")]);
        assert!(completed >= Some(1.0), "{scan}: {completed:?}");
        assert!(seen.sum("freshet_last_scan_seconds", &[("scan", scan)]) > Some(1.7e9), "{scan}");
    }
    assert!(seen.sum("freshet_last_success_seconds", &[("provider", "fynd")]) > Some(1.7e9));
    at_work.end().await
}

#[tokio::test]
async fn all_series_are_there_at_zero_and_none_names_a_connection() -> Result<()> {
    let fleet = TestFleet::found().await?;
    // An id that no number of anything else is.
    fleet.add([NewConnection::fynd(987_654_321, 300)]).await?;
    let at_work = AtWork::start(fleet).await?;
    let seen = at_work
        .until(
            "it is refreshed and counted",
            &[
                ("freshet_refreshes_total", &[("outcome", "refreshed")], 1.0),
                // By whoever leads, once it does.
                ("freshet_connections", &[("provider", "fynd"), ("state", "active")], 1.0),
                ("freshet_queue_ready", &[("queue", "freshet.dead.v1")], 0.0),
            ],
        )
        .await?;
    for provider in ["fynd", "very"] {
        let of = |labels: &[(&str, &str)]| {
            let labels = [&[("provider", provider)], labels].concat();
            seen.sum("freshet_refreshes_total", &labels)
        };
        for outcome in Outcome::LABELS {
            assert!(of(&[("outcome", outcome)]).is_some(), "{provider} {outcome}");
        }
        for class in FailureClass::ALL {
            let failed = of(&[("outcome", Outcome::FAILED), ("class", class.as_str())]);
            assert_eq!(failed, Some(0.0), "{provider} {class}");
        }
        for result in ["confirmed", "refused", "unroutable", "not_sent", "unconfirmed"] {
            for lane in ["urgent", "early"] {
                let labels = [("provider", provider), ("lane", lane), ("result", result)];
                assert!(seen.sum("freshet_publishes_total", &labels).is_some(), "{labels:?}");
            }
        }
    }
    for sample in &seen.samples {
        for (label, value) in &sample.labels {
            assert!(!value.contains("987654321"), "{}: {label}", sample.name);
        }
    }
    // All of them are shown, each described, and nothing else.
    let exposed: BTreeSet<_> =
        seen.families.keys().filter(|name| name.as_str() != "target_info").cloned().collect();
    let declared: BTreeSet<_> = names::ALL.iter().map(Instrument::exposed).collect();
    assert_eq!(exposed, declared.clone());
    for name in declared {
        assert!(seen.families[&name].help.ends_with('.'), "{name}");
    }
    at_work.end().await
}
