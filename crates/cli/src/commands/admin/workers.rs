//! `headpond admin workers`.

use headpond_client::WorkerStatus;
use headpond_runtime::units;
use serde::Serialize;

use crate::{
    failure::{Result, remark},
    output::{Table, size},
    session::Session,
};

#[derive(Debug, Serialize)]
struct WorkerJson<'a> {
    worker: u32,
    address: &'a str,
    socket: &'a str,
    node: &'a str,
    zone: &'a str,
    live: bool,
    silent_ms: u64,
    capacity: u64,
    used: u64,
    pages: u64,
    contents: u64,
    problems: &'a [String],
}

pub(super) async fn run(session: &mut Session) -> Result<()> {
    let workers = session.client.admin().workers().await?;
    if session.out.is_json() {
        return workers.iter().try_for_each(|worker| session.out.json(&WorkerJson::from(worker)));
    }
    let mut table = Table::new(&["WORKER", "ADDRESS", "NODE", "ZONE", "STATE", "CAPACITY", "USED", "CONTENTS"]);
    for worker in &workers {
        let member = &worker.member;
        let state = if worker.live {
            "live".to_owned()
        } else {
            let seconds = std::time::Duration::from_secs(worker.silent.as_secs());
            format!("silent for {}", units::format_duration(seconds))
        };
        table.row(vec![
            member.id.to_string(),
            member.address.clone(),
            member.node.clone(),
            member.zone.clone(),
            state,
            size(worker.capacity, true),
            size(worker.used, true),
            worker.contents.to_string(),
        ]);
    }
    table.print(&mut session.out)?;
    session.out.flush()?;
    for worker in &workers {
        worker.problems.iter().for_each(|problem| remark(&format!("worker {}: {problem}", worker.member.id)));
    }
    Ok(())
}

impl<'a> From<&'a WorkerStatus> for WorkerJson<'a> {
    fn from(status: &'a WorkerStatus) -> Self {
        let member = &status.member;
        Self {
            worker: member.id.0,
            address: &member.address,
            socket: &member.socket,
            node: &member.node,
            zone: &member.zone,
            live: status.live,
            silent_ms: u64::try_from(status.silent.as_millis()).unwrap_or(u64::MAX),
            capacity: status.capacity,
            used: status.used,
            pages: status.pages,
            contents: status.contents,
            problems: &status.problems,
        }
    }
}
