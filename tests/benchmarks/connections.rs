//! The rows of a stage, made in the database.

use anyhow::Result;

use crate::stage::Stage;

/// What a merchant of Fynd enters, and a channel's details, for the row `seq`.
const INPUTS: &str =
    r#"CONCAT('{"x-integration-id": "location-', seq, '", "x-integration-token": "', MD5(seq), '"}')"#;
const DETAILS: &str =
    r#"CONCAT('{"warehouse": "', seq % 97, '", "currency": "INR", "catalogue": "', MD5(-seq), '"}')"#;

impl Stage {
    /// Writes `count` active connections of Fynd with a channel each, enrolled and fresh.
    pub(crate) async fn add_connections(&self, count: u64) -> Result<()> {
        let rows = format!("FROM seq_1_to_{count}");
        self.execute(&format!(
            "INSERT INTO ie_appinstall_connection \
             (id, isActive, accessToken, accessTokenGeneratedOn, accessTokenExpiryAt, inputFields) \
             SELECT seq, 'active', CONCAT('NjA4MTAz', MD5(seq)), UTC_TIMESTAMP(), \
             UTC_TIMESTAMP() + INTERVAL 1 DAY, {INPUTS} {rows}"
        ))
        .await?;
        self.execute(&format!(
            "INSERT INTO channels (id, connectionId, account_id, channel_id, integrationType, additionalDetails) \
             SELECT seq, seq, seq % 1000, CONCAT('channel-', seq), '15', {DETAILS} {rows}"
        ))
        .await?;
        self.execute(&format!(
            "INSERT INTO token_refresh (connection_id, generation, state) SELECT seq, 1, 'active' {rows}"
        ))
        .await?;
        self.execute("ANALYZE TABLE ie_appinstall_connection, channels, token_refresh").await?;
        Ok(())
    }

    /// Writes the tables of a platform of this size, none of whose connections is due; see the section `scan`.
    pub(crate) async fn add_platform(&self, count: u64) -> Result<()> {
        let rows = format!("FROM seq_1_to_{count}");
        // Late enough that none comes due meanwhile.
        let expiry = "UTC_TIMESTAMP() + INTERVAL 7200 + CRC32(seq) % 3600 SECOND";
        let is_waiting = "seq % 1000 = 7";
        self.execute(&format!(
            "INSERT INTO ie_appinstall_connection \
             (id, isActive, accessToken, accessTokenGeneratedOn, accessTokenExpiryAt, inputFields) \
             SELECT seq, IF(seq % 10 = 9, 'inactive', 'active'), CONCAT('NjA4MTAz', MD5(seq)), UTC_TIMESTAMP(), \
             IF(seq % 10 = 9 OR {is_waiting}, UTC_TIMESTAMP() - INTERVAL CRC32(seq) % 1000000 SECOND, {expiry}), \
             {INPUTS} {rows}"
        ))
        .await?;
        self.execute(&format!(
            "INSERT INTO channels (id, connectionId, account_id, channel_id, integrationType, additionalDetails) \
             SELECT seq, seq, seq % 1000, CONCAT('channel-', seq), IF(seq % 5 = 4, '33', '15'), {DETAILS} {rows}"
        ))
        .await?;
        self.execute(&format!(
            "INSERT INTO token_refresh (connection_id, generation, state, refresh_at, lifetime_s) \
             SELECT seq, 1 + seq % 50, IF({is_waiting}, 'needs_reauth', 'active'), \
             IF({is_waiting}, NULL, {expiry} - INTERVAL 1800 + seq % 300 SECOND), 10800 {rows}"
        ))
        .await?;
        self.execute("ANALYZE TABLE ie_appinstall_connection, channels, token_refresh").await?;
        Ok(())
    }

    /// Lets `due` connections of a platform of `count`, spread over it, expire `within` from now, claimed by nobody.
    pub(crate) async fn let_be_due(&self, due: u64, count: u64, within: &str) -> Result<()> {
        let step = count / due;
        let last = due - 1;
        // Multiples of ten are active, Fynd's, and wait for nobody.
        let id = format!("s.seq * {step} + 10 - (s.seq * {step}) % 10");
        self.execute(&format!(
            "UPDATE seq_0_to_{last} s JOIN ie_appinstall_connection k ON k.id = {id} \
             JOIN token_refresh r ON r.connection_id = k.id \
             SET k.accessTokenExpiryAt = UTC_TIMESTAMP() + {within} + INTERVAL s.seq % 240 SECOND, \
             r.refresh_at = UTC_TIMESTAMP() + {within} - INTERVAL 30 MINUTE, \
             r.queued_until = NULL, r.claim_id = NULL, r.next_attempt_at = NULL"
        ))
        .await?;
        Ok(())
    }

    /// Lets the tokens of the first `count` connections expire a minute ago and those of the others live, with no claim,
    /// plan or failure left of a run before, and an empty cache.
    pub(crate) async fn expire(&self, count: u64) -> Result<()> {
        self.execute(&format!(
            "UPDATE ie_appinstall_connection SET accessTokenExpiryAt = \
             IF(id <= {count}, UTC_TIMESTAMP() - INTERVAL 1 MINUTE, UTC_TIMESTAMP() + INTERVAL 1 DAY)"
        ))
        .await?;
        self.execute(
            "UPDATE token_refresh SET generation = 1, queued_until = NULL, claim_id = NULL, next_attempt_at = NULL, refresh_at = NULL, \
             failures = 0, failure_class = NULL, state = 'active'",
        )
        .await?;
        self.clear_cache().await?;
        self.calls.forget().await
    }

    /// Connections whose token has expired.
    pub(crate) async fn expired(&self) -> Result<i64> {
        self.number(
            "SELECT COUNT(*) AS n FROM ie_appinstall_connection \
             WHERE isActive = 'active' AND accessTokenExpiryAt <= UTC_TIMESTAMP()",
        )
        .await
    }
}
