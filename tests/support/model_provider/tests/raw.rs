//! A client that adds nothing and hides nothing.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::ModelProvider;
use super::AUTHENTICATION;

/// A test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(20);
const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

/// How the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
}

/// What came back.
pub(super) struct Heard {
    pub(super) bytes: Vec<u8>,
    pub(super) end: End,
}

impl Heard {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(super) fn status(&self) -> u16 {
        self.text().split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (head, _) = text.split_once("\r\n\r\n")?;
        head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).map(str::to_owned)
    }

    pub(super) fn body(&self) -> String {
        self.text().split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body()).unwrap_or_default()
    }

    pub(super) fn member(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a request on a connection of its own and reads to the end of it.
pub(super) async fn send(model: &ModelProvider, request: &str) -> Heard {
    tokio::time::timeout(PATIENCE, read_to_end(begin(model, request).await)).await.unwrap()
}

/// Sends a request and leaves the answer unread.
pub(super) async fn begin(model: &ModelProvider, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(model.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

pub(super) async fn read_to_end(mut stream: TcpStream) -> Heard {
    let mut bytes = Vec::new();
    loop {
        let end = match stream.read_buf(&mut bytes).await {
            Ok(0) => End::Closed,
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("{error}"),
        };
        return Heard { bytes, end };
    }
}

/// A request with this form and these header lines.
pub(super) fn request(form: &str, headers: &str) -> String {
    format!(
        "POST /token HTTP/1.1\r\nhost: model\r\nconnection: close\r\n{headers}{FORM}content-length: {}\r\n\r\n{form}",
        form.len()
    )
}

/// One that presents a refresh token.
pub(super) fn refreshing(refresh_token: &str) -> String {
    request(&format!("grant_type=refresh_token&refresh_token={refresh_token}&{AUTHENTICATION}"), "")
}

/// Presents a refresh token.
pub(super) async fn refresh(model: &ModelProvider, refresh_token: &str) -> Heard {
    send(model, &refreshing(refresh_token)).await
}
