//! Tokens: unique within a simulation, shaped like those of the marketplaces, worth nothing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::{base64, chance::hash};

/// `{"alg":"RS256","typ":"JWT"}` in base64url.
const JWT_HEADER: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9";

/// Makes tokens, numbered from 1 across the providers.
pub(super) struct Mint {
    seed: u64,
    serial: AtomicU64,
}

impl Mint {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, serial: AtomicU64::new(1) }
    }

    /// Base64 of `{serial, ten digits}:{16 hex digits}`, 36 characters.
    pub(super) fn opaque(&self) -> String {
        let serial = self.next();
        let mut token = String::with_capacity(36);
        base64::push(&mut token, format!("{serial:010}:{:016x}", hash(self.seed, serial)).as_bytes());
        token
    }

    /// Three base64url segments; the claims are `jti` (the serial), and `iat`, `nbf`, `exp` in fractional seconds.
    pub(super) fn jwt(&self, now: DateTime<Utc>, lifetime: Duration) -> String {
        let serial = self.next();
        let now = now.timestamp_micros();
        let end = now.saturating_add(i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX));
        let (now, end) = (Fractional(now), Fractional(end));
        let claims = format!(r#"{{"jti":"{serial}","iat":{now},"nbf":{now},"exp":{end}}}"#);

        let mut token = String::with_capacity(224);
        token.push_str(JWT_HEADER);
        token.push('.');
        base64::push(&mut token, claims.as_bytes());
        token.push('.');
        let mut signature = [0_u8; 32];
        for (part, place) in signature.chunks_exact_mut(8).zip(0..) {
            part.copy_from_slice(&hash(hash(self.seed, serial), place).to_be_bytes());
        }
        base64::push(&mut token, &signature);
        token
    }

    fn next(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }
}

/// Microseconds, written as seconds with six decimals.
struct Fractional(i64);

impl std::fmt::Display for Fractional {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_it_says() {
        let mut header = String::new();
        base64::push(&mut header, br#"{"alg":"RS256","typ":"JWT"}"#);
        assert_eq!(header, JWT_HEADER);
    }

    #[test]
    fn opaque_tokens_are_unique_and_carry_the_serial() {
        let mint = Mint::new(1);
        let tokens: std::collections::HashSet<_> = (0..1_000).map(|_| mint.opaque()).collect();
        assert_eq!(tokens.len(), 1_000);
        // Ten digits and two more bytes make four groups of three: the prefix is that of the serial alone.
        let mut prefix = String::new();
        base64::push(&mut prefix, b"0000001000");
        assert!(tokens.iter().any(|token| token.starts_with(&prefix[..12])));
        assert!(tokens.iter().all(|token| token.len() == 36));
    }

    #[test]
    fn claims_are_fractional_seconds() {
        let now = DateTime::from_timestamp_micros(1_685_964_224_614_491).unwrap_or_default();
        let token = Mint::new(1).jwt(now, Duration::from_millis(3_600_500));
        let segments: Vec<_> = token.split('.').collect();
        let mut claims = String::new();
        base64::push(
            &mut claims,
            br#"{"jti":"1","iat":1685964224.614491,"nbf":1685964224.614491,"exp":1685967825.114491}"#,
        );
        assert_eq!(segments.len(), 3);
        assert_eq!(segments[0], JWT_HEADER);
        assert_eq!(segments[1], claims);
        assert_eq!(segments[2].len(), 43);
    }
}
