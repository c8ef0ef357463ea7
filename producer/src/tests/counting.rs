//! The census.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use freshet_shared::telemetry::metrics::Metrics;

use super::{Bench, noon};
use crate::census::{Census, Taken};

fn census(bench: &Bench) -> Census {
    Census {
        store: Arc::new(bench.database.clone()),
        providers: bench.scanner.providers.clone(),
        windows: bench.scanner.windows,
        clock: bench.clock.clone(),
        every: Duration::from_secs(30),
    }
}

#[tokio::test]
async fn connections_are_counted_by_what_their_tokens_have_left_and_where_they_stand() {
    let bench = Bench::new(10).await;
    for (id, minutes) in [(1, 55), (2, 29), (3, 9), (4, -1), (5, -1), (6, -1), (7, -1), (8, 55)] {
        bench.add(id, Some(noon() + TimeDelta::minutes(minutes))).await;
    }
    bench.add(9, None).await;
    bench.add(10, None).await;
    let standing = [
        (5, "'active', 'server_error'"),
        (6, "'active', 'invalid_credentials'"),
        (7, "'needs_reauth', 'invalid_grant'"),
        (8, "'misconfigured', 'misconfigured'"),
        (10, "'unmonitored', NULL"),
    ];
    for (id, words) in standing {
        bench
            .execute(&format!(
                "INSERT INTO token_refresh (connection_id, state, failure_class) VALUES ({id}, {words})"
            ))
            .await;
    }
    // Neither switched off ones count nor those of another type.
    bench.add(11, Some(noon())).await;
    bench.execute("UPDATE ie_appinstall_connection SET isActive = 'no' WHERE id = 11").await;
    bench.add(12, Some(noon())).await;
    bench.execute("UPDATE channels SET integrationType = '99' WHERE connectionId = 12").await;

    let taken = Taken::default();
    let metrics = Metrics::collected("test").unwrap();
    taken.show(&metrics, &bench.scanner.windows);
    assert!(!metrics.render().unwrap().contains("freshet_"), "nothing is shown before it is known");
    taken.set(Some(census(&bench).take().await.unwrap()));
    let text = metrics.render().unwrap();
    for (series, value) in [
        (r#"connections{provider="fynd",state="active"}"#, 7),
        (r#"connections{provider="fynd",state="needs_reauth"}"#, 1),
        (r#"connections{provider="fynd",state="quarantined"}"#, 0),
        (r#"connections_valid{provider="fynd",state="active"}"#, 3),
        (r#"connections_valid{provider="fynd",state="misconfigured"}"#, 1),
        (r#"connections_valid{provider="fynd",state="unmonitored"}"#, 1),
        (r#"connections_due{provider="fynd"}"#, 2),
        (r#"connections_overdue{cause="none",provider="fynd"}"#, 2),
        (r#"connections_overdue{cause="provider",provider="fynd"}"#, 1),
        (r#"connections_overdue{cause="connection",provider="fynd"}"#, 1),
        (r#"expiry_seconds{le="0",provider="fynd",state="active"}"#, 4),
        (r#"expiry_seconds{le="600",provider="fynd",state="active"}"#, 5),
        (r#"expiry_seconds{le="1800",provider="fynd",state="active"}"#, 6),
        (r#"expiry_seconds{le="+Inf",provider="fynd",state="active"}"#, 7),
    ] {
        let line = format!("\nfreshet_{series} {value}\n");
        assert!(text.contains(&line), "{line} is not in:\n{text}");
    }
    // Another producer counts now.
    taken.set(None);
    assert!(!metrics.render().unwrap().contains("freshet_"));
}
