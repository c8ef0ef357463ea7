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
async fn a_redirect_is_an_answer() {
    let elsewhere = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url("/"));
    let server = Server::answering(redirect).await;
    let answer = caller().call(&get(server.url("/"))).await.ok().unwrap();
    assert_eq!(answer.status, 302);
    assert!(elsewhere.requests().is_empty());
}
