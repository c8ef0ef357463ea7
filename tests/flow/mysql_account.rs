//! Accounts of MySQL's default kind, `caching_sha2_password`, log in over TLS; MariaDB has another kind.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::domain::secret::Secret;
use freshet_tests::isolation::TestDatabase;
use reqwest::Url;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use uuid::Uuid;

#[tokio::test]
async fn a_new_account_gets_in_over_tls_which_is_used_wherever_it_is_offered() -> Result<()> {
    let database = TestDatabase::create().await?;
    let administrator = database.connect().await?;
    let version = Statement::from_string(DbBackend::MySql, "SELECT VERSION() AS version");
    let version = administrator.query_one_raw(version).await?.context("no version")?;
    let is_mysql = !version.try_get::<String>("", "version")?.contains("MariaDB");
    // One that nobody has logged in with: of the others MySQL keeps a digest, which serves without TLS.
    let name = format!("t{}", &Uuid::new_v4().simple().to_string()[..16]);
    for statement in [
        format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{name}'"),
        format!("GRANT ALL ON `{}`.* TO '{name}'@'%'", database.name()),
    ] {
        administrator.execute_unprepared(&statement).await?;
    }
    let mut url = Url::parse(&database.url())?;
    let set = url.set_username(&name).and_then(|()| url.set_password(Some(&name)));
    set.map_err(|()| anyhow!("the URL takes no user"))?;
    let connect = async |query: Option<&str>| {
        let mut url = url.clone();
        url.set_query(query);
        let url = Secret::new(String::from(url));
        Database::connect(DatabaseSettings {
            url,
            max_connections: 1,
            acquire_timeout: Duration::from_secs(10),
        })
        .await
    };
    assert_eq!(connect(Some("ssl-mode=DISABLED")).await.is_err(), is_mysql);
    connect(None).await?.close().await;
    administrator.execute_unprepared(&format!("DROP USER '{name}'@'%'")).await?;
    administrator.close().await?;
    database.drop_database().await
}
