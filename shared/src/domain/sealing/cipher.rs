//! Sealing and opening one secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key as CipherKey, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::error::SealError;
use super::key_ring::{Key, KeyRing};
use super::place::{Place, push};
use super::sealed_text::{self, MARK, SealedText, VERSION};
use crate::domain::secret::Secret;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

impl KeyRing {
    /// Seals a secret under the primary key for this place; without a primary key it stays as it is. `random` has to be
    /// a cryptographic generator.
    pub fn seal(&self, place: &Place<'_>, secret: &Secret, random: &mut dyn FnMut() -> u64) -> Secret {
        match self.primary_key() {
            Some((id, key)) => seal_with(id, key, place, secret.expose(), random),
            None => secret.clone(),
        }
    }
}

/// Opens what stands at this place. A plain text comes back as it is, with keys and without.
///
/// # Errors
/// Names the place and the key's id, and what to do.
pub fn open(keys: Option<&KeyRing>, place: &Place<'_>, text: Secret) -> Result<Secret, SealError> {
    match sealed_text::parse(place, text.expose()) {
        None => Ok(text),
        Some(sealed) => open_sealed(keys, place, &sealed?),
    }
}

pub(super) fn seal_with(
    id: &str,
    key: &Key,
    place: &Place<'_>,
    plain: &str,
    random: &mut dyn FnMut() -> u64,
) -> Secret {
    let nonce: [u8; NONCE_BYTES] = random_bytes(random);
    // At its full size from the start: growing would leave a copy of the plain text behind.
    let mut data = Zeroizing::new(Vec::with_capacity(NONCE_BYTES + plain.len() + TAG_BYTES));
    data.extend_from_slice(&nonce);
    data.extend_from_slice(plain.as_bytes());
    let (_, text) = data.split_at_mut(NONCE_BYTES);
    #[expect(clippy::expect_used, reason = "it fails beyond 256 GiB only")]
    let tag = cipher(key)
        .encrypt_inout_detached(&XNonce::from(nonce), &associated_data(id, place), text.into())
        .expect("a text shorter than 256 GiB");
    data.extend_from_slice(&tag);
    let mut sealed = format!("{MARK}{VERSION}:{id}:");
    URL_SAFE_NO_PAD.encode_string(data.as_slice(), &mut sealed);
    Secret::new(sealed)
}

pub(super) fn open_sealed(
    keys: Option<&KeyRing>,
    place: &Place<'_>,
    sealed: &SealedText<'_>,
) -> Result<Secret, SealError> {
    let (place_name, key_id) = (|| place.to_string(), || sealed.key_id.to_owned());
    let keys = keys.ok_or_else(|| SealError::NoKeys { place: place_name(), key_id: key_id() })?;
    let file = || keys.file().to_owned();
    let key = keys.key(sealed.key_id).ok_or_else(|| SealError::UnknownKey {
        place: place_name(),
        key_id: key_id(),
        file: file(),
    })?;
    let malformed = || SealError::Malformed { place: place_name() };
    let mut data = Zeroizing::new(URL_SAFE_NO_PAD.decode(sealed.data).map_err(|_| malformed())?);
    let (nonce, rest) = data.split_first_chunk_mut::<NONCE_BYTES>().ok_or_else(malformed)?;
    let (text, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or_else(malformed)?;
    let does_not_open = || SealError::DoesNotOpen { place: place_name(), key_id: key_id(), file: file() };
    cipher(key)
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            &associated_data(sealed.key_id, place),
            (&mut *text).into(),
            &Tag::from(*tag),
        )
        .map_err(|_| does_not_open())?;
    // Only text is ever sealed.
    std::str::from_utf8(text).map(Secret::new).map_err(|_| does_not_open())
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(<&CipherKey>::from(&***key))
}

/// The head of the text and its place, so that neither can be exchanged.
fn associated_data(key_id: &str, place: &Place<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [MARK, VERSION, key_id] {
        push(&mut bytes, part);
    }
    bytes.extend_from_slice(&place.associated_data());
    bytes
}

/// As many random bytes as asked for.
pub(super) fn random_bytes<const COUNT: usize>(random: &mut dyn FnMut() -> u64) -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    for chunk in bytes.chunks_mut(8) {
        let drawn = random().to_ne_bytes();
        chunk.copy_from_slice(&drawn[..chunk.len()]);
    }
    bytes
}
