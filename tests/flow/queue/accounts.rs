//! What an account has to be allowed, as the runbook says.

use super::*;

/// For producers and workers; the default exchange is how dead letters get to their queue.
const OURS: &str = r"^(freshet\.|amq\.default$)";

#[tokio::test]
async fn an_account_that_is_kept_to_our_names_does_all_that_is_needed() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let account = Account::create(&vhost, "", OURS).await?;
    let rabbitmq = broker(account.url.as_str(), &[POOL])?;
    publish(&rabbitmq.publisher(), 1..3, Lane::Urgent).await?;
    let mut consumer = consumer(&rabbitmq, 1);
    next(&mut consumer).await?.settle.acknowledge().await?;
    let delivery = next(&mut consumer).await?;
    let reason = MessageError::UnknownProvider { name: "nobody".into() };
    delivery.settle.dead_letter(delivery.body, reason).await?;
    consumer.stop().await;
    assert_eq!(vhost.all_ready_messages().await?, BTreeMap::from([(DEAD_LETTER_QUEUE.to_owned(), 1)]));
    account.delete(&vhost).await?;
    vhost.delete_vhost().await
}

/// An account of a test's own, with the same permission for all three.
pub(super) struct Account {
    name: String,
    /// The virtual host's URL, for this account.
    pub(super) url: reqwest::Url,
}

impl Account {
    /// The password is the name.
    pub(super) async fn create(vhost: &TestVhost, tags: &str, allowed: &str) -> Result<Self> {
        let name = format!("test-{}", Uuid::new_v4().simple());
        let administrator = vhost.management();
        administrator.put(&format!("api/users/{name}"), &json!({"password": name, "tags": tags})).await?;
        let permissions = format!("api/permissions/{}/{name}", encoded(vhost));
        let allowed = json!({"configure": allowed, "write": allowed, "read": allowed});
        administrator.put(&permissions, &allowed).await?;
        let url = Self::in_place(vhost.url(), &name)?;
        Ok(Self { name, url })
    }

    /// The management API, for this account.
    pub(super) fn management(&self) -> Result<Management> {
        Management::new(Self::in_place(&required(RABBITMQ_MANAGEMENT_URL)?, &self.name)?.as_str())
    }

    pub(super) async fn delete(self, vhost: &TestVhost) -> Result<()> {
        vhost.management().delete(&format!("api/users/{}", self.name)).await
    }

    fn in_place(url: &str, name: &str) -> Result<reqwest::Url> {
        let mut url = reqwest::Url::parse(url)?;
        let set = url.set_username(name).and_then(|()| url.set_password(Some(name)));
        set.map_err(|()| anyhow!("the URL takes no user"))?;
        Ok(url)
    }
}

pub(super) fn encoded(vhost: &TestVhost) -> String {
    utf8_percent_encode(vhost.name(), NON_ALPHANUMERIC).to_string()
}
