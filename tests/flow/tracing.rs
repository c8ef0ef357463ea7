//! Traces and logs as they leave the binaries.

mod canaries;
mod collected;
mod without_collector;
