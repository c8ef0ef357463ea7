//! What a process writes, read at once so that no pipe ever fills.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;

/// One stream of a process.
pub(super) struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Captured {
    pub(super) fn of(mut stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reading = tokio::spawn({
            let bytes = bytes.clone();
            async move {
                let mut chunk = [0; 16 * 1024];
                // The end of the process ends its streams; an error could only mean the same.
                while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                    let read = chunk.get(..count).unwrap_or_default();
                    bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(read);
                }
            }
        });
        Self { bytes, reading }
    }

    /// What was written so far.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// All that was written, once the process has ended.
    pub(super) async fn into_text(mut self) -> String {
        // It fails only where the runtime is going down.
        let _ = (&mut self.reading).await;
        self.text()
    }
}
