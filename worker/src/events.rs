//! Telling others what a refresh came to.

use std::time::Duration;

use freshet_shared::domain::event::{Before, events_of};
use freshet_shared::domain::outcome::Outcome;
use freshet_shared::telemetry::propagation::current;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::refresh::Refresher;

/// Hands over the events that `outcome` makes of a connection that stood as `before`. To be called once MySQL knows of
/// the outcome and before its message is settled: a message that comes again finds the generation moved on and makes no
/// event.
pub fn emit_events(refresher: &Refresher, before: &Before, outcome: &Outcome) {
    for event in events_of(outcome, before, refresher.clock.now()) {
        refresher.events.emit(event, current());
    }
}

/// Waits for `work` to end, and answers how much of `grace`, which begins with `shutdown`, is left then.
pub(crate) async fn with_grace_left<T>(
    work: impl Future<Output = T>,
    grace: Duration,
    shutdown: &CancellationToken,
) -> (T, Duration) {
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => (result, grace),
        () = shutdown.cancelled() => {
            let ends = Instant::now() + grace;
            let result = work.await;
            (result, ends.saturating_duration_since(Instant::now()))
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use freshet_shared::domain::connection::{ConnectionId, ConnectionState, Generation};
    use freshet_shared::domain::event::EventKind;
    use freshet_shared::domain::failure::{Failure, FailureClass};
    use freshet_shared::domain::lane::Lane;
    use freshet_shared::domain::outcome::{Cached, Failed, Refreshed};

    use super::*;
    use crate::refresh::refresh;
    use crate::tests::{Bench, message, noon};

    #[tokio::test]
    async fn what_a_refresh_came_to_is_told() {
        let bench = Bench::new().await;
        let before = Before {
            provider: "fynd".into(),
            connection_id: ConnectionId(1),
            generation: Generation(4),
            expires_at: None,
            state: ConnectionState::Active,
            failures: 0,
            class: None,
        };
        let failure = Failure::new(FailureClass::Network, "no connection");
        let failed = Failed { failure, next_attempt_at: noon(), state: ConnectionState::Active };
        emit_events(&bench.refresher, &before, &Outcome::Failed(failed));
        let refreshed = Refreshed {
            generation: Generation(5),
            expires_at: Some(noon() + TimeDelta::hours(1)),
            stored_at: noon(),
            lead: None,
            cached: Cached::Written,
        };
        let before = Before { failures: 1, class: Some(FailureClass::Network), ..before };
        emit_events(&bench.refresher, &before, &Outcome::Refreshed(refreshed));
        emit_events(&bench.refresher, &before, &Outcome::Stale);
        let told: Vec<_> =
            bench.events.last().iter().map(|event| (event.kind, event.generation.0, event.at)).collect();
        let expected = [
            (EventKind::Failing, 4, noon()),
            (EventKind::Refreshed, 5, noon()),
            (EventKind::Recovered, 5, noon()),
        ];
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn refreshes_tell_where_a_row_of_failures_begins_and_ends() {
        let bench = Bench::new().await;
        bench.add(1, 20).await;
        let attempt = async || {
            bench.execute("UPDATE token_refresh SET next_attempt_at = NULL").await;
            refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
            bench.events.last().iter().map(|event| event.id()).collect::<Vec<_>>()
        };
        bench.provider.answer(503, "");
        assert_eq!(attempt().await, ["1:0:failing:server_error"]);
        bench.provider.answer(503, "");
        assert_eq!(attempt().await.len(), 1, "a second failure of its class");
        bench.provider.answer(429, "");
        assert_eq!(attempt().await[1..], ["1:0:failing:rate_limited"]);
        bench.grant("new");
        assert_eq!(attempt().await[2..], ["1:1:refreshed", "1:1:recovered"]);
        assert_eq!(attempt().await.len(), 4, "a message that comes again");
    }

    #[tokio::test]
    async fn who_finds_that_somebody_helped_tells_it_once() {
        let bench = Bench::new().await;
        bench.add(1, 55).await;
        bench.execute("UPDATE token_refresh SET failures = 3, failure_class = 'network'").await;
        for _ in 0..2 {
            refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
            let told: Vec<_> = bench.events.last().iter().map(|event| event.id()).collect();
            assert_eq!(told, ["1:0:recovered"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_the_grace_period_is_counted_from_the_shutdown() {
        let (seconds, shutdown) = (Duration::from_secs, CancellationToken::new());
        let work = async |duration| tokio::time::sleep(seconds(duration)).await;
        assert_eq!(with_grace_left(work(100), seconds(25), &shutdown).await, ((), seconds(25)));
        shutdown.cancel();
        assert_eq!(with_grace_left(work(10), seconds(25), &shutdown).await, ((), seconds(15)));
        assert_eq!(with_grace_left(work(30), seconds(25), &shutdown).await, ((), Duration::ZERO));
    }
}
