use chrono::TimeDelta;

use super::*;
use crate::domain::failure::Failure;
use crate::domain::message::MessageError;
use crate::domain::outcome::{Cached, Failed, Refreshed, Skip};

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_262_400, 0).unwrap()
}

fn before() -> Before {
    Before {
        provider: "fynd".into(),
        connection_id: ConnectionId(42),
        generation: Generation(7),
        expires_at: Some(noon()),
        state: ConnectionState::Active,
        failures: 0,
        class: None,
    }
}

fn refreshed() -> Outcome {
    Outcome::Refreshed(Refreshed {
        generation: Generation(8),
        expires_at: Some(noon() + TimeDelta::hours(1)),
        stored_at: noon() - TimeDelta::minutes(2),
        lead: None,
        cached: Cached::Written,
    })
}

fn failed(class: FailureClass, state: ConnectionState) -> Outcome {
    let failure = Failure::new(class, "s3cret words that somebody else chose");
    Outcome::Failed(Failed { failure, next_attempt_at: noon(), state })
}

fn kinds(outcome: &Outcome, before: &Before) -> Vec<&'static str> {
    events_of(outcome, before, noon()).iter().map(|event| event.kind.as_str()).collect()
}

#[test]
fn the_wire_form_is_fixed() {
    let cases = [
        (
            EventKind::Refreshed,
            None,
            r#"{"v":1,"kind":"refreshed","provider":"fynd","connection_id":42,"generation":7,"expires_at":"2026-11-21T12:00:00Z","class":null,"at":"2026-11-21T12:00:00Z"}"#,
        ),
        (
            EventKind::NeedsReauth,
            Some(FailureClass::InvalidGrant),
            r#"{"v":1,"kind":"needs_reauth","provider":"fynd","connection_id":42,"generation":7,"expires_at":"2026-11-21T12:00:00Z","class":"invalid_grant","at":"2026-11-21T12:00:00Z"}"#,
        ),
    ];
    for (kind, class, expected) in cases {
        let event = before().event(kind, class, noon());
        assert_eq!(String::from_utf8(event.encode()).unwrap(), expected);
    }
    let without_expiry = Before { expires_at: None, ..before() };
    let text = String::from_utf8(without_expiry.event(EventKind::Failing, None, noon()).encode()).unwrap();
    assert!(text.contains(r#""expires_at":null"#), "{text}");
}

#[test]
fn routing_keys_and_ids_are_fixed() {
    let class = Some(FailureClass::RateLimited);
    let cases = [
        (EventKind::Refreshed, "token.refreshed.fynd", "42:7:refreshed"),
        (EventKind::Failing, "token.failing.fynd", "42:7:failing:rate_limited"),
        (EventKind::NeedsReauth, "token.needs_reauth.fynd", "42:7:needs_reauth"),
        (EventKind::Quarantined, "token.quarantined.fynd", "42:7:quarantined"),
        (EventKind::Recovered, "token.recovered.fynd", "42:7:recovered"),
    ];
    assert_eq!(cases.map(|(kind, ..)| kind), EventKind::ALL);
    for (kind, key, id) in cases {
        let event = before().event(kind, class, noon());
        assert_eq!((event.routing_key().as_str(), event.id().as_str()), (key, id));
    }
}

#[test]
fn a_stored_credential_is_told_with_what_stands_now() {
    let events = events_of(&refreshed(), &before(), noon());
    let expected = Event {
        kind: EventKind::Refreshed,
        provider: "fynd".into(),
        connection_id: ConnectionId(42),
        generation: Generation(8),
        expires_at: Some(noon() + TimeDelta::hours(1)),
        class: None,
        at: noon() - TimeDelta::minutes(2),
    };
    assert_eq!(events, [expected]);
}

#[test]
fn a_stored_credential_after_trouble_is_a_recovery_too() {
    use ConnectionState as State;
    let class = Some(FailureClass::Network);
    let cases = [
        (Before { failures: 3, class, ..before() }, true),
        (Before { failures: 1, ..before() }, true),
        (Before { class, ..before() }, true),
        (Before { state: State::NeedsReauth, ..before() }, true),
        (Before { state: State::Quarantined, ..before() }, true),
        (Before { state: State::Misconfigured, ..before() }, true),
        (Before { state: State::Unmonitored, ..before() }, false),
    ];
    for (before, recovers) in cases {
        let expected: &[_] = if recovers { &["refreshed", "recovered"] } else { &["refreshed"] };
        assert_eq!(kinds(&refreshed(), &before), expected, "{before:?}");
    }
}

#[test]
fn a_connection_that_somebody_else_helped_has_recovered() {
    use ConnectionState as State;
    let fresh = Outcome::Skipped(Skip::AlreadyFresh);
    let cases = [
        (before(), false),
        (Before { failures: 2, class: Some(FailureClass::Network), ..before() }, true),
        (Before { state: State::NeedsReauth, ..before() }, true),
        (Before { state: State::Unmonitored, ..before() }, false),
        // Its row is not cleared, so it would be told again and again.
        (Before { class: Some(FailureClass::Network), ..before() }, false),
    ];
    for (before, recovers) in cases {
        let told = events_of(&fresh, &before, noon());
        let expected = recovers.then(|| before.event(EventKind::Recovered, None, noon()));
        assert_eq!(told, Vec::from_iter(expected), "{before:?}");
    }
}

#[test]
fn a_row_of_like_failures_is_one_event() {
    let mut before = before();
    let mut told = Vec::new();
    for _ in 0..50 {
        told.extend(events_of(&failed(FailureClass::ServerError, ConnectionState::Active), &before, noon()));
        before = Before { failures: before.failures + 1, class: Some(FailureClass::ServerError), ..before };
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].kind, told[0].class), (EventKind::Failing, Some(FailureClass::ServerError)));
    assert_eq!((told[0].generation, told[0].expires_at), (Generation(7), Some(noon())));
}

#[test]
fn another_class_is_told_and_a_class_that_is_not_known_is_taken_for_the_same() {
    let now_limited = failed(FailureClass::RateLimited, ConnectionState::Active);
    let with = |class| Before { failures: 4, class, ..before() };
    assert_eq!(kinds(&now_limited, &with(Some(FailureClass::ServerError))), ["failing"]);
    assert!(kinds(&now_limited, &with(Some(FailureClass::RateLimited))).is_empty());
    assert!(kinds(&now_limited, &with(None)).is_empty());
}

#[test]
fn a_failure_that_does_not_count_is_told_once_too() {
    let away = failed(FailureClass::Network, ConnectionState::Active);
    assert_eq!(kinds(&away, &before()), ["failing"]);
    assert!(kinds(&away, &Before { class: Some(FailureClass::Network), ..before() }).is_empty());
}

#[test]
fn who_needs_a_person_is_told_when_it_comes_to_that_and_not_again() {
    use ConnectionState as State;
    let class = FailureClass::InvalidGrant;
    let row = Before { failures: 4, class: Some(class), ..before() };
    let cases = [
        (State::NeedsReauth, row.clone(), &["needs_reauth"][..]),
        (State::NeedsReauth, before(), &["failing", "needs_reauth"]),
        (State::Quarantined, before(), &["failing", "quarantined"]),
        (State::Quarantined, Before { state: State::NeedsReauth, ..row.clone() }, &["quarantined"]),
        (State::NeedsReauth, Before { state: State::NeedsReauth, ..row.clone() }, &[]),
        (State::Active, row.clone(), &[]),
        (State::Misconfigured, row, &[]),
    ];
    for (state, before, expected) in cases {
        assert_eq!(kinds(&failed(class, state), &before), expected, "{state} {before:?}");
    }
}

#[test]
fn what_changes_nothing_is_not_told() {
    let outcomes = [
        Outcome::Stale,
        Outcome::Skipped(Skip::NotYet),
        Outcome::Undecodable(MessageError::Field { path: "v".into() }),
        Outcome::Unavailable { detail: "away".into() },
        Outcome::Deferred { until: noon(), reason: "limited" },
        Outcome::Parked,
        Outcome::Panicked { is_put_off: true },
    ];
    for outcome in outcomes {
        assert!(kinds(&outcome, &Before { failures: 2, ..before() }).is_empty(), "{outcome:?}");
    }
}

#[test]
fn the_words_of_a_failure_do_not_travel() {
    for event in
        events_of(&failed(FailureClass::InvalidGrant, ConnectionState::NeedsReauth), &before(), noon())
    {
        let text = String::from_utf8(event.encode()).unwrap();
        assert!(!text.contains("s3cret") && !event.routing_key().contains("s3cret"), "{text}");
    }
}
