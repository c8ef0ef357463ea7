//! The text form of a sealed secret.

use super::error::SealError;
use super::key_ring::is_key_id;
use super::place::Place;

/// What every sealed text begins with, before the form's version.
pub(super) const MARK: &str = "freshet:";
/// The form that this version writes.
pub(super) const VERSION: &str = "1";

/// A sealed text, taken apart.
pub(super) struct SealedText<'a> {
    pub(super) key_id: &'a str,
    pub(super) data: &'a str,
}

/// Whether the text says of itself that it is sealed.
pub fn is_sealed(text: &str) -> bool {
    version_and_rest(text).is_some()
}

/// `None` for a plain text.
pub(super) fn parse<'a>(place: &Place<'_>, text: &'a str) -> Option<Result<SealedText<'a>, SealError>> {
    let (version, rest) = version_and_rest(text)?;
    if version != VERSION {
        let version = version.chars().take(8).collect();
        return Some(Err(SealError::UnknownForm { place: place.to_string(), version }));
    }
    Some(match rest.split_once(':') {
        Some((key_id, data)) if is_key_id(key_id) => Ok(SealedText { key_id, data }),
        _ => Err(SealError::Malformed { place: place.to_string() }),
    })
}

fn version_and_rest(text: &str) -> Option<(&str, &str)> {
    let (version, rest) = text.strip_prefix(MARK)?.split_once(':')?;
    let is_version = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    is_version.then_some((version, rest))
}
