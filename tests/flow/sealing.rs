//! Encryption at rest on a real server.

mod configured;
mod refreshing;
mod rotating;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use freshet_shared::adapters::database::{Database, Sealing};
use freshet_shared::adapters::system::SystemRandomness;
use freshet_shared::domain::connection::{ConnectionId, LoadedConnection};
use freshet_shared::domain::sealing::KeyRing;
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::store::RefreshStore;
use freshet_tests::binaries::{Binary, TestFolder};
use freshet_tests::fleet::TestFleet;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

/// Keys of a test's own, as an operator makes them.
pub(crate) struct Keys {
    folder: TestFolder,
    pub(crate) k1: String,
    pub(crate) k2: String,
}

impl Keys {
    pub(crate) async fn make() -> Result<Self> {
        let folder = TestFolder::create()?;
        let key = async |id| {
            let made =
                Binary::new("freshet")?.arguments(["secrets", "generate-key", "--id", id]).run().await?;
            anyhow::Ok(made.with_code(0)?.stdout)
        };
        Ok(Self { folder, k1: key("k1").await?, k2: key("k2").await? })
    }

    fn text(&self, primary: &str, held: &[&str]) -> String {
        format!("primary = \"{primary}\"\n[keys]\n{}", held.concat())
    }

    /// The fleet's processes that start from now on use this file.
    pub(crate) fn give(&self, fleet: &mut TestFleet, primary: &str, held: &[&str]) -> Result<PathBuf> {
        let path = self.folder.write("keys.toml", &self.text(primary, held))?;
        fleet.environment.insert("FRESHET_ENCRYPTION__KEY_FILE".into(), path.display().to_string());
        Ok(path)
    }

    /// Reads as a worker does that has only these keys.
    fn reader(&self, fleet: &TestFleet, primary: &str, held: &[&str]) -> Result<Database> {
        let ring = KeyRing::parse("keys.toml", &Secret::new(self.text(primary, held)))?;
        let sealing = Sealing::new(ring, Arc::new(SystemRandomness));
        Ok(fleet.store.clone().with_sealing(Some(Arc::new(sealing))))
    }
}

async fn load(reader: &Database, id: i64) -> Result<LoadedConnection> {
    reader.load(ConnectionId(id), "any", None).await?.with_context(|| format!("connection {id} is gone"))
}

async fn opened_token(reader: &Database, id: i64) -> Result<String> {
    Ok(load(reader, id).await?.access_token.context("no token")?.expose().to_owned())
}

async fn input_fields(fleet: &TestFleet, id: i64) -> Result<String> {
    let statement = Statement::from_sql_and_values(
        DbBackend::MySql,
        "SELECT CAST(inputFields AS CHAR) AS fields FROM ie_appinstall_connection WHERE id = ?",
        [id.into()],
    );
    let row = fleet.store.connection().query_one_raw(statement).await?.context("the connection is gone")?;
    Ok(row.try_get("", "fields")?)
}

pub(crate) fn rotate(fleet: &TestFleet, arguments: &[&str]) -> Result<Binary> {
    Ok(Binary::new("freshet")?
        .arguments(["secrets", "rotate"])
        .arguments(arguments)
        .variables(&fleet.environment))
}

/// Its report, where nothing was left over.
async fn rotated(fleet: &TestFleet, arguments: &[&str]) -> Result<String> {
    Ok(rotate(fleet, arguments)?.run().await?.with_code(0)?.stdout)
}

/// Makes the tokens of all connections expire soon.
async fn let_all_be_due(fleet: &TestFleet) -> Result<u64> {
    let soon =
        "UPDATE ie_appinstall_connection SET accessTokenExpiryAt = UTC_TIMESTAMP() + INTERVAL 5 MINUTE";
    fleet.execute(soon, []).await
}
