//! The fleet as a whole, and what these tests stand on, against real services: run by `tests/run`.
#![forbid(unsafe_code)]

mod bad_input;
mod cache;
mod canary;
mod columns;
mod configuration;
mod dev;
mod early;
mod egress;
mod events;
mod explained;
mod fence;
mod grouped;
mod isolation;
mod lease;
mod limits;
mod many;
mod migration;
mod model;
mod monitoring;
mod mysql_account;
mod oauth_server;
mod private_services;
mod processes;
mod providers_command;
mod queue;
mod retry;
mod sealing;
mod servers;
mod tracing;
mod urgent;
mod very;
mod watching;
