//! Calls to the master from 64 clients, against empty calls to it in the same run.

use anyhow::{Context as _, Result, ensure};
use headpond_proto::v1::{
    BatchLookupRequest, LookupRequest, ProbeRequest, ResolveRequest, admin_service_client::AdminServiceClient,
    lookup_result, master_service_client::MasterServiceClient,
};
use headpond_tests::noise;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::{
    report::Report,
    world::{Scale, World, float},
};

/// Clients at once, each with a connection of its own.
const CLIENTS: u64 = 64;
/// Names in one batch.
const BATCH: u64 = 500;

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let world = World::new()?;
    let names = 2_000 / scale.divisor.min(2);
    world.put((0..names).map(|n| (format!("d/{n:05}"), noise(n, 10))))?;
    let pond = world.pond().start()?;
    ensure!(std::fs::read_dir(pond.path("d"))?.count() as u64 == names, "files are missing");
    let (channels, parent) = world.runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", pond.master()))?;
        let mut channels = Vec::new();
        for _ in 0..CLIENTS {
            channels.push(endpoint.connect().await?);
        }
        let request = ResolveRequest { path: "/d".into(), ..Default::default() };
        let answer = MasterServiceClient::new(channels[0].clone()).resolve(request).await?.into_inner();
        anyhow::Ok((channels, answer.attr.context("/d is there")?.inode))
    })?;
    let calls = 1_000 / scale.divisor;
    let batches = 10;

    let each = |work: Work| world.runtime.block_on(fan_out(&channels, work, parent, names));
    report.compare(
        scale,
        "durable small commands, 64 clients, against empty calls",
        "/s",
        "≥ 0.4 ×",
        || each(Work::Empty(calls)),
        || each(Work::Durable(calls)),
    )?;
    report.compare(
        scale,
        "lookups one by one, 64 clients, against empty calls",
        "/s",
        "≥ 0.8 ×",
        || each(Work::Empty(calls)),
        || each(Work::Lookup(calls)),
    )?;
    report.compare(
        scale,
        "lookups in batches of 500, 64 clients, against empty calls",
        "/s",
        "≥ 200 k/s",
        || each(Work::Empty(calls)),
        || each(Work::Batch(batches)),
    )?;
    Ok(())
}

#[derive(Clone, Copy)]
enum Work {
    Empty(u64),
    Durable(u64),
    Lookup(u64),
    Batch(u64),
}

/// Does the work in each of the clients at once and answers how much was done in all.
async fn fan_out(channels: &[Channel], work: Work, parent: u64, names: u64) -> Result<f64> {
    let mut clients = JoinSet::new();
    for (seed, channel) in (0..).zip(channels.iter().cloned()) {
        clients.spawn(async move {
            let mut admin = AdminServiceClient::new(channel.clone());
            let mut master = MasterServiceClient::new(channel);
            let lookup =
                |n: u64| LookupRequest { parent, name: format!("{:05}", n % names).into(), ..Default::default() };
            let done = match work {
                Work::Empty(count) | Work::Durable(count) => {
                    for _ in 0..count {
                        admin.probe(ProbeRequest { durable: matches!(work, Work::Durable(_)) }).await?;
                    }
                    count
                }
                Work::Lookup(count) => {
                    for n in 0..count {
                        let answer = master.lookup(lookup(n + seed * 31)).await?.into_inner();
                        ensure!(answer.attr.is_some(), "a name is missing");
                    }
                    count
                }
                Work::Batch(count) => {
                    for n in 0..count {
                        let lookups = (0..BATCH).map(|m| lookup(n * BATCH + m + seed * 31)).collect();
                        let answer =
                            master.batch_lookup(BatchLookupRequest { lookups, known_only: false }).await?.into_inner();
                        let found = answer.results.iter().filter(|result| {
                            matches!(&result.result, Some(lookup_result::Result::Found(found)) if found.attr.is_some())
                        });
                        ensure!(found.count() as u64 == BATCH, "names are missing");
                    }
                    count * BATCH
                }
            };
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(client) = clients.join_next().await {
        done += client??;
    }
    Ok(float(done))
}
