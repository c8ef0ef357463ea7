//! One database, one virtual host and one key prefix per test, so that tests of a fleet can run side by side on
//! the same servers. Each is removed by an explicit call at a test's end, and on a best effort when a test fails
//! before it gets there.

mod cleanup;
mod database;
mod keys;
mod vhost;

pub use database::TestDatabase;
pub use keys::{Entry, TestKeys};
pub use vhost::{QueueState, TestVhost};

use uuid::Uuid;

/// Recognisable as ours on a server that somebody else runs.
fn unique_name() -> String {
    format!("freshet_test_{}", Uuid::new_v4().simple())
}
