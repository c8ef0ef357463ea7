//! The Celery worker: processes of its prefork pool, PyMySQL, redis-py with hiredis, requests.

use anyhow::Result;

use super::{installation, source};
use crate::process::Program;

const PEER: &str = "celery";

pub(crate) async fn install() -> Result<()> {
    let environment = ["python3", "-m", "venv", "environment"];
    let packages = [
        "environment/bin/python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        "requirements.txt",
    ];
    super::install(PEER, "requirements.txt", &[&environment, &packages]).await
}

pub(crate) fn program() -> Result<Program> {
    let celery = installation(PEER)?.join("environment/bin/celery");
    Ok(Program::at("celery", &celery)
        .arguments(["--app", "worker", "worker", "--pool", "prefork", "--concurrency", "4"])
        .arguments(["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"])
        // Nothing is left beside the sources.
        .variables([("PYTHONDONTWRITEBYTECODE", "1")])
        .folder(&source(PEER)))
}
