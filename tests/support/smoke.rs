//! Judging the report of a short run of the whole product.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

const NUMBERS: [&str; 8] =
    ["connections", "refreshed", "failed", "retried", "expired_now", "valid_now", "p50_ms", "p99_ms"];

/// The report is the last line of the output: a JSON object with these numbers, of a run in which every connection
/// has a valid token at the end and some have been refreshed. Returns the report.
pub fn check_report(output: &str) -> Result<Map<String, Value>> {
    let line = output.lines().last().context("the run has printed nothing")?;
    let report: Map<String, Value> =
        serde_json::from_str(line).with_context(|| format!("the last line is not a JSON object: {line}"))?;
    for name in NUMBERS {
        ensure!(report.get(name).is_some_and(Value::is_number), "`{name}` is not a number in {line}");
    }
    let number = |name: &str| report.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    ensure!(number("expired_now") == 0.0, "some tokens are expired at the end: {line}");
    ensure!(number("valid_now") == number("connections"), "not every connection has a valid token: {line}");
    ensure!(number("refreshed") > 0.0, "nothing has been refreshed: {line}");
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(expired_now: u32, valid_now: u32, refreshed: u32) -> String {
        format!(
            "some log line\n{{\"connections\":10,\"refreshed\":{refreshed},\"failed\":0,\"retried\":1,\
             \"expired_now\":{expired_now},\"valid_now\":{valid_now},\"p50_ms\":0.5,\"p99_ms\":2}}\n"
        )
    }

    #[test]
    fn only_a_complete_and_healthy_report_passes() {
        assert!(check_report(&report(0, 10, 4)).is_ok());
        for (output, complaint) in [
            (report(1, 10, 4), "expired"),
            (report(0, 9, 4), "not every connection"),
            (report(0, 10, 0), "nothing has been refreshed"),
            (report(0, 10, 4).replace("p99_ms", "p98_ms"), "`p99_ms`"),
            (report(0, 10, 4) + "bye\n", "not a JSON object"),
            (String::new(), "printed nothing"),
        ] {
            let error = check_report(&output).map(drop).unwrap_err();
            assert!(error.to_string().contains(complaint), "{error} does not say: {complaint}");
        }
    }
}
