//! Encryption at rest: how a secret stands in a column, and which key opens it.
//!
//! A sealed secret is the text `freshet:1:{key id}:{data}`. `data` is unpadded base64url of a random nonce of 24 bytes, the
//! ciphertext and the tag of 16 bytes: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha, the AEAD of RFC 8439 with a nonce
//! that is long enough to be drawn at random). Table, column, member and row are associated data, so that a ciphertext
//! opens only where it was sealed. What does not begin like that is plain text and passes as it is.

mod cipher;
mod error;
mod key_ring;
mod members;
mod place;
mod rotation;
mod sealed_text;
#[cfg(test)]
mod tests;

pub use cipher::open;
pub use error::SealError;
pub use key_ring::{KeyRing, KeyRingError, is_key_id, new_key};
pub use members::open_members;
pub use place::{Place, SecretColumn};
pub use rotation::{Goal, Rotated, rotate_members, rotate_text};
pub use sealed_text::is_sealed;
