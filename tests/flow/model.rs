//! What the product makes of a provider's answers, judged by a provider that knows what it has done.
//!
//! Real definitions, requests and HTTP; no queue, no database. What a failure then does to a connection is shown where the
//! fleet is.

mod classes;
mod exchange;
mod grants;
mod secrets;
