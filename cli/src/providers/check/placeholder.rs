//! Values that stand in for missing and wrong ones, so that reading can go on to the next fault.

/// One per key that a definition may need, in TOML. They are right for their key and say nothing.
const PLACEHOLDERS: [(&str, &str); 23] = [
    ("name", "\"placeholder\""),
    ("title", "\"placeholder\""),
    ("key", "\"placeholder\""),
    ("default", "\"production\""),
    ("token", "{}"),
    ("request", "{}"),
    ("response", "{}"),
    ("method", "\"POST\""),
    ("url", "\"https://placeholder.invalid\""),
    ("username", "\"placeholder\""),
    ("password", "\"placeholder\""),
    ("encoding", "\"plain\""),
    ("access_token", "\"/placeholder\""),
    ("lifetime", "\"unknown\""),
    ("pointer", "\"/placeholder\""),
    ("equals", "0"),
    ("class", "\"server_error\""),
    ("rotation", "\"none\""),
    ("requests", "1"),
    ("per", "\"1s\""),
    ("operations", "[\"placeholder\"]"),
    ("value", "\"placeholder\""),
    ("json", "{}"),
];

/// The value for a key.
pub(super) fn placeholder(key: &str) -> Option<&'static str> {
    PLACEHOLDERS.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
}
