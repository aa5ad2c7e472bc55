//! Writing through a mount whose files are persisted after close has returned, or only later, or never.

mod appends;
mod changes;
mod conflicts;
mod copies;
mod deferred;
mod kills;
mod limit;
mod minute;
mod order;
mod outages;
mod told;
mod versions;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{Cluster, ClusterBuilder};

use crate::lake::Lake;

/// A cluster whose mount shows the bucket so durably.
pub(crate) fn cluster(lake: &Lake, durability: &str) -> ClusterBuilder {
    // What a killed mount may still believe is waited for no longer than this; who has to wait for the store hears of it before he gives up.
    let lake = lake.cluster().store(&["--durability", durability]);
    lake.env("HEADPOND_MASTER__CLIENT_LEASE", "2s").env("HEADPOND_CLIENT__METADATA_TIMEOUT", "8s")
}

/// Waits until the bucket has all that was acknowledged.
fn sync(cluster: &Cluster) -> Result<()> {
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "90s"]).map(drop)
}

/// Fails unless the file at `path` holds these bytes.
fn must_read(path: &Path, bytes: &[u8]) -> Result<()> {
    let read = std::fs::read(path).with_context(|| path.display().to_string())?;
    ensure!(read == bytes, "{} holds {} bytes that differ from the {}", path.display(), read.len(), bytes.len());
    Ok(())
}

/// The objects of what is below a mount point, and those that may be there or not: markers of directories that are not empty.
fn objects_of(root: &Path) -> Result<(BTreeMap<String, Bytes>, BTreeSet<String>)> {
    let (mut objects, mut either) = (BTreeMap::new(), BTreeSet::new());
    let mut open = vec![String::new()];
    while let Some(below) = open.pop() {
        let mut entries = 0;
        for entry in std::fs::read_dir(root.join(&below)).with_context(|| format!("listing /{below}"))? {
            let entry = entry?;
            entries += 1;
            let path = format!("{below}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                open.push(format!("{path}/"));
            } else {
                let body = std::fs::read(entry.path()).with_context(|| format!("reading /{path}"))?;
                objects.insert(path, body.into());
            }
        }
        match entries {
            _ if below.is_empty() => {}
            0 => drop(objects.insert(below, Bytes::new())),
            _ => {
                either.insert(below);
            }
        }
    }
    Ok((objects, either))
}

/// Waits for the bucket to have everything, and fails unless it then is exactly what the first mount shows.
fn must_be_persisted(lake: &Lake, cluster: &Cluster) -> Result<()> {
    sync(cluster)?;
    let (objects, either) = objects_of(&cluster.path(0, ""))?;
    lake.must_be(&objects, &either)
}
