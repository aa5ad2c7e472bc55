//! Listens on the unix socket, whose file belongs to one live worker at a time.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    os::unix::net::UnixStream as BlockingStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use headpond_runtime::Tasks;
use headpond_types::{ContentId, Error, ErrorKind, Result};
use tokio::{net::UnixListener, sync::broadcast};

use super::session::Session;
use crate::{reader::Reader, staging::Stager};

/// Longest path that fits `sockaddr_un` with its final NUL (unix(7)).
const MAX_PATH: usize = 107;

/// A bound socket; its file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Binds `path`, readable by its owner alone. A file left by a dead process is replaced.
    ///
    /// # Errors
    /// `InvalidArgument` for a path that is too long, cannot be bound, or is not a socket; `AlreadyExists` when a live
    /// process listens there.
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        let shown = path.display();
        let invalid = |message: String| Error::new(ErrorKind::InvalidArgument, message);
        let length = path.as_os_str().len();
        if length > MAX_PATH {
            return Err(invalid(format!(
                "socket path {shown} has {length} bytes, the system allows {MAX_PATH}: choose a shorter one"
            )));
        }
        if let Ok(found) = fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(invalid(format!("{shown} exists and is not a socket: choose another path or remove it")));
            }
            match BlockingStream::connect(path) {
                Ok(_) => {
                    let message = format!("another process listens on {shown}: stop it or choose another socket path");
                    return Err(Error::new(ErrorKind::AlreadyExists, message));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(|error| {
                        invalid(format!("cannot remove the stale socket {shown}: remove it")).with_source(error)
                    })?;
                }
                Err(error) => {
                    return Err(invalid(format!("cannot tell whether {shown} is in use")).with_source(error));
                }
            }
        }
        let cannot_bind = |error: io::Error| {
            invalid(format!("cannot bind the socket {shown}: its directory must exist and be writable"))
                .with_source(error)
        };
        let socket = UnixListener::bind(path).map_err(cannot_bind)?;
        let listener = Self { socket, path: path.to_owned() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(cannot_bind)?;
        Ok(listener)
    }

    /// Serves every connection until shutdown begins; each then ends by itself. `recalls` tells which lent contents are
    /// wanted back.
    pub(crate) async fn serve(
        self,
        reader: Arc<Reader>,
        stager: Arc<Stager>,
        recalls: broadcast::Sender<ContentId>,
        tasks: Tasks,
    ) {
        loop {
            let accepted = tokio::select! {
                () = tasks.shutdown().begun() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => {
                    let session = Session::new(socket, Arc::clone(&reader), Arc::clone(&stager), tasks.clone());
                    tasks.spawn(session.serve(recalls.subscribe()));
                }
                Err(error) => {
                    tracing::warn!(%error, socket = %self.path.display(), "cannot accept a local client");
                    // Out of descriptors, most likely: some must be closed first.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("worker.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "the standard library leaves the file");
        let live = Listener::bind(&path).expect("the stale one is replaced");
        let mode = fs::metadata(&path).expect("bound").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = Listener::bind(&path).expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        drop(live);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn paths_that_cannot_be_a_socket_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = |path: PathBuf| Listener::bind(&path).expect_err("refused").to_string();
        assert!(refused(dir.path().join("x".repeat(120))).contains("the system allows 107"));
        assert!(refused(dir.path().join("missing/worker.sock")).contains("its directory must exist"));
        fs::write(dir.path().join("file"), "precious").expect("written");
        assert!(refused(dir.path().join("file")).contains("not a socket"));
        assert!(dir.path().join("file").exists());
    }
}
