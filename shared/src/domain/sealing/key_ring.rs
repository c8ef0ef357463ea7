//! The keys of an installation, out of a file of its own.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use thiserror::Error;
use toml::{Table, Value};
use zeroize::{Zeroize, Zeroizing};

use super::cipher::random_bytes;
use crate::domain::secret::Secret;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// Characters of a key's id. A key, which is longer, is never taken for one.
const LONGEST_ID: usize = 32;

/// The key itself. On the heap, so that moving the ring leaves no copy behind.
pub(super) type Key = Box<Zeroizing<[u8; KEY_BYTES]>>;

/// The keys by id. No `Debug`; zeroed on drop.
///
/// ```toml
/// primary = "2026-11"      # seals; "": nothing is sealed, and what is sealed still opens
/// [keys]
/// "2026-05" = "<base64 of 32 bytes>"
/// "2026-11" = "<base64 of 32 bytes>"
/// ```
pub struct KeyRing {
    file: String,
    primary: Option<String>,
    keys: Vec<(String, Key)>,
}

/// A key file that cannot be used. Names the file and the key's id, never a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}: {problem}")]
pub struct KeyRingError {
    /// The file.
    pub file: String,
    /// What is wrong with which key.
    pub problem: String,
}

impl KeyRing {
    /// Reads the text of a key file; `file` is its name for errors.
    ///
    /// # Errors
    /// Names the line or the key that is at fault.
    pub fn parse(file: &str, text: &Secret) -> Result<Self, KeyRingError> {
        let fail = |problem: String| KeyRingError { file: file.into(), problem };
        // The parser's own words may quote a key.
        let mut table: Table = text.expose().parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.expose().get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            fail(format!("line {line} is not TOML, or is there twice: a key is written \"id\" = \"base64\""))
        })?;
        let ring = Self::of(file, &table).map_err(fail);
        table.iter_mut().for_each(|(_, value)| wipe(value));
        ring
    }

    fn of(file: &str, table: &Table) -> Result<Self, String> {
        if let Some((name, _)) = table.iter().find(|(name, _)| !["primary", "keys"].contains(&name.as_str()))
        {
            return Err(format!(
                "{} is not known here: there are `primary` and the table [keys]",
                shown(name)
            ));
        }
        let Some(Value::Table(entries)) = table.get("keys") else {
            return Err("[keys] is missing: make a key by `freshet secrets generate-key`".into());
        };
        let mut keys = Vec::with_capacity(entries.len());
        for (id, value) in entries {
            if !is_key_id(id) {
                return Err(format!(
                    "{} is no key id: 1 to {LONGEST_ID} letters, digits, `-`, `_` or `.`",
                    shown(id)
                ));
            }
            let key = value.as_str().and_then(key).ok_or_else(|| {
                format!("key `{id}` is not base64 of {KEY_BYTES} bytes: make one by `freshet secrets generate-key`")
            })?;
            keys.push((id.clone(), key));
        }
        let primary = match table.get("primary") {
            Some(Value::String(primary)) if primary.is_empty() => None,
            Some(Value::String(primary)) if entries.contains_key(primary) => Some(primary.clone()),
            Some(Value::String(primary)) => {
                return Err(format!("primary: {} is not one of [keys]", shown(primary)));
            }
            _ => {
                return Err(
                    "primary is missing: name the key that seals, or set it to \"\" to seal nothing".into()
                );
            }
        };
        Ok(Self { file: file.into(), primary, keys })
    }

    /// The file that it was read from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The id of the key that seals; `None`: nothing is sealed.
    pub fn primary(&self) -> Option<&str> {
        self.primary.as_deref()
    }

    pub(super) fn primary_key(&self) -> Option<(&str, &Key)> {
        let id = self.primary()?;
        Some((id, self.key(id)?))
    }

    pub(super) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|(known, _)| known == id).map(|(_, key)| key)
    }
}

/// A new key as the key file holds it. `random` has to be a cryptographic generator.
pub fn new_key(random: &mut dyn FnMut() -> u64) -> Secret {
    let key: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(random_bytes(random));
    Secret::new(STANDARD.encode(key.as_slice()))
}

fn key(text: &str) -> Option<Key> {
    let text = text.trim_end_matches('=');
    // What the decoder wants at least, for any text that is not too long.
    let mut bytes = Zeroizing::new([0_u8; 2 * KEY_BYTES]);
    if text.len() > 2 * KEY_BYTES {
        return None;
    }
    let length = STANDARD_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
    let mut key: Key = Box::new(Zeroizing::new([0; KEY_BYTES]));
    let decoded = bytes.get(..length).filter(|decoded| decoded.len() == KEY_BYTES)?;
    key.copy_from_slice(decoded);
    Some(key)
}

/// Whether this may be a key's id: ids stand in sealed texts between colons, and in errors.
pub fn is_key_id(id: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(valid)
}

/// A name out of the file, unless it might be a key in the wrong place.
fn shown(name: &str) -> String {
    if is_key_id(name) {
        format!("`{name}`")
    } else {
        format!("a name of {} characters", name.chars().count())
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Table(entries) => entries.iter_mut().for_each(|(_, value)| wipe(value)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}
