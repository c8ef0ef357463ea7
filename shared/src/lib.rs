//! What the producer, the worker and the command line speak in common.
//!
//! [`domain`] decides and knows no I/O; [`ports`] say what we need of the outside; [`adapters`] are the
//! outside: MySQL, MariaDB and SQLite through SeaORM, RabbitMQ through lapin, Redis through fred, HTTP through
//! reqwest, and embedded parts that need no server. Producer and worker name adapters in
//! their `app.rs` only.
#![forbid(unsafe_code)]

pub mod adapters;
pub mod configuration;
pub mod domain;
pub mod failpoints;
#[path = "../migrations/migrations.rs"]
pub mod migrations;
pub mod persistence;
pub mod ports;
pub mod process;
pub mod telemetry;
