//! Where the tests learn of the services: four variables, set by `private-services` or by whoever brings servers
//! of their own. One for where such servers come from. And three, set by nobody but a person, for how long to look for
//! what no test knows yet.

use anyhow::{Result, bail};

/// A MySQL or MariaDB server, without a database: `mysql://user:password@127.0.0.1:3306`.
pub const MYSQL_URL: &str = "TEST_MYSQL_URL";
/// A RabbitMQ server, without a virtual host: `amqp://guest:guest@127.0.0.1:5672`.
pub const RABBITMQ_URL: &str = "TEST_RABBITMQ_URL";
/// The same RabbitMQ server's management API: `http://guest:guest@127.0.0.1:15672`.
pub const RABBITMQ_MANAGEMENT_URL: &str = "TEST_RABBITMQ_MANAGEMENT_URL";
/// A Redis server: `redis://127.0.0.1:6379`.
pub const REDIS_URL: &str = "TEST_REDIS_URL";

/// A folder with a Debian of its own in it, whose MySQL or MariaDB and whose RabbitMQ are started, by `chroot`, in place of
/// this machine's. Set by `tests/matrix`.
pub const SERVERS_ROOT: &str = "TEST_SERVERS_ROOT";

/// How often a process is let die at each place of the test `crash_points`: a number.
pub const CRASH_RUNS: &str = "TEST_CRASH_RUNS";

/// How many mutations each target of the test `fuzz` reads: a number.
pub const FUZZ_RUNS: &str = "TEST_FUZZ_RUNS";
/// What these mutations follow from: a number.
pub const FUZZ_SEED: &str = "TEST_FUZZ_SEED";

/// Of how many connections the cache is filled in the test `warming`: a number up to 100000.
pub const WARM_CONNECTIONS: &str = "TEST_WARM_CONNECTIONS";

/// The variable's value, or an error that says how to get one.
pub fn required(name: &str) -> Result<String> {
    match optional(name) {
        Some(value) => Ok(value),
        None => bail!(
            "{name} is not set: run the tests through `tests/run`, which starts the services they need, \
             or set it to a server of your own"
        ),
    }
}

/// The variable's value; one that is set to nothing counts as not set.
#[expect(clippy::disallowed_methods, reason = "the one place where the tests read the environment")]
pub fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
