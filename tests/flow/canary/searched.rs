//! Looking for marks, in every form in which text travels.

use anyhow::Result;
use freshet_tests::fleet::TestFleet;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

/// Stands in every secret. Letters and digits: percent-encoding and JSON leave them as they are.
pub(super) const MARK: &str = "c4n4ry5ecret";

/// What is looked for.
pub(super) struct Searched(Vec<Vec<u8>>);

impl Searched {
    /// The mark as it is, in base64 wherever it may begin, in hexadecimal, and as a list of bytes.
    pub(super) fn for_marks() -> Self {
        let mut searched = Self(Vec::new());
        searched.also_for(MARK);
        searched
    }

    /// The same forms of another text.
    pub(super) fn also_for(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let decimal: Vec<_> = bytes.iter().map(ToString::to_string).collect();
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let forms = [text.to_owned(), decimal.join(", "), decimal.join(","), hexadecimal];
        self.0.extend(forms.map(String::into_bytes));
        self.0.extend((0..3).map(|offset| base64_at(bytes, offset).into_bytes()));
    }

    pub(super) fn assert_none_in(&self, place: &str, bytes: &[u8]) {
        let found =
            self.0.iter().find_map(|form| bytes.windows(form.len()).position(|window| window == form));
        let around = found.map(|at| &bytes[at.saturating_sub(200)..bytes.len().min(at + 100)]);
        assert_eq!(around.map(String::from_utf8_lossy), None, "a secret is in {place}");
    }

    /// That the search sees what is there.
    pub(super) fn assert_some_in(&self, said: &str, parts: &[&str]) {
        for part in parts {
            assert!(said.contains(part), "`{part}` is not in what was searched");
        }
    }
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

/// All rows of the tables that are ours, as text.
pub(super) async fn rows_of_our_tables(fleet: &TestFleet) -> Result<Vec<(&'static str, String)>> {
    let tables =
        ["token_refresh", "refresh_attempt", "provider_control", "producer_lease", "freshet_migrations"];
    let mut found = Vec::new();
    for table in tables {
        let columns = format!(
            "SELECT GROUP_CONCAT(CONCAT('COALESCE(HEX(', COLUMN_NAME, '), '''')') SEPARATOR ', ''/'', ') \
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{table}'"
        );
        let columns: String = one(fleet, &columns).await?.unwrap_or_default();
        let rows: Option<String> =
            one(fleet, &format!("SELECT GROUP_CONCAT(CONCAT({columns}) SEPARATOR ';') FROM {table}")).await?;
        // In hexadecimal, so that no character set gets in the way; and as the bytes that it stands for.
        let rows = rows.unwrap_or_default();
        let plain: String = rows.split(['/', ';']).map(unhex).collect::<Vec<_>>().join("/");
        found.push((table, plain));
    }
    Ok(found)
}

fn unhex(text: &str) -> String {
    let bytes: Vec<u8> = (0..text.len() / 2)
        .filter_map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn one(fleet: &TestFleet, query: &str) -> Result<Option<String>> {
    let connection = fleet.store.connection();
    connection.execute_unprepared("SET SESSION group_concat_max_len = 10000000").await?;
    let row = connection.query_one_raw(Statement::from_string(DbBackend::MySql, query)).await?;
    Ok(row.map(|row| row.try_get_by_index::<Option<String>>(0)).transpose()?.flatten())
}

#[test]
fn a_mark_is_found_in_every_form() {
    let searched = Searched::for_marks();
    let seen = |text: &[u8]| std::panic::catch_unwind(|| searched.assert_none_in("a test", text)).is_err();
    let decimal: Vec<_> = MARK.bytes().map(|byte| byte.to_string()).collect();
    assert!(seen(format!("a {MARK}%20b").as_bytes()));
    assert!(seen(format!("[9, {}, 9]", decimal.join(", ")).as_bytes()));
    assert!(!seen(b"nothing of the kind"));
    use base64::Engine;
    for before in ["", "a", "ab", "abc", "user:"] {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{before}{MARK}:after"));
        assert!(seen(encoded.as_bytes()), "{before}");
    }
}
