//! Against servers that speak raw TCP, so that what is on the wire is seen and not what a library makes of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::domain::provider::definition::Method;
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

fn get(url: String) -> ProviderRequest {
    ProviderRequest {
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

#[tokio::test]
async fn an_answer_comes_as_it_is() {
    let server =
        Server::answering("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow").await;
    let answer = caller().call(&get(server.url("/"))).await.ok().unwrap();
    assert_eq!((answer.status, answer.retry_after.as_deref()), (429, Some("7")));
    assert_eq!(answer.body.as_slice(), b"slow");
}

#[tokio::test]
async fn url_headers_and_body_go_out_byte_for_byte() {
    let targets = [
        "/token?username=a%26b&password=c%2Bd+e%20f%25",
        "/a%2Fb/%C3%A4?x=%c3%a4&y=a/b?c:d@e&z=(*)!~$,;",
        "/?",
        "/?a",
    ];
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let caller = caller();
    for target in targets {
        assert!(caller.call(&get(server.url(target))).await.is_ok(), "{target}");
    }
    let body = "grant_type=client_credentials&scope=a.b+c%20d%2Be&client_secret=%26%3d\u{e4}";
    let request = ProviderRequest {
        method: Method::Post,
        headers: vec![
            ("content-type".into(), Secret::new("application/x-www-form-urlencoded")),
            ("authorization".into(), Secret::new("Basic 850135:AD0D7AEB")),
        ],
        body: Some(Secret::new(body)),
        ..get(server.url("/token"))
    };
    assert!(caller.call(&request).await.is_ok());

    let requests = server.requests();
    for (request, target) in requests.iter().zip(targets) {
        assert!(request.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{request}");
        for line in ["user-agent: freshet/test", "accept: */*"] {
            assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
        }
        for absent in ["cookie", "referer", "accept-encoding"] {
            assert!(!request.contains(absent), "{request}");
        }
    }
    let post = requests.last().unwrap();
    assert!(post.starts_with("POST /token HTTP/1.1\r\n"), "{post}");
    for line in ["content-type: application/x-www-form-urlencoded", "authorization: Basic 850135:AD0D7AEB"] {
        assert!(post.contains(&format!("{line}\r\n")), "{post}");
    }
    assert!(post.ends_with(&format!("\r\n\r\n{body}")), "{post}");
}

#[tokio::test]
async fn what_cannot_be_sent_as_written_is_not_sent() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let bad_header = ProviderRequest {
        headers: vec![("authorization".into(), Secret::new(format!("Basic {SECRET}\r\nx: y")))],
        ..get(server.url("/"))
    };
    let bad_name =
        ProviderRequest { headers: vec![("a b".into(), Secret::new(SECRET))], ..get(server.url("/")) };
    for request in [get(server.url(&format!("/?p={SECRET} x"))), get(SECRET.into()), bad_header, bad_name] {
        let error = error_of(&caller(), &request).await;
        assert!(matches!(error, CallError::Unsendable { .. }), "{error:?}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let elsewhere = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url("/"));
    let server = Server::answering(redirect).await;
    let answer = caller().call(&get(server.url("/"))).await.ok().unwrap();
    assert_eq!(answer.status, 302);
    assert!(elsewhere.requests().is_empty());
}

/// A port on which nobody listens: it was free a moment ago, and the system does not give it out again at once.
async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_for_a_while() {
    let started = Instant::now();
    let error = error_of(&caller(), &get(format!("http://{}/?p={SECRET}", closed_port().await))).await;
    assert!(matches!(error, CallError::NotConnected { .. }), "{error:?}");
    let elapsed = started.elapsed();
    assert!((Duration::from_millis(800)..Duration::from_secs(4)).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test]
async fn a_host_without_address_is_not_connected() {
    let error = error_of(&impatient_caller(), &get(format!("http://nowhere.invalid/?p={SECRET}"))).await;
    assert!(matches!(error, CallError::NotConnected { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_comes_up_meanwhile_is_reached() {
    let address = closed_port().await;
    let call = tokio::spawn(async move { caller().call(&get(format!("http://{address}/"))).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    read_request(&mut stream).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(call.await.unwrap().ok().unwrap().status, 200);
}

#[tokio::test]
async fn failed_tls_is_not_connected() {
    // Closes the connection in the middle of the handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 16]).await;
        }
    });
    let error = error_of(&impatient_caller(), &get(format!("https://{address}/?p={SECRET}"))).await;
    assert!(matches!(error, CallError::NotConnected { .. }), "{error:?}");
}

#[tokio::test]
async fn tls_that_hangs_is_not_connected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = error_of(&impatient_caller(), &get(format!("https://{address}/?p={SECRET}"))).await;
    assert!(matches!(error, CallError::NotConnected { .. }), "{error:?}");
}

#[tokio::test]
async fn nothing_that_was_sent_is_sent_again() {
    let cases = [
        ("nothing", "", "before"),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-", "before"),
        ("half a body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"a\":", "within"),
        (
            "half a chunked body",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n",
            "within",
        ),
        ("no HTTP", "s3cret\r\n\r\n", "before"),
    ];
    for (name, answer, part) in cases {
        let server = Server::answering(answer).await;
        let error = error_of(&caller(), &get(server.url(&format!("/?p={SECRET}")))).await;
        let CallError::AnswerLost { problem, .. } = error else { panic!("{name}: {error:?}") };
        assert!(problem.contains(part), "{name}: {problem}");
        assert_eq!(server.requests().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_connection_that_is_kept_and_then_closed_loses_no_answer_twice() {
    // The server answers once and leaves the connection open, then closes it on the second request.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(0));
    let seen = requests.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            *seen.lock().unwrap() += 1;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            read_request(&mut stream).await;
            *seen.lock().unwrap() += 1;
        }
    });
    let caller = caller();
    assert!(caller.call(&get(format!("http://{address}/"))).await.is_ok());
    let error = error_of(&caller, &get(format!("http://{address}/?p={SECRET}"))).await;
    assert!(matches!(error, CallError::AnswerLost { .. }), "{error:?}");
    assert_eq!(*requests.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time() {
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"a\":"] {
        let server = Server::start(move |mut stream| async move {
            stream.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let started = Instant::now();
        let error = error_of(&impatient_caller(), &get(server.url(&format!("/?p={SECRET}")))).await;
        let CallError::AnswerLost { problem, .. } = error else { panic!("{answer:?}: {error:?}") };
        assert!(problem.contains("time"), "{answer:?}: {problem}");
        assert!(started.elapsed() < Duration::from_secs(2), "{answer:?}: {:?}", started.elapsed());
        assert_eq!(server.requests().len(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_the_limit_and_not_beyond() {
    let announced =
        |length| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
    let unannounced = |length| format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(length));
    let cases = [
        (announced(LIMIT), true),
        (announced(LIMIT + 1), false),
        (unannounced(LIMIT), true),
        (unannounced(LIMIT + 1), false),
        (unannounced(100 * LIMIT), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n".into(), false),
    ];
    for (answer, is_read) in cases {
        let head = answer.chars().take(60).collect::<String>();
        let server = Server::answering(answer).await;
        let request = get(server.url(&format!("/?p={SECRET}")));
        if is_read {
            assert_eq!(caller().call(&request).await.ok().unwrap().body.len(), LIMIT, "{head}");
        } else {
            let error = error_of(&caller(), &request).await;
            assert_eq!(error, CallError::TooLarge { endpoint: TEMPLATE.into(), limit: LIMIT }, "{head}");
        }
    }
}

/// What the subscriber writes, in memory.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_span_tells_the_call_and_not_the_url() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .finish();
    // While there is only one dispatcher, a call in another test's thread, which has none, would switch our span off.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let server = Server::answering("HTTP/1.1 503 No\r\nContent-Length: 6\r\n\r\ns3cret").await;
    let request = ProviderRequest {
        headers: vec![("authorization".into(), Secret::new(SECRET))],
        ..get(server.url(&format!("/authToken?password={SECRET}")))
    };
    assert_eq!(caller().call(&request).await.ok().unwrap().status, 503);
    let refused = get(format!("http://{}/authToken?p={SECRET}", closed_port().await));
    error_of(&impatient_caller(), &refused).await;
    drop(guard);

    let lines = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let spans: Vec<&str> = lines.lines().filter(|line| line.contains(" close ")).collect();
    let port = server.address.port();
    for (span, fields) in spans.iter().zip([
        vec![
            "otel.kind=\"client\"".into(),
            format!("otel.name=\"GET {TEMPLATE}\""),
            "http.request.method=\"GET\"".into(),
            format!("url.template=\"{TEMPLATE}\""),
            "server.address=\"127.0.0.1\"".into(),
            format!("server.port={port}"),
            "http.response.status_code=503".into(),
            "error.type=\"503\"".into(),
            "otel.status_code=\"error\"".into(),
        ],
        vec!["error.type=\"not_connected\"".into(), "otel.status_code=\"error\"".into()],
    ]) {
        for field in fields {
            assert!(span.contains(&field), "{field} is not in {span}");
        }
    }
    assert_eq!(spans.len(), 2, "{lines}");
    assert!(!lines.contains(SECRET) && !lines.contains("authToken"), "{lines}");
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
