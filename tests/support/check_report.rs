//! `check-report`: reads the output of a short run of the product from stdin and fails unless its report is healthy.
#![forbid(unsafe_code)]

use std::io::{self, Read};

use anyhow::{Context, Result};
use freshet_tests::smoke::check_report;

fn main() -> Result<()> {
    let mut output = String::new();
    io::stdin().read_to_string(&mut output).context("cannot read the output of the run")?;
    check_report(&output).map(drop)
}
