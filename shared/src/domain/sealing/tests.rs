use proptest::prelude::*;

use super::*;
use crate::domain::connection::ConnectionId;
use crate::domain::secret::Secret;

/// Base64 of 32 bytes, which no error may show.
const FIRST: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SECOND: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

fn keys(primary: &str, held: &[(&str, &str)]) -> KeyRing {
    let held: String = held.iter().map(|(id, key)| format!("\"{id}\" = \"{key}\"\n")).collect();
    let text = Secret::new(format!("primary = \"{primary}\"\n[keys]\n{held}"));
    KeyRing::parse("keys.toml", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn old() -> KeyRing {
    keys("k1", &[("k1", FIRST)])
}

fn both() -> KeyRing {
    keys("k2", &[("k1", FIRST), ("k2", SECOND)])
}

/// Numbers that differ from each other, so that nonces do.
fn random() -> impl FnMut() -> u64 {
    let mut number = 0_u64;
    move || {
        number += 1;
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

fn token_of(id: i64) -> Place<'static> {
    Place::of(SecretColumn::AccessToken, ConnectionId(id))
}

fn fields_of(id: i64) -> Place<'static> {
    Place::of(SecretColumn::InputFields, ConnectionId(id))
}

fn sealed(keys: &KeyRing, place: &Place<'_>, secret: &str) -> String {
    keys.seal(place, &Secret::new(secret), &mut random()).expose().to_owned()
}

fn opened(keys: Option<&KeyRing>, place: &Place<'_>, text: &str) -> Result<String, SealError> {
    open(keys, place, Secret::new(text)).map(|secret| secret.expose().to_owned())
}

#[test]
fn a_secret_opens_where_it_was_sealed_and_shows_only_its_keys_id() {
    let keys = old();
    let text = sealed(&keys, &token_of(42), "s3cret");
    assert!(text.starts_with("freshet:1:k1:") && !text.contains("s3cret"), "{text}");
    assert_eq!(text.len(), "freshet:1:k1:".len() + (24_usize + 6 + 16).div_ceil(3) * 4 - 2);
    assert_eq!(opened(Some(&keys), &token_of(42), &text).as_deref(), Ok("s3cret"));
    assert_eq!(opened(Some(&both()), &token_of(42), &text).as_deref(), Ok("s3cret"));
    let draw = &mut random();
    let again = || keys.seal(&token_of(42), &Secret::new("s3cret"), draw);
    let texts: Vec<_> = std::iter::repeat_with(again).take(2).map(|text| text.expose().to_owned()).collect();
    assert_ne!(texts[0], texts[1], "each has a nonce of its own");
}

#[test]
fn it_opens_at_no_other_place() {
    let keys = old();
    let places = [
        token_of(42),
        token_of(43),
        token_of(-42),
        Place::of(SecretColumn::RefreshToken, ConnectionId(42)),
        fields_of(42),
        fields_of(42).member("apiKey"),
        fields_of(42).member("apiKey2"),
        fields_of(42).member(""),
        fields_of(43).member("apiKey"),
        Place::new("elsewhere", "accessToken", 42),
    ];
    for (from, here) in places.iter().enumerate() {
        let text = sealed(&keys, here, "s3cret");
        for (to, there) in places.iter().enumerate() {
            let result = opened(Some(&keys), there, &text);
            if from == to {
                assert_eq!(result.as_deref(), Ok("s3cret"));
            } else {
                let error = result.unwrap_err();
                assert!(matches!(error, SealError::DoesNotOpen { .. }), "{here} at {there}: {error:?}");
                assert!(error.to_string().contains(&there.to_string()), "{error}");
                assert!(error.to_string().contains("`k1`"), "{error}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let keys = old();
    let text = sealed(&keys, &token_of(42), "s3cret-token");
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(flipped) = String::from_utf8(bytes) else { continue };
            let result = opened(Some(&keys), &token_of(42), &flipped);
            // A flip in the mark makes a plain text, which passes; it is not the secret.
            if is_sealed(&flipped) {
                assert!(result.is_err(), "bit {bit} of byte {at}: {flipped}");
            } else {
                assert_eq!(result, Ok(flipped));
            }
        }
    }
    // And in the bytes themselves, whatever base64 makes of them.
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let data = URL_SAFE_NO_PAD.decode(text.strip_prefix("freshet:1:k1:").unwrap()).unwrap();
    assert_eq!(data.len(), 24 + 12 + 16);
    for at in 0..data.len() {
        for bit in 0..8 {
            let mut flipped = data.clone();
            flipped[at] ^= 1 << bit;
            let flipped = format!("freshet:1:k1:{}", URL_SAFE_NO_PAD.encode(flipped));
            let error = opened(Some(&keys), &token_of(42), &flipped).unwrap_err();
            assert!(matches!(error, SealError::DoesNotOpen { .. }), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn what_cannot_be_opened_names_place_key_and_what_to_do() {
    let text = sealed(&both(), &token_of(42), "s3cret");
    let renamed = sealed(&old(), &token_of(42), "s3cret").replace(":k1:", ":k2:");
    let other_key = keys("k2", &[("k2", FIRST)]);
    let none = keys("", &[("k1", FIRST)]);
    let cases: [(Option<&KeyRing>, &str, &[&str]); 10] = [
        (None, &text, &["`k2`", "set encryption.key_file"]),
        (Some(&old()), &text, &["`k2`", "keys.toml", "put the key back"]),
        (Some(&none), &text, &["`k2`", "keys.toml"]),
        (Some(&other_key), &text, &["`k2`", "keys.toml", "another key of that id"]),
        (Some(&both()), &renamed, &["`k2`", "does not open"]),
        (Some(&both()), &text[..text.len() - 1], &["was cut"]),
        (Some(&both()), "freshet:1:k2:AAAA", &["was cut"]),
        (Some(&both()), "freshet:1:k2", &["begins like a sealed secret"]),
        (Some(&both()), "freshet:1:no key:AAAA", &["begins like a sealed secret"]),
        (Some(&both()), "freshet:2:k2:AAAA", &["form 2", "newer Freshet"]),
    ];
    for (keys, text, words) in cases {
        let error = opened(keys, &token_of(42), text).unwrap_err().to_string();
        for word in words.iter().chain(&["accessToken of connection 42"]) {
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
        assert!(!error.contains("AAAA") && !error.contains(FIRST) && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn plain_text_passes_with_keys_and_without() {
    for text in
        ["", "NjA4MTAz", "freshet", "freshet:", "freshet::k1:AAAA", "freshet:x1:k1:AAAA", "Freshet:1:k1:A"]
    {
        assert_eq!(opened(None, &token_of(42), text).as_deref(), Ok(text));
        assert_eq!(opened(Some(&old()), &token_of(42), text).as_deref(), Ok(text));
        assert!(!is_sealed(text));
    }
    let none = keys("", &[("k1", FIRST)]);
    assert_eq!(sealed(&none, &token_of(42), "s3cret"), "s3cret", "nothing seals without a primary key");
    let text = sealed(&old(), &token_of(42), "s3cret");
    assert_eq!(opened(Some(&none), &token_of(42), &text).as_deref(), Ok("s3cret"));
}

#[test]
fn a_key_file_that_is_wrong_is_named_without_its_keys() {
    let valid = format!("[keys]\nk1 = \"{FIRST}\"");
    let short = &FIRST[..40];
    let cases = [
        ("primary = ".to_owned(), &["line 1"][..]),
        (format!("primary = \"k1\"\n[keys]\nk1 = {FIRST}"), &["line 3"]),
        (format!("primary = \"k1\"\n{valid}\nk1 = \"{SECOND}\""), &["line 4", "twice"]),
        (String::new(), &["[keys] is missing", "generate-key"]),
        ("keys = \"k1\"".into(), &["[keys] is missing"]),
        (valid.clone(), &["primary is missing"]),
        (format!("primary = 7\n{valid}"), &["primary is missing"]),
        (format!("primary = \"k2\"\n{valid}"), &["primary: `k2` is not one of [keys]"]),
        (format!("primary = \"{FIRST}\"\n{valid}"), &["primary: a name of 44 characters"]),
        (format!("primry = \"k1\"\n{valid}"), &["`primry` is not known", "`primary`"]),
        (format!("primary = \"k1\"\nk1 = \"{FIRST}\"\n"), &["`k1` is not known here"]),
        (format!("primary = \"k1\"\n[keys]\nk1 = \"{short}\""), &["key `k1` is not base64 of 32 bytes"]),
        (format!("primary = \"k1\"\n[keys]\nk1 = \"{FIRST}{SECOND}\""), &["key `k1` is not"]),
        ("primary = \"k1\"\n[keys]\nk1 = \"\"".into(), &["key `k1` is not"]),
        ("primary = \"k1\"\n[keys]\nk1 = 5".into(), &["key `k1` is not"]),
        (format!("primary = \"k1\"\n[keys]\nk1 = \"*{}\"", &FIRST[1..]), &["key `k1` is not"]),
        (
            format!("primary = \"k:1\"\n[keys]\n\"k:1\" = \"{FIRST}\""),
            &["a name of 3 characters is no key id"],
        ),
        (
            format!("primary = \"k1\"\n[keys]\n\"{FIRST}\" = \"k1\""),
            &["a name of 44 characters is no key id"],
        ),
    ];
    for (text, words) in cases {
        let error = KeyRing::parse("/run/keys.toml", &Secret::new(text.clone())).err();
        let error = error.unwrap_or_else(|| panic!("accepted: {text}")).to_string();
        for word in words.iter().chain(&["/run/keys.toml: "]) {
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
        for part in [&FIRST[..12], &SECOND[..12]] {
            assert!(!error.contains(part), "{error}");
        }
    }
}

#[test]
fn a_new_key_is_what_a_key_file_takes() {
    let draw = &mut random();
    let (one, other) = (new_key(draw), new_key(draw));
    assert!(one.expose() != other.expose(), "each is drawn anew");
    assert_eq!(one.expose().len(), 44);
    let ring = keys("new", &[("new", one.expose())]);
    let text = sealed(&ring, &token_of(1), "s3cret");
    assert_eq!(opened(Some(&ring), &token_of(1), &text).as_deref(), Ok("s3cret"));
    // With its padding and without.
    let unpadded = keys("new", &[("new", one.expose().trim_end_matches('='))]);
    assert_eq!(opened(Some(&unpadded), &token_of(1), &text).as_deref(), Ok("s3cret"));
}

fn rotated(keys: &KeyRing, goal: Goal, text: &str, secret: &[&str]) -> Rotated {
    let (place, text) = (fields_of(42), Secret::new(text));
    rotate_members(keys, goal, &place, &text, |key| secret.contains(&key), &mut random()).unwrap()
}

fn text_of(rotated: &Rotated) -> &str {
    rotated.text.as_ref().unwrap().expose()
}

#[test]
fn members_are_sealed_one_by_one_and_the_rest_stays_byte_by_byte() {
    let text = " { \"companyRefId\" : \"850135\",\"apiKey\":\"p\\\"&\\u00fc\", \"big\": 123456789012345678901234567890.10,\n\
         \"pin\": 4711, \"empty\":\"\", \"nothing\" :null, \"nested\" : {\"apiKey\": [1]} } ";
    let secret = ["apiKey", "pin", "empty", "nothing", "nested", "absent"];
    let sealed = rotated(&old(), Goal::Primary, text, &secret);
    assert_eq!((sealed.sealed, sealed.reencrypted, sealed.unreadable.len()), (3, 0, 0));
    let stored = text_of(&sealed).to_owned();
    let json: serde_json::Value = serde_json::from_str(&stored).unwrap();
    for key in ["apiKey", "pin", "nested"] {
        assert!(json[key].as_str().unwrap().starts_with("freshet:1:k1:"), "{stored}");
    }
    assert!(stored.starts_with(" { \"companyRefId\" : \"850135\",\"apiKey\":\"freshet:1:k1:"), "{stored}");
    assert!(stored.contains(" \"big\": 123456789012345678901234567890.10,\n\"pin\": \"freshet"), "{stored}");
    assert!(stored.contains("\"empty\":\"\", \"nothing\" :null,"), "{stored}");

    let back = open_members(Some(&old()), &fields_of(42), Secret::new(stored.clone())).ok().unwrap();
    assert_eq!(back.expose(), text, "and it opens as it was written, numbers as numbers");
    let again = rotated(&old(), Goal::Primary, &stored, &secret);
    assert!(again.text.is_none() && again.sealed == 0, "what is sealed is passed over");
    let plain = rotated(&keys("", &[("k1", FIRST)]), Goal::PlainText, &stored, &[]);
    assert_eq!((text_of(&plain), plain.opened), (text, 3));
}

#[test]
fn members_do_not_open_in_another_row_or_under_another_key() {
    let stored = rotated(&old(), Goal::Primary, r#"{"a":"one","b":"two"}"#, &["a", "b"]);
    let stored = text_of(&stored).to_owned();
    let error = open_members(Some(&old()), &fields_of(43), Secret::new(stored.clone())).err().unwrap();
    assert!(error.to_string().contains("inputFields.a of connection 43"), "{error}");
    let json: serde_json::Value = serde_json::from_str(&stored).unwrap();
    let exchanged = serde_json::json!({"a": json["b"], "b": json["a"]}).to_string();
    assert!(open_members(Some(&old()), &fields_of(42), Secret::new(exchanged)).is_err());
    let error = open_members(None, &fields_of(42), Secret::new(stored)).err().unwrap();
    assert!(matches!(error, SealError::NoKeys { .. }), "{error}");
}

#[test]
fn what_is_no_object_passes_and_cannot_be_rotated() {
    for text in ["", "freshet:1:k1:AAAA", "[\"freshet:1:k1:AAAA\"]", "{\"a\":\"freshet:1:k1:AAAA\"", "{} x"] {
        let passed = open_members(Some(&old()), &fields_of(42), Secret::new(text)).ok().unwrap();
        assert_eq!(passed.expose(), text);
        let text = Secret::new(text);
        let rotated = rotate_members(&old(), Goal::Primary, &fields_of(42), &text, |_| true, &mut random());
        assert!(rotated.is_none());
    }
}

#[test]
fn rotation_brings_each_secret_under_the_primary_key_and_leaves_what_does_not_open() {
    let place = token_of(42);
    let rotate = |keys: &KeyRing, goal, text: &str, is_ours| {
        rotate_text(keys, goal, &place, &Secret::new(text), is_ours, &mut random())
    };
    let under_old = sealed(&old(), &place, "s3cret");
    let moved = sealed(&old(), &token_of(43), "s3cret");

    let changed = rotate(&both(), Goal::Primary, "s3cret", true);
    assert!(text_of(&changed).starts_with("freshet:1:k2:") && changed.sealed == 1);
    let changed = rotate(&both(), Goal::Primary, &under_old, false);
    assert!(text_of(&changed).starts_with("freshet:1:k2:") && changed.reencrypted == 1);
    assert_eq!(opened(Some(&both()), &place, text_of(&changed)).as_deref(), Ok("s3cret"));
    let changed = rotate(&keys("", &[("k1", FIRST)]), Goal::PlainText, &under_old, false);
    assert_eq!((text_of(&changed), changed.opened), ("s3cret", 1));

    for (keys, text, is_ours) in
        [(old(), under_old.as_str(), true), (both(), "s3cret", false), (both(), "", true)]
    {
        let kept = rotate(&keys, Goal::Primary, text, is_ours);
        assert!(kept.text.is_none() && kept.unreadable.is_empty(), "{text}");
    }
    for (keys, text) in
        [(old(), moved.as_str()), (both(), &moved), (keys("k2", &[("k2", SECOND)]), &under_old)]
    {
        let kept = rotate(&keys, Goal::Primary, text, true);
        assert!(kept.text.is_none(), "it stays as it is");
        assert_eq!((kept.unreadable.len(), kept.sealed, kept.reencrypted), (1, 0, 0));
    }
    // The other members are looked after all the same.
    let mixed = format!(r#"{{"a":"{}","b":"plain"}}"#, sealed(&old(), &fields_of(43).member("a"), "\"one\""));
    let changed = rotated(&both(), Goal::Primary, &mixed, &["a", "b"]);
    assert_eq!((changed.unreadable.len(), changed.sealed), (1, 1));
    assert!(text_of(&changed).starts_with(mixed.split(",\"b\"").next().unwrap()));
}

proptest! {
    #[test]
    fn every_text_opens_as_it_was_sealed(secret in ".{0,200}", row in any::<i64>(), member in proptest::option::of(".{0,20}")) {
        let keys = both();
        let place = Place::of(SecretColumn::InputFields, ConnectionId(row));
        let place = member.as_deref().map_or(place, |key| place.member(key));
        let text = sealed(&keys, &place, &secret);
        prop_assert!(is_sealed(&text));
        prop_assert_eq!(opened(Some(&keys), &place, &text), Ok(secret));
    }

    #[test]
    fn every_object_opens_as_it_was_written(
        members in proptest::collection::vec((".{0,12}", proptest::option::of(".{0,20}")), 0..6),
        secret in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4),
    ) {
        let object: serde_json::Map<_, _> =
            members.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        let text = serde_json::Value::from(object).to_string();
        let chosen: Vec<&str> = secret.iter().filter(|_| !members.is_empty())
            .map(|index| members[index.index(members.len())].0.as_str()).collect();
        let rotated = rotated(&old(), Goal::Primary, &text, &chosen);
        let stored = rotated.text.map_or_else(|| text.clone(), |stored| stored.expose().to_owned());
        prop_assert!(serde_json::from_str::<serde_json::Value>(&stored).is_ok());
        let back = open_members(Some(&old()), &fields_of(42), Secret::new(stored)).map(|text| text.expose().to_owned());
        prop_assert_eq!(back, Ok(text));
    }

    #[test]
    fn no_text_makes_opening_panic(tail in ".{0,60}", version in 0_u8..3) {
        let text = format!("freshet:{version}:{tail}");
        let _ = opened(Some(&both()), &token_of(1), &text);
        let fields = serde_json::json!({ "a": text }).to_string();
        let _ = open_members(Some(&both()), &fields_of(1), Secret::new(fields));
        let _ = KeyRing::parse("keys.toml", &Secret::new(tail));
    }
}
