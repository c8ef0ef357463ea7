//! Against servers that speak raw TCP, so that what is on the wire is seen and not what a library makes of it.

mod answer;
mod connecting;
mod egress;
mod kept;
mod limits;
mod lost;
mod rebinding;
mod request;
mod span;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::domain::provider::definition::Method;
use crate::domain::provider::egress::Egress;
use crate::domain::secret::Secret;

const SECRET: &str = "s3cret";
const TEMPLATE: &str = "{oms_host}/token";
const LIMIT: usize = 64 * 1024;

/// A server that reads one request per connection, then does what the test says with the connection.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start<F>(mut behave: impl FnMut(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                seen.lock().unwrap().push(request);
                tokio::spawn(behave(stream));
            }
        });
        Self { address, requests }
    }

    async fn answering(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::start(move |mut stream| {
            let answer = answer.clone();
            async move {
                // The client may have gone before the end of an answer that it does not want.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        })
        .await
    }

    fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let read = stream.read_buf(&mut request).await.unwrap();
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        assert_ne!(read, 0, "the request ends early: {text}");
    }
}

fn settings() -> HttpSettings {
    HttpSettings {
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(10),
        max_answer_bytes: LIMIT,
        user_agent: "freshet/test".into(),
        // The servers here speak http on loopback.
        allow: vec!["127.0.0.1".parse().unwrap()],
    }
}

fn caller_with(settings: HttpSettings) -> Result<HttpCaller, HttpError> {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    HttpCaller::new(settings)
}

fn caller() -> HttpCaller {
    caller_with(settings()).unwrap()
}

fn impatient_caller() -> HttpCaller {
    let connect_timeout = Duration::from_millis(200);
    caller_with(HttpSettings { connect_timeout, timeout: Duration::from_millis(300), ..settings() }).unwrap()
}

/// A request to the URL's own host.
fn get(url: String) -> ProviderRequest {
    let hosts = HostPattern::of_url(&url).into_iter().collect();
    ProviderRequest {
        egress: Egress { hosts, is_named_by_operator: false },
        method: Method::Get,
        url: Secret::new(url),
        endpoint: TEMPLATE.into(),
        headers: Vec::new(),
        body: None,
    }
}

async fn error_of(caller: &HttpCaller, request: &ProviderRequest) -> CallError {
    let error = caller.call(request).await.err().expect("an error");
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(text.contains(TEMPLATE) && !text.contains(SECRET) && !text.contains("127.0.0.1"), "{text}");
    }
    error
}

/// A port on which nobody listens: it was free a moment ago, and the system does not give it out again at once.
async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A DNS that gives these answers, one after the other, the last of them for ever.
struct Dns {
    answers: Mutex<VecDeque<Vec<SocketAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Dns {
    fn answering(answers: &[&[&str]]) -> Arc<Self> {
        let dns = Self { answers: Mutex::default(), asked: Mutex::default() };
        dns.answer(answers);
        Arc::new(dns)
    }

    /// Begins anew with these answers.
    fn answer(&self, answers: &[&[&str]]) {
        let socket = |address: &&str| SocketAddr::new(address.parse().unwrap(), 0);
        *self.answers.lock().unwrap() =
            answers.iter().map(|addresses| addresses.iter().map(socket).collect()).collect();
        self.asked.lock().unwrap().clear();
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl LookUp for Dns {
    async fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        self.asked.lock().unwrap().push(host.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A caller on this DNS. Its connections go out from a loopback address, from where the system lets them come to no
/// other machine: an address that is not refused fails at once, and no test sends anything anywhere.
fn caller_on(dns: &Arc<Dns>, settings: HttpSettings) -> HttpCaller {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let network =
        Network { look_up: dns.clone(), source: Some("127.0.0.1".parse().unwrap()), trusted: Vec::new() };
    HttpCaller::on(&network, settings).unwrap()
}

/// A server on loopback that answers `200` to whatever it is sent, and counts its connections.
struct Counting {
    port: u16,
    accepted: Arc<Mutex<usize>>,
}

impl Counting {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(Mutex::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _ = stream.write_all(answer).await;
                });
            }
        });
        Self { port, accepted }
    }

    /// Connections so far, without the one that this makes: they are accepted in their order, so that after its answer
    /// none before it is uncounted.
    async fn connections(&self) -> usize {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(b"?").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        let mut accepted = self.accepted.lock().unwrap();
        *accepted -= 1;
        *accepted
    }
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    for (connect_timeout, timeout) in [(0, 10), (10, 10), (11, 10)] {
        let settings = HttpSettings {
            connect_timeout: Duration::from_secs(connect_timeout),
            timeout: Duration::from_secs(timeout),
            ..settings()
        };
        assert!(matches!(caller_with(settings), Err(HttpError::TimeOuts)));
    }
    let settings = HttpSettings { user_agent: "a\nb".into(), ..settings() };
    assert!(matches!(caller_with(settings), Err(HttpError::Client(_))));
}
