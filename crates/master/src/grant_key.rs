//! The secret that grants are signed with: 32 bytes in a file of the state directory that only its owner can read.
//!
//! It is made at the first start. It never enters the journal, a log or an answer; workers get the public key.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind as IoKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use headpond_proto::grant::GrantSigner;
use headpond_types::{Error, ErrorKind, Result};

const FILE: &str = "grant.key";

/// The signer of `cluster` with the key of `state_dir`, which is made if there is none. Blocks on the disk.
///
/// # Errors
/// `PermissionDenied` when others may read the key, `Corrupt` when it is not 32 bytes, `Unavailable` when the file cannot be
/// read or written.
pub(crate) fn open(state_dir: &Path, cluster: u64) -> Result<GrantSigner> {
    let path = state_dir.join(FILE);
    let failed = |what: &str, error| {
        Error::new(ErrorKind::Unavailable, format!("cannot {what} the grant key {}", path.display())).with_source(error)
    };
    let seed = match fs::read(&path) {
        Ok(seed) => {
            let mode = fs::metadata(&path).map_err(|error| failed("read", error))?.permissions().mode();
            if mode & 0o077 != 0 {
                let message = format!("others may read the grant key {0}: run chmod 600 {0}", path.display());
                return Err(Error::new(ErrorKind::PermissionDenied, message));
            }
            seed
        }
        Err(error) if error.kind() == IoKind::NotFound => {
            let seed: [u8; 32] = rand::random();
            create(state_dir, &path, &seed).map_err(|error| failed("write", error))?;
            seed.to_vec()
        }
        Err(error) => return Err(failed("read", error)),
    };
    GrantSigner::new(&seed, cluster).map_err(|error| {
        let message = format!("{} is damaged: remove it, and clients will open their files again", path.display());
        Error::new(ErrorKind::Corrupt, message).with_source(error)
    })
}

/// Writes the key so that it is there wholly or not at all.
fn create(state_dir: &Path, path: &Path, seed: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != IoKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(seed)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(state_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_from_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = open(dir.path(), 1).expect("made").public_key();
        let path = dir.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(open(dir.path(), 1).expect("read").public_key(), first);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        assert_eq!(open(dir.path(), 1).expect_err("open to others").kind(), ErrorKind::PermissionDenied);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        fs::write(&path, b"short").expect("written");
        assert_eq!(open(dir.path(), 1).expect_err("damaged").kind(), ErrorKind::Corrupt);
    }
}
