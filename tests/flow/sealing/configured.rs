//! Key files as the binaries meet them.

use anyhow::Result;
use freshet_tests::binaries::{Binary, TestFolder};
use freshet_tests::fleet::TestFleet;

const KEY: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYw==";

#[tokio::test]
async fn a_key_file_that_is_wrong_ends_worker_and_rotation_with_78_and_the_producer_never_reads_it()
-> Result<()> {
    let fleet = TestFleet::found().await?;
    let folder = TestFolder::create()?;
    let cases = [
        (None, "cannot be read"),
        (Some(format!("primary = \"k1\"\n[keys]\nk1 = {KEY}")), "line 3"),
        (Some(format!("primary = \"k1\"\n[keys]\nk1 = \"{KEY}\"")), "key `k1` is not base64 of 32 bytes"),
        (Some("primary = \"k2\"\n[keys]\n".into()), "primary: `k2` is not one of [keys]"),
    ];
    for (content, words) in cases {
        let path = match content {
            Some(content) => folder.write("keys.toml", &content)?,
            None => folder.path().join("missing.toml"),
        };
        let run = |name, arguments: &[&str]| -> Result<Binary> {
            let binary = Binary::new(name)?.arguments(arguments).variables(&fleet.environment);
            Ok(binary.variable("FRESHET_ENCRYPTION__KEY_FILE", &path))
        };
        for (name, arguments) in [("worker", &["run"][..]), ("freshet", &["secrets", "rotate"])] {
            let ended = run(name, arguments)?.run().await?.with_code(78)?;
            for words in ["encryption.key_file: ", &path.display().to_string(), words] {
                assert!(ended.stderr.contains(words), "{name}: no `{words}` in {}", ended.stderr);
            }
            assert!(!ended.stderr.contains(&KEY[..12]) && ended.stdout.is_empty(), "{ended:?}");
        }
        let producer = run("producer", &["once", "--lane", "urgent"])?.run().await?.with_code(0)?;
        assert!(producer.stdout.starts_with("found 0"), "{producer:?}");
    }
    let unset = Binary::new("freshet")?.arguments(["secrets", "rotate"]).variables(&fleet.environment);
    let unset = unset.run().await?.with_code(78)?;
    assert!(unset.stderr.contains("encryption.key_file: is not set"), "{}", unset.stderr);
    fleet.dissolve().await
}

#[tokio::test]
async fn every_generated_key_is_another_and_its_id_is_the_day() -> Result<()> {
    let make = async || -> Result<String> {
        Ok(Binary::new("freshet")?.arguments(["secrets", "generate-key"]).run().await?.with_code(0)?.stdout)
    };
    let (one, other) = (make().await?, make().await?);
    assert_ne!(one, other);
    let (id, key) = one.trim_end().split_once(" = ").unwrap_or_default();
    assert_eq!((id.len(), key.len()), ("\"2026-11-22\"".len(), 44 + 2), "{id}");
    let refused = Binary::new("freshet")?.arguments(["secrets", "generate-key", "--id", "a:b"]);
    assert!(refused.run().await?.with_code(2)?.stderr.contains("letters, digits"));
    Ok(())
}
