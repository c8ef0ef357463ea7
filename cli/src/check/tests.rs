//! Sums and refusals.

use std::collections::HashMap;
use std::num::NonZeroU32;

use freshet_shared::configuration::Configuration;

use super::*;

fn configuration(pairs: &[(&str, &str)]) -> Configuration {
    let environment: HashMap<String, String> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Configuration::load(None, &environment).ok().unwrap()
}

fn report(workers: u32, producers: u32, pairs: &[(&str, &str)]) -> CheckReport {
    let arguments = FleetCheckArguments {
        config: None,
        workers: NonZeroU32::new(workers),
        producers: NonZeroU32::new(producers),
        report: ReportForm::Text,
    };
    check(&arguments, &configuration(pairs)).unwrap()
}

#[test]
fn without_a_number_it_is_what_the_limits_allow() {
    let report =
        report(0, 0, &[("FRESHET_LIMITS__WORKERS", "6"), ("FRESHET_DATABASE__MAX_CONNECTIONS", "10")]);
    assert_eq!((report.workers.get(), report.producers.get()), (6, 2));
    assert_eq!(report.connections, Connections { each: 10, sum: 80, given: None });
    assert_eq!(report.problems, [""; 0]);
    let words = report.to_string();
    assert!(words.contains("(6 + 2) x 10 = 80"), "{words}");
}

#[test]
fn the_queues_are_those_of_the_shipped_pools() {
    assert_eq!(
        report(1, 1, &[]).queues,
        [
            "freshet.refresh.shared.urgent.v1",
            "freshet.refresh.shared.early.v1",
            "freshet.parked.v1",
            "freshet.dead.v1"
        ]
    );
}

#[test]
fn too_many_processes_are_named_one_reason_each() {
    let pairs = [
        ("FRESHET_LIMITS__DATABASE_CONNECTIONS", "96"),
        ("FRESHET_PROVIDERS__FYND__LIMITS__CONCURRENCY", "5"),
        // Not scanned, so it counts for nothing.
        ("FRESHET_PROVIDERS__VERY__LIMITS__CONCURRENCY", "1"),
    ];
    let fits = report(4, 2, &pairs);
    assert_eq!(fits.problems, [""; 0]);
    let fynd = fits.providers.iter().find(|share| share.provider == "fynd").unwrap();
    assert_eq!(fynd.concurrency_of_each, NonZeroU32::new(1));
    let problems = report(6, 3, &pairs).problems;
    let words =
        ["limits.workers (4)", "limits.producers (2)", "up to 144 connections", "limits.concurrency (5)"];
    assert_eq!(problems.len(), words.len(), "{problems:?}");
    for (problem, word) in problems.iter().zip(words) {
        assert!(problem.contains(word), "no `{word}` in {problem}");
    }
}

#[test]
fn the_longest_stop_follows_from_the_time_outs() {
    let Stop { producer_s, worker_s } = report(1, 1, &[]).longest_stop;
    assert_eq!((producer_s, worker_s), (36.0, 38.0));
    let pairs = [
        ("FRESHET_WORKER__SHUTDOWN_GRACE", "1m"),
        ("FRESHET_REDIS__CONNECTIONS", "1"),
        ("FRESHET_REDIS__COMMAND_TIMEOUT", "500ms"),
        ("FRESHET_RABBITMQ__OPERATION_TIMEOUT", "1s"),
    ];
    let Stop { producer_s, worker_s } = report(1, 1, &pairs).longest_stop;
    assert_eq!((producer_s, worker_s), (18.0, 66.0));
}
