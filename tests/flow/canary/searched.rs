//! Looking for secrets, in every form in which text travels.

use std::collections::BTreeSet;

use super::MARK;

/// What is looked for: forms by their names.
pub(super) struct Searched(Vec<(&'static str, String)>);

impl Searched {
    /// The mark.
    pub(super) fn for_marks() -> Self {
        let mut searched = Self(Vec::new());
        searched.also_for(MARK);
        searched
    }

    /// Another text.
    pub(super) fn also_for(&mut self, text: &str) {
        self.0.extend(forms(text));
    }

    /// Its forms, each once.
    pub(super) fn forms(&self) -> &[(&'static str, String)] {
        &self.0
    }

    /// The names of the forms that stand in `bytes`.
    pub(super) fn found_in(&self, bytes: &[u8]) -> BTreeSet<&'static str> {
        let texts = texts(bytes);
        self.0
            .iter()
            .filter(|(_, form)| texts.iter().any(|text| text.contains(form)))
            .map(|(name, _)| *name)
            .collect()
    }

    #[expect(clippy::panic, reason = "an assertion with a word on what was found, and where")]
    pub(super) fn assert_none_in(&self, place: &str, bytes: &[u8]) {
        for text in texts(bytes) {
            let found = self.0.iter().find_map(|(name, form)| Some((name, text.find(form)?)));
            let Some((name, at)) = found else { continue };
            let around = &text.as_bytes()[at.saturating_sub(200)..text.len().min(at + 100)];
            panic!("a secret is in {place}, as {name}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

/// As they are, and as they were before somebody wrote them into a JSON text.
fn texts(bytes: &[u8]) -> [String; 2] {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let unescaped = text.replace("\\\\", "\\").replace("\\\"", "\"");
    [text, unescaped]
}

fn forms(text: &str) -> Vec<(&'static str, String)> {
    let bytes = text.as_bytes();
    let each = |write: &dyn Fn(&u8) -> String, between: &str| {
        bytes.iter().map(write).collect::<Vec<_>>().join(between)
    };
    let units: Vec<u16> = text.encode_utf16().collect();
    let unit = |write: &dyn Fn(&u16) -> String| units.iter().map(write).collect::<String>();
    let encoded = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let in_json = serde_json::Value::from(text).to_string();
    let mut forms = vec![
        ("itself", text.to_owned()),
        ("percent-encoded where needed", encoded.clone()),
        ("percent-encoded where needed, for a form", encoded.replace("%20", "+")),
        ("percent-encoded", each(&|byte| format!("%{byte:02X}"), "")),
        ("percent-encoded in small letters", each(&|byte| format!("%{byte:02x}"), "")),
        ("in JSON", in_json.trim_matches('"').to_owned()),
        ("in JSON, escaped", unit(&|unit| format!("\\u{unit:04x}"))),
        ("in JSON, escaped in capitals", unit(&|unit| format!("\\u{unit:04X}"))),
        ("in hexadecimal", each(&|byte| format!("{byte:02x}"), "")),
        ("in hexadecimal in capitals", each(&|byte| format!("{byte:02X}"), "")),
        ("as a list", each(&|byte| byte.to_string(), ", ")),
        ("as a list without spaces", each(&|byte| byte.to_string(), ",")),
    ];
    let names = [
        ("in base64", "in URL-safe base64"),
        ("in base64 after one byte", "in URL-safe base64 after one byte"),
        ("in base64 after two bytes", "in URL-safe base64 after two bytes"),
    ];
    for (offset, (standard, url_safe)) in names.into_iter().enumerate() {
        let encoded = base64_at(bytes, offset);
        forms.push((url_safe, encoded.replace('+', "-").replace('/', "_")));
        forms.push((standard, encoded));
    }
    forms
}

/// The characters of base64 that stand for these bytes alone, where `offset` bytes of a group of three come before.
fn base64_at(bytes: &[u8], offset: usize) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<bool> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    // A character of six bits that begins inside the group before belongs to that too.
    let first = (6 - offset * 8 % 6) % 6;
    bits[first..]
        .chunks_exact(6)
        .map(|six| ALPHABET[six.iter().fold(0, |value, bit| value * 2 + usize::from(*bit))] as char)
        .collect()
}

/// Base64 of this holds characters in which the two alphabets differ, wherever it begins.
const SPECIAL: &str = "s>>>???~~~ü\"\\end";

#[test]
fn a_text_is_found_in_every_form_in_which_libraries_write_it() {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    for text in [MARK, SPECIAL] {
        let mut searched = Searched(Vec::new());
        searched.also_for(text);
        let seen = |bytes: &[u8]| {
            let by_panic = std::panic::catch_unwind(|| searched.assert_none_in("a test", bytes)).is_err();
            assert_eq!(by_panic, !searched.found_in(bytes).is_empty());
            by_panic
        };
        for before in ["", "a", "ab", "abc", "user:"] {
            let whole = format!("{before}{text}:after");
            let written = [
                whole.clone(),
                STANDARD.encode(&whole),
                URL_SAFE_NO_PAD.encode(&whole),
                percent_encoding::utf8_percent_encode(&whole, percent_encoding::NON_ALPHANUMERIC).to_string(),
                serde_json::json!({"a": [whole.clone()]}).to_string(),
                serde_json::json!({"a": serde_json::json!({"b": whole.clone()}).to_string()}).to_string(),
                format!("{:?}", whole.as_bytes()),
                format!("{whole:?}"),
            ];
            for written in &written {
                assert!(seen(written.as_bytes()), "{written}");
            }
        }
        assert!(!seen(b"nothing of the kind"));
    }
}

#[test]
fn the_alphabets_of_base64_are_told_apart() {
    for offset in 0..3 {
        let encoded = base64_at(SPECIAL.as_bytes(), offset);
        assert!(encoded.contains(['+', '/']), "{offset}: {encoded}");
    }
}
