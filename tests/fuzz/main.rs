//! What comes from outside is mutated and read: definition files, templates, answers, messages, key files and sealed
//! texts. Whatever it is, it is read or refused, without a panic, in bounded time, and without a secret in the words of the refusal.
//!
//! These are property tests with a corpus and not targets of cargo-fuzz, because that needs a nightly toolchain and
//! this repository pins a stable one. Inputs that make the code say something new are mutated further, which stands in
//! for cargo-fuzz's view of the code. A run is repeatable: the same seed makes the same inputs.
//!
//! ```sh
//! TEST_FUZZ_RUNS=1000000 TEST_FUZZ_SEED=7 cargo test -p freshet-tests --test fuzz -- --nocapture
//! ```
//!
//! An input that fails is written to `fuzz/corpus/{target}/found-…` and belongs into the repository together with the
//! correction: every run begins with the corpus as it is.
#![forbid(unsafe_code)]

mod answers;
mod campaign;
mod corpus;
mod definitions;
mod key_rings;
mod messages;
mod mutation;
mod sealed_texts;
mod templates;

use anyhow::Result;

use campaign::run;

#[test]
fn definition_files_are_read_or_refused() -> Result<()> {
    println!("{}", run(&definitions::TARGET)?);
    Ok(())
}

#[test]
fn templates_are_read_or_refused_and_never_let_a_value_out_of_its_place() -> Result<()> {
    println!("{}", run(&templates::TARGET)?);
    Ok(())
}

#[test]
fn answers_are_a_grant_or_a_failure_that_quotes_nothing() -> Result<()> {
    println!("{}", run(&answers::TARGET)?);
    Ok(())
}

#[test]
fn messages_are_read_or_refused_without_being_quoted() -> Result<()> {
    println!("{}", run(&messages::TARGET)?);
    Ok(())
}

#[test]
fn key_files_are_read_or_refused_and_no_key_is_shown() -> Result<()> {
    println!("{}", run(&key_rings::TARGET)?);
    Ok(())
}

#[test]
fn sealed_texts_open_only_where_and_as_they_were_sealed() -> Result<()> {
    println!("{}", run(&sealed_texts::TARGET)?);
    Ok(())
}
