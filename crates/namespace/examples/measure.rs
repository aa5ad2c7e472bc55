//! Measures the namespace and its journal: `cargo run --release -p headpond-namespace --example measure -- [INODES] [DIRECTORY]`.
//!
//! Prints disk per inode, loads and lookups per second without a journal; then durable small commands per second at 1 and 64 proposers
//! beside single synced appends of the same size to a plain file on the same disk.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use headpond_journal::{Journal, JournalConfig, Position, StateMachine};
use headpond_namespace::{Command, Mount, Namespace, Observed, ObservedKind};
use headpond_types::{ContentId, InodeId, MountId, Name, NsPath, RequestId, Timestamp};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Entries in one command, as in a page of a listing.
const PAGE: u64 = 1000;
/// How long each rate is measured.
const WHILE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let inodes: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let base = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("headpond-measure-{}", std::process::id()));
    let measured = async {
        tables(&dir, inodes)?;
        raw(&dir)?;
        for in_flight in [1, 2] {
            for proposers in [1, 64, 512] {
                journalled(&dir, proposers, in_flight).await?;
            }
        }
        Ok(())
    };
    let result = measured.await;
    std::fs::remove_dir_all(&dir)?;
    result
}

fn mount() -> Command {
    let mount = Mount {
        id: MountId(0),
        path: NsPath::root(),
        uri: "s3://bucket".to_owned(),
        options: [].into(),
        read_only: true,
        sync_interval_ms: None,
        uid: 0,
        gid: 0,
        file_mode: 0o644,
        dir_mode: 0o755,
        persistence: Default::default(),
    };
    Command::AddMount { request: RequestId(1), mount, now: Timestamp(0) }
}

/// Numbers spread over all 128 bits, the same every time.
fn spread(number: u64) -> u128 {
    let mixed = (u128::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    mixed ^ mixed >> 67
}

/// A name of 62 bytes, as Spark makes them.
fn name(number: u64) -> Result<Name, Failure> {
    Ok(Name::new(format!("part-{:05}-{:032x}.c000.zst.parquet", number % 100_000, spread(number)))?)
}

fn observed(number: u64) -> Result<Observed, Failure> {
    let object = ObservedKind::File {
        size: 1 << 20 | number,
        mtime: Timestamp(1_700_000_000_000_000_000 + i64::try_from(number)? * 1_000_000),
        version: format!("\"{:032x}\"", spread(number ^ 77)),
        content: ContentId(spread(number ^ 99)),
    };
    Ok(Observed { name: name(number)?, object })
}

fn tables(dir: &Path, inodes: u64) -> Result<(), Failure> {
    let dir = dir.join("tables");
    let namespace = Namespace::open(&dir, 1 << 30)?;
    let mut index = 0;
    let mut apply = |commands: &[Command]| {
        index += 1;
        namespace.apply(Position { term: 1, index }, &commands.iter().collect::<Vec<_>>())
    };
    let directories = inodes.div_ceil(10 * PAGE);
    let names = (0..directories)
        .map(|nth| Ok(Observed { name: Name::new(format!("d{nth}"))?, object: ObservedKind::Directory }));
    let entries = names.collect::<Result<Vec<_>, Failure>>()?;
    apply(&[mount(), Command::Upsert { dir: InodeId::ROOT, entries, at: Timestamp(0) }])?;
    let parents: Vec<_> =
        namespace.snapshot()?.list(InodeId::ROOT, None, usize::MAX)?.into_iter().map(|(_, attr)| attr.inode).collect();

    let mut applying = Duration::ZERO;
    let mut where_is = Vec::new();
    for page in 0..inodes / PAGE {
        let dir = parents[usize::try_from(page / 10)?];
        // A listing comes in the order of the names.
        let numbers = page * PAGE..(page + 1) * PAGE;
        let mut entries = numbers.clone().map(observed).collect::<Result<Vec<_>, _>>()?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        where_is.extend(numbers.map(|number| (dir, number)));
        let command = Command::Upsert { dir, entries, at: Timestamp(0) };
        let start = Instant::now();
        apply(&[command])?;
        applying += start.elapsed();
    }
    let start = Instant::now();
    namespace.make_durable()?;
    applying += start.elapsed();
    let loaded = where_is.len() as u64;
    let disk: u64 = std::fs::read_dir(&dir)?.map(|file| Ok(file?.metadata()?.len())).sum::<std::io::Result<u64>>()?;
    let held = allocated(&dir)?;
    println!("loaded {loaded} inodes, {} a second", rate(loaded, applying));
    println!("disk {} bytes an inode ({} allocated)", disk / loaded, held / loaded);

    let wanted = (0..200_000u64).map(|nth| where_is[usize::try_from(spread(nth) % u128::from(loaded)).unwrap_or(0)]);
    let wanted = wanted.map(|(dir, number)| Ok((dir, name(number)?))).collect::<Result<Vec<_>, Failure>>()?;
    for round in ["first", "again"] {
        let start = Instant::now();
        let snapshot = namespace.snapshot()?;
        for (dir, name) in &wanted {
            assert!(snapshot.lookup(*dir, name)?.is_some(), "{name} is missing");
        }
        println!("lookups in one snapshot, {round}: {} a second", rate(wanted.len() as u64, start.elapsed()));
    }
    let start = Instant::now();
    for (dir, name) in &wanted {
        assert!(namespace.snapshot()?.lookup(*dir, name)?.is_some(), "{name} is missing");
    }
    println!("lookups, a snapshot each: {} a second", rate(wanted.len() as u64, start.elapsed()));
    let start = Instant::now();
    let listed: usize = parents
        .iter()
        .map(|dir| Ok(namespace.snapshot()?.list(*dir, None, usize::MAX)?.len()))
        .sum::<Result<_, Failure>>()?;
    println!("entries listed with attributes: {} a second", rate(listed as u64, start.elapsed()));
    drop(namespace);
    let start = Instant::now();
    drop(Namespace::open(&dir, 1 << 30)?);
    println!("opened again in {:?}", start.elapsed());
    Ok(())
}

fn allocated(dir: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::read_dir(dir)?.map(|file| Ok(file?.metadata()?.blocks() * 512)).sum::<std::io::Result<u64>>()?)
}

fn raw(dir: &Path) -> Result<(), Failure> {
    let mut file = File::create(dir.join("raw"))?;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < WHILE {
        file.write_all(&[7; 200])?;
        file.sync_data()?;
        count += 1;
    }
    println!("plain appends of 200 bytes, each synced: {} a second", rate(count, start.elapsed()));
    Ok(())
}

async fn journalled(dir: &Path, proposers: u64, in_flight: usize) -> Result<(), Failure> {
    let dir = dir.join(format!("journalled-{proposers}-{in_flight}"));
    let namespace = Arc::new(Namespace::open(&dir.join("tables"), 1 << 28)?);
    let config = JournalConfig { entries_in_flight: in_flight, ..JournalConfig::new(dir.join("journal")) };
    let journal = Arc::new(Journal::open(config, Arc::clone(&namespace)).await?);
    journal.propose(mount()).await?;
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..proposers {
        let journal = Arc::clone(&journal);
        tasks.spawn(async move {
            let mut number = task;
            let mut waits = Vec::new();
            while start.elapsed() < WHILE {
                let entries = vec![observed(number)?];
                let asked = Instant::now();
                journal.propose(Command::Upsert { dir: InodeId::ROOT, entries, at: Timestamp(1) }).await?;
                waits.push(asked.elapsed());
                number += proposers;
            }
            Ok::<_, Failure>(waits)
        });
    }
    let mut waits = Vec::new();
    while let Some(task) = tasks.join_next().await {
        waits.extend(task??);
    }
    let elapsed = start.elapsed();
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100];
    println!(
        "creates, {proposers} proposers, {in_flight} in flight: {} a second, p50 {:?}, p99 {:?}",
        rate(waits.len() as u64, elapsed),
        at(50),
        at(99)
    );
    journal.shutdown().await?;
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate to print"
)]
fn rate(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64()) as u64
}
