//! Answers that are too large.

use super::*;

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

#[tokio::test]
async fn a_body_without_end_is_given_up_at_the_limit() {
    let part = "x".repeat(4096);
    let chunk = format!("1000\r\n{part}\r\n");
    let cases = [
        ("of unknown length", "HTTP/1.1 200 OK\r\n\r\n", part.clone()),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk.clone()),
        (
            "compressed",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            chunk,
        ),
        ("of announced length", "HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n", part),
    ];
    for (name, head, endless) in cases {
        let server = Server::start(move |mut stream| {
            let endless = endless.clone();
            async move {
                let mut written = stream.write_all(head.as_bytes()).await;
                while written.is_ok() {
                    written = stream.write_all(endless.as_bytes()).await;
                }
            }
        })
        .await;
        let started = Instant::now();
        let error = error_of(&caller(), &get(server.url(&format!("/?p={SECRET}")))).await;
        assert_eq!(error, CallError::TooLarge { endpoint: TEMPLATE.into(), limit: LIMIT }, "{name}");
        assert!(started.elapsed() < settings().timeout / 2, "{name}: {:?}", started.elapsed());
    }
}

/// A few bytes that unpack to many would pass the limit: we ask for no compression, and unpack none.
#[tokio::test]
async fn a_compressed_body_is_not_unpacked() {
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 6\r\n\r\n");
        let server = Server::answering(format!("{head}packed")).await;
        let answer = caller().call(&get(server.url("/"))).await.ok().unwrap();
        assert_eq!(answer.body.as_slice(), b"packed", "{encoding}");
        let requests = server.requests().join("").to_ascii_lowercase();
        assert!(!requests.contains("accept-encoding"), "{encoding}: {requests}");
    }
}
