//! The model is what other tests are judged by, so it is judged here: over the wire, by a client that sends and reads
//! bytes, with a clock that is moved by hand.

mod clients;
mod definitions;
mod faults;
mod ledgers;
mod raw;
mod rotations;
mod scripts;

use std::sync::Arc;

use chrono::DateTime;
use freshet_shared::adapters::embedded::clock::ManualClock;

use super::{ModelProvider, Rotation, Settings};

const CLIENT: &str = "platform";
const SECRET: &str = "s3cret";
/// As in `CLIENT` and `SECRET`, which need no encoding.
const AUTHENTICATION: &str = "client_id=platform&client_secret=s3cret";

/// A model with one client, at a time that only the test moves.
async fn model(settings: Settings) -> (ModelProvider, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
    let model = ModelProvider::start(Settings { clock: clock.clone(), ..settings }).await.unwrap();
    model.set_client_secrets(CLIENT, &[SECRET]);
    (model, clock)
}

async fn rotating(rotation: Rotation) -> (ModelProvider, Arc<ManualClock>) {
    model(Settings::new(rotation)).await
}
