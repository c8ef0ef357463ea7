//! Why a sealed secret does not open.

use thiserror::Error;

/// A sealed secret that does not open. Names the place and the key's id, never the key or a part of the secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SealError {
    /// There is no key ring at all.
    #[error("{place} is sealed under key `{key_id}`, and no keys are configured: set encryption.key_file")]
    NoKeys {
        /// Where it stands.
        place: String,
        /// The key that it asks for.
        key_id: String,
    },
    /// The ring lacks its key.
    #[error("{place} is sealed under key `{key_id}`, which {file} does not hold: put the key back there")]
    UnknownKey {
        /// Where it stands.
        place: String,
        /// The key that it asks for.
        key_id: String,
        /// The key file.
        file: String,
    },
    /// The key does not fit what stands there.
    #[error(
        "{place} does not open with key `{key_id}`: it was changed or copied from another place, or {file} holds \
         another key of that id; restore it, or let the merchant authorise again"
    )]
    DoesNotOpen {
        /// Where it stands.
        place: String,
        /// The key that it names.
        key_id: String,
        /// The key file.
        file: String,
    },
    /// It begins like a sealed secret and is none.
    #[error(
        "{place} begins like a sealed secret and is none, perhaps because it was cut: restore it, or let the merchant \
         authorise again"
    )]
    Malformed {
        /// Where it stands.
        place: String,
    },
    /// It was sealed by a version of Freshet to come.
    #[error("{place} is sealed in form {version}, which this version does not know: use the newer Freshet")]
    UnknownForm {
        /// Where it stands.
        place: String,
        /// The form's number.
        version: String,
    },
}
