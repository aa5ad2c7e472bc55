//! Asks under stores and brings what they say into the namespace.

use std::{sync::Arc, time::Duration};

use headpond_namespace::{Command, Observed, ObservedKind, Snapshot};
use headpond_runtime::{Clock, Tasks};
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Name, Result, Timestamp};
use headpond_ufs::{Key, ListRequest, Listed, UnderStore};
use tokio::time::sleep;

use super::{
    difference::{is_same, stays},
    first_page::{FirstPage, FirstPages},
    flight::{Flight, Flights},
    freshness::{Bounds, Freshness},
    hollow::Hollow,
    left_out::LeftOut,
    metrics::SyncMetrics,
    progress::Progress,
    run::{Outcome, Run, Scope, stale},
    survey::{LIMIT, Surveys},
    translate::observed,
};
use crate::{catalog::Catalog, lookup::describe, mount::LiveMount, mounts::Mounts};

/// A directory of at most this many entries comes in one page: for one name in it, it is listed again as a whole.
const SMALL: u64 = 1000;

/// A directory whose objects are moved while it is asked for is asked for so often.
const TRIES: u32 = 10;

/// Pause before the second time, and doubled before each further one: half a second in all.
const PAUSE: Duration = Duration::from_millis(1);

/// The engine; one per master.
#[derive(Debug)]
pub(crate) struct SyncEngine {
    catalog: Arc<Catalog>,
    mounts: Arc<Mounts>,
    freshness: Freshness,
    metrics: SyncMetrics,
    listings: Flights<Scope, Progress>,
    /// Nobody reads along in these: they may be given up.
    surveying: Flights<InodeId, Progress>,
    surveys: Surveys,
    checks: Flights<(InodeId, Name), ()>,
    first_pages: FirstPages,
    left_out: LeftOut,
    hollow: Hollow,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

impl SyncEngine {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        mounts: Arc<Mounts>,
        metrics: SyncMetrics,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Self {
        Self {
            catalog,
            mounts,
            freshness: Freshness::new(),
            metrics,
            listings: Flights::new(clock.clone(), tasks.clone()),
            surveying: Flights::new(clock.clone(), tasks.clone()),
            surveys: Surveys::new(),
            checks: Flights::new(clock.clone(), tasks.clone()),
            first_pages: FirstPages::new(),
            left_out: LeftOut::default(),
            hollow: Hollow::new(),
            clock,
            tasks,
        }
    }

    /// The listing of `scope` for somebody who arrived at `arrived`: one under way that `bounds` allow, or a new one, which goes on
    /// from a first page that they allow. It goes on whether or not anybody waits. Cancel-safe.
    ///
    /// # Errors
    /// `Unavailable` when the master is shutting down, the namespace's; the listing itself tells its own in [`Flight::landed`].
    pub(crate) async fn listing(
        self: &Arc<Self>,
        mount: &Arc<LiveMount>,
        scope: Scope,
        bounds: Bounds,
        arrived: Timestamp,
    ) -> Result<Arc<Flight<Progress>>> {
        let first = if scope.recursive { None } else { self.first_page(mount, scope.dir, bounds, arrived)? };
        let began = first.as_ref().map(|first| first.began);
        let (engine, mount) = (self.clone(), mount.clone());
        let ask = move |flight| async move {
            engine.list(&mount, scope, flight, first).await.inspect_err(|_| {
                engine.metrics.failures.inc();
            })
        };
        self.listings.join(scope, |began| bounds.answers(began, arrived), began, Progress::new, ask).await
    }

    /// Lists until the directory at the top is known: what a listing showed whose objects were moved meanwhile does not count.
    async fn list(
        self: &Arc<Self>,
        mount: &Arc<LiveMount>,
        scope: Scope,
        flight: Arc<Flight<Progress>>,
        mut first: Option<FirstPage>,
    ) -> Result<()> {
        let mut began = flight.began;
        for nth in 0..TRIES {
            self.metrics.listings.inc();
            let (engine, mount, flight) = (self.clone(), mount.clone(), flight.clone());
            Run::perform(engine, mount, scope, flight, began, first.take(), None).await?;
            let snapshot = self.snapshot()?;
            if snapshot.listed(scope.dir)?.is_some() || snapshot.attr(scope.dir)?.is_none() {
                return Ok(());
            }
            sleep(PAUSE * (1 << nth)).await;
            began = self.clock.now();
        }
        Err(self.moves_too_fast(scope.dir))
    }

    fn moves_too_fast(&self, dir: InodeId) -> Error {
        let path = self.snapshot().map(|snapshot| describe(&snapshot, dir)).unwrap_or_default();
        Error::new(
            ErrorKind::Unavailable,
            format!("objects of {path} are moved faster than they are listed: try again later"),
        )
    }

    /// Has the store asked about one name, and gives when the asking began; the namespace holds the answer then. A small
    /// directory is listed as a whole, which answers for all its names. Cancel-safe.
    ///
    /// # Errors
    /// Those of store and journal; the namespace is as it was then.
    pub(crate) async fn check(
        self: &Arc<Self>,
        mount: &Arc<LiveMount>,
        dir: InodeId,
        name: &Name,
        bounds: Bounds,
        arrived: Timestamp,
    ) -> Result<Timestamp> {
        let listed = self.snapshot()?.listed(dir)?;
        if !bounds.is_always() && listed.is_some_and(|listed| listed.entries <= SMALL) {
            let flight = self.listing(mount, Scope { dir, recursive: false }, bounds, arrived).await?;
            flight.landed().await?;
            return Ok(flight.began);
        }
        let (engine, asked_of) = (self.clone(), mount.clone());
        let key = (dir, name.clone());
        let name = name.clone();
        let ask = move |flight: Arc<Flight<()>>| async move {
            engine.metrics.checks.inc();
            let mut began = flight.began;
            for nth in 0..TRIES {
                let checked = engine.check_name(&asked_of, dir, name.clone(), bounds, began).await;
                if checked.inspect_err(|_| {
                    engine.metrics.failures.inc();
                })? {
                    return Ok(());
                }
                sleep(PAUSE * (1 << nth)).await;
                began = engine.clock.now();
            }
            Err(engine.moves_too_fast(dir))
        };
        let flight = self.checks.join(key, |began| bounds.answers(began, arrived), None, || (), ask).await?;
        flight.landed().await?;
        if !bounds.is_always() && self.surveys.is_due(dir) {
            self.survey(mount, dir, bounds, arrived).await?;
        }
        Ok(flight.began)
    }

    /// Has a directory listed in the background, to its end if that is not far.
    async fn survey(
        self: &Arc<Self>,
        mount: &Arc<LiveMount>,
        dir: InodeId,
        bounds: Bounds,
        arrived: Timestamp,
    ) -> Result<()> {
        let first = self.first_page(mount, dir, bounds, arrived)?;
        let began = first.as_ref().map(|first| first.began);
        let (engine, mount) = (self.clone(), mount.clone());
        let ask = move |flight: Arc<Flight<Progress>>| async move {
            engine.metrics.listings.inc();
            let scope = Scope { dir, recursive: false };
            match Run::perform(engine.clone(), mount, scope, flight.clone(), flight.began, first, Some(LIMIT)).await {
                Ok(Outcome::Complete) => engine.surveys.completed(dir),
                Ok(Outcome::GivenUp) => {}
                Err(_) => {
                    engine.metrics.failures.inc();
                }
            }
            Ok(())
        };
        self.surveying.join(dir, |_| true, began, Progress::new, ask).await.map(|_| ())
    }

    /// The first page that came when `dir` was looked up, if `bounds` allow it and no listing has ended since.
    fn first_page(
        &self,
        mount: &LiveMount,
        dir: InodeId,
        bounds: Bounds,
        arrived: Timestamp,
    ) -> Result<Option<FirstPage>> {
        let Some(first) = self.first_pages.take(dir) else { return Ok(None) };
        let listed = self.freshness.directory(&self.snapshot()?, dir)?;
        let serves = first.mount == mount.mount.id
            && first.is_recent(arrived)
            && bounds.answers(first.began, arrived)
            && listed.is_none_or(|listed| listed < first.began);
        Ok(serves.then_some(first))
    }

    pub(crate) const fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    pub(crate) const fn metrics(&self) -> &SyncMetrics {
        &self.metrics
    }

    pub(super) const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(crate) fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.catalog.snapshot()
    }

    pub(super) async fn propose(&self, command: Command) -> Result<()> {
        self.catalog.propose(command).await.map(|_| ())
    }

    /// Tells the namespace what the listing `own`, or a survey, shows of `dir`. While another lists the same, its readers may have
    /// a part that lacks an entry, and must hear.
    pub(super) async fn propose_listed(&self, own: Option<Scope>, dir: InodeId, command: Command) -> Result<()> {
        let overlaps = |other: &Scope| match own {
            Some(own) => *other != own && (other.recursive || own.recursive),
            None => other.recursive || other.dir == dir,
        };
        if self.listings.any(overlaps) {
            return self.propose(command).await;
        }
        self.catalog.propose_listed(command).await.map(|_| ())
    }

    /// The keys that are left out.
    pub(crate) const fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// The prefixes that hold nothing.
    pub(super) const fn hollow(&self) -> &Hollow {
        &self.hollow
    }

    /// Says, where it was not said before, that keys were left out of `dir`.
    pub(super) fn note_skipped(&self, mount: &LiveMount, dir: InodeId, prefix: &[u8], skipped: u64) {
        let before = self.left_out.note(dir, skipped);
        if skipped == before {
            return;
        }
        self.metrics.skipped.inc_by(skipped.saturating_sub(before));
        let (mount, prefix) = (&mount.mount.path, String::from_utf8_lossy(prefix));
        tracing::warn!(%mount, %prefix, skipped, "keys that no path can express are left out of this directory");
    }

    /// Whether `store` has anything under the prefix `key`, which ends in `/`.
    pub(super) async fn is_directory(&self, mount: &LiveMount, store: &Arc<dyn UnderStore>, key: Key) -> Result<bool> {
        let request = ListRequest { prefix: key, max_keys: 1, ..ListRequest::default() };
        let page = mount.ask("list", &request.prefix, store.list(&request)).await?;
        Ok(page.is_some_and(|page| !page.entries.is_empty()))
    }

    /// Whether nothing lies below `key`, the prefix that the store lists as `name` in `dir`. It is asked where that was so before, and where the
    /// namespace knows no directory of that name but a client has changed what there was: a server that is killed meanwhile may list what it has left of it.
    pub(super) async fn is_hollow(
        &self,
        mount: &LiveMount,
        store: &Arc<dyn UnderStore>,
        dir: InodeId,
        name: &[u8],
        key: &Key,
    ) -> Result<bool> {
        let Ok(name) = Name::new(name) else { return Ok(false) };
        let is_suspect = || -> Result<bool> {
            if self.hollow.contains(dir, name.as_bytes()) {
                return Ok(true);
            }
            let was_changed = self.freshness.was_changed(dir, &name);
            Ok(was_changed && self.snapshot()?.lookup(dir, &name)?.is_none_or(|attr| attr.kind != FileKind::Directory))
        };
        if store.capabilities().native_directories || !is_suspect()? {
            return Ok(false);
        }
        if self.is_directory(mount, store, key.clone()).await? {
            self.hollow.remove(dir, name.as_bytes());
            return Ok(false);
        }
        self.hollow.note(dir, name.as_bytes());
        Ok(true)
    }

    /// Asks for `name` both as an object and as a directory: only both answers together say that it does not exist. As a directory
    /// it is asked for as by its listing, unless `bounds` forbid that a listing goes on from there. Whether the answer counts: not if objects
    /// were moved meanwhile, and nobody knows better.
    async fn check_name(
        &self,
        mount: &LiveMount,
        dir: InodeId,
        name: Name,
        bounds: Bounds,
        began: Timestamp,
    ) -> Result<bool> {
        self.catalog.denials().note(dir, &name);
        let store = mount.store().await?;
        let location = self.snapshot()?.location(dir)?;
        let location = location.filter(|location| location.mount == mount.mount.id).ok_or_else(|| stale(dir))?;
        let key = match &location.key[..] {
            [] => name.as_bytes().to_vec(),
            above => [above, b"/", name.as_bytes()].concat(),
        };
        let file_key = mount.object_key(&key);
        let max_keys = u32::from(bounds.is_always());
        let first =
            ListRequest { prefix: mount.directory_key(&key), delimited: true, max_keys, ..ListRequest::default() };
        let (object, below) = futures::future::join(
            mount.ask("find", &file_key, store.head(&file_key)),
            mount.ask("list", &first.prefix, store.list(&first)),
        )
        .await;
        let mut below = below?.filter(|page| !page.entries.is_empty());
        if let Some(page) = &below
            && page.entries.iter().all(|listed| matches!(listed, Listed::Prefix(_)))
            && self.is_hollow(mount, store, dir, name.as_bytes(), &first.prefix).await?
        {
            below = None;
        }
        let seen = match below {
            Some(_) => Some(ObservedKind::Directory),
            None => object?.map(|meta| observed(store.identity(), &meta)),
        };

        let snapshot = self.snapshot()?;
        let listed = self.freshness.directory(&snapshot, dir)?;
        if listed.is_none_or(|listed| listed <= began) {
            let known = snapshot.lookup(dir, &name)?;
            let is_overtaken = self.freshness.moved_since(&snapshot, dir, began)?;
            if is_overtaken && snapshot.listed(dir)?.is_none() && known.is_none() {
                return Ok(false);
            }
            let changed_since = is_overtaken || self.freshness.is_newer(dir, &name, began);
            let stays = match &known {
                Some(known) => stays(&snapshot, known)?,
                None => false,
            };
            drop(snapshot);
            if changed_since {
                return Ok(true);
            }
            if !stays && let Some(command) = self.correction(mount, dir, &name, known, seen, began) {
                if let Command::Forget { .. } = command {
                    self.hollow.note(dir, name.as_bytes());
                }
                self.propose(command).await?;
            }
            self.freshness.entry_checked(dir, &name, began);
        }
        if let (Some(page), false) = (below, bounds.is_always())
            && let Some(found) = self.snapshot()?.lookup(dir, &name)?
            && found.mount == mount.mount.id
        {
            self.first_pages.keep(found.inode, FirstPage { mount: found.mount, prefix: first.prefix, began, page });
        }
        Ok(true)
    }

    /// The command that makes the namespace say what the store says.
    fn correction(
        &self,
        mount: &LiveMount,
        dir: InodeId,
        name: &Name,
        known: Option<Attr>,
        seen: Option<ObservedKind>,
        at: Timestamp,
    ) -> Option<Command> {
        match (known, seen) {
            (Some(known), _) if known.mount != mount.mount.id || self.mounts.table().is_fixed(known.inode) => None,
            (Some(known), Some(seen)) if is_same(&known, &seen) => None,
            (_, Some(object)) => {
                Some(Command::Upsert { dir, entries: vec![Observed { name: name.clone(), object }], at })
            }
            (Some(known), None) => Some(Command::Forget { dir, entries: vec![(name.clone(), known.inode)] }),
            (None, None) => None,
        }
    }
}
