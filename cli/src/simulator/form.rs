//! `application/x-www-form-urlencoded`, as servers read it in queries and bodies: `+` is a space.

use std::borrow::Cow;

/// The parameters of one request, decoded, in the order sent.
pub(super) struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// A parameter was sent more than once, which OAuth 2.0 forbids (RFC 6749, 3.2) and no marketplace documents.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated;

impl<'a> Parameters<'a> {
    pub(super) fn parse(raw: &'a [u8]) -> Self {
        Self(
            raw.split(|byte| *byte == b'&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let mut sides = pair.splitn(2, |byte| *byte == b'=');
                    let mut side = || decode(sides.next().unwrap_or_default());
                    (side(), side())
                })
                .collect(),
        )
    }

    /// The one value of a parameter. An empty value counts as left out (RFC 6749, 3.1).
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Repeated> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_ref());
        let value = values.next().filter(|value| !value.is_empty());
        if values.next().is_some() { Err(Repeated) } else { Ok(value) }
    }
}

fn decode(raw: &[u8]) -> Cow<'_, str> {
    if !raw.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return String::from_utf8_lossy(raw);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                // A stray percent sign stands for itself.
                _ => bytes.push(b'%'),
            },
            (byte, _) => bytes.push(*byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_as_servers_do() {
        for (raw, value) in [
            ("plain", "plain"),
            ("a+b", "a b"),
            ("a%2Bb", "a+b"),
            ("a%2bb", "a+b"),
            ("a%26b%3Dc", "a&b=c"),
            ("a=b", "a=b"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%C3%BC", "ü"),
            ("%2525", "%25"),
        ] {
            let raw = format!("x=1&v={raw}");
            assert_eq!(Parameters::parse(raw.as_bytes()).one("v"), Ok(Some(value)), "{raw}");
        }
    }

    #[test]
    fn empty_is_absent_and_twice_is_an_error() {
        let parameters = Parameters::parse(b"&empty=&bare&twice=1&twice=2");
        assert_eq!(parameters.one("empty"), Ok(None));
        assert_eq!(parameters.one("bare"), Ok(None));
        assert_eq!(parameters.one("missing"), Ok(None));
        assert_eq!(parameters.one("twice"), Err(Repeated));
    }
}
