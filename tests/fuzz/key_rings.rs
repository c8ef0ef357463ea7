//! Key files: whatever stands in one, no key of it is shown, and a ring that is taken opens what it seals.

use anyhow::{Result, ensure};
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::sealing::{KeyRing, Place, SecretColumn, open};
use freshet_shared::domain::secret::Secret;

use crate::campaign::{CANARY, Reading, Target, ensure_discreet};
use crate::mutation::Generator;

/// A key's id is no longer, and a key is; so a longer word in an error may be a key.
const LONGEST_ID: usize = 32;

pub(crate) const TARGET: Target = Target {
    name: "key_rings",
    dictionary: &[
        "primary = ",
        "primary = \"\"\n",
        "[keys]\n",
        "\"2026-05\" = ",
        "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"",
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA",
        "====",
        "\"",
        "'''",
        "\"\"\"",
        "[[keys]]\n",
        "keys.",
        "= {",
        "= [",
        "1",
        "true",
        "\\u0000",
        "é",
        "\r\n",
        "#",
    ],
    seeds: Vec::new,
    read,
};

fn read(input: &[u8]) -> Result<Reading> {
    let text = Secret::new(String::from_utf8_lossy(input));
    let ring = match KeyRing::parse("keys.toml", &text) {
        Ok(ring) => ring,
        Err(error) => {
            let words = format!("{error} {error:?}");
            let is_key_like = |byte: char| byte.is_ascii_alphanumeric() || "+/_-".contains(byte);
            let longest = words.split(|byte| !is_key_like(byte)).map(str::len).max();
            ensure!(longest <= Some(LONGEST_ID), "a key may be shown: {words}");
            return Ok(Reading::Refused(error.problem));
        }
    };
    let place = Place::of(SecretColumn::AccessToken, ConnectionId(42));
    let secret = Secret::new(CANARY);
    let mut generator = Generator::new(1, 1);
    let sealed = ring.seal(&place, &secret, &mut || generator.next());
    let Some(primary) = ring.primary() else {
        ensure!(sealed == secret, "it seals without a key");
        return Ok(Reading::Accepted("without a primary key".into()));
    };
    ensure_discreet(sealed.expose())?;
    ensure!(
        open(Some(&ring), &place, sealed).is_ok_and(|opened| opened == secret),
        "it opens to something else"
    );
    Ok(Reading::Accepted(format!("with a primary key of {} characters", primary.len().min(4))))
}
