//! Writing through a mount whose files are persisted before close returns.

mod appends;
mod between;
mod blocked;
mod exchanges;
mod files;
mod labels;
mod moved;
mod others;
mod outages;
mod outside;
mod races;
mod renames;
mod times;
mod trees;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use headpond_tests::eventually;

/// What an attempt that must fail answers.
fn errno<T>(what: &str, result: std::io::Result<T>) -> Result<i32> {
    let Err(error) = result else { anyhow::bail!("{what} succeeds") };
    error.raw_os_error().with_context(|| format!("{what} answers {error}, which is no errno"))
}

/// Fails unless the file at `path` holds these bytes.
fn must_read(path: &Path, bytes: &[u8]) -> Result<()> {
    let read = std::fs::read(path).with_context(|| path.display().to_string())?;
    ensure!(read == bytes, "{} holds {} bytes that differ from the {}", path.display(), read.len(), bytes.len());
    Ok(())
}

/// Waits until the file at `path` holds these bytes: another mount hears of a change right after it was answered.
fn must_soon_read(path: &Path, bytes: &[u8]) -> Result<()> {
    let soon = eventually("it is heard of", || Ok(std::fs::read(path).is_ok_and(|read| read == bytes)));
    soon.or_else(|late| must_read(path, bytes).context(late.to_string()))
}

/// Waits until nothing is called so any more.
fn must_soon_be_gone(path: &Path) -> Result<()> {
    let soon = eventually("it is heard of", || Ok(!path.exists()));
    soon.with_context(|| format!("{} is still there", path.display()))
}

/// Names in a directory, in order.
fn names(path: &Path) -> std::io::Result<Vec<String>> {
    let entries = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = entries.collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
