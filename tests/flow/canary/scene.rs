//! A fleet with secrets of every kind, on which refreshes come to every end.

use anyhow::{Context, Result, ensure};
use freshet_tests::binaries::{Binary, DesertedAddress, Ended, TestFolder};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::model_provider::{
    ClientAuthentication, DefinitionOptions, Fault, Grant, ModelProvider, Rotation, SecretOf, Settings,
};
use freshet_tests::otlp::Collector;
use freshet_tests::waiting::eventually;

use super::ends::{AtRest, End, GUARDED_DEFINITION, MODEL, ends, script};
use super::searched::Searched;
use super::{MARK, everything_told, secret};
use crate::sealing::{Keys, rotate};

/// The fleet, the ends of its connections, and what its processes have said so far.
pub(super) struct Scene {
    pub(super) fleet: TestFleet,
    pub(super) collector: Collector,
    pub(super) keys: Keys,
    pub(super) ends: Vec<End>,
    pub(super) said: String,
    model: ModelProvider,
    refresh_tokens: Vec<String>,
    _definitions: TestFolder,
    _deserted: DesertedAddress,
}

impl Scene {
    /// Sets it up. A part of the rows is sealed by the operator's command, the others stand in plain text.
    pub(super) async fn set() -> Result<Self> {
        let mut fleet = TestFleet::found().await?;
        let collector = Collector::start().await?;
        let deserted = DesertedAddress::take()?;
        let settings = Settings::new(Rotation::Strict);
        let model = Settings { authentication: ClientAuthentication::Basic, ..settings };
        let model = ModelProvider::start(model).await?;
        let secret_of_client = secret(0, "operator's secret");
        model.set_client_secrets(&format!("{MARK}-client"), &[&secret_of_client]);
        let definitions = TestFolder::create()?;
        let options = DefinitionOptions {
            integration_type: Some(MODEL.into()),
            secret: SecretOf::Operator,
            ..DefinitionOptions::new("modelled", Grant::RefreshToken(Rotation::Strict))
        };
        definitions.write("modelled.toml", &options.text(&model.token_url()))?;
        definitions.write("guarded.toml", GUARDED_DEFINITION)?;
        let variables = [
            ("FRESHET_PROVIDER_DIRECTORY", definitions.path().display().to_string()),
            (
                "FRESHET_PROVIDERS__VERY__ENVIRONMENTS__SANDBOX__TOKEN_URL",
                format!("http://{}/token", deserted.address()?),
            ),
            ("FRESHET_RETRY__SHORTEST", "1m".into()),
            ("FRESHET_PROVIDERS__MODELLED__SECRETS__CLIENT_SECRET", "env:SECRET_OF_CLIENT".into()),
            ("SECRET_OF_CLIENT", secret_of_client),
        ];
        fleet.environment.extend(variables.map(|(name, value)| (name.to_owned(), value)));
        fleet.environment.extend(everything_told(&collector.endpoint()));
        for column in ["accessToken VARCHAR(1000)", "refreshToken TEXT", "inputFields LONGTEXT"] {
            fleet.execute(&format!("ALTER TABLE ie_appinstall_connection MODIFY {column} NULL"), []).await?;
        }
        let keys = Keys::make().await?;
        keys.give(&mut fleet, "k1", &[&keys.k1])?;
        script(&fleet);
        model.script("11", [Fault::error(400, "invalid_grant")]);
        model.script("13", [Fault::lost()]);
        let mut scene = Self {
            fleet,
            collector,
            keys,
            ends: ends(),
            said: String::new(),
            model,
            refresh_tokens: Vec::new(),
            _definitions: definitions,
            _deserted: deserted,
        };
        scene.add_rows().await?;
        Ok(scene)
    }

    async fn add_rows(&mut self) -> Result<()> {
        let (plain, others): (Vec<_>, Vec<_>) =
            ends().into_iter().partition(|end| end.at_rest == AtRest::Plain);
        self.add(&others).await?;
        self.run(rotate(&self.fleet, &[])?, 0).await?;
        for end in others.iter().filter(|end| end.at_rest == AtRest::OutOfAnotherRow) {
            let copy = "UPDATE ie_appinstall_connection k JOIN ie_appinstall_connection o ON o.id = 17 \
                        SET k.inputFields = o.inputFields, k.accessToken = o.accessToken WHERE k.id = ?";
            ensure!(self.fleet.execute(copy, [end.id.into()]).await? == 1, "connection {} is gone", end.id);
        }
        self.add(&plain).await
    }

    async fn add(&mut self, ends: &[End]) -> Result<()> {
        for End { id, integration_type, input, .. } in ends {
            // Half of them in each lane.
            let one = NewConnection::fynd(*id, if id % 2 == 0 { 300 } else { 1_500 });
            let input_fields = Some(input.to_string());
            self.fleet.add([NewConnection { integration_type, input_fields, ..one }]).await?;
            let refresh_token = if *integration_type == MODEL {
                self.model.authorise(&id.to_string(), &format!("{MARK}-client"))
            } else {
                format!("{MARK}-old-refresh-{id}")
            };
            self.refresh_tokens.push(refresh_token.clone());
            let statement = "UPDATE ie_appinstall_connection SET accessToken = ?, refreshToken = ?, \
                             authorizationCode = ? WHERE id = ?";
            let old = [format!("{MARK}-old-access-{id}"), refresh_token, format!("{MARK}-old-code-{id}")];
            self.fleet.execute(statement, old.into_iter().map(Into::into).chain([(*id).into()])).await?;
        }
        Ok(())
    }

    /// Runs a command to its end, and keeps what it said.
    pub(super) async fn run(&mut self, command: Binary, code: i32) -> Result<()> {
        let ended = command.run().await?.with_code(code)?;
        self.keep(&ended);
        Ok(())
    }

    /// Keeps what a process said.
    pub(super) fn keep(&mut self, ended: &Ended) {
        self.said.push_str(&ended.stdout);
        self.said.push_str(&ended.stderr);
    }

    /// A producer's scan of each lane.
    pub(super) async fn publish(&mut self) -> Result<()> {
        for lane in ["urgent", "early"] {
            let producer = Binary::new("producer")?.arguments(["once", "--lane", lane]);
            self.run(producer.variables(&self.fleet.environment), 0).await?;
        }
        Ok(())
    }

    /// Waits until each connection has come to its end.
    pub(super) async fn until_ended(&self, mut look: impl FnMut() -> Result<()>) -> Result<()> {
        eventually("each has come to its end", PATIENCE, async || {
            look()?;
            for End { id, class, .. } in &self.ends {
                let ours = self.fleet.stored(*id).await?.ours.context("not enrolled")?;
                let is_there = match class {
                    None => ours.generation == 1,
                    Some(class) => ours.failure_class.as_deref() == Some(class.as_str()),
                };
                ensure!(is_there, "connection {id} is not: {ours:?}");
            }
            Ok(())
        })
        .await
    }

    /// Marks, and all secrets without one: what was granted, and the keys.
    pub(super) fn searched(&self) -> Result<Searched> {
        let mut searched = Searched::for_marks();
        let issued = self.fleet.marketplaces.ledger();
        let issued: Vec<&str> = issued.iter().filter_map(|entry| entry.issued()).collect();
        ensure!(issued.len() >= 4, "only {} tokens were issued", issued.len());
        issued.iter().for_each(|token| searched.also_for(token));
        for account in self.ends.iter().map(|end| end.id.to_string()) {
            let tokens =
                self.model.refresh_token(&account).into_iter().chain(self.model.access_tokens(&account));
            tokens.for_each(|token| searched.also_for(&token));
        }
        self.refresh_tokens.iter().for_each(|token| searched.also_for(token));
        for key in [&self.keys.k1, &self.keys.k2] {
            searched.also_for(key.split('"').nth(3).context("a key is missing")?);
        }
        Ok(searched)
    }
}
