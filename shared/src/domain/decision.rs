//! Whether a message asks for a call to the provider. Pure: what was loaded goes in, the decision comes out.

use chrono::{DateTime, Utc};

use super::connection::LoadedConnection;
use super::message::RefreshMessage;
use super::outcome::Skip;
use super::provider::definition::Rotation;
use super::window::RefreshWindows;

/// What to do about a message.
pub enum Decision {
    /// Call the provider for this connection.
    Refresh(LoadedConnection),
    /// A call that may have spent its refresh token was sent, its answer never came, and it may not be repeated.
    Lost(LoadedConnection),
    /// Leave the provider alone. The connection comes along where its cache entries may need repair or its claim has to
    /// end.
    Skip(Skip, Option<LoadedConnection>),
}

/// Decides about `message` from what was loaded for it, `None` if the connection is gone. `rotation` and `revision` are its
/// provider's; `is_redelivered`: whoever had the message before may have died with it.
pub fn decide(
    message: &RefreshMessage,
    loaded: Option<LoadedConnection>,
    windows: &RefreshWindows,
    (rotation, revision): (Rotation, &str),
    is_redelivered: bool,
    now: DateTime<Utc>,
) -> Decision {
    // Whoever published claimed it, and so enrolled it.
    let Some(connection) = loaded.filter(|loaded| loaded.is_enrolled) else {
        return Decision::Skip(Skip::Gone, None);
    };
    if !connection.is_active {
        return Decision::Skip(Skip::Inactive, None);
    }
    if connection.generation != message.generation {
        // A worker may have died between its commit and its cache write; this message repairs the cache.
        return Decision::Skip(Skip::GenerationMovedOn, Some(connection));
    }
    if connection.waits_for_a_person(revision, now) {
        return Decision::Skip(Skip::Waiting(connection.state), Some(connection));
    }
    if windows.is_fresh(&connection, now) {
        return Decision::Skip(Skip::AlreadyFresh, Some(connection));
    }
    if connection.is_paused {
        return Decision::Skip(Skip::Paused, None);
    }
    let is_somebodys = |until: DateTime<Utc>| {
        let sent_at = connection.unknown_since();
        !sent_at.is_some_and(|sent_at| rotation.may_pass(sent_at, until, is_redelivered, now))
    };
    if connection.leased_until.is_some_and(|until| until > now && is_somebodys(until)) {
        return Decision::Skip(Skip::InFlight, Some(connection));
    }
    if connection.next_attempt_at.is_some_and(|next| next > now) {
        return Decision::Skip(Skip::NotYet, Some(connection));
    }
    if connection.unknown_since().is_some_and(|since| !rotation.may_repeat(since, now)) {
        return Decision::Lost(connection);
    }
    Decision::Refresh(connection)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::connection::{ConnectionId, ConnectionState, Generation, loaded_connection};
    use crate::domain::lane::Lane;
    use crate::domain::message::VERSION;
    use crate::domain::secret::Secret;

    const WINDOWS: RefreshWindows = RefreshWindows {
        early: TimeDelta::minutes(30),
        urgent: TimeDelta::minutes(10),
        shortest_interval: TimeDelta::minutes(1),
    };

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn due() -> LoadedConnection {
        LoadedConnection { expires_at: Some(at(5)), generation: Generation(3), ..loaded_connection(1) }
    }

    fn skipped(change: impl FnOnce(&mut LoadedConnection)) -> Option<(Skip, bool)> {
        let mut connection = due();
        change(&mut connection);
        decided(Some(connection))
    }

    fn message() -> RefreshMessage {
        RefreshMessage {
            v: VERSION,
            connection_id: ConnectionId(1),
            generation: Generation(3),
            provider: "fynd".into(),
            lane: Lane::Urgent,
            due_at: at(0),
        }
    }

    fn decided(loaded: Option<LoadedConnection>) -> Option<(Skip, bool)> {
        let message = message();
        match decide(&message, loaded, &WINDOWS, (Rotation::Strict, "r"), true, at(0)) {
            Decision::Refresh(_) => None,
            Decision::Lost(_) => panic!("lost"),
            Decision::Skip(skip, connection) => Some((skip, connection.is_some())),
        }
    }

    #[test]
    fn a_due_connection_is_refreshed() {
        assert_eq!(skipped(|_| ()), None);
        assert_eq!(skipped(|connection| connection.expires_at = None), None);
        assert_eq!(skipped(|connection| connection.expires_at = Some(at(-500))), None);
        assert_eq!(skipped(|connection| connection.state = ConnectionState::Misconfigured), None);
        assert_eq!(skipped(|connection| connection.leased_until = Some(at(-1))), None);
        assert_eq!(skipped(|connection| connection.next_attempt_at = Some(at(0))), None);
    }

    #[test]
    fn everything_else_is_left_alone_with_its_reason() {
        assert_eq!(decided(None), Some((Skip::Gone, false)));
        assert_eq!(skipped(|connection| connection.is_enrolled = false), Some((Skip::Gone, false)));
        assert_eq!(skipped(|connection| connection.is_active = false), Some((Skip::Inactive, false)));
        assert_eq!(
            skipped(|connection| connection.generation = Generation(4)),
            Some((Skip::GenerationMovedOn, true))
        );
        assert_eq!(
            skipped(|connection| connection.expires_at = Some(at(90))),
            Some((Skip::AlreadyFresh, true))
        );
        assert_eq!(skipped(|connection| connection.is_paused = true), Some((Skip::Paused, false)));
        assert_eq!(skipped(|connection| connection.leased_until = Some(at(1))), Some((Skip::InFlight, true)));
        assert_eq!(
            skipped(|connection| connection.next_attempt_at = Some(at(1))),
            Some((Skip::NotYet, true))
        );
    }

    #[test]
    fn one_that_waits_for_a_person_waits_until_its_credentials_are_other_ones() {
        for state in
            [ConnectionState::NeedsReauth, ConnectionState::Quarantined, ConnectionState::Misconfigured]
        {
            let waiting = |connection: &mut LoadedConnection| {
                connection.state = state;
                connection.waiting_fingerprint = Some(connection.fingerprint_for(state, "r"));
            };
            assert_eq!(skipped(waiting), Some((Skip::Waiting(state), true)));
            let reconnected = |connection: &mut LoadedConnection| {
                waiting(connection);
                connection.refresh_token = Some(Secret::new("new"));
            };
            assert_eq!(skipped(reconnected), None);
        }
        let unmonitored = Skip::Waiting(ConnectionState::Unmonitored);
        let mark = |connection: &mut LoadedConnection| connection.state = ConnectionState::Unmonitored;
        assert_eq!(skipped(mark), None, "it has an expiry by now");
        let without = |connection: &mut LoadedConnection| {
            mark(connection);
            connection.expires_at = None;
        };
        assert_eq!(skipped(without), Some((unmonitored, true)));
    }

    #[test]
    fn an_open_call_is_repeated_inside_its_leeway_and_lost_after_it() {
        let decided = |rotation, sent_at| {
            let connection = LoadedConnection { attempt_sent_at: sent_at, ..due() };
            let message = message();
            match decide(&message, Some(connection), &WINDOWS, (rotation, "r"), false, at(1)) {
                Decision::Refresh(_) => "refresh",
                Decision::Lost(_) => "lost",
                Decision::Skip(..) => "skip",
            }
        };
        let leeway = Rotation::Leeway(std::time::Duration::from_secs(90));
        assert_eq!(decided(leeway, Some(at(0))), "refresh");
        assert_eq!(decided(leeway, Some(at(-1))), "lost");
        assert_eq!(decided(Rotation::Strict, Some(at(1))), "lost");
        assert_eq!(decided(Rotation::Strict, None), "refresh");
        assert_eq!(decided(Rotation::None, Some(at(-9))), "refresh");
    }

    #[test]
    fn inside_a_leeway_a_lease_is_passed_by_a_redelivered_message_and_by_others_before_it_is_too_late() {
        let second = |second| DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
        let calls = |rotation, leased_until, is_redelivered, now| {
            let connection = LoadedConnection {
                attempt_sent_at: Some(second(0)),
                leased_until: Some(second(leased_until)),
                ..due()
            };
            let asked = (rotation, "r");
            let message = message();
            let decided = decide(&message, Some(connection), &WINDOWS, asked, is_redelivered, second(now));
            matches!(decided, Decision::Refresh(_))
        };
        let leeway = Rotation::Leeway(std::time::Duration::from_secs(60));
        assert!(calls(leeway, 90, true, 1), "its sender is dead, or calls beside us, which harms nobody");
        assert!(!calls(leeway, 90, false, 1), "its sender is at it, as far as anybody knows");
        assert!(calls(leeway, 90, false, 27), "its sender is late, and the lease outlives the leeway");
        assert!(!calls(leeway, 50, false, 27), "there is time after the lease");
        assert!(!calls(leeway, 90, true, 54), "it would arrive too late");
        assert!(!calls(Rotation::Strict, 90, true, 1));
        assert!(!calls(Rotation::Strict, 90, false, 27));
    }
}
