//! A rotated token whose database went away: it is parked before the process ends, and stored by whoever comes next.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use freshet_shared::adapters::rabbitmq::{DEAD_LETTER_QUEUE, PARKED_QUEUE};
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::{Binary, Ended, Process, TestFolder};
use freshet_tests::fleet::PATIENCE;
use freshet_tests::model_provider::{
    DefinedFleet, DefinitionOptions, Fault, Grant, ModelProvider, Rotation, SecretOf, Settings,
};
use freshet_tests::services::MariaDb;
use freshet_tests::waiting::eventually;
use nix::sys::signal::Signal;
use serde_json::json;

const CLIENT: &str = "client";
const SECRET: &str = "client secret";
/// Of its workers; in the middle of it they park what the database did not take.
const GRACE: Duration = Duration::from_secs(20);

/// A fleet on a database of the test's own, with one connection whose refresh token rotates, and keys.
struct Scene {
    model: ModelProvider,
    defined: DefinedFleet,
    server: MariaDb,
    keys: TestFolder,
}

impl Scene {
    async fn set() -> Result<Self> {
        let model = ModelProvider::start(Settings::new(Rotation::Strict)).await?;
        model.set_client_secrets(CLIENT, &[SECRET]);
        let options = DefinitionOptions {
            integration_type: Some(DefinedFleet::INTEGRATION_TYPE.into()),
            secret: SecretOf::Connection,
            ..DefinitionOptions::new("model", Grant::RefreshToken(Rotation::Strict))
        };
        let mut defined = DefinedFleet::found(&model.definition(&options)).await?;
        let server = MariaDb::start().await?;
        defined.fleet.move_to(&server, &[]).await?;
        let refresh_token = model.authorise("1", CLIENT);
        let input = json!({"client_id": CLIENT, "client_secret": SECRET});
        defined.add(1, &input, Some(&refresh_token)).await?;
        let mut scene = Self { model, defined, server, keys: TestFolder::create()? };
        scene.give_key("k1").await?;
        let environment = &mut scene.defined.fleet.environment;
        environment.insert("FRESHET_WORKER__SHUTDOWN_GRACE".into(), format!("{}s", GRACE.as_secs()));
        environment.insert("FRESHET_DATABASE__ACQUIRE_TIMEOUT".into(), "1s".into());
        Ok(scene)
    }

    /// Workers that start from now on have this key and no other.
    async fn give_key(&mut self, id: &str) -> Result<()> {
        let made = Binary::new("freshet")?.arguments(["secrets", "generate-key", "--id", id]).run().await?;
        let text = format!("primary = \"{id}\"\n[keys]\n{}", made.with_code(0)?.stdout);
        let path = self.keys.write(&format!("{id}.toml"), &text)?;
        self.defined
            .fleet
            .environment
            .insert("FRESHET_ENCRYPTION__KEY_FILE".into(), path.display().to_string());
        Ok(())
    }

    /// A worker whose database is killed while the provider is at it, and which is then asked to end.
    async fn lose_the_database(&mut self) -> Result<Ended> {
        let worker = self.kill_the_database().await?;
        worker.signal(Signal::SIGTERM)?;
        worker.ended(PATIENCE).await
    }

    /// A worker whose database is killed while the provider is at it.
    async fn kill_the_database(&mut self) -> Result<Process> {
        let worker = self.until_asked().await?;
        self.server.kill()?;
        Ok(worker)
    }

    /// A worker whose provider is at it.
    async fn until_asked(&self) -> Result<Process> {
        self.model.script("1", [Fault::none().after(Duration::from_secs(3))]);
        let published = self.defined.fleet.scan(Lane::Urgent).await?.published;
        ensure!(published == 1, "{published} messages");
        let worker =
            Binary::new("worker")?.arguments(["run"]).variables(&self.defined.fleet.environment).start()?;
        eventually("the provider was asked", PATIENCE, async || {
            ensure!(self.model.calls("1") == 1, "the worker says:\n{}", worker.stderr());
            Ok(())
        })
        .await?;
        Ok(worker)
    }

    /// With it the connections that the test itself had to it.
    async fn bring_the_database_back(&mut self) -> Result<()> {
        self.server.restart().await?;
        eventually("the test's own connections are new", PATIENCE, async || {
            for _ in 0..8 {
                self.defined.fleet.execute("DO 1", []).await?;
            }
            Ok(())
        })
        .await
    }

    async fn parked(&self) -> Result<u32> {
        self.defined.fleet.vhost.ready_messages(PARKED_QUEUE).await
    }

    /// Until the token is in its row, and its message is settled.
    async fn until_stored(&self) -> Result<()> {
        eventually("the token is stored", PATIENCE, async || {
            let stored = self.defined.fleet.stored(1).await?;
            ensure!(stored.generation() == 1, "its generation is {}", stored.generation());
            Ok(())
        })
        .await?;
        self.defined.fleet.vhost.until_drained(PATIENCE).await
    }

    /// The next refresh works with what is stored, and with nothing that was spent.
    async fn refreshes_with_this_very_token(&self) -> Result<()> {
        self.defined.come_due().await?;
        assert_eq!(self.defined.refresh(1).await?, ["refreshed"]);
        assert_eq!((self.model.grants("1"), self.model.reuse_detections("1")), (2, 0));
        Ok(())
    }

    /// What is parked, without another call.
    async fn is_stored_once_by_another_worker(&self) -> Result<()> {
        let next = self.defined.fleet.worker().await?;
        self.until_stored().await?;
        next.stop().await?;
        assert_eq!((self.model.calls("1"), self.model.grants("1")), (1, 1), "it was asked once");
        self.refreshes_with_this_very_token().await
    }

    async fn dissolve(self) -> Result<()> {
        self.defined.fleet.dissolve().await
    }
}

#[tokio::test]
async fn a_rotated_token_survives_its_database_and_its_worker() -> Result<()> {
    let mut scene = Scene::set().await?;
    let ended = scene.lose_the_database().await?.with_code(0)?;
    assert!(ended.stderr.contains("the answer waits in its queue"), "{}", ended.stderr);
    assert_eq!(scene.parked().await?, 1);
    let granted = scene.model.refresh_token("1").context("no refresh token")?;
    assert!(!ended.stderr.contains(&granted));

    scene.bring_the_database_back().await?;
    scene.is_stored_once_by_another_worker().await?;
    scene.dissolve().await
}

#[tokio::test]
async fn a_granted_token_waits_for_a_database_that_comes_back() -> Result<()> {
    let mut scene = Scene::set().await?;
    let mut worker = scene.kill_the_database().await?;
    worker.until_it_says("asking the database again", PATIENCE).await?;
    scene.bring_the_database_back().await?;
    scene.until_stored().await?;
    let _ = worker.terminate(PATIENCE).await?.with_code(0)?;
    assert_eq!(
        (scene.model.calls("1"), scene.parked().await?),
        (1, 0),
        "it was asked once, and nothing is parked"
    );
    scene.refreshes_with_this_very_token().await?;
    scene.dissolve().await
}

#[tokio::test]
async fn an_answer_whose_database_stands_still_is_parked_in_time_and_stored_once() -> Result<()> {
    let mut scene = Scene::set().await?;
    scene.defined.fleet.environment.insert("FRESHET_TELEMETRY__FILTER".into(), "info".into());
    let worker = scene.until_asked().await?;
    // Its connections stay open, and nobody answers.
    scene.server.freeze()?;
    worker.signal(Signal::SIGTERM)?;
    let ended = worker.ended(PATIENCE).await?.with_code(0)?;
    assert!(ended.took < GRACE, "it took {:?}:\n{}", ended.took, ended.stderr);
    assert!(ended.stderr.contains("the answer waits in its queue"), "{}", ended.stderr);
    assert_eq!(scene.parked().await?, 1);

    scene.server.thaw()?;
    scene.is_stored_once_by_another_worker().await?;
    scene.dissolve().await
}

/// A server that goes on does what it finds on its connections, also what nobody waits for any more.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_call_that_was_given_up_because_nobody_wrote_it_down_is_not_written_down_later() -> Result<()> {
    use freshet_shared::failpoints::{Point, VARIABLE};

    const LIMIT: Duration = Duration::from_secs(1);
    /// So many go before, that each of the worker's connections to the database knows the statement, and sends it at once.
    const BEFORE: i64 = 24;
    let mut scene = Scene::set().await?;
    for id in 2..=BEFORE + 1 {
        let refresh_token = scene.model.authorise(&id.to_string(), CLIENT);
        let input = json!({"client_id": CLIENT, "client_secret": SECRET});
        scene.defined.add(id, &input, Some(&refresh_token)).await?;
    }
    let environment = &mut scene.defined.fleet.environment;
    environment.insert("FRESHET_DATABASE__STATEMENT_TIMEOUT".into(), format!("{}s", LIMIT.as_secs()));
    environment.insert("FRESHET_WORKER__CONCURRENCY".into(), "1".into());
    let held = scene.keys.path().join("held");
    assert_eq!(scene.defined.fleet.scan(Lane::Urgent).await?.published, BEFORE as u64 + 1);
    let order = format!("{}=hold:{}@{}", Point::BeforeLease.as_str(), held.display(), BEFORE + 1);
    let mut worker = Binary::new("worker")?
        .arguments(["run"])
        .variables(&scene.defined.fleet.environment)
        .variable(VARIABLE, order)
        .start()?;
    eventually("it has loaded the last connection", PATIENCE, async || {
        ensure!(held.exists(), "the worker says:\n{}", worker.stderr());
        Ok(())
    })
    .await?;
    scene.server.freeze()?;
    std::fs::remove_file(&held)?;
    worker.until_it_says("no answer within 1s", PATIENCE).await?;
    worker.signal(Signal::SIGKILL)?;
    // It is meant for so long, whoever lives or dies.
    tokio::time::sleep(2 * LIMIT).await;
    scene.server.thaw()?;

    assert_eq!(scene.defined.fleet.work_off(1).await?[0].outcome.as_str(), "refreshed");
    for id in 1..=BEFORE + 1 {
        let account = id.to_string();
        assert_eq!((scene.model.calls(&account), scene.model.grants(&account)), (1, 1), "connection {id}");
    }
    scene.dissolve().await
}

#[tokio::test]
async fn a_parked_answer_that_no_key_opens_goes_to_the_dead_letters() -> Result<()> {
    let mut scene = Scene::set().await?;
    let _ = scene.lose_the_database().await?.with_code(0)?;
    assert_eq!(scene.parked().await?, 1);
    scene.bring_the_database_back().await?;
    scene.give_key("k2").await?;
    let next = scene.defined.fleet.worker().await?;
    eventually("the answer is put aside", PATIENCE, async || {
        let dead = scene.defined.fleet.vhost.ready_messages(DEAD_LETTER_QUEUE).await?;
        ensure!(dead == 1, "{dead} dead letters");
        Ok(())
    })
    .await?;
    let letters = scene.defined.fleet.take_dead_letters(1).await?;
    assert_eq!(letters[0].headers["x-freshet-reason"], "unreadable_secret");
    assert!(letters[0].headers["x-freshet-detail"].contains("`k1`"), "{:?}", letters[0].headers);
    next.stop().await?;
    assert_eq!(scene.defined.fleet.stored(1).await?.generation(), 0);
    // Nobody knows which refresh token is good.
    let lapse =
        "UPDATE token_refresh SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE, queued_until = NULL";
    scene.defined.fleet.execute(lapse, []).await?;
    assert_eq!(scene.defined.refresh(1).await?, ["failed"]);
    let ours = scene.defined.fleet.stored(1).await?.ours.context("not enrolled")?;
    assert_eq!(ours.state, "quarantined");
    assert_eq!(scene.model.calls("1"), 1);
    scene.dissolve().await
}

#[tokio::test]
async fn without_a_key_the_start_and_the_end_say_what_is_lost() -> Result<()> {
    let mut scene = Scene::set().await?;
    scene.defined.fleet.environment.remove("FRESHET_ENCRYPTION__KEY_FILE");
    let ended = scene.lose_the_database().await?.with_code(1)?;
    for words in ["its refresh tokens rotate, and encryption.key_file has no primary key", "cannot be parked"]
    {
        assert!(ended.stderr.contains(words), "no `{words}` in {}", ended.stderr);
    }
    scene.bring_the_database_back().await?;
    assert_eq!(scene.parked().await?, 0);
    // Its message came back; whoever takes it finds the call and does not repeat it.
    let lapse = "UPDATE token_refresh SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE";
    scene.defined.fleet.execute(lapse, []).await?;
    let reports = scene.defined.fleet.work_off(1).await?;
    assert_eq!(reports[0].outcome.as_str(), "failed");
    assert_eq!(scene.model.calls("1"), 1);
    scene.dissolve().await
}

#[tokio::test]
async fn an_answer_that_nobody_can_read_stays_on_the_row_under_the_key() -> Result<()> {
    let scene = Scene::set().await?;
    scene.model.script("1", [Fault::without("access_token")]);
    assert_eq!(scene.defined.refresh(1).await?, ["failed"]);
    let ours = scene.defined.fleet.stored(1).await?.ours.context("not enrolled")?;
    assert_eq!(ours.state, "quarantined");
    let sealed = "UPDATE token_refresh SET failures = failures WHERE kept_answer LIKE 'freshet:1:k1:%'";
    assert_eq!(scene.defined.fleet.execute(sealed, []).await?, 1);
    // Looked at again it is as unreadable as before, and nobody is called.
    scene.defined.retry().await?;
    assert_eq!(scene.model.calls("1"), 1);
    assert_eq!(scene.defined.fleet.execute(sealed, []).await?, 1);
    scene.dissolve().await
}
