//! `freshet providers` as an operator runs it, against marketplaces on loopback.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use freshet_cli::simulator::{Matcher, Reply, Settings, Simulator, StatusCode};
use freshet_tests::binaries::{Binary, Ended, TestFolder};
use freshet_tests::fleet::now;

/// A provider whose refresh token is replaced when it is used.
const ROTATING: &str = r#"name = "rotating"
title = "Rotating"
[[inputs]]
key = "client_id"
[[secrets]]
key = "client_secret"
[token.request]
method = "POST"
url = "{environment.base_url}/rotating"
basic = { username = "{input.client_id}", password = "{secret.client_secret}", encoding = "form" }
form = [["grant_type", "refresh_token"], ["refresh_token", "{refresh_token}"]]
[token.response]
access_token = "/access_token"
lifetime = { seconds = "/expires_in" }
[refresh_token]
rotation = "strict"
answer = "/refresh_token"
"#;

/// Every value that must not be seen begins with this.
const SECRET: &str = "s3cret";

struct Bench {
    folder: TestFolder,
    configuration: PathBuf,
    marketplaces: Simulator,
}

impl Bench {
    async fn new() -> Result<Self> {
        let mut settings = Settings::well_behaved(Arc::new(now));
        settings.record = true;
        let marketplaces = Simulator::start(settings).await?;
        let folder = TestFolder::create()?;
        let definitions = folder.path().join("definitions");
        std::fs::create_dir(&definitions)?;
        std::fs::write(definitions.join("rotating.toml"), ROTATING)?;
        let configuration = folder.write(
            "freshet.toml",
            &format!(
                "provider_directory = \"{}\"\n[egress]\nallow = [\"127.0.0.1\"]\n\
                 [providers.very.environments.sandbox]\ntoken_url = \"{}\"\n\
                 [providers.rotating.environments.production]\nbase_url = \"http://{}\"\n\
                 [providers.rotating.secrets]\nclient_secret = \"env:APP_SECRET\"\n",
                definitions.display(),
                marketplaces.kornitx_token_url(),
                marketplaces.platform_host(),
            ),
        )?;
        Ok(Self { folder, configuration, marketplaces })
    }

    /// Runs the command with everything logged, and sees that no secret got out.
    async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        let ended = self.command(arguments)?.run().await?;
        let output = format!("{}{}", ended.stdout, ended.stderr);
        let issued = self.marketplaces.ledger();
        let tokens = issued.iter().filter_map(|entry| entry.issued());
        for secret in tokens.chain([SECRET, "czNjcmV0"]) {
            assert!(!output.contains(secret), "{secret} is in\n{output}");
        }
        Ok(ended)
    }

    fn command(&self, arguments: &[&str]) -> Result<Binary> {
        Ok(Binary::new("freshet")?
            .arguments(["providers"])
            .arguments(arguments)
            .arguments(["--config".as_ref(), self.configuration.as_os_str()])
            .variables([("FRESHET_TELEMETRY__FILTER", "trace"), ("APP_SECRET", "s3cret-of-app")]))
    }

    fn write(&self, file: &str, content: &str) -> Result<String> {
        Ok(self.folder.write(file, content)?.display().to_string())
    }
}

fn assert_says(ended: &Ended, parts: &[&str]) {
    for part in parts {
        assert!(ended.stdout.contains(part), "no `{part}` in\n{}", ended.stdout);
    }
}

#[tokio::test]
async fn one_real_call_is_made_explained_and_thrown_away() -> Result<()> {
    let bench = Bench::new().await?;
    let input = bench.write(
        "very.json",
        r#"{"companyRefId":"1","apiKey":"s3cret-key","clientId":"id","clientSecret":"s3cret-client"}"#,
    )?;
    let words = ["try", "very", "--input", &input, "--environment", "sandbox"];
    let ended = bench.run(&words).await?.with_code(0)?;
    assert_says(
        &ended,
        &[
            "POST {environment.token_url}",
            "answered        200 with ",
            "class           granted",
            "1h, until ",
            "/expires_in",
        ],
    );
    assert_eq!(bench.marketplaces.counts().issued, 1);

    bench.marketplaces.script(
        Matcher::any(),
        [Reply::json(StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client","hint":"s3cret-client"}"#)
            .into()],
    );
    let ended = bench.run(&words).await?.with_code(1)?;
    assert_says(&ended, &["answered        401 with ", "class           invalid_client"]);

    let blocked = bench.command(&words)?.variable("FRESHET_EGRESS__ALLOW", "").run().await?.with_code(1)?;
    assert_says(&blocked, &["class           egress_blocked"]);
    assert_eq!(bench.marketplaces.ledger().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_that_is_replaced_is_spent_only_on_request() -> Result<()> {
    let bench = Bench::new().await?;
    let input = bench.write("input.json", r#"{"client_id":"id"}"#)?;
    let token = bench.write("token", "s3cret-old\n")?;
    let words = ["try", "rotating", "--input", &input, "--refresh-token-file", &token];
    let refused = bench.run(&words).await?.with_code(1)?;
    assert!(refused.stderr.contains("--spend"), "{refused:?}");
    assert!(bench.marketplaces.ledger().is_empty());

    bench.marketplaces.script(
        Matcher::any(),
        [Reply::json(
            StatusCode::OK,
            r#"{"access_token":"s3cret-new","expires_in":600,"refresh_token":"s3cret-next"}"#,
        )
        .into()],
    );
    let ended = bench.run(&[&words[..], &["--spend"]].concat()).await?.with_code(0)?;
    assert_says(&ended, &["10m, until ", "a new one came, from /refresh_token", "warning "]);
    let ledger = bench.marketplaces.ledger();
    assert_eq!(ledger.len(), 1);
    assert_eq!(ledger[0].body, "grant_type=refresh_token&refresh_token=s3cret-old");
    Ok(())
}

#[tokio::test]
async fn definitions_are_checked_listed_and_shown() -> Result<()> {
    let bench = Bench::new().await?;
    let ended = bench.run(&["check"]).await?.with_code(0)?;
    assert!(ended.stdout.ends_with(" definitions, 0 faults\n"), "{}", ended.stdout);

    let broken = bench.folder.path().join("definitions/rotating.toml");
    let text = ROTATING.replace("title", "titel").replace("{input.client_id}", "{input.client}");
    std::fs::write(&broken, text)?;
    let folder = bench.folder.path().join("definitions").display().to_string();
    for words in [&["check"][..], &["check", &folder]] {
        let ended = bench.run(words).await?.with_code(1)?;
        let place = broken.display();
        assert_says(
            &ended,
            &[
                &format!("{place}:2:1: titel: is not a key of a definition: did you mean `title`?\n"),
                &format!("{place}:10:11: token.request.basic.username: `{{input.client}}` is not declared"),
                "2 faults\n",
            ],
        );
    }

    std::fs::write(&broken, ROTATING)?;
    let ended = bench.run(&["list"]).await?.with_code(0)?;
    assert_says(&ended, &["NAME ", "\nrotating ", "\nfynd ", "\nzoho-commerce "]);
    let ended = bench.run(&["show", "rotating"]).await?.with_code(0)?;
    assert_says(
        &ended,
        &[
            "authorization: Basic base64(form(‹input.client_id›):form(‹secret.client_secret›))",
            "grant_type=refresh_token&refresh_token=‹refresh_token›",
        ],
    );
    let ended = bench.run(&["show", "nobody"]).await?.with_code(1)?;
    assert!(ended.stderr.contains("there is no definition named `nobody`"), "{ended:?}");
    assert!(bench.marketplaces.ledger().is_empty());
    Ok(())
}
