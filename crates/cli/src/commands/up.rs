//! `headpond up`: master, worker and mount in one process.
//!
//! The parts start in the order in which they need each other and end in the reverse. What cannot start takes everything
//! with it that was made for it, so that a second try finds what the first one found.

mod args;
mod banner;
mod place;
mod plan;
mod pond;
mod store;

use headpond_runtime::{Ending, Signals};

pub(crate) use args::UpArgs;
pub(crate) use plan::default_settings;

use crate::{failure::Result, part::interrupted, process};
use plan::Plan;
use pond::Pond;

pub(crate) fn run(args: UpArgs) -> Result<()> {
    let plan = Plan::new(args)?;
    process::run(&plan.settings.log.clone(), async |signals| Box::pin(up(plan, signals)).await)
}

async fn up(plan: Plan, signals: &mut Signals) -> Result<Ending> {
    let made = plan.make_directories()?;
    let mut pond = Pond::default();
    let started = tokio::select! {
        started = pond.start(&plan) => started,
        signal = signals.next() => Err(interrupted(signal)),
    };
    if let Err(error) = started {
        signals.or_force(pond.end()).await;
        drop(made);
        return Err(error.into());
    }
    made.keep(pond.is_mounted());
    banner::print(&plan, &pond)?;
    let signal = signals.next().await;
    tracing::info!(signal, "ending");
    Ok(signals.or_force(pond.end()).await)
}
