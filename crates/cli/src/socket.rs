//! Where a worker's unix socket goes when nobody says.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use headpond_types::{Error, ErrorKind, Result};

/// Longest path of a unix socket: `sun_path` has 108 bytes with a NUL (unix(7)).
const PATH_MAX: usize = 107;

/// The socket of a worker that keeps what it has in `dir`: in there, or, if that has too long a path, in a directory of this
/// user's with a short one, under a name made from `dir`.
pub(crate) fn path(dir: &Path) -> PathBuf {
    let direct = dir.join("worker.sock");
    if direct.as_os_str().len() <= PATH_MAX {
        return direct;
    }
    let name = crc32c::crc32c(dir.as_os_str().as_encoded_bytes());
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let user = rustix::process::geteuid().as_raw();
    let short = runtime.unwrap_or_else(|| std::env::temp_dir().join(format!("headpond-{user}")));
    short.join(format!("headpond-{name:08x}.sock"))
}

/// Makes the directory of the socket that [`path`] chose for `dir`, for this user alone. Any other socket is in good hands.
///
/// # Errors
/// `PermissionDenied` when the directory belongs to somebody else.
pub(crate) fn prepare(socket: &Path, dir: &Path) -> Result<()> {
    if socket != path(dir) || socket.starts_with(dir) {
        return Ok(());
    }
    match socket.parent() {
        Some(above) => own_directory(above),
        None => Ok(()),
    }
}

fn own_directory(path: &Path) -> Result<()> {
    let failed = |error: io::Error| {
        let message = format!("directory {} of the worker's socket cannot be made: set worker.socket", path.display());
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::InvalidArgument,
        };
        Error::new(kind, message).with_source(error)
    };
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(failed)?;
            if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() {
                return Ok(());
            }
            let message = format!(
                "the directory {} of the worker's socket belongs to somebody else: set worker.socket",
                path.display()
            );
            Err(Error::new(ErrorKind::PermissionDenied, message))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_directory_gets_its_socket_elsewhere() {
        assert_eq!(path(Path::new("/s")), Path::new("/s/worker.sock"));
        let deep = PathBuf::from(format!("/{}", "x".repeat(200)));
        let socket = path(&deep);
        assert!(socket.as_os_str().len() <= PATH_MAX && socket != path(&deep.join("y")));
    }

    #[test]
    fn a_directory_is_made_for_this_user_alone() {
        let root = tempfile::tempdir().expect("a directory");
        let mine = root.path().join("mine");
        own_directory(&mine).expect("made");
        own_directory(&mine).expect("there already");
        assert_eq!(fs::metadata(&mine).expect("a directory").mode() & 0o777, 0o700);
        prepare(&root.path().join("none/x.sock"), root.path()).expect("configured elsewhere");
        assert!(!root.path().join("none").exists());
    }
}
