//! Reading a request, as much of HTTP as a client of a token endpoint speaks.

use std::io;

use percent_encoding::percent_decode;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// No request for a token is longer, head or body.
const LONGEST: u64 = 64 * 1024;

/// A request. No `Debug`: it holds secrets.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Reads the next request of a connection; `None` where the client has closed it instead.
    pub(super) async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut head = (&mut *stream).take(LONGEST);
        let Some(first) = line(&mut head).await? else { return Ok(None) };
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1")) = (words.next(), words.next(), words.next())
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let mut request = Self { method: method.to_owned(), path, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = line(&mut head).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = request.header("content-length").map_or(Ok(0), str::parse);
        let length = length.ok().filter(|length| *length <= LONGEST).ok_or(io::ErrorKind::InvalidData)?;
        stream.take(length).read_to_end(&mut request.body).await?;
        if request.body.len() as u64 == length {
            Ok(Some(request))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the client wants the connection closed after the answer.
    pub(super) fn is_last(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The body's form, decoded; `None` if it is none.
    pub(super) fn form(&self) -> Option<Form> {
        let kind = self.header("content-type")?.split(';').next()?.trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded").then(|| Form::parse(&self.body))
    }
}

/// A form's members, decoded, in their order.
pub(super) struct Form(Vec<(String, String)>);

/// A member that may stand once stands more than once (RFC 6749, 3.2).
pub(super) struct Repeated;

impl Form {
    fn parse(body: &[u8]) -> Self {
        let members = body.split(|byte| *byte == b'&').filter(|member| !member.is_empty());
        let members = members.map(|member| {
            let at = member.iter().position(|byte| *byte == b'=').unwrap_or(member.len());
            (decode(&member[..at]), decode(member.get(at + 1..).unwrap_or_default()))
        });
        Self(members.collect())
    }

    /// A member; one without a value counts as missing.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Repeated> {
        let mut found = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Repeated),
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
        }
    }
}

/// `application/x-www-form-urlencoded`.
pub(super) fn decode(raw: &[u8]) -> String {
    let spaced: Vec<u8> = raw.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

/// A line without its end; `None` at the end of the stream.
async fn line(head: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if head.read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    let line = bytes.strip_suffix(b"\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Some(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()))
}
