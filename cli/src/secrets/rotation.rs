//! Bringing every stored secret under the primary key, while the fleet runs.
//!
//! A column is written only if it still holds the very text that was read, so a refresh or a merchant's edit in between
//! wins, and the column is looked at again. What stands as it should is passed over, so a run that was cut off goes on
//! by being started again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::sealing::{
    Goal, KeyRing, Place, Rotated, SecretColumn, rotate_members, rotate_text,
};
use freshet_shared::domain::secret::Secret;
use freshet_shared::persistence::{Patience, persist};
use freshet_shared::ports::randomness::Randomness;
use freshet_shared::ports::secrets::{SecretStore, StoredSecrets};
use freshet_shared::ports::store::StoreError;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::report::{Ended, RotationReport};

/// Connections that are written at once: each column is a statement of its own, so that no lock is held for long.
const AT_ONCE: usize = 8;
/// How often a column is looked at again that somebody else keeps writing.
const LOOKS: u32 = 10;
/// A database that restarts is waited for.
const PATIENCE: Patience =
    Patience::within(Duration::from_millis(200), Duration::from_secs(5), Duration::from_secs(60));

/// A rotation with all that it needs.
pub struct Rotation<'a> {
    /// The columns.
    pub store: &'a dyn SecretStore,
    /// The keys.
    pub keys: &'a KeyRing,
    /// For nonces: a cryptographic generator.
    pub randomness: &'a dyn Randomness,
    /// The secret members of `inputFields` by integration type. Connections of other types are theirs who wrote them:
    /// only what is sealed already is touched there.
    pub secret_members: BTreeMap<String, BTreeSet<String>>,
    /// How secrets shall stand.
    pub goal: Goal,
    /// Connections that are read at once.
    pub batch: u32,
    /// Begin behind this one.
    pub after: Option<ConnectionId>,
    /// Write nothing.
    pub dry_run: bool,
}

impl Rotation<'_> {
    /// Goes through all connections in id order, until `shutdown`; `progress` hears of every batch.
    pub async fn run(
        &self,
        shutdown: &CancellationToken,
        progress: &mut (dyn FnMut(&RotationReport) + Send),
    ) -> RotationReport {
        let mut report = RotationReport::new(self.dry_run, self.after);
        let integration_types: Vec<String> = self.secret_members.keys().cloned().collect();
        loop {
            if shutdown.is_cancelled() {
                report.ended = Ended::Stopped;
                return report;
            }
            match self.batch(report.up_to, &integration_types, &mut report).await {
                Ok(Some(last)) => report.up_to = Some(last),
                Ok(None) => return report,
                Err(error) => {
                    report.ended = Ended::Failed(error);
                    return report;
                }
            }
            progress(&report);
        }
    }

    /// One batch; answers the last connection of it, or `None` behind the end.
    async fn batch(
        &self,
        after: Option<ConnectionId>,
        integration_types: &[String],
        report: &mut RotationReport,
    ) -> Result<Option<ConnectionId>, StoreError> {
        let rows = patiently(|| self.store.secrets_after(after, self.batch, integration_types)).await?;
        let last = rows.last().map(|row| row.connection_id);
        let mut done =
            stream::iter(rows.into_iter().map(|row| self.connection(row))).buffer_unordered(AT_ONCE);
        while let Some(row) = done.try_next().await? {
            report.add(row);
        }
        Ok(last)
    }

    async fn connection(&self, mut row: StoredSecrets) -> Result<RotationReport, StoreError> {
        let mut report = RotationReport { rows: 1, ..RotationReport::new(self.dry_run, None) };
        for column in SecretColumn::ALL {
            if let Some(text) = row.take(column) {
                self.column(&row, column, text, &mut report).await?;
            }
        }
        let is_idle =
            [report.sealed, report.reencrypted, report.opened, report.unreadable, report.unfinished]
                == [0; 5];
        report.passed_over = u64::from(is_idle);
        Ok(report)
    }

    /// One column, until it stands as it should or nothing more can be done about it.
    async fn column(
        &self,
        row: &StoredSecrets,
        column: SecretColumn,
        mut text: Secret,
        report: &mut RotationReport,
    ) -> Result<(), StoreError> {
        let (id, place) = (row.connection_id, Place::of(column, row.connection_id));
        for _ in 0..LOOKS {
            let Some(rotated) = self.rotated(row, column, &place, &text) else {
                report.unfinished += 1;
                report.name(format!("{place} is not a JSON object: correct the row"));
                return Ok(());
            };
            if let Some(new) = rotated.text.as_ref().filter(|_| !self.dry_run) {
                match patiently(|| self.store.swap_secret(id, column, &text, new)).await {
                    Ok(true) => {}
                    Ok(false) => {
                        report.conflicts += 1;
                        match patiently(|| self.store.secret(id, column)).await? {
                            Some(now) => text = now,
                            None => return Ok(()),
                        }
                        continue;
                    }
                    Err(StoreError::Refused { problem, .. }) => {
                        report.unfinished += 1;
                        report.name(format!("{place}: the database refused the new text: {problem}"));
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
            report.sealed += rotated.sealed;
            report.reencrypted += rotated.reencrypted;
            report.opened += rotated.opened;
            report.unreadable += rotated.unreadable.len() as u64;
            rotated.unreadable.into_iter().for_each(|error| report.name(error.to_string()));
            return Ok(());
        }
        report.unfinished += 1;
        report.name(format!("{place} was written by somebody else {LOOKS} times in a row: run it again"));
        Ok(())
    }

    /// What the column should hold; `None` where that cannot be told.
    fn rotated(
        &self,
        row: &StoredSecrets,
        column: SecretColumn,
        place: &Place<'_>,
        text: &Secret,
    ) -> Option<Rotated> {
        let random = &mut || self.randomness.next();
        let is_ours = !row.integration_types.is_empty();
        if column != SecretColumn::InputFields {
            return Some(rotate_text(self.keys, self.goal, place, text, is_ours, random));
        }
        let is_secret = |key: &str| {
            let mut members = row.integration_types.iter().filter_map(|of| self.secret_members.get(of));
            members.any(|members| members.contains(key))
        };
        let rotated = rotate_members(self.keys, self.goal, place, text, is_secret, random);
        // Whether it holds a secret nobody can say; of connections that are not ours nobody asked.
        if rotated.is_none() && (!is_ours || text.is_empty()) { Some(Rotated::default()) } else { rotated }
    }
}

async fn patiently<T, F>(operation: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    persist(
        PATIENCE,
        operation,
        |error| matches!(error, StoreError::Unavailable { .. }),
        |error, wait| tracing::warn!(%error, ?wait, "waiting for the database"),
    )
    .await
}
