//! What is seen of a call.

use super::*;

/// What the subscriber writes, in memory.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
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
    // As often as there was time to connect again, each try is a span of its own that says which one it is.
    assert!(spans.len() >= 2, "{lines}");
    for (span, before) in spans[2..].iter().zip(1..) {
        let field = format!("http.request.resend_count={before}");
        assert!(span.contains(&field) && span.contains("error.type=\"not_connected\""), "{field}: {span}");
    }
    assert!(!lines.contains(SECRET) && !lines.contains("authToken"), "{lines}");
}
