//! A real OAuth 2.0 server, npm's `oidc-provider`: client credentials, and refresh tokens of which each serves once.
//! A spent one that comes again ends its grant. It keeps everything in memory, so a killed one is gone for good.

mod installation;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::instance::Instance;
use super::programs::{ending_with_us, require};
use super::root::Root;

const PROGRAM: &str = "node";
const PACKAGE: &str = "nodejs";
const SETTINGS: &str = "settings.json";
const ADDRESS: &str = "address.json";

/// How long a refresh token lives, in seconds.
const REFRESH_TOKEN_LIFETIME: u32 = 1_209_600;

/// A running server with one client, which authenticates by Basic header or in the body, and one grant of a
/// merchant's; killed and removed when dropped.
pub struct OAuthServer {
    _instance: Instance,
    token_url: String,
    introspection_url: String,
    refresh_token: String,
}

impl OAuthServer {
    /// The client's id. It needs encoding wherever it stands.
    pub const CLIENT_ID: &str = "platform & shops";
    /// The client's secret; likewise.
    pub const CLIENT_SECRET: &str = "s3cret+of/the%client:0123456789=";
    /// The scope that the client may ask for.
    pub const SCOPE: &str = "orders";
    /// How long an access token lives, in seconds, as the answers say.
    pub const ACCESS_TOKEN_LIFETIME: u32 = 1_800;

    /// Installs the server's packages unless an earlier start has, and starts it on a free port.
    pub async fn start() -> Result<Self> {
        let node = require(PROGRAM, PACKAGE)?;
        let launcher = installation::launcher().await?;
        let mut instance = Instance::create("oauth", Root::machine())?;
        let settings = json!({
            "client_id": Self::CLIENT_ID, "client_secret": Self::CLIENT_SECRET, "scope": Self::SCOPE,
            "access_token_lifetime": Self::ACCESS_TOKEN_LIFETIME, "refresh_token_lifetime": REFRESH_TOKEN_LIFETIME,
        });
        let settings = instance.folder().write(SETTINGS, &settings.to_string())?;
        let address = instance.path().join(ADDRESS);
        let mut command: Command = ending_with_us(node);
        command.arg(launcher).args([&settings, &address]);
        instance.launch(command, async || read(&address).map(drop)).await?;
        let address = read(&address)?;
        let text = |key: &str| {
            address[key].as_str().map(str::to_owned).with_context(|| format!("the server names no {key}"))
        };
        Ok(Self {
            token_url: text("token_url")?,
            introspection_url: text("introspection_url")?,
            refresh_token: text("refresh_token")?,
            _instance: instance,
        })
    }

    /// The token endpoint: `http://127.0.0.1:PORT/token`.
    pub fn token_url(&self) -> &str {
        &self.token_url
    }

    /// The introspection endpoint (RFC 7662), where the server itself says whether it takes a token.
    pub fn introspection_url(&self) -> &str {
        &self.introspection_url
    }

    /// The grant's first refresh token, as the merchant's authorisation left it.
    pub fn refresh_token(&self) -> &str {
        &self.refresh_token
    }
}

fn read(address: &Path) -> Result<Value> {
    let text = fs::read_to_string(address).context("it has not said where it listens")?;
    serde_json::from_str(&text).context("it says where it listens, but not in JSON")
}
