//! Connections, from the first request to the last.

use std::sync::Arc;

use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::request::Request;
use super::state::State;

/// Serves every connection, each in a task of its own, until it is told to end.
pub(super) async fn accept(listener: TcpListener, state: Arc<State>, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A caller that has left before it was let in.
        let Ok((stream, _)) = accepted else { continue };
        // Only speed is lost where the option is refused.
        let _ = stream.set_nodelay(true);
        let (state, shutdown) = (state.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = serve(stream, &state) => {}
            }
        });
    }
}

/// What is no HTTP gets no answer.
async fn serve(stream: TcpStream, state: &State) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = Request::read(&mut stream).await {
        let planned = state.take(&request);
        if !planned.fault.latency.is_zero() {
            tokio::time::sleep(planned.fault.latency).await;
        }
        if let Some(sent) = planned.fault.delivery.foreseen(&planned.answer) {
            state.sent(planned.place, sent);
        }
        let delivered = planned.fault.delivery.send(&mut stream, &planned.answer).await;
        state.sent(planned.place, delivered.sent);
        if !delivered.is_open || request.is_last() {
            return;
        }
    }
}
