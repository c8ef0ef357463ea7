//! The tables and their columns, by name.

use sea_orm::DeriveIden;

/// `ie_appinstall_connection`, the platform's.
#[derive(Debug, Clone, Copy, DeriveIden)]
pub enum Connection {
    /// The table.
    #[sea_orm(iden = "ie_appinstall_connection")]
    Table,
    /// Key.
    Id,
    /// `active`, or anything else.
    #[sea_orm(iden = "isActive")]
    IsActive,
    /// The token in use.
    #[sea_orm(iden = "accessToken")]
    AccessToken,
    /// The refresh token, where the provider gives one.
    #[sea_orm(iden = "refreshToken")]
    RefreshToken,
    /// The platform's own.
    State,
    /// The platform's own.
    #[sea_orm(iden = "authorizationCode")]
    AuthorizationCode,
    /// When the token was granted.
    #[sea_orm(iden = "accessTokenGeneratedOn")]
    AccessTokenGeneratedOn,
    /// When it expires.
    #[sea_orm(iden = "accessTokenExpiryAt")]
    AccessTokenExpiryAt,
    /// What the merchant entered, as JSON.
    #[sea_orm(iden = "inputFields")]
    InputFields,
}

/// `channels`, the platform's.
#[derive(Debug, Clone, Copy, DeriveIden)]
pub enum Channels {
    /// The table.
    Table,
    /// Key.
    Id,
    /// The connection; not unique.
    #[sea_orm(iden = "connectionId")]
    ConnectionId,
    /// The merchant's account.
    #[sea_orm(iden = "account_id")]
    AccountId,
    /// The channel at the marketplace.
    #[sea_orm(iden = "channel_id")]
    ChannelId,
    /// Which marketplace.
    #[sea_orm(iden = "integrationType")]
    IntegrationType,
    /// JSON.
    #[sea_orm(iden = "additionalDetails")]
    AdditionalDetails,
}

/// `token_refresh`, ours: one row per connection.
#[derive(Debug, Clone, Copy, DeriveIden)]
pub enum TokenRefresh {
    /// The table.
    Table,
    /// Key: `ie_appinstall_connection.id`.
    ConnectionId,
    /// Credentials stored so far.
    Generation,
    /// Where the connection stands.
    State,
    /// Due from here on.
    RefreshAt,
    /// The platform's expiry for which that was planned.
    NotedExpiry,
    /// Not before this, after a failure.
    NextAttemptAt,
    /// Claimed by a producer until then.
    QueuedUntil,
    /// By which claim.
    ClaimId,
    /// Who refreshes it.
    LeaseOwner,
    /// Until when.
    LeaseUntil,
    /// The attempt that is open.
    AttemptId,
    /// When its request was sent.
    AttemptSentAt,
    /// What tells which refresh token it spent.
    AttemptGrant,
    /// Failures in a row.
    Failures,
    /// Refusals of the grant in a row.
    GrantFailures,
    /// Class of the last failure.
    FailureClass,
    /// What failed, without secrets.
    FailureDetail,
    /// Life of the last token in seconds.
    LifetimeS,
    /// When the refresh token dies.
    RefreshTokenExpiresAt,
    /// What tells which refresh token that is.
    RefreshTokenFingerprint,
    /// When the last credential was stored.
    LastSuccessAt,
    /// What tells whether somebody gave the connection other credentials since it began to wait for a person.
    WaitingFingerprint,
    /// The trace context (W3C `traceparent`) of the last attempt that came to nothing yet.
    LastTrace,
    /// The raw answer of a provider that could not be read or stored.
    KeptAnswer,
}

/// `producer_lease`, ours: which producer scans.
#[derive(Debug, Clone, Copy, DeriveIden)]
pub enum ProducerLease {
    /// The table.
    Table,
    /// Key.
    Name,
    /// Who.
    Holder,
    /// Which term of office.
    Term,
    /// Until when, by the database's clock.
    ExpiresAt,
}

/// `provider_control`, ours: what a person decided about a provider.
#[derive(Debug, Clone, Copy, DeriveIden)]
pub enum ProviderControl {
    /// The table.
    Table,
    /// Key: the definition's name.
    Provider,
    /// No refreshes while this is set.
    Paused,
    /// By whom.
    PausedBy,
    /// Why.
    Reason,
    /// Since when.
    UpdatedAt,
}

/// `refresh_attempt`, ours: history of failures, pruned.
#[derive(Debug, Clone, Copy, DeriveIden)]
pub enum RefreshAttempt {
    /// The table.
    Table,
    /// Key.
    Id,
    /// Whose.
    ConnectionId,
    /// The generation that was to be spent.
    Generation,
    /// When.
    At,
    /// How it ended.
    Outcome,
    /// Class of the failure.
    FailureClass,
    /// What failed, without secrets.
    FailureDetail,
    /// In which trace it can be seen.
    TraceId,
}
