//! `headpond fs location`.

use clap::Args;
use headpond_types::{BLOCK_SIZE, Error, ErrorKind, NsPath};
use serde::Serialize;

use crate::{
    failure::{Result, print},
    output::{PathJson, Table, escape, size},
    session::Session,
};

/// Say which workers own and cache a file.
///
/// A file is cut into blocks of 64 MiB; each has an owner, which fetches it from the store. Other workers may have
/// copies.
#[derive(Debug, Args)]
pub(super) struct LocationArgs {
    /// Files.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
}

#[derive(Debug, Serialize)]
struct LocationJson {
    #[serde(flatten)]
    path: PathJson,
    content: String,
    bytes: u64,
    blocks: Vec<BlockJson>,
    workers: Vec<WorkerJson>,
}

#[derive(Debug, Serialize)]
struct BlockJson {
    offset: u64,
    bytes: u64,
    /// Id of the worker; `null` while there is none.
    owner: Option<u32>,
}

#[derive(Debug, Serialize)]
struct WorkerJson {
    worker: u32,
    address: String,
    node: String,
    zone: String,
    /// Blocks of this file that it owns.
    blocks: u64,
    /// `null` when the worker does not answer.
    cached_bytes: Option<u64>,
}

pub(super) async fn run(session: &mut Session, args: &LocationArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        let location = locate(session, path).await?;
        if session.out.is_json() {
            return session.out.json(&location);
        }
        let path = escape(&path.to_bytes());
        let blocks = location.blocks.len();
        session.out.line(&format!("{path}: {} in {blocks} blocks", size(location.bytes, true)))?;
        let mut table = Table::new(&["WORKER", "ADDRESS", "NODE", "ZONE", "OWNS", "CACHED"]);
        for worker in location.workers {
            let cached = worker.cached_bytes.map_or_else(|| "unknown".to_owned(), |bytes| size(bytes, true));
            let WorkerJson { worker, address, node, zone, blocks, .. } = worker;
            table.row(vec![worker.to_string(), address, node, zone, format!("{blocks} blocks"), cached]);
        }
        table.print(&mut session.out)
    })
    .await
}

async fn locate(session: &Session, path: &NsPath) -> Result<LocationJson> {
    let attr = session.stat(path).await?;
    let content = attr.content.ok_or_else(|| {
        Error::new(ErrorKind::IsADirectory, format!("{path} is not a file: only files have a place in the cache"))
    })?;
    let ring = session.client.ring().await?;
    let owner = |block| ring.owner(content, block).map(|member| member.id.0);
    let block = |block: u64| {
        let offset = block * BLOCK_SIZE;
        BlockJson { offset, bytes: BLOCK_SIZE.min(attr.size - offset), owner: owner(block) }
    };
    let blocks: Vec<_> = (0..attr.size.div_ceil(BLOCK_SIZE)).map(block).collect();
    let mut workers = Vec::new();
    for presence in session.client.presence(&[content]).await? {
        let cached_bytes = match presence.cached_bytes {
            Ok(bytes) => bytes.first().copied(),
            Err(error) => {
                print(&error);
                None
            }
        };
        let (id, member) = (presence.worker.id.0, presence.worker);
        workers.push(WorkerJson {
            worker: id,
            address: member.address,
            node: member.node,
            zone: member.zone,
            blocks: blocks.iter().filter(|block| block.owner == Some(id)).count() as u64,
            cached_bytes,
        });
    }
    Ok(LocationJson { path: path.into(), content: content.to_string(), bytes: attr.size, blocks, workers })
}
