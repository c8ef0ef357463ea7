//! Live progress: a bar on a terminal, plain lines elsewhere. On standard error, so that the report stands alone.

use std::io::IsTerminal;
use std::time::Duration;

use chrono::{DateTime, Utc};
use freshet_shared::ports::store::Census;
use indicatif::{ProgressBar, ProgressStyle};

use super::tally::Tally;

/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The display.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    last_line: Option<tokio::time::Instant>,
}

impl Progress {
    pub(super) fn start() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{elapsed_precise} fresh {bar:30.green/red} {pos}/{len}\n{msg}");
            let bar = ProgressBar::new(0);
            // A template that cannot be read leaves the library's own.
            if let Ok(style) = style { bar.with_style(style) } else { bar }
        });
        Self { bar, last_line: None }
    }

    pub(super) fn show(&mut self, census: &Census, tally: &Tally, now: DateTime<Utc>) {
        let line = {
            let counts = tally.counts();
            format!(
                "due {} · refreshed {} · retried {} · failed {} · next expiry {}",
                census.due,
                counts.refreshed,
                counts.retried,
                counts.failing.len(),
                next_expiry(census, now),
            )
        };
        if let Some(bar) = &self.bar {
            bar.set_length(census.connections);
            bar.set_position(census.valid);
            bar.set_message(line);
        } else if self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            write_line(&format!("connections {} · fresh {} · {line}", census.connections, census.valid));
            self.last_line = Some(tokio::time::Instant::now());
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

fn next_expiry(census: &Census, now: DateTime<Utc>) -> String {
    let Some(next) = census.next_expiry else { return "none".into() };
    let left = next - now;
    format!("in {}.{} s", left.num_seconds(), left.subsec_millis().unsigned_abs() / 100)
}

#[expect(clippy::print_stderr, reason = "progress where there is no terminal to draw on")]
fn write_line(line: &str) {
    eprintln!("{line}");
}
