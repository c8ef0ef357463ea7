//! Secrets of the operator's, shared by all connections of a provider, and where they are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::domain::secret::Secret;

/// Where a secret is kept: `file:/run/secrets/name` or `env:NAME`. Never the secret itself, so that a configuration
/// file may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SecretSource {
    /// A mounted file; a line end after the secret is not part of it.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

impl TryFrom<String> for SecretSource {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", name)) if !name.is_empty() => Ok(Self::Variable(name.into())),
            // The text may be a secret that was put here by mistake.
            _ => Err(
                "a secret is not written into the configuration: say where it is, as file:/path or env:NAME",
            ),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Variable(name) => write!(formatter, "env:{name}"),
        }
    }
}

/// One source, or several that are tried in turn: while an app's secret is replaced, the new one and the old one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct SecretSources(pub Vec<SecretSource>);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a secret is not written into the configuration: say where it is, as file:/path or env:NAME, or a list of such"
)]
enum OneOrMany {
    One(SecretSource),
    Many(Vec<SecretSource>),
}

impl From<OneOrMany> for SecretSources {
    fn from(value: OneOrMany) -> Self {
        match value {
            OneOrMany::One(one) => Self(vec![one]),
            OneOrMany::Many(many) => Self(many),
        }
    }
}

/// The secrets of one provider, by key, each an ordered list.
#[derive(Clone, Default)]
pub struct OperatorSecrets(BTreeMap<String, Vec<Secret>>);

impl fmt::Debug for OperatorSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromIterator<(String, Vec<Secret>)> for OperatorSecrets {
    fn from_iter<T: IntoIterator<Item = (String, Vec<Secret>)>>(secrets: T) -> Self {
        Self(secrets.into_iter().collect())
    }
}

impl OperatorSecrets {
    /// The one of that key at that place of its list, or its last one.
    pub fn get(&self, key: &str, place: usize) -> Option<&Secret> {
        let list = self.0.get(key)?;
        list.get(place).or_else(|| list.last())
    }

    /// How long the longest list is; at least 1.
    pub fn choices(&self) -> usize {
        self.0.values().map(Vec::len).max().unwrap_or(1).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        secret: SecretSources,
    }

    #[test]
    fn a_source_is_a_file_a_variable_or_a_list_of_them() {
        let holder: Holder = toml::from_str("secret = \"file:/run/secrets/a\"").unwrap();
        assert_eq!(holder.secret.0, [SecretSource::File("/run/secrets/a".into())]);
        let holder: Holder = toml::from_str("secret = [\"env:NEW\", \"env:OLD\"]").unwrap();
        let names: Vec<String> = holder.secret.0.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["env:NEW", "env:OLD"]);
    }

    #[test]
    fn a_secret_in_its_place_is_refused_without_being_quoted() {
        for text in ["s3cret", "env:", "file:", "literal:s3cret"] {
            let error = SecretSource::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains("env:NAME") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn lists_are_tried_in_turn_and_shorter_ones_stay_at_their_last() {
        let secrets: OperatorSecrets = [
            ("a".to_owned(), vec![Secret::new("new"), Secret::new("old")]),
            ("b".to_owned(), vec![Secret::new("only")]),
        ]
        .into_iter()
        .collect();
        assert_eq!(secrets.choices(), 2);
        let get = |key, place| secrets.get(key, place).map(|secret| secret.expose().to_owned());
        assert_eq!(get("a", 0).as_deref(), Some("new"));
        assert_eq!(get("a", 1).as_deref(), Some("old"));
        assert_eq!(get("b", 1).as_deref(), Some("only"));
        assert_eq!(get("c", 0), None);
        assert_eq!(format!("{secrets:?}"), r#"{"a", "b"}"#);
    }
}
