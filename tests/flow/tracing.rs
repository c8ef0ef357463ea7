//! Traces and logs as they leave the binaries.

mod canaries;
mod collected;
mod pace;
mod without_collector;
