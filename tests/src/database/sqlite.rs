//! A test's database as a file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{connect, template_name, unique_name};
use crate::scratch;

/// Every database file is called this, in a directory of its own that also takes the files SQLite puts beside it.
const FILE_NAME: &str = "multicredit.db";

/// A directory with one SQLite database, removed when this value is dropped.
#[derive(Debug)]
pub struct SqliteDatabase {
    directory: PathBuf,
    url: String,
}

impl SqliteDatabase {
    /// A copy of the template.
    pub async fn migrated() -> anyhow::Result<Self> {
        let template = template().await?;
        let database = Self::empty()?;
        fs::copy(template, database.file())?;
        Ok(database)
    }

    /// A directory in which the first connection will make an empty database.
    pub fn empty() -> anyhow::Result<Self> {
        let directory = scratch::shared_directory()?.join(unique_name());
        fs::create_dir(&directory).with_context(|| format!("no directory {}", directory.display()))?;
        let file = directory.join(FILE_NAME);
        let path = file.to_str().context("the scratch directory's name is not UTF-8")?;
        Ok(Self { url: format!("sqlite://{path}?mode=rwc"), directory })
    }

    /// What the product takes as `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }
}

impl Drop for SqliteDatabase {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{} stays until the run ends: {error}", self.directory.display());
        }
    }
}

/// The migrated file to copy. Where several make it at once each makes its own, and the last rename stands: they are
/// equal, and a copy that has begun goes on reading the one it opened.
async fn template() -> anyhow::Result<PathBuf> {
    let template = scratch::shared_directory()?.join(template_name()?);
    if !template.exists() {
        let database = SqliteDatabase::empty()?;
        let connection = connect(database.url(), 1).await?;
        migration::migrate_up(&connection).await?;
        // The last connection to close moves what is in the write-ahead log to the file, which then is all there is.
        connection.close().await?;
        rename(&database.file(), &template)?;
    }
    Ok(template)
}

fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::rename(from, to).with_context(|| format!("{} cannot become {}", from.display(), to.display()))
}
