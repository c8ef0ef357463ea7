//! What the figures were taken on.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use freshet_tests::services::require_program;
use serde::{Deserialize, Serialize};

/// A machine and the versions on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// Program and version.
    pub(crate) versions: Vec<(String, String)>,
}

impl Machine {
    /// This one.
    pub(crate) fn look() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = field(&text("/proc/meminfo"), "MemTotal");
        let kibibytes: f64 = memory.split_whitespace().next().unwrap_or_default().parse().unwrap_or_default();
        Self {
            cores: available_parallelism().map_or(0, usize::from),
            processor: field(&text("/proc/cpuinfo"), "model name"),
            memory_gib: (kibibytes / 1024.0 / 1024.0).round() as u64,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            versions: versions(),
        }
    }
}

fn versions() -> Vec<(String, String)> {
    let programs: [(&str, &str, &[&str]); 6] = [
        ("Freshet", "", &[]),
        ("Rust", "rustc", &["--version"]),
        ("MariaDB", "mariadbd", &["--version"]),
        ("Redis", "redis-server", &["--version"]),
        ("Node", "node", &["--version"]),
        ("Python", "python3", &["--version"]),
    ];
    let version = |program: &str, arguments: &[&str]| {
        if program.is_empty() {
            return Some(env!("CARGO_PKG_VERSION").to_owned());
        }
        let path = require_program(program, program).ok()?;
        let output = Command::new(path).args(arguments).output().ok()?;
        first_number(&String::from_utf8_lossy(&output.stdout))
    };
    let known = programs
        .into_iter()
        .filter_map(|(name, program, arguments)| Some((name.to_owned(), version(program, arguments)?)));
    let broker = rabbitmq().map(|version| ("RabbitMQ".to_owned(), version));
    known.chain(broker).chain(libraries()).collect()
}

/// What the contestants are made of, as their lock files say: ours, Node's, Celery's.
fn libraries() -> impl Iterator<Item = (String, String)> {
    let of_rust = ["lapin", "sea-orm", "fred", "reqwest", "tokio"].into_iter().filter_map(|name| {
        let line = format!("name = \"{name}\"");
        let mut lines = include_str!("../../Cargo.lock").lines().skip_while(move |other| *other != line);
        Some((name, lines.nth(1)?.strip_prefix("version = \"")?.trim_end_matches('"')))
    });
    let of_node = ["amqplib", "undici", "mysql2", "ioredis"].into_iter().filter_map(|name| {
        let line = format!("\"node_modules/{name}\": {{");
        let mut lines = include_str!("../peers/node/package-lock.json").lines().map(str::trim);
        lines.find(|other| *other == line)?;
        Some((name, lines.next()?.strip_prefix("\"version\": \"")?.trim_end_matches("\",")))
    });
    let of_celery = ["celery", "kombu", "pymysql", "redis", "requests"].into_iter().filter_map(|name| {
        let mut lines = include_str!("../peers/celery/requirements.txt").lines();
        let version = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix("=="))?;
        Some((name, version.trim_end_matches(" \\")))
    });
    let all = of_rust.chain(of_node).chain(of_celery);
    all.map(|(name, version)| (name.to_owned(), version.to_owned()))
}

/// RabbitMQ's own command wants a running broker; its folder has the version in its name.
fn rabbitmq() -> Option<String> {
    let folders = fs::read_dir("/usr/lib/rabbitmq/lib").ok()?;
    folders
        .flatten()
        .find_map(|folder| folder.file_name().to_str()?.strip_prefix("rabbitmq_server-").map(str::to_owned))
}

/// The first word with a dot between digits.
fn first_number(text: &str) -> Option<String> {
    let is_version =
        |word: &&str| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit());
    text.split(|separator: char| separator.is_whitespace() || separator == 'v' || separator == '=')
        .find(is_version)
        .map(|word| word.trim_end_matches(',').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_of_the_contestants_has_its_version() {
        let libraries: Vec<_> = libraries().collect();
        assert_eq!(libraries.len(), 14, "{libraries:?}");
        for (name, version) in libraries {
            assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{name} {version}");
        }
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let cases = [
            ("rustc 1.95.0 (59807616e 2026-04-14)", Some("1.95.0")),
            (
                "mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for debian-linux-gnu on x86_64",
                Some("10.11.14-MariaDB-0+deb12u2"),
            ),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", Some("7.0.15")),
            ("v20.20.2\n", Some("20.20.2")),
            ("nothing", None),
        ];
        for (text, version) in cases {
            assert_eq!(first_number(text).as_deref(), version, "{text}");
        }
    }
}
