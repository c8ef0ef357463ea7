//! HTTP/1.1 by hand for the tests, so that what they send is exactly what they wrote.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Simulator;

/// An answer, taken apart at the seams only.
pub(super) struct Heard {
    pub(super) status: u16,
    /// The header lines, as sent.
    pub(super) headers: String,
    pub(super) body: String,
}

impl Heard {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends bytes on a new connection and reads to the end of it.
pub(super) async fn exchange(simulator: &Simulator, request: &str) -> io::Result<Heard> {
    let mut stream = TcpStream::connect(simulator.platform_host()).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    // A test that would hang fails instead.
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await??;
    let text = String::from_utf8_lossy(&bytes);
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let (status_line, headers) = head.split_once("\r\n").ok_or_else(malformed)?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
    Ok(Heard { status, headers: headers.to_owned(), body: body.to_owned() })
}

pub(super) async fn get(simulator: &Simulator, target: &str) -> io::Result<Heard> {
    exchange(simulator, &format!("GET {target} HTTP/1.1\r\nhost: simulator\r\nconnection: close\r\n\r\n"))
        .await
}

pub(super) async fn post(
    simulator: &Simulator,
    target: &str,
    content_type: &str,
    body: &str,
) -> io::Result<Heard> {
    let length = body.len();
    exchange(
        simulator,
        &format!(
            "POST {target} HTTP/1.1\r\nhost: simulator\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
             content-length: {length}\r\n\r\n{body}"
        ),
    )
    .await
}
