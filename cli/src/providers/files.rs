//! The definition files that there are.

use std::path::{Path, PathBuf};

use anyhow::Context;
use freshet_shared::domain::provider::catalogue::SHIPPED;

/// A definition's text and where it comes from.
#[derive(Debug, Clone)]
pub struct DefinitionFile {
    /// Its name, or its path.
    pub name: String,
    /// Its content.
    pub text: String,
    /// Whether it is part of the program.
    pub is_shipped: bool,
}

/// Those of a folder, by name; without one the shipped ones and those of `provider_directory`.
///
/// # Errors
/// Names the folder or the file that cannot be read.
pub fn definition_files(
    directory: Option<&Path>,
    provider_directory: Option<&Path>,
) -> anyhow::Result<Vec<DefinitionFile>> {
    if let Some(directory) = directory {
        return of_directory(directory);
    }
    let mut files: Vec<_> = SHIPPED
        .iter()
        .map(|(name, text)| DefinitionFile {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
            is_shipped: true,
        })
        .collect();
    if let Some(directory) = provider_directory {
        files.extend(of_directory(directory)?);
    }
    Ok(files)
}

fn of_directory(directory: &Path) -> anyhow::Result<Vec<DefinitionFile>> {
    let unreadable = |path: &Path| format!("{} cannot be read", path.display());
    let mut paths = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>())
        .with_context(|| unreadable(directory))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).with_context(|| unreadable(&path))?;
            Ok(DefinitionFile { name: path.display().to_string(), text, is_shipped: false })
        })
        .collect()
}
