//! What the ledger says, and does not say.

use chrono::TimeDelta;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::{Did, Fault, GrantType, LedgerEntry, Rotation, Sent};
use super::raw::{refresh, refreshing};
use super::{CLIENT, SECRET, rotating};

#[tokio::test]
async fn every_request_is_told_in_order_and_no_secret_is() {
    let (model, clock) = rotating(Rotation::Strict).await;
    let begun = model.ledger().len();
    assert_eq!(begun, 0);
    let first = model.authorise("shop", CLIENT);
    let second = refresh(&model, &first).await.member("refresh_token");
    clock.advance(TimeDelta::seconds(7));
    model.script("shop", [Fault::lost()]);
    refresh(&model, &second).await;
    refresh(&model, &second).await;
    model.until_settled(std::time::Duration::from_secs(20)).await.unwrap();
    let ledger = model.ledger();
    let common = LedgerEntry {
        arrived_at: ledger[0].arrived_at,
        at_once: 1,
        account: Some("shop".into()),
        caller: None,
        grant_type: Some(GrantType::RefreshToken),
        presented: Some(1),
        client_secret: Some(0),
        did: Did::Granted { access_token: 1, refresh_token: Some(2) },
        fault: None,
        sent: Sent::Complete { status: 200 },
    };
    let later = common.arrived_at + TimeDelta::seconds(7);
    let lost = LedgerEntry {
        arrived_at: later,
        presented: Some(2),
        did: Did::Granted { access_token: 2, refresh_token: Some(3) },
        fault: Some("lost"),
        sent: Sent::Nothing,
        ..common.clone()
    };
    let reused = LedgerEntry {
        arrived_at: later,
        presented: Some(2),
        did: Did::ReuseDetected,
        sent: Sent::Complete { status: 400 },
        ..common.clone()
    };
    assert_eq!(ledger, [common.clone(), lost, reused]);
    assert_eq!(model.called_after(common.arrived_at), Some(later), "the first one after it");
    assert_eq!(model.called_after(later), None);
    let shown = format!("{ledger:?}");
    for secret in [&first, &second, SECRET] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn a_connection_carries_one_request_after_the_other() {
    let (model, _) = rotating(Rotation::None).await;
    let token = model.authorise("shop", CLIENT);
    let request = refreshing(&token).replace("connection: close\r\n", "");
    let mut stream = TcpStream::connect(model.address()).await.unwrap();
    // Both at once: the second waits for its turn.
    stream.write_all(request.repeat(2).as_bytes()).await.unwrap();
    let mut heard = String::new();
    while heard.matches("access-").count() < 2 || !heard.ends_with('}') {
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).await.unwrap();
        assert_ne!(length, 0, "{heard}");
        heard.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    assert_eq!(model.grants("shop"), 2);
}
