//! What a call has answered is stored, or parked for another worker before this process ends.

use std::time::Duration;

use freshet_shared::domain::kept_answer::KeptAnswer;
use freshet_shared::domain::outcome::Outcome;
use freshet_shared::domain::provider::Provider;
use freshet_shared::persistence::{Patience, persist};
use freshet_shared::ports::parking::ParkError;

use crate::refresh::Refresher;

/// Until it is parked, or the process ends: there is nothing better to do.
const PATIENCE: Patience = Patience::endless(Duration::from_millis(200), Duration::from_secs(1));

/// Settles, unless the process has to end before the database takes what the provider answered: then the answer is parked.
/// Should both come about, the fence makes the second one an outcome like any other.
pub(crate) async fn settled_or_parked(
    refresher: &Refresher,
    provider: &Provider,
    answer: &KeptAnswer,
    settling: impl Future<Output = Outcome>,
) -> Outcome {
    let parking = async {
        refresher.last_call.cancelled().await;
        park(refresher, provider, answer).await;
    };
    tokio::select! {
        biased;
        outcome = settling => outcome,
        () = parking => Outcome::Parked,
    }
}

/// Returns once the answer is parked; never where it cannot be.
async fn park(refresher: &Refresher, provider: &Provider, answer: &KeptAnswer) {
    let connection_id = answer.connection_id.0;
    let parked = persist(
        PATIENCE,
        || refresher.parking.park(answer, provider.name()),
        |error| matches!(error, ParkError::NotTaken { .. }),
        |error, pause| tracing::warn!(connection_id, %error, ?pause, "an answer is not parked yet, trying again"),
    )
    .await;
    if let Err(error) = parked {
        tracing::error!(
            connection_id,
            %error,
            "an answer that spent the refresh token cannot be parked: it is lost unless the database comes back before this \
             process ends"
        );
        std::future::pending::<()>().await;
    }
}
