//! A folder for the files of one test.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};
use uuid::Uuid;

/// Removed when dropped.
pub struct TestFolder(PathBuf);

impl TestFolder {
    /// Creates an empty folder.
    pub fn create() -> Result<Self> {
        let path = env::temp_dir().join(format!("freshet-test-{}", Uuid::new_v4().simple()));
        fs::create_dir(&path).with_context(|| format!("cannot create the folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it.
    pub fn write(&self, file: &str, content: &str) -> Result<PathBuf> {
        let path = self.0.join(file);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        // A folder in the temporary folder is no reason to fail a test.
        let _ = fs::remove_dir_all(&self.0);
    }
}
