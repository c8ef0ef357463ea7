//! Lets a real Prometheus scrape a real worker and producer for a while, and evaluates every query of the dashboard and every
//! rule: what each comes to is printed. Ends with an error where a query or a rule has one, or where a query that has to
//! have a value has none.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command-line tool; the values are what was asked for")]

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use freshet_cli::simulator::{Matcher, Reply, StatusCode};
use freshet_tests::binaries::TestFolder;
use freshet_tests::fleet::{NewConnection, TestFleet};
use freshet_tests::monitoring::AtWork;
use freshet_tests::monitoring::dashboard::{self, RULES, panels};
use reqwest::Client;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Rates are taken over this.
const INTERVAL: &str = "20s";
const WATCHED: Duration = Duration::from_secs(40);
/// Connections of each of two providers.
const FLEET: i64 = 400;

#[tokio::main]
async fn main() -> Result<()> {
    let fleet = TestFleet::found().await?;
    // Some have expired, most are due, and the last ones become due while they are watched.
    let expiries = |id: i64| id * 2_400 / FLEET - 60;
    fleet.add((1..=FLEET).map(|id| NewConnection::fynd(id, expiries(id)))).await?;
    fleet.add((1..=FLEET).map(|id| NewConnection::very(1_000 + id, expiries(id)))).await?;
    for id in [1_001, 1_100, 1_200] {
        let refused = Reply::json(StatusCode::UNAUTHORIZED, "{}").into();
        let client = Matcher::any().account(format!("client {id}"));
        fleet.marketplaces.script(client, [refused]);
    }
    let at_work = AtWork::start(fleet).await?;
    let folder = TestFolder::create()?;
    let [worker, producer] = at_work.watched.each_ref().map(|watched| watched.address().to_owned());
    let configuration = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n\
         - {{job_name: freshet-worker, static_configs: [{{targets: ['{worker}']}}]}}\n\
         - {{job_name: freshet-producer, static_configs: [{{targets: ['{producer}']}}]}}\n",
        dashboard::path(RULES)?.display()
    );
    let mut prometheus = Prometheus::start(&folder, &configuration).await?;
    tokio::time::sleep(WATCHED).await;
    let problems = evaluate(&prometheus).await?;
    prometheus.child.kill().await?;
    at_work.end().await?;
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// A server of our own.
struct Prometheus {
    child: Child,
    base: String,
    client: Client,
}

impl Prometheus {
    async fn start(folder: &TestFolder, configuration: &str) -> Result<Self> {
        let file = folder.write("prometheus.yml", configuration)?;
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start prometheus: install Debian's package `prometheus`")?;
        let mut lines = BufReader::new(child.stderr.take().context("no standard error")?).lines();
        let address = loop {
            let line = lines.next_line().await?.context("prometheus ended")?;
            if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                break address.trim().to_owned();
            }
        };
        // Read on, so that it never waits for us.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            child,
            base: format!("http://{address}/api/v1"),
            client: Client::builder().no_proxy().build()?,
        })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let text = self.client.get(format!("{}/{path}", self.base)).send().await?.text().await?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// What a query comes to, a line for each series.
    async fn query(&self, query: &str) -> Result<Vec<String>> {
        let encoded = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
        let answer = self.get(&format!("query?query={encoded}")).await?;
        ensure!(answer["status"] == "success", "{}", answer["error"]);
        let series = answer["data"]["result"].as_array().context("no result")?;
        Ok(series
            .iter()
            .map(|series| {
                let value = series["value"][1].as_str().unwrap_or_default();
                let labels: Vec<String> = series["metric"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(label, _)| *label != "__name__")
                    .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()))
                    .collect();
                format!("{value:>24}  {}", labels.join(" "))
            })
            .collect())
    }
}

/// Prints every value; answers what is wrong.
async fn evaluate(prometheus: &Prometheus) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for panel in panels()? {
        println!("\n{}", panel.title);
        for query in panel.queries {
            let query = query.replace("$__rate_interval", INTERVAL);
            println!("    {query}");
            match prometheus.query(&query).await {
                Ok(lines) => {
                    // One that shows only what is not zero, or only what is wrong, may show nothing.
                    if lines.is_empty() && !query.contains(" > 0") {
                        problems.push(format!("{}: no value of {query}", panel.title));
                    }
                    lines.iter().for_each(|line| println!("{line}"));
                }
                Err(error) => problems.push(format!("{}: {query}: {error}", panel.title)),
            }
        }
    }
    let rules = prometheus.get("rules").await?;
    println!("\nRules");
    for group in rules["data"]["groups"].as_array().context("no groups")? {
        for rule in group["rules"].as_array().context("no rules")? {
            let word = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
            println!("{:>24}  {}", format!("{} {}", word("health"), word("state")), word("name"));
            if rule["health"] != "ok" {
                problems.push(format!("{}: {}", word("name"), word("lastError")));
            }
        }
    }
    Ok(problems)
}
