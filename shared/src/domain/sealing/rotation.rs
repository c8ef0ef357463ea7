//! What has to be done to a stored secret so that it stands as it should: under the primary key, or in plain text.

use super::cipher::{open_sealed, seal_with};
use super::error::SealError;
use super::key_ring::KeyRing;
use super::members::{members, replaced};
use super::place::Place;
use super::sealed_text;
use crate::domain::secret::Secret;

/// How secrets shall stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Sealed under the primary key.
    Primary,
    /// In plain text, because encryption is being turned off.
    PlainText,
}

/// What a column has to be changed to, and what that means.
#[derive(Default)]
pub struct Rotated {
    /// The column's new text; `None` where it stands as it should.
    pub text: Option<Secret>,
    /// Secrets that were in plain text and are sealed now.
    pub sealed: u64,
    /// Secrets that were sealed under another key.
    pub reencrypted: u64,
    /// Secrets that were sealed and are in plain text now.
    pub opened: u64,
    /// Secrets that do not open; they stay as they are.
    pub unreadable: Vec<SealError>,
}

enum Step {
    Keep,
    Seal(Secret),
    Reencrypt(Secret),
    Open(Secret),
}

impl Rotated {
    fn note(&mut self, step: Result<Step, SealError>) -> Option<Secret> {
        match step {
            Ok(Step::Keep) => None,
            Ok(Step::Seal(text)) => {
                self.sealed += 1;
                Some(text)
            }
            Ok(Step::Reencrypt(text)) => {
                self.reencrypted += 1;
                Some(text)
            }
            Ok(Step::Open(text)) => {
                self.opened += 1;
                Some(text)
            }
            Err(error) => {
                self.unreadable.push(error);
                None
            }
        }
    }
}

/// For a column that holds one secret. `is_ours`: a plain text is to be sealed.
pub fn rotate_text(
    keys: &KeyRing,
    goal: Goal,
    place: &Place<'_>,
    text: &Secret,
    is_ours: bool,
    random: &mut dyn FnMut() -> u64,
) -> Rotated {
    let mut rotated = Rotated::default();
    let may_seal = is_ours && !text.is_empty();
    let step = step(keys, goal, place, text.expose(), text.expose(), may_seal, random);
    rotated.text = rotated.note(step);
    rotated
}

/// For a column that holds a JSON object. `is_secret` tells which members are to be sealed; what is sealed already is
/// looked after wherever it stands. `None` where the text is no JSON object.
pub fn rotate_members(
    keys: &KeyRing,
    goal: Goal,
    place: &Place<'_>,
    text: &Secret,
    is_secret: impl Fn(&str) -> bool,
    random: &mut dyn FnMut() -> u64,
) -> Option<Rotated> {
    let mut rotated = Rotated::default();
    let mut replacements = Vec::new();
    for member in members(text)? {
        let place = place.member(&member.key);
        let raw = member.raw(text);
        let word = member.word(text);
        // Nothing is entered there.
        let is_missing = raw == "null" || raw == "\"\"";
        let may_seal = is_secret(&member.key) && !is_missing;
        let step = step(keys, goal, &place, word.as_deref().unwrap_or_default(), raw, may_seal, random);
        let quoted = matches!(step, Ok(Step::Seal(_) | Step::Reencrypt(_)));
        if let Some(new) = rotated.note(step) {
            // A sealed text holds nothing that JSON would have to escape.
            let new = if quoted { Secret::new(format!("\"{}\"", new.expose())) } else { new };
            replacements.push((member.range, new));
        }
    }
    if !replacements.is_empty() {
        rotated.text = Some(replaced(text, &replacements));
    }
    Some(rotated)
}

/// `text`: as it stands, where it may be sealed; `plain`: what would be sealed if it is not.
fn step(
    keys: &KeyRing,
    goal: Goal,
    place: &Place<'_>,
    text: &str,
    plain: &str,
    may_seal: bool,
    random: &mut dyn FnMut() -> u64,
) -> Result<Step, SealError> {
    let primary = keys.primary_key().filter(|_| goal == Goal::Primary);
    let Some(sealed) = sealed_text::parse(place, text) else {
        return Ok(match primary {
            Some((id, key)) if may_seal => Step::Seal(seal_with(id, key, place, plain, random)),
            _ => Step::Keep,
        });
    };
    let sealed = sealed?;
    // Also where nothing is to be changed, so that what does not open is found while its key may still be at hand.
    let opened = open_sealed(Some(keys), place, &sealed)?;
    Ok(match (goal, primary) {
        (Goal::PlainText, _) => Step::Open(opened),
        (Goal::Primary, Some((id, key))) if id != sealed.key_id => {
            Step::Reencrypt(seal_with(id, key, place, opened.expose(), random))
        }
        (Goal::Primary, _) => Step::Keep,
    })
}
