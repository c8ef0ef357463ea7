//! Whether the pools of a worker fit each other. Each is sized by a key of its own; together they may contradict each other,
//! and what comes of that looks like a slow server.
//!
//! Two need no check: each queue's prefetch follows from `worker.concurrency`, and connections to providers are opened as calls
//! need them and kept, so that there are about as many of them as calls at once.

use freshet_shared::configuration::{Configuration, ConfigurationError};
use freshet_shared::domain::provider::catalogue::Providers;

/// Sockets and files beside the pools: the broker's connections, telemetry, logs, the runtime's own.
const FILES_BESIDE: usize = 64;

/// What a process brings to its configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings {
    /// Kinds of round trips that jobs have under way at the same time, each in groups of its own.
    pub(crate) kinds: usize,
    /// Round trips of all kinds together, at most.
    pub(crate) round_trips: usize,
    /// Files and sockets that the process may open, where that is known.
    pub(crate) open_files: Option<u64>,
}

/// What does not fit, but works, in words that name the keys.
///
/// # Errors
/// Names the keys that contradict each other, and why.
pub(crate) fn check(
    configuration: &Configuration,
    providers: &Providers,
    surroundings: Surroundings,
) -> Result<Vec<String>, ConfigurationError> {
    let jobs = usize::from(configuration.worker.concurrency);
    let Surroundings { kinds, round_trips, open_files } = surroundings;
    let mut warnings = Vec::new();

    let is_file = configuration.database.url.as_ref().is_some_and(|url| url.expose().starts_with("sqlite:"));
    let connections = usize::try_from(configuration.database.max_connections).unwrap_or(usize::MAX);
    if !is_file && connections < kinds.min(jobs) {
        return Err(ConfigurationError::Key(format!(
            "database.max_connections: {connections} are fewer than the {kinds} kinds of statements that \
             worker.concurrency = {jobs} jobs have under way at once, so that a granted token waits behind reads: set it to \
             {round_trips}, or worker.concurrency to {connections} at most"
        )));
    }
    if !is_file && connections < round_trips.min(jobs) {
        warnings.push(format!(
            "database.max_connections = {connections} holds back worker.concurrency = {jobs}: up to {round_trips} round \
             trips could be under way"
        ));
    }
    if !is_file && connections > round_trips.saturating_add(jobs) {
        warnings.push(format!(
            "database.max_connections = {connections} is more than worker.concurrency = {jobs} jobs can use"
        ));
    }

    let links = configuration.redis.connections;
    if links > jobs {
        warnings.push(format!(
            "redis.connections = {links} is more than worker.concurrency = {jobs} jobs can use"
        ));
    }

    let files = (jobs.saturating_add(connections).saturating_add(links).saturating_add(FILES_BESIDE)) as u64;
    if let Some(most) = open_files.filter(|most| *most < files) {
        return Err(ConfigurationError::Key(format!(
            "worker.concurrency: with {jobs} calls at once, database.max_connections = {connections} and redis.connections = \
             {links} the process opens up to {files} files, and the system lets it open {most}: raise that limit \
             (ulimit -n, LimitNOFILE), or lower it"
        )));
    }

    let workers = configuration.limits.workers;
    for provider in providers.iter() {
        if let Some(most) = provider.limits().concurrency.filter(|most| *most < workers) {
            let name = provider.name();
            warnings.push(format!(
                "limits.workers = {workers} is more than providers.{name}.limits.concurrency = {most}: each worker makes one \
                 call at least, so {name} may be called {workers} times at once"
            ));
        }
    }
    Ok(warnings)
}

/// Files that this process may open, as Linux tells it; `None` elsewhere, or where there is no limit.
pub(crate) fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Keys with their values.
    type Pairs<'a> = &'a [(&'a str, &'a str)];

    const SURROUNDINGS: Surroundings = Surroundings { kinds: 6, round_trips: 16, open_files: Some(1_024) };

    fn checked(pairs: Pairs<'_>, surroundings: Surroundings) -> Result<Vec<String>, String> {
        let environment: HashMap<String, String> =
            pairs.iter().map(|(key, value)| (format!("FRESHET_{key}"), (*value).to_owned())).collect();
        let configuration = Configuration::load(None, &environment).ok().unwrap();
        let providers = configuration.providers().unwrap();
        check(&configuration, &providers, surroundings).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_fit() {
        assert_eq!(checked(&[], SURROUNDINGS), Ok(Vec::new()));
    }

    #[test]
    fn contradictions_name_both_keys() {
        let cases: [(Pairs<'_>, [&str; 3]); 3] = [
            (
                &[("DATABASE__MAX_CONNECTIONS", "4")],
                ["database.max_connections: 4", "worker.concurrency = 512", "16"],
            ),
            (
                &[("WORKER__CONCURRENCY", "1000")],
                ["worker.concurrency: ", "database.max_connections = 16", "1024"],
            ),
            (
                &[("REDIS__CONNECTIONS", "900")],
                ["worker.concurrency: ", "redis.connections = 900", "ulimit -n"],
            ),
        ];
        for (pairs, words) in cases {
            let error = checked(pairs, SURROUNDINGS).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{pairs:?}: {error}");
        }
    }

    #[test]
    fn what_only_wastes_or_slows_is_said() {
        let cases: [(Pairs<'_>, [&str; 2]); 4] = [
            (
                &[("DATABASE__MAX_CONNECTIONS", "6")],
                ["database.max_connections = 6", "worker.concurrency = 512"],
            ),
            (
                &[("DATABASE__MAX_CONNECTIONS", "200"), ("WORKER__CONCURRENCY", "128")],
                ["database.max_connections = 200", "worker.concurrency = 128"],
            ),
            (
                &[("REDIS__CONNECTIONS", "8"), ("WORKER__CONCURRENCY", "7")],
                ["redis.connections = 8", "worker.concurrency = 7"],
            ),
            (
                &[("PROVIDERS__FYND__LIMITS__CONCURRENCY", "2")],
                ["limits.workers = 4", "providers.fynd.limits.concurrency = 2"],
            ),
        ];
        for (pairs, words) in cases {
            let warnings = checked(pairs, SURROUNDINGS).unwrap();
            assert!(
                warnings.len() == 1 && words.iter().all(|word| warnings[0].contains(word)),
                "{pairs:?}: {warnings:?}"
            );
        }
    }

    #[test]
    fn few_jobs_need_few_connections_and_a_file_needs_one() {
        let one = ("DATABASE__MAX_CONNECTIONS", "1");
        assert_eq!(
            checked(&[one, ("WORKER__CONCURRENCY", "1"), ("REDIS__CONNECTIONS", "1")], SURROUNDINGS),
            Ok(vec![])
        );
        assert_eq!(checked(&[one, ("DATABASE__URL", "sqlite::memory:")], SURROUNDINGS), Ok(vec![]));
        let unknown = Surroundings { open_files: None, ..SURROUNDINGS };
        assert_eq!(checked(&[("WORKER__CONCURRENCY", "20000")], unknown), Ok(vec![]));
    }

    #[test]
    fn the_limit_of_open_files_is_read_as_linux_writes_it() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max cpu time              unlimited            unlimited            seconds   \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits), Some(1_024));
        assert_eq!(
            open_files("Max open files            unlimited            unlimited            files"),
            None
        );
        assert_eq!(open_files(""), None);
    }
}
