//! RabbitMQ's management API, as far as the tests need it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method, Url};
use serde_json::Value;

/// A client of one server's management API.
#[derive(Clone)]
pub struct Management {
    client: Client,
    base: Url,
}

impl Management {
    /// From a URL with user and password and without a path.
    pub fn new(url: &str) -> Result<Self> {
        // reqwest wants a TLS provider even for plain HTTP; a second call finds the first one's, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            // A machine without CA certificates can still run the tests.
            .tls_certs_only([])
            .timeout(Duration::from_secs(10))
            .build()
            .context("cannot build the HTTP client")?;
        let base = Url::parse(url).context("the management URL cannot be parsed")?;
        Ok(Self { client, base })
    }

    /// GET; the answer's JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let body = self.send(Method::GET, path, None).await?;
        serde_json::from_slice(&body).with_context(|| format!("GET {path} was not answered with JSON"))
    }

    /// PUT with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Result<()> {
        self.send(Method::PUT, path, Some(body)).await.map(drop)
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, None).await.map(drop)
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Vec<u8>> {
        let request = format!("{method} {path} at RabbitMQ's management API");
        let url = self.base.join(path).with_context(|| format!("{request}: not a path"))?;
        let mut builder = self.client.request(method, url);
        if let Some(body) = body {
            builder = builder.header("content-type", "application/json").body(body.to_string());
        }
        let response = builder.send().await.map_err(reqwest::Error::without_url);
        let response = response.with_context(|| format!("{request} was not answered"))?;
        let status = response.status();
        let body = response.bytes().await.map_err(reqwest::Error::without_url);
        let body = body.with_context(|| format!("{request} broke off"))?;
        ensure!(status.is_success(), "{request} was answered {status}: {}", String::from_utf8_lossy(&body));
        Ok(body.to_vec())
    }
}
