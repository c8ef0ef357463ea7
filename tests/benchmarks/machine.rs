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
    known.chain(rabbitmq().map(|version| ("RabbitMQ".to_owned(), version))).collect()
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
