//! Answers that do not come, not whole, or not in time.

use super::*;

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
async fn an_answer_that_drips_is_given_up_in_time() {
    // Each byte comes long before the time is over, and the last one long after it.
    let cases = [
        ("head", "HTTP/1.1 200 OK\r\n", "X-Slow: "),
        ("informational answers", "", "HTTP/1.1 103 Early Hints\r\n\r\n"),
        ("body", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "{\"a\":"),
        ("chunked body", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
        ("body without a length", "HTTP/1.1 200 OK\r\n\r\n", "{"),
    ];
    for (name, begin, drops) in cases {
        let server = Server::start(move |mut stream| async move {
            let mut written = stream.write_all(begin.as_bytes()).await;
            for drop in drops.as_bytes().iter().cycle() {
                if written.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
                written = stream.write_all(&[*drop]).await;
            }
        })
        .await;
        let started = Instant::now();
        let error = error_of(&impatient_caller(), &get(server.url(&format!("/?p={SECRET}")))).await;
        let CallError::AnswerLost { problem, .. } = error else { panic!("{name}: {error:?}") };
        assert!(problem.contains("time"), "{name}: {problem}");
        let elapsed = started.elapsed();
        assert!(
            (Duration::from_millis(250)..Duration::from_secs(2)).contains(&elapsed),
            "{name}: {elapsed:?}"
        );
        assert_eq!(server.requests().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    let server = Server::start(|mut stream| async move {
        let mut written = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while written.is_ok() {
            written = stream.write_all("X-More: x\r\n".repeat(1_000).as_bytes()).await;
        }
    })
    .await;
    let started = Instant::now();
    let error = error_of(&caller(), &get(server.url(&format!("/?p={SECRET}")))).await;
    assert!(matches!(error, CallError::AnswerLost { .. }), "{error:?}");
    // By its size, long before its time is over.
    assert!(started.elapsed() < settings().timeout / 2, "{:?}", started.elapsed());
}
