//! The kept inputs: one file each, beside this code.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// All inputs of a target, in the order of their names.
pub(crate) fn load(target: &str) -> Result<Vec<Vec<u8>>> {
    let folder = folder(target);
    let entries = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).with_context(|| format!("{} cannot be read", path.display())))
        .collect()
}

/// Adds an input, under a name that follows from its content.
pub(crate) fn keep(target: &str, input: &[u8]) -> Result<PathBuf> {
    // FNV-1a.
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let path = folder(target).join(format!("found-{hash:016x}"));
    fs::write(&path, input).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}
