//! Whether a message asks for a call to the provider. Pure: what was loaded goes in, the decision comes out.

use chrono::{DateTime, Utc};

use super::connection::LoadedConnection;
use super::message::RefreshMessage;
use super::outcome::Skip;
use super::window::RefreshWindows;

/// What to do about a message.
pub enum Decision {
    /// Call the provider for this connection.
    Refresh(LoadedConnection),
    /// Leave the provider alone. The connection comes along where its cache entries may need repair or its claim has to
    /// end.
    Skip(Skip, Option<LoadedConnection>),
}

/// Decides about `message` from what was loaded for it, `None` if the connection is gone.
pub fn decide(
    message: &RefreshMessage,
    loaded: Option<LoadedConnection>,
    windows: &RefreshWindows,
    now: DateTime<Utc>,
) -> Decision {
    let Some(connection) = loaded else { return Decision::Skip(Skip::Gone, None) };
    if !connection.is_active {
        return Decision::Skip(Skip::Inactive, None);
    }
    if connection.generation != message.generation {
        // A worker may have died between its commit and its cache write; this message repairs the cache.
        return Decision::Skip(Skip::GenerationMovedOn, Some(connection));
    }
    if !connection.state.is_scanned() {
        return Decision::Skip(Skip::Waiting(connection.state), None);
    }
    if windows.is_fresh(&connection, now) {
        return Decision::Skip(Skip::AlreadyFresh, Some(connection));
    }
    if connection.is_paused {
        return Decision::Skip(Skip::Paused, None);
    }
    if connection.leased_until.is_some_and(|until| until > now) {
        return Decision::Skip(Skip::InFlight, Some(connection));
    }
    if connection.next_attempt_at.is_some_and(|next| next > now) {
        return Decision::Skip(Skip::NotYet, Some(connection));
    }
    Decision::Refresh(connection)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::connection::{ConnectionId, ConnectionState, Generation};
    use crate::domain::lane::Lane;
    use crate::domain::message::VERSION;
    use crate::domain::secret::Secret;

    const WINDOWS: RefreshWindows =
        RefreshWindows { early: TimeDelta::minutes(30), urgent: TimeDelta::minutes(10) };

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn due() -> LoadedConnection {
        LoadedConnection {
            id: ConnectionId(1),
            is_active: true,
            access_token: Some(Secret::new("token")),
            expires_at: Some(at(5)),
            input_fields: None,
            generation: Generation(3),
            state: ConnectionState::Active,
            refresh_at: None,
            next_attempt_at: None,
            leased_until: None,
            failures: 0,
            is_paused: false,
        }
    }

    fn skipped(change: impl FnOnce(&mut LoadedConnection)) -> Option<(Skip, bool)> {
        let mut connection = due();
        change(&mut connection);
        decided(Some(connection))
    }

    fn decided(loaded: Option<LoadedConnection>) -> Option<(Skip, bool)> {
        let message = RefreshMessage {
            v: VERSION,
            connection_id: ConnectionId(1),
            generation: Generation(3),
            provider: "fynd".into(),
            lane: Lane::Urgent,
            due_at: at(0),
        };
        match decide(&message, loaded, &WINDOWS, at(0)) {
            Decision::Refresh(_) => None,
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
        for state in
            [ConnectionState::NeedsReauth, ConnectionState::Quarantined, ConnectionState::Unmonitored]
        {
            assert_eq!(skipped(|connection| connection.state = state), Some((Skip::Waiting(state), false)));
        }
    }
}
