//! Processes killed at points that have names in their code. Needs a binary with the feature `failpoints`.

mod later;
mod through;
mod work;

use std::{sync::Mutex, time::Instant};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::eventually_within;

use self::work::{EITHER, EITHER_LATER, HOME};
use super::{CONVERGED, Dies, Victim, must_converge, objects_of};
use crate::{check::must_be_clean, durability, lake::Lake};

/// How many are killed at the same time, each in a cluster of its own: most of it is waiting.
const AT_ONCE: usize = 4;

/// Who is killed, and when.
#[derive(Clone, Copy, Debug)]
struct Kill {
    /// That of the mount.
    durability: &'static str,
    /// Whose code the point is in.
    passes: Victim,
    /// Its name.
    point: &'static str,
    /// At which pass. What is done before in [`work::work`] decides which step it is of.
    pass: u32,
    dies: Dies,
}

impl Kill {
    const fn new(durability: &'static str, passes: Victim, point: &'static str, pass: u32, dies: Dies) -> Self {
        Self { durability, passes, point, pass, dies }
    }

    /// As many workers, which all hold what is acknowledged, as it takes to pass the point.
    fn workers(&self) -> usize {
        if self.point == "mirror::copied" { 2 } else { 1 }
    }

    /// Whether the point is passed for bytes that come over the network only.
    fn is_remote(&self) -> bool {
        self.point == "stage::written"
    }

    fn happens(&self) -> Result<()> {
        let begun = Instant::now();
        let mut lake = Lake::of(work::before())?;
        let builder = durability::cluster(&lake, self.durability).workers(self.workers());
        let builder = builder.store(&["--copies", &self.workers().to_string()]);
        // What is left by one who died is there no longer than this.
        let builder = builder.env("HEADPOND_MASTER__WRITE_LEASE", "10s");
        // Whether a busy store has begun an upload is not known when its answer is not waited for.
        let patient = self.dies.victim(self.passes) == Some(Victim::Mount);
        let builder = if patient { builder.env("HEADPOND_MASTER__STORE_DEADLINE", "30s") } else { builder };
        let mut cluster = builder.start()?;
        let root = cluster.path(0, HOME);
        ensure!(objects_of(&root)?.len() == work::seen_before(), "not everything is seen before");
        if self.is_remote() {
            cluster.mounts[0].kill()?;
            cluster.mounts[0].env("HEADPOND_CLIENT__NODE", "without-a-worker");
            cluster.mounts[0].launch()?;
        }
        let ids = self.dies.ids(self.passes, &lake, &mut cluster)?;
        self.passes.kill(&mut cluster)?;
        for part in self.passes.parts(&mut cluster) {
            part.env("HEADPOND_KILL_AT", format!("{}={}", self.point, self.pass)).env("HEADPOND_KILL_PID", &ids);
        }
        self.passes.launch(&mut cluster)?;
        cluster.wait_workers(self.workers())?;
        cluster.wait_session(0, HOME)?;
        let working = work::work(root.clone(), cluster.command(&["fs", "rm", "-r", &format!("/{HOME}/tree")])?);
        self.dies.wait(self.passes, &mut lake, &mut cluster)?;
        self.dies.start_again(self.passes, &mut lake, &mut cluster)?;
        let done = working.join().map_err(|_| anyhow::anyhow!("the work panicked"))??;
        let worked = begun.elapsed();
        let must_settle = || {
            let mut wrong = None;
            let settled = eventually_within(CONVERGED, "all is as it was told", || {
                wrong = work::check(&root, &done).err();
                Ok(wrong.is_none())
            });
            match (settled, wrong) {
                (Err(late), Some(wrong)) => Err(wrong.context(late.to_string())),
                (settled, _) => settled,
            }
        };
        must_settle()?;
        work::finish(&root)?;
        let is_later = self.durability != "through";
        if self.durability == "scratch" {
            cluster.run_ok(&["fs", "persist", &format!("/{HOME}")])?;
        }
        if is_later {
            cluster.run_ok(&["fs", "sync", "/", "--timeout", "90s"])?;
        }
        must_converge(&lake, &root, &format!("{HOME}/"), if is_later { &EITHER_LATER } else { &EITHER })?;
        must_be_clean(&cluster, CONVERGED)?;
        // Others than a mount may have begun one that they did not hear of.
        if patient {
            lake.must_have_no_uploads()?;
        }
        let failed: Vec<_> = done.iter().filter(|(_, ended)| !ended.is_acknowledged()).collect();
        println!("{self}: not acknowledged: {failed:?}, worked until {worked:.1?}, settled at {:.1?}", begun.elapsed());
        work::check(&root, &done)
    }
}

impl std::fmt::Display for Kill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { durability, passes, point, pass, dies } = self;
        write!(f, "{dies:?} killed on {durability} when {passes:?} passes {point} for the {pass}. time")
    }
}

/// Some at the same time; fails with the first, when all have ended.
fn each(kills: impl IntoIterator<Item = Kill>, at_once: usize) -> Result<()> {
    let kills: Vec<_> = kills.into_iter().collect();
    let next = Mutex::new(kills.iter());
    let lane = || {
        let take = || next.lock().expect("no panic while held").next();
        std::iter::from_fn(take).map(|kill| kill.happens().with_context(|| kill.to_string())).collect::<Vec<_>>()
    };
    let ended: Vec<_> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..at_once).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("they return errors")).collect()
    });
    for error in ended.iter().filter_map(|ended| ended.as_ref().err()) {
        println!("{error:?}");
    }
    ended.into_iter().collect::<Result<Vec<()>>>().map(drop)
}

/// Kills who passes the points.
fn each_itself(durability: &'static str, victim: Victim, points: &[(&'static str, u32)]) -> Result<()> {
    each(points.iter().map(|(point, pass)| Kill::new(durability, victim, point, *pass, Dies::Itself)), AT_ONCE)
}
