//! Configurations as the binaries meet them: refused by name, without a secret, with exit code 78.

use anyhow::Result;
use freshet_shared::domain::provider::catalogue::SHIPPED;
use freshet_tests::binaries::{Binary, TestFolder};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};

const SECRET: &str = "s3cret";

/// URLs with a password each, of servers that nobody may ask.
const URLS: [(&str, &str); 3] = [
    ("FRESHET_DATABASE__URL", "mysql://freshet:s3cret@127.0.0.1:1/platform"),
    ("FRESHET_RABBITMQ__URL", "amqp://freshet:s3cret@127.0.0.1:1/%2f"),
    ("FRESHET_REDIS__URL", "redis://:s3cret@127.0.0.1:1"),
];

const PRODUCER: (&str, &[&str]) = ("producer", &["run"]);
const ONCE: (&str, &[&str]) = ("producer", &["once", "--lane", "urgent"]);
const WORKER: (&str, &[&str]) = ("worker", &["run"]);
const MIGRATE: (&str, &[&str]) = ("freshet", &["migrate"]);
const ALL: &[(&str, &[&str])] = &[PRODUCER, WORKER, MIGRATE];
const BOTH: &[(&str, &[&str])] = &[PRODUCER, WORKER];

async fn is_refused(
    (name, arguments): (&'static str, &[&str]),
    file: Option<&str>,
    variables: &[(&str, &str)],
    words: &[&str],
) -> Result<()> {
    let folder = TestFolder::create()?;
    let mut binary =
        Binary::new(name)?.arguments(arguments).variables(URLS).variables(variables.iter().copied());
    if let Some(content) = file {
        binary = binary.arguments(["--config".as_ref(), folder.write("freshet.toml", content)?.as_os_str()]);
    }
    let ended = binary.run().await?.with_code(78)?;
    let case = format!("{name} {arguments:?}, {file:?}, {variables:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{case}: no `{word}` in\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains(SECRET) && !ended.stdout.contains(SECRET), "{case}:\n{ended:?}");
    assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 1), "{case}:\n{ended:?}");
    assert_eq!(ended.stderr.matches(words[0]).count(), 1, "{case}: said twice:\n{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_wrong_is_refused_by_every_binary() -> Result<()> {
    let cases: &[(&str, &[&str])] = &[
        ("[worker]\nconcurency = 7", &["worker.concurency"]),
        ("[workr]\nconcurrency = 7", &["workr:"]),
        ("[worker]\nconcurrency = 's3cret'", &["worker.concurrency: "]),
        ("[scan]\nearly_window = '9m'", &["scan.early_window", "scan.urgent_window"]),
        ("[scan]\nclaim = '31m'", &["scan.claim"]),
        ("[call]\ntimeout = '4s'", &["call.connect_timeout", "call.timeout"]),
        ("[scan]\nurgent = '* * * * * * * *'", &["scan.urgent"]),
        ("[scan]\nearly = 'every day'", &["scan.early"]),
        ("[providers.fynd]\ntoken = 's3cret'", &["providers.fynd.token:"]),
        // Lines that are no TOML, with a password on them.
        ("[database]\nurl = mysql://freshet:s3cret@db/platform", &["freshet.toml", "line 2"]),
        ("[redis]\n\nurl = 'redis://:s3cret@redis", &["freshet.toml", "line 3"]),
        ("[redis]\nurl = 'redis://:s3cret@redis' s3cret", &["freshet.toml", "line 2"]),
        ("[redis]\nurl = \"redis://:s3cret@redis\" \"s3cret\"", &["freshet.toml", "line 2"]),
    ];
    for (file, words) in cases {
        for program in ALL {
            is_refused(*program, Some(file), &[], words).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_variable_that_is_wrong_is_refused_by_every_binary() -> Result<()> {
    let cases: &[((&str, &str), &[&str])] = &[
        (("FRESHET_WORKER__CONCURENCY", "7"), &["worker.concurency"]),
        (("FRESHET_WORKR__CONCURRENCY", "s3cret"), &["workr:"]),
        (("FRESHET_WORKER__CONCURRENCY", "s3cret"), &["worker.concurrency: "]),
        (("FRESHET_SCAN__URGENT_WINDOW", "2h"), &["scan.early_window", "scan.urgent_window"]),
        (("FRESHET_SCAN__URGENT", "61 * * * *"), &["scan.urgent"]),
        (("FRESHET_LIMITS__DATABASE_CONNECTIONS", "95"), &["limits.database_connections", "96 in all"]),
        (("FRESHET_DATABASE__URL", "postgres://freshet:s3cret@db/platform"), &["database.url", "mysql://"]),
        (("FRESHET_DATABASE__URL", "s3cret"), &["database.url", "mysql://"]),
        (
            ("FRESHET_DATABASE__URL", "mysql://freshet:s3cret@db:port/platform"),
            &["database.url", "percent-encoded"],
        ),
        (
            ("FRESHET_DATABASE__URL", "mysql://freshet:s3cret/4@db/platform"),
            &["database.url", "percent-encoded"],
        ),
        (("FRESHET_TELEMETRY__FILTER", "freshet=s3cret"), &["telemetry.filter"]),
        (("FRESHET_TELEMETRY__OTLP_ENDPOINT", "s3cret"), &["telemetry.otlp_endpoint"]),
        (("FRESHET_TELEMETRY__OTLP_ENDPOINT", "http://u:s3cret@jae ger"), &["telemetry.otlp_endpoint"]),
        (("FRESHET_CONFIG", "/nowhere/freshet.toml"), &["/nowhere/freshet.toml"]),
    ];
    for (variable, words) in cases {
        for program in ALL {
            is_refused(*program, None, &[*variable], words).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_only_producer_and_worker_need_is_checked_before_any_server_is_asked() -> Result<()> {
    let cases: &[((&str, &str), &[&str])] = &[
        (("FRESHET_RABBITMQ__URL", "http://freshet:s3cret@mq"), &["rabbitmq.url", "amqp://"]),
        (("FRESHET_RABBITMQ__URL", "amqp://freshet:s3cret@mq:port"), &["rabbitmq.url"]),
        (("FRESHET_RABBITMQ__HEARTBEAT", "0s"), &["rabbitmq.heartbeat: "]),
        (
            ("FRESHET_PROVIDERS__FYNDD__INTEGRATION_TYPE", "16"),
            &["providers.fyndd", "there is no definition of that name"],
        ),
        (
            ("FRESHET_PROVIDERS__VERY__INTEGRATION_TYPE", "15"),
            &["providers.very.integration_type", "providers.fynd"],
        ),
        (
            ("FRESHET_PROVIDERS__FYND__ENVIRONMENT", "live"),
            &["providers.fynd.environment", "production, sandbox"],
        ),
        (("FRESHET_PROVIDER_DIRECTORY", "/nowhere/providers"), &["/nowhere/providers"]),
    ];
    for (variable, words) in cases {
        for program in BOTH.iter().chain([&ONCE]) {
            is_refused(*program, None, &[*variable], words).await?;
        }
    }
    is_refused(WORKER, None, &[("FRESHET_REDIS__URL", "http://:s3cret@redis")], &["redis.url", "redis://"])
        .await?;
    // Pools that contradict each other.
    is_refused(
        WORKER,
        None,
        &[("FRESHET_DATABASE__MAX_CONNECTIONS", "5")],
        &["database.max_connections: ", "worker.concurrency = 512"],
    )
    .await
}

#[tokio::test]
async fn a_url_that_is_missing_is_named_with_its_variable() -> Result<()> {
    for (name, arguments, given, key, variable) in [
        ("producer", ["run"], 0, "database.url", "FRESHET_DATABASE__URL"),
        ("worker", ["run"], 0, "database.url", "FRESHET_DATABASE__URL"),
        ("freshet", ["migrate"], 0, "database.url", "FRESHET_DATABASE__URL"),
        ("producer", ["run"], 1, "rabbitmq.url", "FRESHET_RABBITMQ__URL"),
        ("worker", ["run"], 1, "rabbitmq.url", "FRESHET_RABBITMQ__URL"),
        ("worker", ["run"], 2, "redis.url", "FRESHET_REDIS__URL"),
    ] {
        let binary = Binary::new(name)?.arguments(arguments).variables(URLS.into_iter().take(given));
        let ended = binary.run().await?.with_code(78)?;
        assert!(ended.stderr.contains(key) && ended.stderr.contains(variable), "{ended:?}");
        assert!(!ended.stderr.contains(SECRET), "{ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_definition_that_is_wrong_is_refused_with_file_line_and_key() -> Result<()> {
    let fynd = SHIPPED[0].1;
    let cases = [
        (fynd.replace("title = ", "titel = "), ["line ", "titel"]),
        (fynd.replace("method = \"GET\"", "method = \"FETCH\""), ["line ", "method"]),
        // A contradiction between lines is found by its key.
        (
            fynd.replace("{input.x-integration-id}", "{input.x-integration}"),
            ["token.request.query.username", "{input.x-integration}"],
        ),
        (fynd.replace("lifetime = { fixed = \"1h\" }", ""), ["line ", "lifetime"]),
        (fynd.replace("name = \"fynd\"", "name = \"fynd"), ["line ", "name"]),
    ];
    for (definition, words) in cases {
        let folder = TestFolder::create()?;
        let file = folder.write("own-fynd.toml", &definition)?;
        for (name, arguments) in BOTH {
            let binary = Binary::new(name)?.arguments(*arguments).variables(URLS);
            let ended =
                binary.variable("FRESHET_PROVIDER_DIRECTORY", folder.path()).run().await?.with_code(78)?;
            assert!(ended.stderr.contains(&file.display().to_string()), "{ended:?}");
            for word in &words {
                assert!(ended.stderr.contains(word), "no `{word}` in {}", ended.stderr);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_environment_overrides_the_file_and_the_file_the_defaults() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::fynd(1, 40 * 60), NewConnection::fynd(2, 90 * 60)]).await?;
    let folder = TestFolder::create()?;
    let file = folder.write(
        "freshet.toml",
        "[database]\nurl = \"mysql://freshet:s3cret@127.0.0.1:1/elsewhere\"\n[scan]\nearly_window = \"2h\"\n",
    )?;
    let once = || -> Result<Binary> {
        Ok(Binary::new("producer")?.arguments(["once", "--lane", "early"]).variables(&fleet.environment))
    };
    // The database out of the environment; the window first by default, then by the environment, then by the file.
    for (binary, found) in [
        (once()?, 0),
        (once()?.variable("FRESHET_CONFIG", &file).variable("FRESHET_SCAN__EARLY_WINDOW", "45m"), 1),
        (once()?.arguments(["--config".as_ref(), file.as_os_str()]), 1),
        // An argument goes before the variable.
        (
            once()?.arguments(["--config".as_ref(), file.as_os_str()]).variable("FRESHET_CONFIG", "/nowhere"),
            0,
        ),
    ] {
        let ended = binary.run().await?.with_code(0)?;
        assert!(ended.stdout.starts_with(&format!("found {found}, claimed {found},")), "{ended:?}");
    }
    let worker = fleet.worker().await?;
    worker.until_handled(2, PATIENCE).await?;
    worker.stop().await?;
    fleet.dissolve().await
}
