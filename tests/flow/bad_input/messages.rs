//! Messages that nobody can work on.

use anyhow::Result;
use freshet_shared::adapters::rabbitmq::queue_name;
use freshet_shared::domain::lane::Lane;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};

#[tokio::test]
async fn each_becomes_a_dead_letter_with_its_reason_and_the_worker_goes_on() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let cases = [
        ("refresh 1, please", "not_json", "line 1"),
        ("", "not_json", "line 1"),
        (
            r#"{"v":2,"connection_id":1,"generation":0,"provider":"fynd","lane":"early","due_at":"2026-01-01T00:00:00Z"}"#,
            "unsupported_version",
            "version 2 is not supported",
        ),
        (
            r#"{"v":1,"generation":0,"provider":"fynd","lane":"early","due_at":"2026-01-01T00:00:00Z"}"#,
            "invalid_field",
            "missing",
        ),
        (
            r#"{"v":1,"connection_id":"1","generation":0,"provider":"fynd","lane":"early","due_at":"2026-01-01T00:00:00Z"}"#,
            "invalid_field",
            "`connection_id`",
        ),
        (
            r#"{"v":1,"connection_id":1,"generation":0,"provider":"nobody","lane":"early","due_at":"2026-01-01T00:00:00Z"}"#,
            "unknown_provider",
            "`nobody`",
        ),
    ];
    // One at a time, so that the dead letters come in the order of their messages.
    fleet.add([NewConnection::fynd(1, 1_500)]).await?;
    let worker = fleet.worker().await?;
    for (index, (body, _, _)) in cases.iter().enumerate() {
        fleet.publish_body(Lane::Early, body.as_bytes()).await?;
        worker.until_handled(index + 1, PATIENCE).await?;
    }
    assert_eq!(fleet.scan(Lane::Early).await?.published, 1);
    worker.until_handled(cases.len() + 1, PATIENCE).await?;
    let mut expected = vec!["undecodable"; cases.len()];
    expected.push("refreshed");
    assert_eq!(worker.outcomes(), expected);
    worker.stop().await?;
    assert_eq!(fleet.stored(1).await?.generation(), 1);

    for (letter, (body, reason, detail)) in fleet.take_dead_letters(cases.len()).await?.iter().zip(cases) {
        assert_eq!(letter.body, body);
        assert_eq!(letter.headers["x-freshet-reason"], reason, "{body}");
        assert_eq!(letter.headers["x-freshet-queue"], queue_name("shared", Lane::Early));
        let shown = &letter.headers["x-freshet-detail"];
        assert!(shown.contains(detail), "{body}: {shown}");
    }
    // Neither in its queue nor among the dead letters is anything left.
    fleet.dissolve().await
}
