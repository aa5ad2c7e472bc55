//! The driver for a directory tree: relative paths are keys.
//!
//! * A directory is an object of no bytes under its path with a trailing slash, as a marker is on S3; so empty directories are seen.
//! * A version is made of inode, mtime, ctime and length. Two writes in place within one tick of the kernel's clock (up to
//!   10 ms before Linux 6.13) that leave the length alone cannot be told apart; files replaced by a rename always can.
//! * Paths are resolved by the kernel below the root (`openat2`, `RESOLVE_BENEATH`): no symbolic link leads out. Links to
//!   files within the root are followed, links to directories are not listed.
//! * Files keep owner, mode and time that the system gives them, whatever their [`Label`] says: who stores a file has to be able to read it.
//! * What is written appears by a rename of a file in [`STAGING`], which no key reaches.
//! * A root that is gone, or lies on another file system than at the start, is an error and never an empty store.

mod path;
mod read;
mod staging;
mod tag;
mod walk;
mod write;

use std::{
    fmt,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use headpond_types::{ByteRange, ContentId};
use rustix::{
    fs::{Mode, OFlags, fstat, open},
    io::Errno,
};

use crate::{
    BodyStream, Capabilities, Key, Label, ListPage, ListRequest, ObjectMeta, Precondition, UfsError, UfsErrorKind,
    UnderStore,
};

/// The directory below the root for files being written; hidden from every operation.
pub(crate) const STAGING: &str = ".headpond-staging";

/// A directory tree.
#[derive(Clone)]
pub struct Local(Arc<Shared>);

struct Shared {
    root: PathBuf,
    device: u64,
    identity: String,
    capabilities: Capabilities,
    /// Listings whose next page is expected; held only to take one out or put one in.
    walks: Mutex<walk::Waiting>,
}

impl Local {
    /// The tree below `directory`, which must be an absolute path.
    ///
    /// # Errors
    /// `NoSuchStore` when it does not exist or is no directory, `Refused` when it may not be read.
    pub async fn open(directory: &Path) -> Result<Self, UfsError> {
        let directory = directory.to_owned();
        blocking(move || {
            let root = open_root(&directory)?;
            let device = fstat(&root).map_err(|error| root_error(&directory, error))?.st_dev;
            Ok(Self(Arc::new(Shared {
                identity: format!("file://{}", String::from_utf8_lossy(directory.as_os_str().as_bytes())),
                root: directory,
                device,
                capabilities: Capabilities {
                    conditional_put: true,
                    conditional_copy: true,
                    copy_through: None,
                    conditional_delete: true,
                    max_deletes: 1,
                    ordered_listing: true,
                    native_directories: true,
                    native_rename: true,
                    min_part_size: 1,
                    max_parts: 10_000,
                    max_put_size: u64::MAX,
                    // Paths are followed name by name.
                    max_key: usize::MAX,
                },
                walks: Mutex::default(),
            })))
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, UfsError> + Send + 'static,
    ) -> Result<T, UfsError> {
        let shared = Arc::clone(&self.0);
        blocking(move || work(&shared)).await
    }
}

impl Shared {
    /// The root, if it is still the one that was opened at the start.
    fn root(&self) -> Result<OwnedFd, UfsError> {
        let root = open_root(&self.root)?;
        let stat = fstat(&root).map_err(|error| root_error(&self.root, error))?;
        if stat.st_dev == self.device {
            return Ok(root);
        }
        let why = "lies on another file system than at the start; mount it again, or restart to accept it";
        Err(UfsError::new(UfsErrorKind::NoSuchStore, format!("directory {} {why}", self.root.display())))
    }

    fn error(&self, kind: UfsErrorKind, key: &Key, why: &str) -> UfsError {
        UfsError::new(kind, format!("{}/{key} {why}", self.identity))
    }

    /// What a failed system call on `key` means.
    fn failure(&self, doing: &str, key: &Key, errno: Errno) -> UfsError {
        let (kind, why) = match errno {
            Errno::NOENT | Errno::NOTDIR => return self.error(UfsErrorKind::NotFound, key, "does not exist"),
            Errno::ACCESS | Errno::PERM => (UfsErrorKind::Refused, "; check owner and mode"),
            Errno::XDEV | Errno::LOOP => (UfsErrorKind::Refused, "; a symbolic link leads out of the directory"),
            Errno::ROFS => (UfsErrorKind::Refused, "; the file system is mounted read-only"),
            Errno::NOSPC | Errno::DQUOT => (UfsErrorKind::Transient, "; free some space"),
            Errno::NAMETOOLONG => (UfsErrorKind::TooLong, "; file systems take names of up to 255 bytes"),
            Errno::ISDIR => (UfsErrorKind::Invalid, "; there is a directory of that name"),
            Errno::NOSYS => (UfsErrorKind::Unsupported, "; Linux 5.6 or newer is needed"),
            _ => (UfsErrorKind::Transient, ""),
        };
        UfsError::new(kind, format!("cannot {doing} {}/{key}{why}", self.identity)).with_source(errno)
    }
}

fn open_root(directory: &Path) -> Result<OwnedFd, UfsError> {
    open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| root_error(directory, error))
}

fn root_error(directory: &Path, errno: Errno) -> UfsError {
    let shown = directory.display();
    let (kind, message) = match errno {
        Errno::NOENT => (UfsErrorKind::NoSuchStore, format!("directory {shown} does not exist; create or mount it")),
        Errno::NOTDIR => (UfsErrorKind::NoSuchStore, format!("{shown} is not a directory; name one")),
        Errno::ACCESS | Errno::PERM => {
            (UfsErrorKind::Refused, format!("directory {shown} may not be read; check owner and mode"))
        }
        _ => (UfsErrorKind::Transient, format!("cannot open directory {shown}")),
    };
    UfsError::new(kind, message).with_source(errno)
}

/// Runs blocking work on tokio's threads for it; dropped, the work goes on to its end.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UfsError> + Send + 'static,
) -> Result<T, UfsError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => {
                let message = "the process is shutting down while a file is accessed";
                Err(UfsError::new(UfsErrorKind::Transient, message).with_source(cancelled))
            }
        },
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("root", &self.0.root).finish_non_exhaustive()
    }
}

#[async_trait]
impl UnderStore for Local {
    fn identity(&self) -> &str {
        &self.0.identity
    }

    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, UfsError> {
        let request = request.clone();
        self.run(move |shared| shared.list(&request)).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, UfsError> {
        let key = key.clone();
        self.run(move |shared| shared.head(&key)).await
    }

    async fn get(&self, key: &Key, range: ByteRange, version: &str) -> Result<BodyStream, UfsError> {
        let (shared, key, version) = (Arc::clone(&self.0), key.clone(), version.to_owned());
        blocking(move || read::Reading::begin(shared, key, range, version)).await.map(read::Reading::into_body)
    }

    async fn put_as(
        &self,
        key: &Key,
        body: Bytes,
        condition: &Precondition,
        label: Label,
    ) -> Result<ObjectMeta, UfsError> {
        let (key, condition) = (key.clone(), condition.clone());
        self.run(move |shared| shared.put(&key, &body, &condition, label.content)).await
    }

    async fn create_multipart_as(&self, key: &Key, label: Label) -> Result<String, UfsError> {
        let key = key.clone();
        self.run(move |shared| shared.create_upload(&key, label.content)).await
    }

    async fn put_part(&self, key: &Key, upload: &str, number: u32, body: Bytes) -> Result<String, UfsError> {
        let (key, upload) = (key.clone(), upload.to_owned());
        self.run(move |shared| shared.put_part(&key, &upload, number, &body)).await
    }

    async fn copy_part(
        &self,
        key: &Key,
        upload: &str,
        number: u32,
        source: &Key,
        range: ByteRange,
        version: &str,
    ) -> Result<String, UfsError> {
        let (key, upload, source, version) = (key.clone(), upload.to_owned(), source.clone(), version.to_owned());
        self.run(move |shared| shared.copy_part(&key, &upload, number, &source, &range, &version)).await
    }

    async fn complete_multipart(
        &self,
        key: &Key,
        upload: &str,
        parts: &[(u32, String)],
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        let (key, upload, parts, condition) = (key.clone(), upload.to_owned(), parts.to_vec(), condition.clone());
        self.run(move |shared| shared.complete_upload(&key, &upload, &parts, &condition)).await
    }

    async fn abort_multipart(&self, key: &Key, upload: &str) -> Result<(), UfsError> {
        let (key, upload) = (key.clone(), upload.to_owned());
        self.run(move |shared| shared.abort_upload(&key, &upload)).await
    }

    async fn copy_as(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        let (source, version, key, condition) = (source.clone(), version.to_owned(), key.clone(), condition.clone());
        self.run(move |shared| shared.copy(&source, &version, &key, &condition, content)).await
    }

    async fn delete(&self, key: &Key, condition: &Precondition) -> Result<(), UfsError> {
        let (key, condition) = (key.clone(), condition.clone());
        self.run(move |shared| shared.delete(&key, &condition)).await
    }
}
