//! What every binary does alike around its work: panics, signals and exit codes.

mod panics;

pub mod health;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::configuration::{Configuration, ConfigurationError, TelemetrySection};
use crate::telemetry::Telemetry;

/// Exit code for a configuration that cannot be used (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIGURATION: u8 = 78;
/// Exit code after a second signal: 128 + SIGINT, whichever it was.
const EXIT_AT_ONCE: i32 = 130;

/// The process's environment, read in one place so that everything else takes it as a parameter. Variables that are
/// not Unicode are left out.
#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
pub fn environment() -> HashMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// What comes first in every binary: panics that tell no secret, and the one crypto provider of the one TLS stack.
pub fn prepare() {
    panics::tell_without_values();
    install_crypto();
}

/// Installs the one crypto provider of the one TLS stack. Has to come before any connection.
pub fn install_crypto() {
    // An error says only that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A token that is cancelled by SIGTERM or SIGINT. A second signal ends the process at once.
///
/// # Errors
/// If the signals cannot be listened to.
pub fn shutdown_on_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        for already in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if already {
                exit_at_once();
            }
            tracing::info!("stopping; a second signal stops at once");
            cancelled.cancel();
        }
    });
    Ok(token)
}

#[expect(clippy::exit, reason = "whoever sends a second signal does not want to wait")]
fn exit_at_once() -> ! {
    std::process::exit(EXIT_AT_ONCE)
}

/// A binary's `main` after its arguments: crypto, configuration, then [`run`].
pub fn main<W>(service: &'static str, file: Option<&Path>, work: impl FnOnce(Configuration) -> W) -> ExitCode
where
    W: Future<Output = anyhow::Result<ExitCode>>,
{
    prepare();
    let environment = environment();
    #[cfg(feature = "failpoints")]
    if let Err(problem) = crate::failpoints::obey(&environment) {
        return complain(&anyhow::Error::msg(problem));
    }
    match Configuration::load(file, &environment) {
        Ok(configuration) => {
            let telemetry = configuration.telemetry.clone();
            run(service, &telemetry, work(configuration))
        }
        Err(error) => complain(&error.into()),
    }
}

/// Runs the work of a process on a runtime of its own, with telemetry around it that is flushed on every path.
///
/// The exit code tells the truth: the work's own, 78 for a configuration that cannot be used, 1 for any other error.
pub fn run<W>(service: &'static str, section: &TelemetrySection, work: W) -> ExitCode
where
    W: Future<Output = anyhow::Result<ExitCode>>,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&anyhow::Error::new(error).context("the runtime cannot start")),
    };
    let code = runtime.block_on(async {
        let telemetry = match Telemetry::start(section, service, std::io::stderr().is_terminal()) {
            Ok(telemetry) => telemetry,
            Err(error) => return complain(&ConfigurationError::Key(error.to_string()).into()),
        };
        let code = work.await.unwrap_or_else(|error| complain(&error));
        telemetry.shutdown().await;
        code
    });
    panics::work_is_over();
    code
}

/// Says on standard error why the process ends, and which exit code that is.
#[expect(clippy::print_stderr, reason = "the last words of a process, also where logs are not running")]
pub fn complain(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    let is_configuration = error.chain().any(|cause| cause.is::<ConfigurationError>());
    ExitCode::from(if is_configuration { EXIT_CONFIGURATION } else { 1 })
}
