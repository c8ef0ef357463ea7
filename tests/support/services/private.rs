//! All services at once, except those that the environment already names.

use anyhow::{Context, Result};
use tokio::try_join;

use super::{MariaDb, RabbitMq, Redis};
use crate::environment::{MYSQL_URL, RABBITMQ_MANAGEMENT_URL, RABBITMQ_URL, REDIS_URL};

/// The servers that were missing; killed and removed when dropped.
pub struct PrivateServices {
    mariadb: Option<MariaDb>,
    rabbitmq: Option<RabbitMq>,
    redis: Option<Redis>,
}

impl PrivateServices {
    /// Starts what `given` does not know, all at the same time.
    pub async fn start_missing(given: impl Fn(&str) -> bool) -> Result<Self> {
        // A broker of which only one side is known is of no use to the tests.
        let rabbitmq_given = given(RABBITMQ_URL) && given(RABBITMQ_MANAGEMENT_URL);
        let (mariadb, rabbitmq, redis) = try_join!(
            async {
                if given(MYSQL_URL) {
                    return Ok(None);
                }
                MariaDb::start().await.map(Some).context("MariaDB could not be started")
            },
            async {
                if rabbitmq_given {
                    return Ok(None);
                }
                RabbitMq::start().await.map(Some).context("RabbitMQ could not be started")
            },
            async {
                if given(REDIS_URL) {
                    return Ok(None);
                }
                Redis::start().await.map(Some).context("Redis could not be started")
            },
        )?;
        Ok(Self { mariadb, rabbitmq, redis })
    }

    /// The variables under which the tests find what was started.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if let Some(mariadb) = &self.mariadb {
            variables.push((MYSQL_URL, mariadb.url()));
        }
        if let Some(rabbitmq) = &self.rabbitmq {
            variables.push((RABBITMQ_URL, rabbitmq.url()));
            variables.push((RABBITMQ_MANAGEMENT_URL, rabbitmq.management_url()));
        }
        if let Some(redis) = &self.redis {
            variables.push((REDIS_URL, redis.url()));
        }
        variables
    }
}
