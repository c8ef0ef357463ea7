//! Refresh tokens that nobody watches, in the platform's own columns.

use anyhow::{Context, Result};
use chrono::TimeDelta;
use freshet_shared::domain::connection::{ConnectionId, Generation};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::watch::Watched;
use freshet_shared::ports::store::{ScanStore, WatchNote};
use freshet_tests::fleet::{FYND, NewConnection, TestFleet, now};

#[tokio::test]
async fn what_others_stored_is_found_noted_and_found_again_when_others_store_another() -> Result<()> {
    const LONG: i64 = 50 * 86_400;
    let fleet = TestFleet::found().await?;
    fleet
        .add([
            NewConnection::fynd(1, LONG),
            NewConnection::fynd(2, LONG),
            NewConnection::fynd(3, 600),
            NewConnection::very(4, LONG),
            NewConnection { is_active: "no", ..NewConnection::fynd(5, LONG) },
        ])
        .await?;
    let set = "UPDATE ie_appinstall_connection SET accessTokenGeneratedOn = UTC_TIMESTAMP() WHERE id <> 2";
    fleet.execute(set, []).await?;
    let page = fleet.store.id_page(None, 4).await?.context("no page")?;
    assert_eq!((page.after, page.last), (None, ConnectionId(4)));
    let page = fleet.store.id_page(None, 100).await?.context("no page")?;
    assert_eq!(fleet.store.id_page(Some(page.last), 100).await?, None);
    let unwatched = async || fleet.store.unwatched(FYND, page, now() + TimeDelta::minutes(30)).await;
    let found = unwatched().await?;
    let seen: Vec<_> =
        found.iter().map(|found| (found.connection_id.0, found.generated_at.is_some())).collect();
    assert_eq!(seen, [(1, true), (2, false)]);

    let notes: Vec<WatchNote> = found
        .iter()
        .map(|found| WatchNote {
            connection_id: found.connection_id,
            generation: found.generation,
            expires_at: found.expires_at,
            watched: Watched {
                refresh_at: Some(now() - TimeDelta::seconds(1)),
                ends_at: Some(now() + TimeDelta::days(2)),
            },
        })
        .collect();
    fleet.store.note_watched(&notes).await?;
    assert_eq!(unwatched().await?, []);
    let soon = now() + TimeDelta::days(3);
    let ending = async || fleet.store.ending_grants(FYND, false, now(), soon, 10).await;
    assert_eq!(ending().await?.len(), 2);

    // Another token of the merchant's: what was noted says nothing of it.
    let reconnect = "UPDATE ie_appinstall_connection SET accessTokenExpiryAt = accessTokenExpiryAt + INTERVAL 2 SECOND \
         WHERE id = 1";
    fleet.execute(reconnect, []).await?;
    assert_eq!(unwatched().await?.iter().map(|found| found.connection_id.0).collect::<Vec<_>>(), [1]);
    assert_eq!(ending().await?.iter().map(|ending| ending.connection_id.0).collect::<Vec<_>>(), [2]);
    assert_eq!(fleet.scan(Lane::Early).await?.published, 2, "the third, and the second by its plan");
    let reports = fleet.work_off(2).await?;
    assert!(reports.iter().all(|report| report.outcome.as_str() == "refreshed"), "{reports:?}");

    // Who stored a token meanwhile knows better than a note of what was read before.
    let is_own = "SELECT COUNT(*) FROM token_refresh r JOIN ie_appinstall_connection k ON k.id = r.connection_id \
         WHERE r.connection_id = 2 AND r.noted_expiry = k.accessTokenExpiryAt";
    assert_eq!(fleet.number(is_own).await?, 1);
    fleet.store.note_watched(&notes).await?;
    assert_eq!(fleet.number(is_own).await?, 1);
    let of_its_generation: Vec<_> =
        notes.iter().map(|note| WatchNote { generation: Some(Generation(1)), ..*note }).collect();
    fleet.store.note_watched(&of_its_generation).await?;
    assert_eq!(fleet.number(is_own).await?, 0);
    fleet.dissolve().await
}
