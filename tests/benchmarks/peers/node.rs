//! The worker on Node: amqplib, mysql2, ioredis, undici.

use std::fs;

use anyhow::{Context, Result};
use freshet_tests::services::require_program;

use super::{installation, source};
use crate::process::Program;

const PEER: &str = "node";
const WORKER: &str = "worker.mjs";

pub(crate) async fn install() -> Result<()> {
    let npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    super::install(PEER, "package-lock.json", &[&npm]).await?;
    // The packages are looked for beside the worker.
    fs::copy(source(PEER).join(WORKER), installation(PEER)?.join(WORKER))
        .context("the worker cannot be copied")?;
    Ok(())
}

pub(crate) fn program() -> Result<Program> {
    let worker = installation(PEER)?.join(WORKER);
    Ok(Program::at("node", &require_program("node", "nodejs")?).arguments([worker]))
}
