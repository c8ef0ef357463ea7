//! A provider definition that points at a token endpoint of the plain kind.

use chrono::TimeDelta;

use super::settings::{ClientAuthentication, Rotation};

/// What a definition says beside the place.
#[derive(Debug, Clone)]
pub struct DefinitionOptions {
    /// Its name.
    pub name: String,
    /// Its integration type; `None` leaves that to the operator.
    pub integration_type: Option<String>,
    /// How it asks for a token.
    pub grant: Grant,
    /// The scope that is asked for, if any is.
    pub scope: Option<String>,
    /// How the client authenticates. [`ClientAuthentication::Either`] is written as Basic.
    pub authentication: ClientAuthentication,
    /// Where the client's secret comes from.
    pub secret: SecretOf,
    /// The lifetime of the access token, as a TOML value: `{ seconds = "/expires_in" }`, `"observed"`, or a list of such.
    pub lifetime: String,
    /// More of the definition: tables only, since it stands at the end.
    pub more: String,
}

/// How a definition asks for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// With the client's credentials alone.
    ClientCredentials,
    /// With a refresh token that behaves like this.
    RefreshToken(Rotation),
}

/// Where a client's id and secret come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretOf {
    /// Both from `inputFields`: members `client_id` and `client_secret`.
    Connection,
    /// The id from `inputFields`, the secret from the operator's settings: `providers.NAME.secrets.client_secret`.
    Operator,
}

impl DefinitionOptions {
    /// A definition whose client has its secret in `inputFields`, authenticates by a Basic header, and believes
    /// `expires_in`.
    pub fn new(name: &str, grant: Grant) -> Self {
        Self {
            name: name.to_owned(),
            integration_type: None,
            grant,
            scope: None,
            authentication: ClientAuthentication::Basic,
            secret: SecretOf::Connection,
            lifetime: "{ seconds = \"/expires_in\" }".to_owned(),
            more: String::new(),
        }
    }

    /// The definition's text, with this token endpoint.
    pub fn text(&self, token_url: &str) -> String {
        text(token_url, self)
    }
}

fn text(token_url: &str, options: &DefinitionOptions) -> String {
    let DefinitionOptions { name, grant, authentication, secret, lifetime, more, .. } = options;
    let integration_type = options.integration_type.as_ref();
    let integration_type =
        integration_type.map(|it| format!("integration_type = \"{it}\"\n")).unwrap_or_default();
    let (declared, secret) = match secret {
        SecretOf::Connection => {
            ("[[inputs]]\nkey = \"client_secret\"\nsecret = true\n", "{input.client_secret}")
        }
        SecretOf::Operator => ("[[secrets]]\nkey = \"client_secret\"\n", "{secret.client_secret}"),
    };
    let mut form = match grant {
        Grant::ClientCredentials => vec![("grant_type", "client_credentials")],
        Grant::RefreshToken(_) => vec![("grant_type", "refresh_token"), ("refresh_token", "{refresh_token}")],
    };
    form.extend(options.scope.as_deref().map(|scope| ("scope", scope)));
    let mut basic = String::new();
    if *authentication == ClientAuthentication::Body {
        form.extend([("client_id", "{input.client_id}"), ("client_secret", secret)]);
    } else {
        basic = format!(
            "basic = {{ username = \"{{input.client_id}}\", password = \"{secret}\", encoding = \"form\" }}\n"
        );
    }
    let form: Vec<_> = form.iter().map(|(name, value)| format!("[\"{name}\", \"{value}\"]")).collect();
    let form = form.join(", ");
    let rotation = match grant {
        Grant::ClientCredentials => String::new(),
        Grant::RefreshToken(rotation) => {
            format!("[refresh_token]\nrotation = {}\nanswer = \"/refresh_token\"\n\n", value(*rotation))
        }
    };
    format!(
        "name = \"{name}\"\ntitle = \"Model provider\"\n{integration_type}\n\
         [[inputs]]\nkey = \"client_id\"\n\n{declared}\n\
         [token.request]\nmethod = \"POST\"\nurl = \"{token_url}\"\nform = [{form}]\n{basic}\n\
         [token.response]\naccess_token = \"/access_token\"\nlifetime = {lifetime}\nerror = \"/error\"\n\n\
         {rotation}{more}"
    )
}

/// As in the format.
fn value(rotation: Rotation) -> String {
    match rotation {
        Rotation::None => "\"none\"".to_owned(),
        Rotation::Leeway { window, .. } => format!("{{ leeway = \"{}\" }}", whole_seconds(window)),
        Rotation::Strict => "\"strict\"".to_owned(),
    }
}

fn whole_seconds(window: TimeDelta) -> String {
    format!("{}s", window.num_seconds())
}
