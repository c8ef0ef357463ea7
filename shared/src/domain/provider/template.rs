//! Text with places: `{input.KEY}`, `{environment.KEY}`, `{setting.KEY}`, `{secret.KEY}`, `{refresh_token}`,
//! `{request.id}` and `{token}`; `{{` and `}}` are braces.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::domain::failure::{Failure, FailureClass};
use crate::domain::secret::Secret;

/// All but RFC 3986's unreserved characters, so that a value can never end the place where it stands.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template {
    source: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Text(String),
    Variable(Variable),
}

/// What stands in a place of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// A member of `inputFields`.
    Input(String),
    /// A value of the connection's environment.
    Environment(String),
    /// A value of the operator's settings.
    Setting(String),
    /// A secret of the operator's, shared by all connections.
    Secret(String),
    /// The refresh token that is spent.
    RefreshToken,
    /// A new id for each call.
    RequestId,
    /// The token that was granted.
    Token,
}

/// How a template is written where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// In a URL: inputs percent-encoded as part of one path segment; text, environment and settings as they are.
    Url,
    /// As a value in a query: percent-encoded.
    Query,
    /// As a value in a form (WHATWG URL, 5.1): percent-encoded, a space as `+`.
    Form,
    /// In a header: as it is; control characters are refused.
    Header,
    /// Inside a JSON text (RFC 8259, 7).
    Json,
    /// As it is: what comes of it is encoded as a whole.
    Plain,
}

/// A template that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// A brace without its partner.
    #[error("`{source_text}` has a brace without its partner: write {{{{ or }}}} for a brace itself")]
    Unbalanced {
        /// The template.
        source_text: String,
    },
    /// A place that is none of the known ones.
    #[error(
        "`{{{name}}}` is unknown: a place is {{input.KEY}}, {{environment.KEY}}, {{setting.KEY}}, {{secret.KEY}}, {{refresh_token}}, {{request.id}} or {{token}}"
    )]
    UnknownVariable {
        /// What stands between the braces.
        name: String,
    },
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(source: String) -> Result<Self, TemplateError> {
        let unbalanced = || TemplateError::Unbalanced { source_text: source.clone() };
        let mut segments = Vec::new();
        let mut text = String::new();
        let mut rest = source.as_str();
        while let Some(position) = rest.find(['{', '}']) {
            text.push_str(&rest[..position]);
            let brace = &rest[position..=position];
            let after = &rest[position + 1..];
            if let Some(after) = after.strip_prefix(brace) {
                text.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(unbalanced());
            }
            let (name, after) = after.split_once('}').ok_or_else(unbalanced)?;
            if !text.is_empty() {
                segments.push(Segment::Text(std::mem::take(&mut text)));
            }
            segments.push(Segment::Variable(Variable::parse(name)?));
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            segments.push(Segment::Text(text));
        }
        Ok(Self { source, segments })
    }
}

impl Variable {
    fn parse(name: &str) -> Result<Self, TemplateError> {
        match name.split_once('.') {
            Some(("input", key)) if !key.is_empty() => Ok(Self::Input(key.into())),
            Some(("environment", key)) if !key.is_empty() => Ok(Self::Environment(key.into())),
            Some(("setting", key)) if !key.is_empty() => Ok(Self::Setting(key.into())),
            Some(("secret", key)) if !key.is_empty() => Ok(Self::Secret(key.into())),
            Some(("request", "id")) => Ok(Self::RequestId),
            None if name == "refresh_token" => Ok(Self::RefreshToken),
            None if name == "token" => Ok(Self::Token),
            _ => Err(TemplateError::UnknownVariable { name: name.into() }),
        }
    }
}

impl Template {
    /// The text as it stands in the definition: safe to show, for it holds no value.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The places, in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Text(_) => None,
            Segment::Variable(variable) => Some(variable),
        })
    }

    /// The one place that it consists of, if it is nothing else.
    pub fn only_variable(&self) -> Option<&Variable> {
        match self.segments.as_slice() {
            [Segment::Variable(variable)] => Some(variable),
            _ => None,
        }
    }

    /// The places that are part of the host, where the template is a URL's.
    pub fn host_variables(&self) -> impl Iterator<Item = &Variable> {
        let mut is_over = false;
        self.segments.iter().filter_map(move |segment| match segment {
            Segment::Text(text) => {
                let authority = text.split_once("://").map_or(text.as_str(), |(_, authority)| authority);
                is_over |= authority.contains(['/', '?', '#']);
                None
            }
            Segment::Variable(variable) => (!is_over).then_some(variable),
        })
    }

    /// Puts values into the places, each encoded for where it stands.
    ///
    /// # Errors
    /// The failure of `value` for a place that has none, or [`FailureClass::Misconfigured`] for a value that cannot
    /// stand there. The value is not quoted.
    pub fn render(
        &self,
        encoding: Encoding,
        value: &dyn Fn(&Variable) -> Result<Secret, Failure>,
    ) -> Result<Secret, Failure> {
        let mut rendered = Zeroizing::new(String::new());
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => encoding.write_text(text, &mut rendered),
                Segment::Variable(variable) => encoding.write(variable, &value(variable)?, &mut rendered)?,
            }
        }
        Ok(Secret::new(rendered.as_str()))
    }
}

impl Encoding {
    fn write_text(self, text: &str, target: &mut String) {
        match self {
            Self::Url | Self::Header | Self::Plain => target.push_str(text),
            Self::Json => {
                // A text in its JSON form stands between two quotes.
                let quoted = Zeroizing::new(serde_json::to_string(text).unwrap_or_default());
                target.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
            }
            Self::Query => target.extend(utf8_percent_encode(text, RESERVED)),
            Self::Form => {
                for (index, word) in text.split(' ').enumerate() {
                    if index > 0 {
                        target.push('+');
                    }
                    target.extend(utf8_percent_encode(word, RESERVED));
                }
            }
        }
    }

    fn write(self, variable: &Variable, value: &Secret, target: &mut String) -> Result<(), Failure> {
        let value = value.expose();
        let refuse = |why: &str| {
            let name = variable.name();
            Err(Failure::new(FailureClass::Misconfigured, format!("the value of `{name}` {why}: correct it")))
        };
        match self {
            Self::Url if matches!(variable, Variable::Environment(_) | Variable::Setting(_)) => {
                target.push_str(value)
            }
            // URL parsers take these for steps up the path, percent-encoded too.
            Self::Url if matches!(value, "." | "..") => return refuse("cannot stand in a path"),
            Self::Url => target.extend(utf8_percent_encode(value, RESERVED)),
            Self::Header if value.chars().any(char::is_control) => {
                return refuse("holds a control character, which no header may");
            }
            Self::Query | Self::Form | Self::Header | Self::Json | Self::Plain => {
                self.write_text(value, target)
            }
        }
        Ok(())
    }
}

impl Variable {
    /// As written in a template, without the braces.
    pub fn name(&self) -> String {
        match self {
            Self::Input(key) => format!("input.{key}"),
            Self::Environment(key) => format!("environment.{key}"),
            Self::Setting(key) => format!("setting.{key}"),
            Self::Secret(key) => format!("secret.{key}"),
            Self::RefreshToken => "refresh_token".into(),
            Self::RequestId => "request.id".into(),
            Self::Token => "token".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(source: &str) -> Template {
        Template::try_from(source.to_owned()).unwrap()
    }

    fn rendered(source: &str, encoding: Encoding, value: &str) -> Result<String, Failure> {
        template(source)
            .render(encoding, &|_| Ok(Secret::new(value)))
            .map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn values_are_encoded_for_where_they_stand() {
        let value = "a b&c=%+\"/é";
        let cases = [
            (Encoding::Query, "x%20a%20b%26c%3D%25%2B%22%2F%C3%A9"),
            (Encoding::Form, "x+a+b%26c%3D%25%2B%22%2F%C3%A9"),
            (Encoding::Url, "x a%20b%26c%3D%25%2B%22%2F%C3%A9"),
            (Encoding::Header, "x a b&c=%+\"/é"),
            (Encoding::Json, "x a b&c=%+\\\"/é"),
            (Encoding::Plain, "x a b&c=%+\"/é"),
        ];
        for (encoding, expected) in cases {
            assert_eq!(rendered("x {input.a}", encoding, value).unwrap(), expected);
        }
        assert_eq!(rendered("{environment.a}/b", Encoding::Url, "http://h/x").unwrap(), "http://h/x/b");
    }

    #[test]
    fn what_cannot_stand_in_its_place_is_refused_without_being_quoted() {
        for (encoding, value) in
            [(Encoding::Url, ".."), (Encoding::Header, "s3cret\r\nX: y"), (Encoding::Header, "a\0")]
        {
            let failure = rendered("{input.a}", encoding, value).unwrap_err();
            assert_eq!(failure.class, FailureClass::Misconfigured);
            assert!(failure.detail.contains("input.a") && !failure.detail.contains("s3cret"), "{failure}");
        }
    }

    #[test]
    fn braces_and_unknown_places() {
        assert_eq!(rendered("{{{input.a}}}", Encoding::Header, "v").unwrap(), "{v}");
        for source in ["{", "}", "{input.a", "a}b"] {
            let error = Template::try_from(source.to_owned()).unwrap_err();
            assert!(matches!(error, TemplateError::Unbalanced { .. }), "{source}: {error}");
        }
        for source in ["{}", "{input.}", "{inputs.a}", "{token.a}", "{request}", "{request.name}"] {
            let error = Template::try_from(source.to_owned()).unwrap_err();
            assert!(matches!(error, TemplateError::UnknownVariable { .. }), "{source}: {error}");
        }
    }

    #[test]
    fn the_host_of_a_url_ends_at_its_path() {
        let cases = [
            ("https://{input.shop}.example.com/{input.path}", 1),
            ("{environment.base_url}/{input.path}", 1),
            ("https://example.com/{input.path}?a={input.b}", 0),
            ("https://example.com:{input.port}", 1),
            ("{environment.scheme}://{input.host}/a", 2),
        ];
        for (source, expected) in cases {
            assert_eq!(template(source).host_variables().count(), expected, "{source}");
        }
    }

    proptest! {
        #[test]
        fn a_json_text_stays_one(value: String) {
            let text = rendered("{input.a}", Encoding::Json, &value).unwrap();
            let read: String = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            prop_assert_eq!(read, value);
        }

        #[test]
        fn any_text_is_read_or_refused(source: String) {
            let _ = Template::try_from(source);
        }

        #[test]
        fn an_encoded_value_cannot_end_its_place(value: String) {
            let query = rendered("{input.a}", Encoding::Query, &value).unwrap();
            prop_assert!(query.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
            let form = rendered("{input.a}", Encoding::Form, &value).unwrap();
            prop_assert!(form.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%+".contains(&byte)));
        }
    }
}
