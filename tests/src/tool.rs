//! Programs that tests run and that are built once, outside the tree.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// The program of that name that `make tools` (or `make minio`) built into the cache folder of the tests.
///
/// # Errors
/// It is not there; the message says how it is had.
pub fn tool(name: &str) -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let path = cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("headpond-tests/bin").join(name);
    let target = if name == "minio" { "minio" } else { "tools" };
    ensure!(path.is_file(), "no {name} at {}: `make {target}` builds it", path.display());
    Ok(path)
}
