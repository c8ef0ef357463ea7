//! `freshet secrets`: keys for encryption at rest, and bringing stored secrets under them.

mod report;
pub mod rotation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use freshet_shared::configuration::ConfigurationError;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::sealing::{Goal, KeyRing, new_key};
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::randomness::Randomness;
use tokio_util::sync::CancellationToken;

use crate::arguments::{GenerateKeyArguments, RotateArguments};
use rotation::Rotation;

pub use report::{Ended, RotationReport};

/// Prints a line for the table `[keys]` of the key file.
#[expect(clippy::print_stdout, reason = "the key is what was asked for")]
pub fn generate_key(
    arguments: &GenerateKeyArguments,
    clock: &dyn Clock,
    randomness: &dyn Randomness,
) -> ExitCode {
    let id = arguments.id.clone().unwrap_or_else(|| clock.now().format("%Y-%m-%d").to_string());
    let key = new_key(&mut || randomness.next());
    println!("\"{id}\" = \"{}\"", key.expose());
    ExitCode::SUCCESS
}

/// What a rotation is to come to.
///
/// # Errors
/// If the arguments and the key file's `primary` contradict each other.
pub fn goal(arguments: &RotateArguments, keys: &KeyRing) -> Result<Goal, ConfigurationError> {
    let wrong = |problem| ConfigurationError::Key(format!("encryption.key_file: {}: {problem}", keys.file()));
    match (keys.primary(), arguments.to_plaintext) {
        (Some(_), false) => Ok(Goal::Primary),
        (None, true) => Ok(Goal::PlainText),
        (None, false) => Err(wrong("primary is \"\": name the key to seal with, or give --to-plaintext")),
        (Some(_), true) => Err(wrong(
            "primary is set, and workers would go on sealing: set it to \"\" for all of them before --to-plaintext",
        )),
    }
}

/// The members of `inputFields` that are secret, by the integration type of the connection's channel.
pub fn secret_members(providers: &Providers) -> BTreeMap<String, BTreeSet<String>> {
    let of_type = |provider: &freshet_shared::domain::provider::Provider| {
        let secret = provider.definition.inputs.iter().filter(|input| input.secret);
        Some((provider.integration_type.clone()?, secret.map(|input| input.key.clone()).collect()))
    };
    providers.iter().filter_map(|provider| of_type(provider)).collect()
}

/// Rotates, with progress on standard error and the report on standard output. The exit code is 0 only if everything
/// stands as it should.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "progress and report are what was asked for")]
pub async fn rotate(rotation: &Rotation<'_>, shutdown: &CancellationToken) -> ExitCode {
    let report = rotation
        .run(shutdown, &mut |so_far| {
            eprintln!(
                "done up to connection {}: rows read {}, sealed {}, re-encrypted {}",
                so_far.up_to.map_or(0, |id| id.0),
                so_far.rows,
                so_far.sealed,
                so_far.reencrypted
            );
        })
        .await;
    print!("{report}");
    ExitCode::from(u8::from(!report.is_good()))
}
