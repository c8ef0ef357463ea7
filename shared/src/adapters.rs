//! The outside: one adapter per port and service, and embedded ones that need no server.

pub mod database;
pub mod embedded;
mod grouping;
pub mod http;
pub mod monitoring;
pub mod rabbitmq;
pub mod redis;
pub mod system;
