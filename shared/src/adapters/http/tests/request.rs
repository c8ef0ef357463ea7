//! What goes out.

use super::*;

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
