//! What stands in a column that may be sealed: it opens only as it was sealed.

use std::collections::HashSet;
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::sealing::{KeyRing, Place, SecretColumn, is_sealed, open, open_members};
use freshet_shared::domain::secret::Secret;

use crate::campaign::{CANARY, Reading, Target, ensure_discreet};
use crate::mutation::Generator;

pub(crate) const TARGET: Target = Target {
    name: "sealed_texts",
    dictionary: &[
        "freshet:1:",
        "freshet:2:",
        "freshet:",
        "new:",
        "old:",
        "none:",
        ":",
        "A",
        "==",
        "-_",
        "+/",
        "{\"clientSecret\":\"freshet:1:new:",
        "\"clientSecret\":",
        "\\u0066reshet:1:new:",
        "\"",
        "{",
        "}",
        "null",
        "é",
    ],
    seeds,
    read,
};

const KEYS: &str = r#"
primary = "new"
[keys]
old = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
new = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
"#;

static RING: LazyLock<Option<KeyRing>> =
    LazyLock::new(|| KeyRing::parse("keys.toml", &Secret::new(KEYS)).ok());

/// Sealed for this place, so that they open.
static SEALED: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let Some(ring) = RING.as_ref() else { return HashSet::new() };
    let mut generator = Generator::new(1, 1);
    let mut seal =
        |text: &str| ring.seal(&token(), &Secret::new(text), &mut || generator.next()).expose().to_owned();
    ["", CANARY, &CANARY.repeat(50)].map(&mut seal).into()
});

fn token() -> Place<'static> {
    Place::of(SecretColumn::AccessToken, ConnectionId(42))
}

fn seeds() -> Vec<Vec<u8>> {
    let member = |sealed: &String| format!(r#"{{"clientId":"a","clientSecret":"{sealed}"}}"#);
    SEALED.iter().flat_map(|sealed| [sealed.clone(), member(sealed)]).map(String::into_bytes).collect()
}

fn read(input: &[u8]) -> Result<Reading> {
    let ring = RING.as_ref().context("the key file cannot be read")?;
    let text = String::from_utf8_lossy(input);
    let fields = Place::of(SecretColumn::InputFields, ConnectionId(42));
    // No member was ever sealed for this place.
    match open_members(Some(ring), &fields, Secret::new(text.as_ref())) {
        Ok(opened) => ensure!(opened.expose() == text, "a member opens that nobody sealed: {text}"),
        Err(error) => ensure_discreet(&format!("{error} {error:?}"))?,
    }
    match open(Some(ring), &token(), Secret::new(text.as_ref())) {
        Ok(opened) if is_sealed(&text) => {
            ensure!(SEALED.contains(text.as_ref()), "a text opens that nobody sealed: {text}");
            ensure!(opened.expose() != text, "it is still sealed");
            Ok(Reading::Accepted("opened".into()))
        }
        Ok(plain) => {
            ensure!(plain.expose() == text, "a plain text is changed: {text}");
            Ok(Reading::Accepted("plain".into()))
        }
        Err(error) => {
            let words = error.to_string();
            ensure_discreet(&words)?;
            Ok(Reading::Refused(words))
        }
    }
}
