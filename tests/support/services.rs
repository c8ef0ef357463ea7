//! Private servers: MariaDB, RabbitMQ and Redis on free loopback ports, with their data in a temporary folder.
//!
//! Beside them [`OAuthServer`], a provider that is none of our code; a test that asks it starts its own.
//!
//! Each of the three is a struct of its own with `start`, `stop`, `kill` and `restart` (same port, same data), for tests
//! that take one away. [`PrivateServices`] starts all that the environment does not name already.
//!
//! Nothing survives whoever started it. An owner that ends normally or by an error drops its servers; for one that
//! is killed, `setpriv --pdeathsig` ends the servers at once, and a [guard](guard) takes what is left.
//! The parent-death signal follows the *thread* that spawned the server: start servers on a thread that stays, as
//! a test's own current-thread runtime does, never through `spawn_blocking`.

mod folder;
mod guard;
mod instance;
mod mariadb;
mod oauth;
mod ports;
mod private;
mod process;
mod programs;
mod rabbitmq;
mod redis;
mod root;

pub(crate) use guard::Guard;
pub use mariadb::MariaDb;
pub use oauth::OAuthServer;
pub use private::PrivateServices;
pub use programs::{ending_with_us, require as require_program};
pub use rabbitmq::RabbitMq;
pub use redis::Redis;
