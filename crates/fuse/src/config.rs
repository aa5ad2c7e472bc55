//! What a FUSE mount can be told.

use std::{path::PathBuf, time::Duration};

use headpond_runtime::units;
use headpond_types::NsPath;
use serde::{Deserialize, Serialize};

/// Configuration of a FUSE mount. Every field needs a new mount to change. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FuseConfig {
    /// An existing directory. No default.
    pub mountpoint: PathBuf,
    /// Directory of the namespace that is shown. Default: `/`.
    #[serde(with = "ns_path")]
    pub root: NsPath,
    /// What `df` and `findmnt` show after `headpond:`, such as the under store's URI. Default: empty.
    pub label: String,
    /// For training data: the kernel opens files without asking, which makes opening small files several times faster; no
    /// passthrough and no changes then. Default: `false`.
    pub dataset: bool,
    /// Refuse every change with `EROFS`; always so for a dataset mount. Default: `false`.
    pub read_only: bool,
    /// Whether other users may use the mount (file permissions hold all the same). Unset: if this process may allow it
    /// (root, or `user_allow_other` in `/etc/fuse.conf`). `true` where it may not: the mount is refused.
    pub allow_other: Option<bool>,
    /// Mount over a directory that has entries, which are hidden meanwhile. Default: `false`.
    pub nonempty: bool,
    /// Let the kernel read complete files without the daemon, where it can (Linux 6.9, root). Default: `true`.
    pub passthrough: bool,
    /// A cache directory of this node's worker. Only needed when it lies on overlayfs: passthrough then takes the one level of
    /// stacking more that otherwise allows this mount to be a layer of an overlayfs. Default: unset.
    pub cache_dir: Option<PathBuf>,
    /// Threads that take requests from the kernel; 0: one for each core, 2 to 16. More helps only with many cores, less saves
    /// a little memory. Default: 0.
    pub threads: usize,
    /// The longest that the kernel may believe an attribute or an entry; the validity that the master gives is the other bound.
    /// Less shows changes sooner when invalidations get lost, more saves requests. Default: `30s`.
    #[serde(with = "units::duration")]
    pub max_ttl: Duration,
    /// Deadline of one request to the cluster, over the client's own. Default: `1m`.
    #[serde(with = "units::duration")]
    pub request_timeout: Duration,
    /// Readahead of the kernel in bytes (needs root); 0 leaves the kernel's 128 KiB. More reads large files through the daemon in
    /// larger pieces, and wastes more on random reads. Default: `4 MiB`.
    #[serde(with = "units::bytes")]
    pub read_ahead: u64,
    /// Program that is started beside the mount to watch over it, with the arguments [`crate::GUARD_COMMAND`], the mount point and
    /// the device: it must call [`crate::guard_mount`] with them. Only with a guard does the kernel hear at once of names that
    /// changed. Default: none.
    #[serde(skip)]
    pub guard: Option<PathBuf>,
}

impl FuseConfig {
    /// The defaults, at `mountpoint`.
    pub fn new(mountpoint: impl Into<PathBuf>) -> Self {
        Self { mountpoint: mountpoint.into(), ..Self::default() }
    }

    /// Whether the mount takes no changes.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only || self.dataset
    }
}

impl Default for FuseConfig {
    fn default() -> Self {
        Self {
            mountpoint: PathBuf::new(),
            root: NsPath::root(),
            label: String::new(),
            dataset: false,
            read_only: false,
            allow_other: None,
            nonempty: false,
            passthrough: true,
            cache_dir: None,
            threads: 0,
            max_ttl: Duration::from_secs(30),
            request_timeout: Duration::from_mins(1),
            read_ahead: 4 << 20,
            guard: None,
        }
    }
}

/// Paths as text.
mod ns_path {
    use headpond_types::NsPath;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(path: &NsPath, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(path)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NsPath, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
