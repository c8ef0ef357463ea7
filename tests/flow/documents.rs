//! The pages say which test shows what they claim: each of these tests is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PAGES: [&str; 4] = ["README.md", "ARCHITECTURE.md", "deploy/README.md", "tests/BENCHMARKS.md"];
const SOURCES: [&str; 5] = ["shared", "producer", "worker", "cli", "tests"];

/// Names of all functions in the sources under `folder`.
fn functions(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            functions(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
    Ok(())
}

/// The tests that a page names: a path in backticks whose last part is a sentence.
fn named(page: &str) -> impl Iterator<Item = &str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter_map(|text| {
        let (_, name) = text.rsplit_once("::")?;
        let is_sentence = name.matches('_').count() >= 3;
        let is_name = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        (is_sentence && is_name).then_some(name)
    })
}

#[test]
fn each_test_that_a_page_names_is_there() -> Result<()> {
    let root = Path::new(ROOT);
    let mut known = BTreeSet::new();
    for folder in SOURCES {
        functions(&root.join(folder), &mut known)?;
    }
    let mut missing = Vec::new();
    let mut looked_for = 0;
    for page in PAGES {
        let text = fs::read_to_string(root.join(page)).with_context(|| format!("cannot read {page}"))?;
        for name in named(&text) {
            looked_for += 1;
            if !known.contains(name) {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    ensure!(looked_for > 100, "only {looked_for} names were found in the pages");
    ensure!(missing.is_empty(), "named, and nowhere to be found: {missing:#?}");
    Ok(())
}

#[test]
fn names_of_tests_are_told_from_other_words() {
    let page = "`app: tests::a_b_c_d`, `Gcra::AHEAD`, `a_b_c_d`, the tests of `fuzz`, `limits::it_is_a_test`";
    assert_eq!(named(page).collect::<Vec<_>>(), ["a_b_c_d", "it_is_a_test"]);
}
