//! The results of a section, kept beside the benchmarks so that the page can be written from all of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
pub(crate) use freshet_tests::chart::Curve;
use serde::{Deserialize, Serialize};

use crate::figures::{Bar, Figure};
use crate::machine::Machine;

/// What a section measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// What was done, in a few sentences.
    pub(crate) method: String,
    pub(crate) figures: Vec<Figure>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) curves: Vec<Curve>,
}

/// The same with where and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    /// A day, as in 2026-01-31.
    pub(crate) day: String,
    pub(crate) runs: usize,
    pub(crate) machine: Machine,
    pub(crate) measured: Measured,
}

impl Results {
    /// Of a section, if it was ever measured.
    pub(crate) fn read(section: &str) -> Result<Option<Self>> {
        let path = path(section);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path)?;
        serde_json::from_str(&text).map(Some).with_context(|| format!("{} cannot be read", path.display()))
    }

    /// In place of what was measured before.
    pub(crate) fn write(&self, section: &str) -> Result<()> {
        let path = path(section);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn path(section: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks/results").join(format!("{section}.json"))
}
