//! `private-services` passes on what it is given, and nothing of its command outlives it.
//!
//! All four services are given here, so that it starts none.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use freshet_tests::environment::{MYSQL_URL, RABBITMQ_MANAGEMENT_URL, RABBITMQ_URL, REDIS_URL};
use freshet_tests::waiting::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn beside_given_services(script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_private-services"));
    for name in [MYSQL_URL, RABBITMQ_URL, RABBITMQ_MANAGEMENT_URL, REDIS_URL] {
        command.env(name, "given");
    }
    command.args(["--", "sh", "-c", script]).stdout(Stdio::piped());
    command
}

#[test]
fn the_exit_code_is_the_commands() -> Result<()> {
    for (script, expected) in [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 128 + 15)] {
        let status = beside_given_services(script).status()?;
        assert_eq!(status.code(), Some(expected), "{script}");
    }
    Ok(())
}

#[test]
fn a_service_that_is_given_is_passed_on() -> Result<()> {
    let output = beside_given_services("echo $TEST_MYSQL_URL $TEST_REDIS_URL").output()?;
    assert_eq!(String::from_utf8(output.stdout)?, "given given\n");
    Ok(())
}

/// The command starts a child of its own, as `cargo test` does, and prints both numbers.
const PARENT_AND_CHILD: &str = "sleep 600 & echo $$ $!; wait";

#[tokio::test]
async fn a_signal_ends_the_command_and_its_children() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (mut services, processes) = start(PARENT_AND_CHILD)?;
        kill(Pid::from_raw(i32::try_from(services.id())?), signal)?;
        let status = services.wait()?;
        assert_eq!(status.code(), Some(128 + signal as i32));
        until_gone(&processes).await?;
    }
    Ok(())
}

#[tokio::test]
async fn sigkill_of_the_wrapper_ends_the_command_and_its_children() -> Result<()> {
    let (mut services, processes) = start(PARENT_AND_CHILD)?;
    services.kill()?;
    services.wait()?;
    until_gone(&processes).await
}

#[tokio::test]
async fn a_child_that_the_command_left_behind_ends_with_it() -> Result<()> {
    let (mut services, processes) = start("sleep 600 >/dev/null & echo $$ $!")?;
    assert!(services.wait()?.success());
    until_gone(&processes).await
}

fn start(script: &str) -> Result<(Child, Vec<String>)> {
    let mut services = beside_given_services(script).spawn()?;
    let output = services.stdout.as_mut().context("the output is not piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let processes: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    ensure!(processes.len() == 2, "the command printed: {line}");
    Ok((services, processes))
}

async fn until_gone(processes: &[String]) -> Result<()> {
    eventually("the command's processes are gone", Duration::from_secs(10), async || {
        for process in processes {
            ensure!(!runs(process), "{process} still runs");
        }
        Ok(())
    })
    .await
}

/// A zombie, which nobody may be there to reap, does not run.
fn runs(process: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(process).join("status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains("zombie"))
}
