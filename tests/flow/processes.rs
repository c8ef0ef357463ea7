//! The product's binaries as processes: what they print, how they end, what signals do to them.

mod away;
mod migrate;
mod once;
mod running;
mod shutdown;
