//! What acknowledgements travel on.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::sleep;

use super::acknowledging::Acknowledgements;
use super::link::{LinkError, timed};

/// A quorum queue's client inside the broker holds settlements back while more than 32 of them are under way, and drops what it
/// holds with the channel. So whoever closes it asks the queue this often first, each time after a pause in which the broker
/// writes down what is under way.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// The channel of one subscription. Every delivery that is handed out holds it, so that it can be settled after the consumer
/// has stopped and even after it was dropped.
pub(super) struct Lifeline {
    channel: Channel,
    queue: Arc<str>,
    pub(super) acknowledgements: Acknowledgements,
    connection: Arc<Connection>,
}

impl Lifeline {
    pub(super) fn new(channel: Channel, queue: Arc<str>, connection: Arc<Connection>) -> Self {
        Self { channel, queue, acknowledgements: Acknowledgements::default(), connection }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Waits until the queue has what was settled, and closes the channel. The connection is closed with the last of its
    /// channels, by [`Lifeline::close_connection`].
    pub(super) async fn close(&self, limit: Duration) -> Result<(), LinkError> {
        if self.acknowledgements.were_many() {
            for _ in 0..LOOKS {
                sleep(PAUSE).await;
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let look = self.channel.queue_declare((&*self.queue).into(), options, FieldTable::default());
                timed(limit, "look into", &self.queue, look).await?;
            }
        }
        let close = self.channel.close(REPLY_SUCCESS, "all is settled".into());
        timed(limit, "close the channel of", &self.queue, close).await
    }

    /// The broker answers once it has read all that was sent to it before. A connection that ends without it takes with it
    /// what the broker has received and not read yet.
    pub(super) async fn close_connection(&self, limit: Duration) -> Result<(), LinkError> {
        let close = self.connection.close(REPLY_SUCCESS, "all is settled".into());
        timed(limit, "close the connection of", &self.queue, close).await
    }
}
