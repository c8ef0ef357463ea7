//! Connections over TLS are kept: one for all calls where the provider speaks HTTP/2, else about as many as calls at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use super::*;

/// A provider with a certificate, which counts the connections that it accepts.
struct TlsServer {
    address: SocketAddr,
    certificate: Certificate,
    accepted: Arc<AtomicUsize>,
}

impl TlsServer {
    /// One that speaks this protocol alone.
    async fn start<F>(
        protocol: &str,
        serve: impl Fn(usize, TlsStream<TcpStream>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = Certificate::from_der(own.cert.der()).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![protocol.into()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let stream = acceptor.accept(stream).await.unwrap();
                tokio::spawn(serve(number, stream));
            }
        });
        Self { address, certificate, accepted }
    }

    fn caller(&self, settings: HttpSettings) -> HttpCaller {
        let network = Network {
            look_up: Arc::new(SystemLookUp),
            source: None,
            trusted: vec![self.certificate.clone()],
        };
        HttpCaller::on(&network, settings).unwrap()
    }

    fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// So many at once.
    async fn call(&self, caller: &HttpCaller, count: usize) {
        let request = get(format!("https://{}/token", self.address));
        for answer in join_all((0..count).map(|_| caller.call(&request))).await {
            assert_eq!(answer.ok().unwrap().body.as_slice(), b"{}");
        }
    }
}

/// Answers the requests of a connection one after the other.
async fn serve_http1(mut stream: TlsStream<TcpStream>) {
    let mut request = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut request).await {
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        }
    }
}

/// Answers so many requests of a connection; then it is silent, but does not go.
async fn serve_http2(stream: TlsStream<TcpStream>, answers: usize) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    for _ in 0..answers {
        let Some(Ok((_, mut respond))) = connection.accept().await else { return };
        let mut body = respond.send_response(http::Response::new(()), false).unwrap();
        body.send_data("{}".into(), true).unwrap();
    }
    // Until what was answered is on its way.
    let _ = tokio::time::timeout(Duration::from_millis(50), connection.accept()).await;
    std::future::pending().await
}

#[tokio::test]
async fn over_http1_connections_are_kept_and_follow_the_calls_at_once() {
    const AT_ONCE: usize = 8;
    let server = TlsServer::start("http/1.1", |_, stream| serve_http1(stream)).await;
    let caller = server.caller(settings());
    for _ in 0..10 {
        server.call(&caller, 1).await;
    }
    assert_eq!(server.connections(), 1);
    for _ in 0..100 {
        server.call(&caller, AT_ONCE).await;
    }
    // A call that finds none free begins to open one, and takes whichever is first: that, or one that came free.
    let connections = server.connections();
    assert!((AT_ONCE..=2 * AT_ONCE).contains(&connections), "{connections} connections");
}

#[tokio::test]
async fn over_http2_one_connection_carries_all_calls() {
    let server = TlsServer::start("h2", |_, stream| serve_http2(stream, usize::MAX)).await;
    let caller = server.caller(settings());
    server.call(&caller, 1).await;
    for _ in 0..10 {
        server.call(&caller, 50).await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_of_http2_that_fell_silent_is_found_out_and_replaced() {
    let server = TlsServer::start("h2", |number, stream| {
        serve_http2(stream, if number == 1 { 1 } else { usize::MAX })
    })
    .await;
    let (connect_timeout, timeout) = (Duration::from_millis(300), Duration::from_secs(20));
    let caller = server.caller(HttpSettings { connect_timeout, timeout, ..settings() });
    server.call(&caller, 1).await;
    let (request, begun) = (get(format!("https://{}/token", server.address)), Instant::now());
    let error = caller.call(&request).await.err().expect("nobody answers");
    assert!(matches!(error, CallError::AnswerLost { .. }), "{error}");
    assert!(begun.elapsed() < timeout / 2, "{:?}", begun.elapsed());
    server.call(&caller, 1).await;
    assert_eq!(server.connections(), 2);
}
