//! DNS answers that change, and addresses that are refused: nothing is ever connected to but what was checked.

use super::*;

/// Never connected to: see [`caller_on`].
const PUBLIC: &str = "93.184.215.14";

fn request(port: u16) -> ProviderRequest {
    get(format!("https://api.example.com:{port}/?p={SECRET}"))
}

#[tokio::test]
async fn an_answer_that_changes_between_check_and_connection_leads_nowhere() {
    let server = Counting::start().await;
    // Whoever checked the first answer, and let the connector ask again, would connect to the second.
    let dns = Dns::answering(&[&[PUBLIC], &["127.0.0.1"]]);
    let error = error_of(&caller_on(&dns, settings()), &request(server.port)).await;
    // The first attempt failed at the public address; the second one, in the same call, met the second answer.
    let CallError::Blocked { problem, .. } = error else { panic!("{error:?}") };
    assert!(problem.contains("loopback"), "{problem}");
    assert_eq!(dns.asked(), ["api.example.com"; 2]);
    assert_eq!(server.connections().await, 0);
}

#[tokio::test]
async fn a_refused_address_is_not_connected_to_and_not_tried_again() {
    let server = Counting::start().await;
    let dns = Dns::answering(&[&["127.0.0.1", "::1"]]);
    let error = error_of(&caller_on(&dns, settings()), &request(server.port)).await;
    assert!(matches!(error, CallError::Blocked { .. }), "{error:?}");
    assert_eq!(dns.asked().len(), 1);
    assert_eq!(server.connections().await, 0);
    let failure = crate::domain::failure::Failure::from(error);
    assert_eq!(failure.class, crate::domain::failure::FailureClass::EgressBlocked);
}

#[tokio::test]
async fn of_several_addresses_only_the_permitted_are_connected_to() {
    let server = Counting::start().await;
    for answer in [["127.0.0.1", PUBLIC], [PUBLIC, "127.0.0.1"]] {
        let dns = Dns::answering(&[&answer]);
        let settings = HttpSettings { timeout: Duration::from_millis(1_001), ..settings() };
        let error = error_of(&caller_on(&dns, settings), &request(server.port)).await;
        assert!(matches!(error, CallError::NotConnected { .. }), "{answer:?}: {error:?}");
        assert_eq!(server.connections().await, 0, "{answer:?}");
    }
}

#[tokio::test]
async fn a_connection_of_an_excepted_call_serves_no_other() {
    // Keeps its connections open.
    let server = Server::start(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let dns = Dns::answering(&[&["127.0.0.1"]]);
    let caller = caller_on(&dns, settings());
    let url = format!("http://api.example.com:{}/", server.address.port());
    let mut request = get(url);
    request.egress.is_named_by_operator = true;
    assert_eq!(caller.call(&request).await.ok().unwrap().status, 200);
    request.egress.is_named_by_operator = false;
    let error = error_of(&caller, &request).await;
    assert!(matches!(error, CallError::Blocked { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_host_that_is_not_the_providers_is_not_recorded_and_not_looked_up() {
    let dns = Dns::answering(&[&[PUBLIC]]);
    let mut request = get(format!("https://{SECRET}.evil.test/"));
    request.egress.hosts = Arc::new(["*.example.com".parse().unwrap()]);
    let error = error_of(&caller_on(&dns, settings()), &request).await;
    assert!(matches!(error, CallError::Blocked { .. }), "{error:?}");
    assert_eq!(dns.asked(), [""; 0]);
}
