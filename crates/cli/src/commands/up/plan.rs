//! What `headpond up` is to run, and where.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use headpond_client::Persistence;
use headpond_types::{Error, ErrorKind, Result};
use headpond_ufs::StoreUri;
use headpond_worker::CacheDir;

use super::{UpArgs, place::Made};
use crate::{
    commands::mount,
    failure,
    settings::{self, Role, Settings, flag},
    socket,
};

/// The store when none is named.
const LAKE: &str = "lake";

/// Where state and cache lie, and where the mount goes, when nobody says.
pub(super) const STATE_DIR: &str = ".headpond";
pub(super) const MOUNTPOINT: &str = "pond";

/// What lies in a lake that we made.
const README: &str = "\
This directory is the store of `headpond up`: what you put here appears in the mount, ./pond, and what you write there
appears here.
";

/// The cache takes no more than this, and no more than half of what is free, unless it is told to.
const CACHE_SIZE: u64 = 16 << 30;

/// What to run and where.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    /// The store that the namespace's root shows.
    pub(super) store: StoreUri,
    pub(super) options: BTreeMap<String, String>,
    pub(super) sync_interval: Option<Duration>,
    /// The store takes no changes.
    pub(super) read_only: bool,
    /// How the store gets what is written.
    pub(super) persistence: Persistence,
    pub(super) state_dir: PathBuf,
    /// Where to mount; `None` not at all.
    pub(super) mountpoint: Option<PathBuf>,
    /// A lake to make if it is not there.
    lake: Option<PathBuf>,
}

/// The directories that were made for a plan.
#[derive(Debug)]
pub(super) struct Places {
    store: Made,
    mountpoint: Made,
}

impl Plan {
    /// Reads settings and checks what can be checked without changing anything.
    pub(super) fn new(args: UpArgs) -> failure::Result<Self> {
        let state_dir = absolute(&args.state_dir)?;
        let (store, lake) = store(args.uri.as_deref())?;
        let cache_dir = args.cache_dir.as_deref().map(absolute).transpose()?;
        let mut defaults = defaults(&state_dir, cache_dir, args.cache_size);
        store.to_string().clone_into(&mut defaults.mount.label);
        let given = args.cache_dir.is_some() || args.cache_size.is_some();
        let layers = settings::layers(&defaults, &args.process)?;
        let layers = flag(layers, "--cache-dir", "worker.dirs", given.then_some(&defaults.worker.dirs))?;
        let layers = flag(layers, "--master-bind", "master.bind", args.master_bind.as_ref())?;
        let layers = flag(layers, "--worker-bind", "worker.bind", args.worker_bind.as_ref())?;
        let layers = flag(layers, "--http-bind", "http.bind", args.http_bind.as_ref())?;
        let layers = flag(layers, "--read-only", "mount.read_only", args.read_only.then_some(&true))?;
        let mut settings = Settings::load(&mount::apply(&args.options, layers)?)?;
        settings.client.node.clone_from(&settings.worker.node);
        if settings.mount.cache_dir.is_none() {
            settings.mount.cache_dir = settings.worker.dirs.first().map(|dir| dir.path.clone());
        }
        "up".clone_into(&mut settings.client.name);

        let mountpoint = if args.no_mount { None } else { Some(absolute(&args.mountpoint)?) };
        if let Some(mountpoint) = &mountpoint {
            settings.mount.mountpoint.clone_from(mountpoint);
        }
        let path_style = args.path_style.then(|| "true".to_owned());
        let options = [
            ("endpoint", args.endpoint),
            ("region", args.region),
            ("credentials", args.credentials),
            ("profile", args.profile),
            ("path_style", path_style),
        ];
        let options = options.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        let sync_interval = args.sync_interval.map_or(settings.master.sync_interval, |interval| interval.0);
        let (read_only, persistence) = (args.read_only, args.durability.into());
        Ok(Self { settings, store, options, sync_interval, read_only, persistence, state_dir, mountpoint, lake })
    }

    /// Makes the directories that are missing.
    pub(super) fn make_directories(&self) -> Result<Places> {
        let mut places = Places { store: Made::default(), mountpoint: Made::default() };
        if let Some(mountpoint) = &self.mountpoint {
            places.mountpoint.directory("mount point", mountpoint)?;
            check_mountpoint(mountpoint, self.settings.mount.nonempty)?;
        }
        places.store.state(&self.state_dir)?;
        if let Some(socket) = &self.settings.worker.socket {
            socket::prepare(socket, &self.state_dir)?;
        }
        if let Some(lake) = &self.lake
            && places.store.directory("store", lake)?
        {
            places.store.file(&lake.join("README.txt"), README)?;
        }
        Ok(places)
    }
}

impl Places {
    /// The start has succeeded. A mount point that nothing is mounted on is not kept.
    pub(super) fn keep(self, mounted: bool) {
        self.store.keep();
        if mounted {
            self.mountpoint.keep();
        }
    }
}

/// What `headpond config show --for up` shows: the defaults of an `up` without arguments.
pub(crate) fn default_settings() -> Result<Settings> {
    let mut defaults = defaults(&absolute(Path::new(STATE_DIR))?, None, None);
    let (store, _) = store(None)?;
    store.to_string().clone_into(&mut defaults.mount.label);
    defaults.mount.mountpoint = absolute(Path::new(MOUNTPOINT))?;
    Ok(defaults)
}

/// The settings where file, environment and flags say nothing.
fn defaults(state_dir: &Path, cache_dir: Option<PathBuf>, cache_size: Option<u64>) -> Settings {
    let path = cache_dir.unwrap_or_else(|| state_dir.join("worker/cache"));
    let capacity = cache_size.unwrap_or_else(|| default_cache_size(&path));
    let mut defaults = Settings::of(Role::Up);
    defaults.master.state_dir = state_dir.join("master");
    defaults.worker.dirs = vec![CacheDir { path, capacity }];
    defaults.worker.socket = Some(socket::path(state_dir));
    defaults
}

/// The store that the command line names, and the lake to make if it names none.
fn store(uri: Option<&str>) -> Result<(StoreUri, Option<PathBuf>)> {
    let Some(uri) = uri else {
        let lake = absolute(Path::new(LAKE))?;
        return Ok((StoreUri::of_directory(&lake)?, Some(lake)));
    };
    let directory = Path::new(uri);
    if !uri.contains("://") && directory.is_dir() {
        let directory = directory.canonicalize().map_err(|error| unusable(directory, error))?;
        return Ok((StoreUri::of_directory(&directory)?, None));
    }
    Ok((StoreUri::parse(uri)?, None))
}

/// Refuses before anything has started what the mount would refuse in the end. A dead mount is for the mount to clear.
fn check_mountpoint(path: &Path, nonempty: bool) -> Result<()> {
    let Ok(mut entries) = path.read_dir() else { return Ok(()) };
    if !nonempty && entries.next().is_some() {
        let message =
            format!("mount point {} is not empty: name an empty directory, or add -o nonempty", path.display());
        return Err(Error::new(ErrorKind::NotEmpty, message));
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("directory {} cannot be used", path.display())).with_source(error)
}

/// Half of what is free where `dir` is or will be, within reason.
fn default_cache_size(dir: &Path) -> u64 {
    let there = dir.ancestors().find(|above| above.is_dir());
    let free = there.and_then(|there| rustix::fs::statvfs(there).ok()).map(|stat| stat.f_bavail * stat.f_frsize);
    CACHE_SIZE.min(free.unwrap_or(CACHE_SIZE) / 2) >> 20 << 20
}
