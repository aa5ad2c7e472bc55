//! `headpond admin status`.

use std::time::Duration;

use headpond_runtime::units;
use serde::Serialize;

use crate::{
    failure::{Result, remark},
    output::size,
    session::Session,
};

#[derive(Debug, Serialize)]
struct StatusJson {
    /// Identity of the cluster, in hexadecimal.
    cluster: String,
    version: String,
    uptime_ms: u64,
    mounts: u64,
    workers: u64,
    clients: u64,
    inodes: u64,
    file_bytes: u64,
    cache_capacity: u64,
    cache_used: u64,
    applied_index: u64,
    journal_bytes: u64,
    skipped_keys: u64,
    problems: Vec<String>,
}

pub(super) async fn run(session: &mut Session) -> Result<()> {
    let status = session.client.admin().status().await?;
    let sizes = session.client.stat_fs().await?;
    let json = StatusJson {
        cluster: format!("{:016x}", status.cluster),
        version: status.version,
        uptime_ms: u64::try_from(status.uptime.as_millis()).unwrap_or(u64::MAX),
        mounts: status.mounts,
        workers: status.workers,
        clients: status.clients,
        inodes: status.inodes,
        file_bytes: sizes.bytes,
        cache_capacity: sizes.cache_capacity,
        cache_used: sizes.cache_used,
        applied_index: status.applied_index,
        journal_bytes: status.journal_bytes,
        skipped_keys: status.skipped_keys,
        problems: status.problems,
    };
    let out = &mut session.out;
    if out.is_json() {
        return out.json(&json);
    }
    let uptime = units::format_duration(Duration::from_secs(json.uptime_ms / 1000));
    let of = format!("{} of {} used", size(json.cache_used, true), size(json.cache_capacity, true));
    out.line(&format!("cluster    {}, headpond {}, up for {uptime}", json.cluster, json.version))?;
    out.line(&format!("serves     {} mounts, {} workers, {} clients", json.mounts, json.workers, json.clients))?;
    out.line(&format!("namespace  {} inodes, {} in files", json.inodes, size(json.file_bytes, true)))?;
    out.line(&format!("cache      {of}"))?;
    out.line(&format!("journal    {} at entry {}", size(json.journal_bytes, true), json.applied_index))?;
    if json.skipped_keys > 0 {
        out.line(&format!("left out   {} keys that cannot be written as paths", json.skipped_keys))?;
    }
    out.flush()?;
    json.problems.iter().for_each(|problem| remark(problem));
    Ok(())
}
