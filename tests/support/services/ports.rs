//! Free loopback ports, below the range from which the kernel serves outgoing connections: otherwise a client that
//! retries against a stopped server would sooner or later be handed the server's own port.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};
use uuid::Uuid;

/// Below live the well-known services of a developer's machine.
const LOWEST: u16 = 15_000;

/// A port that nobody listens on and that this process has not given out before.
pub(super) fn free_port() -> Result<u16> {
    // Each process starts elsewhere, so that two of them seldom look at the same port.
    static NEXT: LazyLock<AtomicUsize> =
        LazyLock::new(|| AtomicUsize::new(usize::from(Uuid::new_v4().as_fields().1)));
    let candidates = candidates();
    for _ in candidates.clone() {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % candidates.len();
        let Some(port) = candidates.clone().nth(offset) else { break };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no loopback port between {} and {} is free", candidates.start, candidates.end)
}

fn candidates() -> Range<u16> {
    let ephemeral = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768);
    // A kernel that serves outgoing connections from everywhere leaves no better choice.
    if ephemeral > LOWEST + 1_000 { LOWEST..ephemeral } else { LOWEST..u16::MAX }
}
