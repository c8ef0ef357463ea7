//! A temporary folder that goes with its owner.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use uuid::Uuid;

/// Removed when dropped.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The name stays short: a socket's path inside must fit into 107 bytes.
    pub(crate) fn create(parent: &Path, server: &str) -> Result<Self> {
        let unique = Uuid::new_v4().simple().to_string();
        let name = format!("freshet-{server}-{}", unique.get(..12).unwrap_or(&unique));
        let path = parent.join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create the temporary folder {}", path.display()))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn add(&self, folder: &str) -> Result<()> {
        let path = self.path.join(folder);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))
    }

    pub(crate) fn write(&self, file: &str, content: &str) -> Result<PathBuf> {
        let path = self.path.join(file);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder in the temporary folder is no reason to fail what has been done.
        let _ = fs::remove_dir_all(&self.path);
    }
}
