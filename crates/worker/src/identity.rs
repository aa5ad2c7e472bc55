//! What a worker keeps across restarts beside its pages: who it is, and its cluster as last described.
//!
//! Both lie in the first cache directory. With the description a restarted worker serves known contents while no master can
//! be reached. Losing it costs nothing but that; losing the uuid makes it a new worker.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use headpond_proto::v1::RegisterResponse;
use headpond_runtime::durable::replace;
use headpond_types::{Error, ErrorKind, Result};
use prost::Message as _;
use uuid::Uuid;

/// Holds the uuid as text.
const UUID: &str = "worker.uuid";

/// Holds an encoded `RegisterResponse`.
const CLUSTER: &str = "worker.cluster";

/// The files of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    dir: PathBuf,
    uuid: Uuid,
}

impl Identity {
    /// The identity kept in `dir`, or a new one. Blocks.
    ///
    /// # Errors
    /// `InvalidArgument` when it can neither be read nor made, or is damaged.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(UUID);
        let failed = |error: io::Error| {
            let message = format!("cannot keep the worker's identity in {}: repair the directory", path.display());
            Error::new(ErrorKind::InvalidArgument, message).with_source(error)
        };
        let uuid = match fs::read_to_string(&path) {
            Ok(text) => Uuid::parse_str(text.trim()).map_err(|error| {
                let message =
                    format!("{} holds no uuid: remove it, the worker then gets a new identity", path.display());
                Error::new(ErrorKind::InvalidArgument, message).with_source(error)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let uuid = Uuid::new_v4();
                replace(dir, UUID, format!("{uuid}\n").as_bytes()).map_err(failed)?;
                uuid
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { dir: dir.to_owned(), uuid })
    }

    /// The uuid under which this worker registers.
    pub(crate) fn uuid(&self) -> String {
        self.uuid.to_string()
    }

    /// The cluster as last kept; `None` if it never was, or cannot be read. Blocks.
    pub(crate) fn cluster(&self) -> Option<RegisterResponse> {
        let path = self.dir.join(CLUSTER);
        let kept = fs::read(&path).ok()?;
        RegisterResponse::decode(&kept[..])
            .inspect_err(
                |error| tracing::warn!(%error, path = %path.display(), "cannot read what was kept of the cluster"),
            )
            .ok()
    }

    /// Keeps the cluster for the next start. Blocks.
    ///
    /// # Errors
    /// Those of the file system; what was kept before is still there.
    pub(crate) fn keep_cluster(&self, cluster: &RegisterResponse) -> io::Result<()> {
        replace(&self.dir, CLUSTER, &cluster.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_and_cluster_survive_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = Identity::open(dir.path()).expect("made");
        assert_eq!(identity.cluster(), None);
        let cluster = RegisterResponse { worker: 7, grant_key: "key".into(), ..RegisterResponse::default() };
        identity.keep_cluster(&cluster).expect("kept");
        let again = Identity::open(dir.path()).expect("found");
        assert_eq!((again.uuid(), again.cluster()), (identity.uuid(), Some(cluster)));
    }

    #[test]
    fn a_damaged_identity_is_an_error_and_a_damaged_cluster_is_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = Identity::open(dir.path()).expect("made");
        fs::write(dir.path().join(CLUSTER), [0xff; 9]).expect("written");
        assert_eq!(identity.cluster(), None);
        fs::write(dir.path().join(UUID), "nonsense").expect("written");
        assert!(Identity::open(dir.path()).expect_err("damaged").to_string().contains("holds no uuid"));
    }
}
