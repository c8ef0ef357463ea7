//! The grants of the README's section "Privileges" are enough for producer and worker, and the producer reads no secret.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use freshet_cli::simulator::{Matcher, Reply, StatusCode};
use freshet_tests::binaries::Binary;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::waiting::eventually;
use reqwest::Url;
use sea_orm::{ConnectionTrait, Database};
use uuid::Uuid;

const README: &str = include_str!("../../README.md");

/// The GRANT statements for this account, in order.
fn grants(account: &str) -> Vec<String> {
    let section = README.split("### Privileges").nth(1).unwrap_or_default();
    let block = section.split("```sql").nth(1).unwrap_or_default().split("```").next().unwrap_or_default();
    let code: Vec<&str> = block.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let of = format!("'{account}'@'%'");
    let statements = code.join(" ");
    statements.split(';').filter(|grant| grant.contains(&of)).map(|grant| grant.trim().to_owned()).collect()
}

/// Accounts of a test's own, each with the README's grants on the fleet's database.
struct Accounts<'a> {
    fleet: &'a TestFleet,
    names: BTreeMap<&'static str, String>,
}

impl<'a> Accounts<'a> {
    async fn create(fleet: &'a TestFleet, roles: &[&'static str]) -> Result<Self> {
        let administrator = fleet.database.connect().await?;
        let mut names = BTreeMap::new();
        for role in roles {
            let name = format!("t{}", &Uuid::new_v4().simple().to_string()[..16]);
            let create = format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{name}'");
            administrator.execute_unprepared(&create).await?;
            let grants = grants(role);
            ensure!(!grants.is_empty(), "the README grants nothing to {role}");
            for grant in grants {
                let grant = grant
                    .replace("platform.", &format!("`{}`.", fleet.database.name()))
                    .replace(&format!("'{role}'"), &format!("'{name}'"));
                administrator.execute_unprepared(&grant).await.with_context(|| grant.clone())?;
            }
            names.insert(*role, name);
        }
        administrator.close().await?;
        Ok(Self { fleet, names })
    }

    fn url(&self, role: &str) -> Result<String> {
        let name = self.names.get(role).context("no such account")?;
        let mut url = Url::parse(&self.fleet.database.url())?;
        let set = url.set_username(name).and_then(|()| url.set_password(Some(name)));
        set.map_err(|()| anyhow!("the URL takes no user"))?;
        Ok(url.into())
    }

    async fn drop_accounts(self) -> Result<()> {
        for name in self.names.into_values() {
            self.fleet.execute(&format!("DROP USER '{name}'@'%'"), []).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_grants_of_the_readme_are_enough_for_producer_and_worker() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    for lane in ["EARLY", "URGENT"] {
        fleet.environment.insert(format!("FRESHET_SCAN__{lane}"), "* * * * * *".into());
    }
    fleet.environment.insert("FRESHET_MONITORING__LISTEN".into(), "127.0.0.1:0".into());
    fleet.environment.insert("FRESHET_TELEMETRY__FILTER".into(), "info".into());
    fleet
        .add([NewConnection::fynd(1, 400), NewConnection::very(2, -60), NewConnection::fynd(3, 1_500)])
        .await?;
    // One that fails, so that its history is written.
    fleet.add([NewConnection::fynd(4, 400)]).await?;
    let refusal = Reply::html(StatusCode::SERVICE_UNAVAILABLE, "<h1>away</h1>");
    fleet.marketplaces.script(Matcher::any().account("location&4"), [refusal.into()]);
    let accounts = Accounts::create(&fleet, &["freshet_producer", "freshet_worker"]).await?;
    let start = |name: &'static str, role: &str| -> Result<_> {
        let binary = Binary::new(name)?.arguments(["run"]).variables(&fleet.environment);
        binary.variable("FRESHET_DATABASE__URL", accounts.url(role)?).start()
    };
    let mut worker = start("worker", "freshet_worker")?;
    let mut producer = start("producer", "freshet_producer")?;
    eventually("all are fresh, after a failure too", PATIENCE, async || {
        ensure!(worker.is_running()? && producer.is_running()?, "{}{}", worker.stderr(), producer.stderr());
        for id in 1..=4 {
            let generation = fleet.stored(id).await?.generation();
            ensure!(
                generation == 1,
                "{id} is of generation {generation}: {}{}",
                worker.stderr(),
                producer.stderr()
            );
        }
        Ok(())
    })
    .await?;
    let said =
        [producer.terminate(PATIENCE).await?.with_code(0)?, worker.terminate(PATIENCE).await?.with_code(0)?];
    for ended in said {
        assert!(!ended.stderr.contains("denied"), "{}", ended.stderr);
    }
    let producers = Database::connect(accounts.url("freshet_producer")?).await?;
    for column in ["accessToken", "refreshToken", "inputFields"] {
        let read = format!("SELECT {column} FROM ie_appinstall_connection");
        assert!(producers.execute_unprepared(&read).await.is_err(), "the producer reads {column}");
    }
    producers.close().await?;
    accounts.drop_accounts().await?;
    fleet.dissolve().await
}
