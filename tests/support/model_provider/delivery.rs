//! Putting an answer on the wire, or as much of it as a fault lets through.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::answer::{Answer, Body};
use super::ledger::Sent;

/// How much of an answer arrives, and how.
#[derive(Clone, Copy)]
pub(super) enum Delivery {
    Whole,
    Short,
    Padded { padding: u64, announced: bool },
    Lost,
    Reset,
    ResetWithinBody,
    Hang,
    HangWithinBody,
    Drip(Duration),
}

/// What came of it.
pub(super) struct Delivered {
    pub(super) sent: Sent,
    /// Whether the connection may carry another request.
    pub(super) is_open: bool,
}

impl Delivery {
    /// What a short answer will have come to. It is written down before it is sent, so that whoever has the answer finds
    /// it in the ledger.
    pub(super) fn foreseen(self, answer: &Answer) -> Option<Sent> {
        matches!(self, Self::Whole).then_some(Sent::Complete { status: answer.status })
    }

    /// Sends the answer, or what is left of it.
    pub(super) async fn send(self, stream: &mut BufReader<TcpStream>, answer: &Answer) -> Delivered {
        let status = answer.status;
        match self.write(stream, answer).await {
            Ok(()) => Delivered { sent: self.intended(status), is_open: self.is_complete() },
            // The caller has left.
            Err(_) => Delivered { sent: Sent::Partial { status }, is_open: false },
        }
    }

    async fn write(self, stream: &mut BufReader<TcpStream>, answer: &Answer) -> io::Result<()> {
        let body = answer.body.bytes();
        let head = answer.head(&format!("content-length: {}", body.len()));
        let whole = [head.as_slice(), &body].concat();
        let half = &whole[..head.len() + body.len() / 2];
        match self {
            Self::Whole => stream.get_mut().write_all(&whole).await,
            Self::Short => stream.get_mut().write_all(half).await,
            Self::Padded { padding, announced } => padded(stream.get_mut(), answer, padding, announced).await,
            Self::Lost => Ok(()),
            Self::Reset => stream.get_mut().set_zero_linger(),
            Self::ResetWithinBody => {
                stream.get_mut().write_all(half).await?;
                stream.get_mut().set_zero_linger()
            }
            Self::Hang => until_left(stream).await,
            Self::HangWithinBody => {
                stream.get_mut().write_all(half).await?;
                until_left(stream).await
            }
            Self::Drip(pause) => {
                for byte in whole {
                    stream.get_mut().write_all(&[byte]).await?;
                    tokio::time::sleep(pause).await;
                }
                Ok(())
            }
        }
    }

    fn intended(self, status: u16) -> Sent {
        match self {
            Self::Whole | Self::Padded { .. } | Self::Drip(_) => Sent::Complete { status },
            Self::Short | Self::ResetWithinBody | Self::HangWithinBody => Sent::Partial { status },
            Self::Lost | Self::Reset | Self::Hang => Sent::Nothing,
        }
    }

    fn is_complete(self) -> bool {
        matches!(self.intended(0), Sent::Complete { .. })
    }
}

/// The caller waits for an answer and has nothing more to say, so whatever comes means that it is gone.
async fn until_left(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    stream.read(&mut [0]).await.map(drop).or(Ok(()))
}

async fn padded(stream: &mut TcpStream, answer: &Answer, padding: u64, announced: bool) -> io::Result<()> {
    let body = answer.body.bytes();
    let (before, after) = match (&answer.body, body.split_first()) {
        (Body::Json(_), Some((brace, rest))) => {
            ([&[*brace][..], b"\"padding\":\""].concat(), [b"\",", rest].concat())
        }
        _ => (Vec::new(), body),
    };
    let framing = if announced {
        format!("content-length: {}", before.len() as u64 + padding + after.len() as u64)
    } else {
        "transfer-encoding: chunked".to_owned()
    };
    stream.write_all(&answer.head(&framing)).await?;
    piece(stream, &before, announced).await?;
    let filling = vec![b'x'; 16 * 1024];
    let mut left = padding;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(filling.len());
        piece(stream, &filling[..length], announced).await?;
        left -= length as u64;
    }
    piece(stream, &after, announced).await?;
    if announced { Ok(()) } else { stream.write_all(b"0\r\n\r\n").await }
}

/// A chunk of nothing would end the body.
async fn piece(stream: &mut TcpStream, bytes: &[u8], announced: bool) -> io::Result<()> {
    if announced || bytes.is_empty() {
        return stream.write_all(bytes).await;
    }
    let head = format!("{:x}\r\n", bytes.len());
    stream.write_all(&[head.as_bytes(), bytes, b"\r\n"].concat()).await
}
