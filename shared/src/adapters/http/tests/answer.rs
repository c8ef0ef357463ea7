//! What comes back whole.

use super::*;

#[tokio::test]
async fn an_answer_comes_as_it_is() {
    let server =
        Server::answering("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow").await;
    let answer = caller().call(&get(server.url("/"))).await.ok().unwrap();
    assert_eq!((answer.status, answer.retry_after.as_deref()), (429, Some("7")));
    assert_eq!(answer.body.as_slice(), b"slow");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_nobody_follows_it() {
    for status in [300, 301, 302, 303, 307, 308] {
        let elsewhere = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let to = elsewhere.url("/");
        let server = Server::answering(format!(
            "HTTP/1.1 {status} Elsewhere\r\nLocation: {to}\r\nRefresh: 0; url={to}\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        let answer = caller().call(&get(server.url("/"))).await.ok().unwrap();
        assert_eq!(answer.status, status);
        assert!(elsewhere.requests().is_empty(), "{status}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}
