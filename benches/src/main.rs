//! Whole-system benchmarks. Each row measures Headpond and its baseline in turn, in the same run, and prints the ratio:
//! machines differ and drift, ratios hold. `docs/benchmarks.md` holds a run with its machine and commit.

mod cold;
mod later;
mod listing;
mod master;
mod memory;
mod report;
mod sdk;
mod small;
mod stat;
mod warm;
mod world;
mod write;

use anyhow::Result;
use clap::Parser;

use crate::{report::Report, world::Scale};

/// Runs the benchmarks and prints a table.
#[derive(Debug, Parser)]
#[command(name = "headpond-benches")]
struct Arguments {
    /// Run only the groups named here.
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Measured rounds of each row, after one that is not counted.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A tenth of the data, to see whether everything runs.
    #[arg(long)]
    quick: bool,
    /// Print the table as Markdown.
    #[arg(long)]
    markdown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// Warm sequential and random reads of one large file.
    Warm,
    /// Open, read and close of warm small files.
    Small,
    /// Attributes of warm files and of missing names.
    Stat,
    /// Cold reads, and what the store sends for them.
    Cold,
    /// Reads through the SDK over TCP.
    Sdk,
    /// Calls to the master.
    Master,
    /// A prefix of many keys.
    Listing,
    /// Memory and start.
    Memory,
    /// Writing, renaming and moving objects.
    Write,
    /// Writing to mounts whose files are persisted after close, and commits of jobs.
    Later,
}

type Run = fn(Scale, &mut Report) -> Result<()>;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let scale = Scale { divisor: if arguments.quick { 10 } else { 1 }, rounds: arguments.rounds.max(1) };
    let mut report = Report::new(arguments.markdown);
    let runs: [(Group, Run); 10] = [
        (Group::Warm, warm::run),
        (Group::Small, small::run),
        (Group::Stat, stat::run),
        (Group::Cold, cold::run),
        (Group::Sdk, sdk::run),
        (Group::Master, master::run),
        (Group::Listing, listing::run),
        (Group::Memory, memory::run),
        (Group::Write, write::run),
        (Group::Later, later::run),
    ];
    for (group, run) in runs {
        if arguments.groups.is_empty() || arguments.groups.contains(&group) {
            run(scale, &mut report)?;
        }
    }
    report.finish();
    Ok(())
}
