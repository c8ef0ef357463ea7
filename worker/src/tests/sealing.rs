//! Encryption at rest, as a refresh meets it.

use std::sync::Arc;

use freshet_shared::adapters::database::Sealing;
use freshet_shared::adapters::embedded::clock::SeededRandomness;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::outcome::Outcome;
use freshet_shared::domain::sealing::KeyRing;
use freshet_shared::domain::secret::Secret;

use super::{Bench, message};
use crate::refresh::refresh;

#[tokio::test]
async fn a_token_that_was_copied_from_another_row_is_unreadable_and_nobody_is_called() {
    let mut bench = Bench::new().await;
    bench.add(1, 20).await;
    bench.add(2, 20).await;
    let keys = "primary = \"k1\"\n[keys]\nk1 = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"";
    let keys = KeyRing::parse("keys.toml", &Secret::new(keys)).ok().unwrap();
    let sealing = Sealing::new(keys, Arc::new(SeededRandomness::new(1)));
    let sealed = bench.database.clone().with_sealing(Some(Arc::new(sealing)));
    Arc::get_mut(&mut bench.refresher).unwrap().store = Arc::new(sealed);

    bench.grant("s3cret");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    assert_eq!(outcome.as_str(), "refreshed");
    assert_eq!(bench.cached(1).as_deref(), Some("s3cret"), "the cache holds it plain");
    let sealed = "SELECT COUNT(*) FROM ie_appinstall_connection WHERE accessToken LIKE 'freshet:1:k1:%'";
    assert_eq!(bench.number(sealed).await, 1);

    bench
        .execute(
            "UPDATE ie_appinstall_connection SET accessToken = \
             (SELECT accessToken FROM ie_appinstall_connection WHERE id = 1) WHERE id = 2",
        )
        .await;
    // What the row knows of its grant stays as it is, for nothing of it was looked at; only the refusals in a row end.
    bench
        .execute(
            "UPDATE token_refresh SET failures = 4, grant_failures = 2, attempt_id = 'open', lease_owner = 'other', \
             attempt_sent_at = '2026-11-21 11:59:00', lease_until = '2026-11-21 12:01:00', \
             waiting_fingerprint = 'before', state = 'quarantined' WHERE connection_id = 2",
        )
        .await;
    let outcome = refresh(&bench.refresher, &message(2, 0, Lane::Early), false).await;
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.failure.class.as_str(), "unreadable_secret");
    assert!(failed.failure.detail.contains("accessToken of connection 2"), "{}", failed.failure.detail);
    assert_eq!(bench.provider.calls().len(), 1, "nobody is called for it");
    let recorded = "SELECT COUNT(*) FROM token_refresh WHERE connection_id = 2 AND failures = 5 \
         AND failure_class = 'unreadable_secret' AND next_attempt_at IS NOT NULL AND queued_until IS NULL";
    assert_eq!(bench.number(recorded).await, 1);
    let kept = "SELECT COUNT(*) FROM token_refresh WHERE connection_id = 2 AND state = 'quarantined' AND grant_failures = 0 \
         AND attempt_id = 'open' AND attempt_sent_at IS NOT NULL AND lease_owner = 'other' AND lease_until IS NOT NULL \
         AND waiting_fingerprint = 'before'";
    assert_eq!(bench.number(kept).await, 1);
}
