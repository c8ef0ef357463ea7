//! What a rotation came to.

use std::fmt;

use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::ports::store::StoreError;

/// Troubles that the report names; further ones are counted.
const NAMED: usize = 1_000;

/// How a rotation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Behind the last connection.
    Complete,
    /// By a signal.
    Stopped,
    /// By the database.
    Failed(StoreError),
}

/// What a rotation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationReport {
    /// Nothing was written.
    pub dry_run: bool,
    /// How it ended.
    pub ended: Ended,
    /// All connections up to this one are done.
    pub up_to: Option<ConnectionId>,
    /// Connections that were read.
    pub rows: u64,
    /// Secrets that were in plain text.
    pub sealed: u64,
    /// Secrets that were sealed under another key.
    pub reencrypted: u64,
    /// Secrets that were sealed, and are in plain text now.
    pub opened: u64,
    /// Connections in which nothing was to be done.
    pub passed_over: u64,
    /// How often somebody else wrote a column between our reading and writing it.
    pub conflicts: u64,
    /// Secrets that do not open.
    pub unreadable: u64,
    /// Columns that could not be brought to where they should be.
    pub unfinished: u64,
    /// The first of the unreadable and unfinished, with connection and column.
    pub troubles: Vec<String>,
}

impl RotationReport {
    pub(super) fn new(dry_run: bool, after: Option<ConnectionId>) -> Self {
        Self {
            dry_run,
            ended: Ended::Complete,
            up_to: after,
            rows: 0,
            sealed: 0,
            reencrypted: 0,
            opened: 0,
            passed_over: 0,
            conflicts: 0,
            unreadable: 0,
            unfinished: 0,
            troubles: Vec::new(),
        }
    }

    /// Whether it saw everything to its end, and nothing is left that does not open or could not be written.
    pub fn is_good(&self) -> bool {
        self.ended == Ended::Complete && self.unreadable == 0 && self.unfinished == 0
    }

    pub(super) fn name(&mut self, trouble: String) {
        if self.troubles.len() < NAMED {
            self.troubles.push(trouble);
        }
    }

    /// Adds what one connection came to.
    pub(super) fn add(&mut self, row: Self) {
        self.rows += row.rows;
        self.sealed += row.sealed;
        self.reencrypted += row.reencrypted;
        self.opened += row.opened;
        self.passed_over += row.passed_over;
        self.conflicts += row.conflicts;
        self.unreadable += row.unreadable;
        self.unfinished += row.unfinished;
        for trouble in row.troubles {
            self.name(trouble);
        }
    }
}

impl fmt::Display for RotationReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("rows read", self.rows, ""),
            ("sealed", self.sealed, "secrets that were in plain text"),
            ("re-encrypted", self.reencrypted, "secrets that were sealed under another key"),
            ("opened", self.opened, "secrets that were sealed and are in plain text now"),
            ("passed over", self.passed_over, "rows in which nothing was to be done"),
            ("conflicts", self.conflicts, "columns that somebody wrote meanwhile; they were looked at again"),
            ("unreadable", self.unreadable, "secrets that do not open; they are as they were"),
            ("unfinished", self.unfinished, "columns that could not be read or written"),
        ];
        if self.dry_run {
            writeln!(formatter, "nothing was written; a run without --dry-run would come to this:")?;
        }
        for (what, count, meaning) in rows {
            writeln!(formatter, "{}", format!("{what:<14}{count:>9}   {meaning}").trim_end())?;
        }
        for trouble in &self.troubles {
            writeln!(formatter, "  {trouble}")?;
        }
        let named = self.troubles.len() as u64;
        if let Some(more @ 1..) = (self.unreadable + self.unfinished).checked_sub(named) {
            writeln!(formatter, "  and {more} more")?;
        }
        match &self.ended {
            Ended::Complete => return Ok(()),
            Ended::Stopped => write!(formatter, "stopped before the end")?,
            Ended::Failed(error) => write!(formatter, "ended early: {error}")?,
        }
        match self.up_to {
            Some(id) => writeln!(formatter, "; go on with --after {id}"),
            None => writeln!(formatter, "; nothing was done"),
        }
    }
}
