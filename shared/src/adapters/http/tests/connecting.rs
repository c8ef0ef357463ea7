//! Connections that do not come about.

use super::*;

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
    let error = error_of(&impatient_caller(), &get(format!("https://nowhere.invalid/?p={SECRET}"))).await;
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
