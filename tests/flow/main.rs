//! The fleet as a whole, and what these tests stand on, against real services: run by `tests/run`.
#![forbid(unsafe_code)]

mod alarm;
mod bad_input;
mod cache;
mod canary;
mod columns;
mod configuration;
#[cfg(feature = "failpoints")]
mod crash_points;
mod dev;
mod documents;
mod early;
mod egress;
mod events;
mod explained;
mod fence;
mod grouped;
mod isolation;
mod leadership;
mod lease;
mod limits;
mod many;
mod migration;
mod model;
mod monitoring;
mod mysql_account;
mod oauth_server;
mod parking;
mod private_services;
mod privileges;
mod processes;
mod providers_command;
mod purged;
mod queue;
mod retry;
mod round_trips;
mod sealing;
mod servers;
mod silent_database;
mod throttling;
mod tracing;
mod upgrade;
mod urgent;
mod very;
mod warming;
mod watching;
