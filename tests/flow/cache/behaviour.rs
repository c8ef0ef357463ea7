//! What every cache does, whatever it keeps its entries in.

use std::slice;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::connection::{ConnectionId, Generation, IdempotencyKey};
use freshet_shared::domain::provider::request::ReadyHeader;
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::cache::{Cache, Put, TokenEntry};
use freshet_tests::isolation::Entry;

const HOUR: Duration = Duration::from_secs(3_600);
const HOLD: Duration = Duration::from_secs(60);
const STATIC: &str = "Basic 850135:AD0D7AEB";
const OPERATIONS: [&str; 2] = ["order_ship", "stock_update"];

/// Runs the table against an empty `cache` whose clock shows `now`; `read` sees what other systems would see.
pub(super) async fn cache_behaviour(
    cache: &dyn Cache,
    now: DateTime<Utc>,
    read: impl AsyncFn(&str) -> Result<Option<Entry>>,
) -> Result<()> {
    let subject = Subject { cache, now, read };
    subject.entries_have_their_names_forms_and_lives().await.context("names, forms and lives")?;
    subject.only_newer_tokens_are_written().await.context("order of generations")?;
    subject.the_same_generation_repairs().await.context("the same generation again")?;
    subject.expired_tokens_are_refused().await.context("expired tokens")?;
    subject.clearing_keeps_the_fence().await.context("clearing")?;
    subject.details_are_replaced_and_the_rest_is_cleared().await.context("replacing details")?;
    subject.a_mark_is_its_holders().await.context("marks")?;
    subject.whoever_fills_it_notes_it().await.context("filling")
}

struct Subject<'a, R> {
    cache: &'a dyn Cache,
    now: DateTime<Utc>,
    read: R,
}

impl<R: AsyncFn(&str) -> Result<Option<Entry>>> Subject<'_, R> {
    fn entry(&self, id: i64, generation: i64) -> TokenEntry {
        let header = |operation: &str, value: String, uses_token| ReadyHeader {
            operation: operation.into(),
            value: Secret::new(value),
            uses_token,
        };
        TokenEntry {
            connection_id: ConnectionId(id),
            generation: Generation(generation),
            token: Secret::new(format!("token {generation}")),
            expires_at: Some(self.now + HOUR),
            headers: vec![
                header(OPERATIONS[0], format!("Bearer token {generation}"), true),
                header(OPERATIONS[1], STATIC.into(), false),
            ],
        }
    }

    async fn whoever_fills_it_notes_it(&self) -> Result<()> {
        let cache = self.cache;
        ensure!(!cache.is_warm().await?, "nobody filled it");
        cache.begin_warming("a").await?;
        ensure!(!cache.is_warm().await?, "it is being filled");
        cache.begin_warming("b").await?;
        ensure!(!cache.end_warming("a").await?, "another run has begun");
        ensure!(cache.end_warming("b").await? && cache.is_warm().await?, "it is filled");
        let header =
            [ReadyHeader { operation: OPERATIONS[1].into(), value: Secret::new(STATIC), uses_token: false }];
        for (details, restored) in [("[1]", true), ("[2]", true), ("[3]", false)] {
            let id = ConnectionId(77);
            if restored {
                cache.restore_details(id, details, &header).await?;
            } else {
                cache.put_details(id, details, &header).await?;
            }
            let read = (self.read)("connectionDetail_77").await?.context("no details")?.value;
            ensure!(read == if restored { "[1]" } else { "[3]" }, "{details}: {read}");
        }
        let header = (self.read)("connectionAuthorization_77:stock_update").await?.context("no header")?;
        ensure!(header.value == STATIC);
        Ok(())
    }

    async fn put(&self, id: i64, generation: i64) -> Result<Put> {
        Ok(self.cache.put_token(&self.entry(id, generation)).await?)
    }

    async fn value(&self, key: &str) -> Result<Option<String>> {
        Ok((self.read)(key).await?.map(|entry| entry.value))
    }

    async fn holds(&self, key: &str, value: &str, life: Option<Duration>) -> Result<()> {
        let entry = (self.read)(key).await?.with_context(|| format!("{key} is not there"))?;
        ensure!(entry.value == value, "{key} holds {}", entry.value);
        match (entry.time_to_live, life) {
            (None, None) => {}
            // A loaded machine may be slow to look.
            (Some(left), Some(life)) if left <= life && left + HOLD > life => {}
            (left, _) => anyhow::bail!("{key} lives {left:?} and not {life:?}"),
        }
        Ok(())
    }

    /// Token, both headers and the fence stand as `generation` left them.
    async fn stands(&self, id: i64, generation: i64) -> Result<()> {
        let token = format!("token {generation}");
        self.holds(&format!("connectionAccessToken_{id}"), &token, Some(HOUR)).await?;
        let authorization = |operation| format!("connectionAuthorization_{id}:{operation}");
        self.holds(&authorization(OPERATIONS[0]), &format!("Bearer {token}"), Some(HOUR)).await?;
        self.holds(&authorization(OPERATIONS[1]), STATIC, None).await?;
        self.holds(&format!("freshet:generation:{id}"), &generation.to_string(), Some(25 * HOUR)).await
    }

    async fn entries_have_their_names_forms_and_lives(&self) -> Result<()> {
        ensure!(self.put(1, 7).await? == Put::Written);
        self.stands(1, 7).await?;
        let details = r#"[{"id":1,"account_id":"ä"}]"#;
        self.cache.put_details(ConnectionId(1), details, &[]).await?;
        self.holds("connectionDetail_1", details, None).await?;
        ensure!(self.value("connectionAccessToken_2").await?.is_none());
        Ok(())
    }

    async fn only_newer_tokens_are_written(&self) -> Result<()> {
        for (generation, expected, standing) in [
            (5, Put::Written, 5),
            (4, Put::Refused, 5),
            (6, Put::Written, 6),
            (5, Put::Refused, 6),
            (0, Put::Refused, 6),
            // As numbers, not as text.
            (10, Put::Written, 10),
            (9, Put::Refused, 10),
            (9_007_199_254_740_992, Put::Written, 9_007_199_254_740_992),
        ] {
            ensure!(self.put(10, generation).await? == expected, "generation {generation}");
            self.stands(10, standing).await?;
        }
        Ok(())
    }

    async fn the_same_generation_repairs(&self) -> Result<()> {
        let shorter = TokenEntry { expires_at: Some(self.now + HOUR / 2), ..self.entry(20, 3) };
        ensure!(self.cache.put_token(&shorter).await? == Put::Written);
        self.holds("connectionAccessToken_20", "token 3", Some(HOUR / 2)).await?;
        ensure!(self.put(20, 3).await? == Put::Written);
        self.stands(20, 3).await
    }

    async fn expired_tokens_are_refused(&self) -> Result<()> {
        for expires_at in
            [self.now, self.now - TimeDelta::seconds(1), self.now + TimeDelta::microseconds(999)]
        {
            let expired = TokenEntry { expires_at: Some(expires_at), ..self.entry(30, 1) };
            ensure!(self.cache.put_token(&expired).await? == Put::Refused, "{expires_at}");
        }
        for key in
            ["connectionAccessToken_30", "connectionAuthorization_30:stock_update", "freshet:generation:30"]
        {
            ensure!(self.value(key).await?.is_none(), "{key} is there");
        }
        // And what stands stays.
        ensure!(self.put(30, 1).await? == Put::Written);
        let expired = TokenEntry { expires_at: Some(self.now), ..self.entry(30, 2) };
        ensure!(self.cache.put_token(&expired).await? == Put::Refused);
        self.stands(30, 1).await
    }

    async fn clearing_keeps_the_fence(&self) -> Result<()> {
        ensure!(self.put(40, 8).await? == Put::Written);
        ensure!(self.put(41, 8).await? == Put::Written);
        self.cache.put_details(ConnectionId(40), "[]", &[]).await?;
        // Clearing what is cleared is no error.
        for _ in 0..2 {
            self.cache.clear(ConnectionId(40), &OPERATIONS).await?;
            for key in [
                "connectionAccessToken_40",
                "connectionDetail_40",
                "connectionAuthorization_40:order_ship",
                "connectionAuthorization_40:stock_update",
            ] {
                ensure!(self.value(key).await?.is_none(), "{key} is there");
            }
        }
        self.stands(41, 8).await?;
        ensure!(self.put(40, 7).await? == Put::Refused);
        ensure!(self.value("connectionAccessToken_40").await?.is_none());
        ensure!(self.put(40, 8).await? == Put::Written);
        self.stands(40, 8).await
    }

    async fn details_are_replaced_and_the_rest_is_cleared(&self) -> Result<()> {
        ensure!(self.put(42, 8).await? == Put::Written);
        let header =
            ReadyHeader { operation: "stock_update".into(), value: Secret::new("fixed"), uses_token: false };
        for _ in 0..2 {
            let replaced = self.cache.replace_details(
                ConnectionId(42),
                Generation(8),
                &OPERATIONS,
                "[7]",
                slice::from_ref(&header),
            );
            replaced.await?;
            for key in ["connectionAccessToken_42", "connectionAuthorization_42:order_ship"] {
                ensure!(self.value(key).await?.is_none(), "{key} is there");
            }
            self.holds("connectionDetail_42", "[7]", None).await?;
            self.holds("connectionAuthorization_42:stock_update", "fixed", None).await?;
        }
        ensure!(self.put(42, 7).await? == Put::Refused, "the generation is remembered");
        // One that was given up, and comes late.
        ensure!(self.put(42, 9).await? == Put::Written);
        self.cache.replace_details(ConnectionId(42), Generation(8), &OPERATIONS, "[8]", &[]).await?;
        self.holds("connectionDetail_42", "[8]", None).await?;
        self.stands(42, 9).await
    }

    async fn a_mark_is_its_holders(&self) -> Result<()> {
        let key = |generation| IdempotencyKey {
            connection_id: ConnectionId(50),
            generation: Generation(generation),
        };
        let begin = |holder| self.cache.begin(key(1), holder, HOLD);
        ensure!(begin("a").await?);
        self.holds("freshet:attempt:50:1", "a", Some(HOLD)).await?;
        ensure!(begin("a").await?, "the same holder, whose first answer was lost");
        ensure!(!begin("b").await?);
        ensure!(self.cache.begin(key(2), "b", HOLD).await?, "another refresh");
        self.cache.finish(key(1), "b").await?;
        self.holds("freshet:attempt:50:1", "a", Some(HOLD)).await?;
        self.cache.finish(key(1), "a").await?;
        ensure!(begin("b").await?);
        self.cache.finish(key(1), "b").await?;
        self.cache.finish(key(1), "b").await?;
        ensure!(self.value("freshet:attempt:50:1").await?.is_none());
        self.holds("freshet:attempt:50:2", "b", Some(HOLD)).await
    }
}
