//! Conversions between messages and what the parts of the master take.

use std::time::Duration;

use headpond_namespace::{Durability, Mount, Persistence, Unstored};
use headpond_proto::{file_kind, v1};
use headpond_types::{Error, ErrorKind, FileKind, MountId, Name, NsPath, PathError, RenameMode, RequestId, Result};

use crate::lookup::Answer;

/// Permission bits that a mount can show.
const MODE_MASK: u32 = 0o7777;

/// A name out of a message.
pub(super) fn name(bytes: &[u8]) -> Result<Name> {
    Name::new(bytes).map_err(|error| path_error(&error, bytes))
}

/// A path out of a message.
pub(super) fn path(bytes: &[u8]) -> Result<NsPath> {
    NsPath::parse(bytes).map_err(|error| path_error(&error, bytes))
}

/// What a rename does with what has the new name.
pub(super) const fn rename_mode(message: &v1::RenameRequest) -> RenameMode {
    match (message.no_replace, message.exchange) {
        (_, true) => RenameMode::Exchange,
        (true, false) => RenameMode::NoReplace,
        (false, false) => RenameMode::Replace,
    }
}

/// A mount out of a message; its id is not taken.
///
/// # Errors
/// `InvalidArgument`; whether patterns can be read is seen when the mount is put to work.
pub(super) fn mount(message: v1::Mount) -> Result<Mount> {
    let persistence = persistence(&message)?;
    let invalid = |what: &str, mode: u32| {
        let message = format!("{what} {mode:#o} is more than permission bits: give at most 0o7777");
        Error::new(ErrorKind::InvalidArgument, message)
    };
    if message.file_mode > MODE_MASK {
        return Err(invalid("file_mode", message.file_mode));
    }
    if message.dir_mode > MODE_MASK {
        return Err(invalid("dir_mode", message.dir_mode));
    }
    Ok(Mount {
        id: MountId(0),
        path: path(&message.path)?,
        uri: message.uri,
        options: message.options.into_iter().collect(),
        read_only: message.read_only,
        sync_interval_ms: message.sync_interval_ms,
        uid: message.uid,
        gid: message.gid,
        file_mode: message.file_mode,
        dir_mode: message.dir_mode,
        persistence,
    })
}

fn persistence(message: &v1::Mount) -> Result<Persistence> {
    let rule = |rule: &v1::DurabilityRule| Ok((rule.pattern.clone(), durability(rule.durability)?));
    Ok(Persistence {
        durability: durability(message.durability)?,
        rules: message.rules.iter().map(rule).collect::<Result<_>>()?,
        commit_patterns: message.commit_patterns.clone(),
        temporary_patterns: message.temporary_patterns.clone(),
        copies: message.copies.max(1),
        strict_copies: message.strict_copies,
    })
}

fn durability(number: i32) -> Result<Durability> {
    match v1::Durability::try_from(number) {
        Ok(v1::Durability::Through) => Ok(Durability::Through),
        Ok(v1::Durability::Async) => Ok(Durability::Async),
        Ok(v1::Durability::Deferred) => Ok(Durability::Deferred),
        Ok(v1::Durability::Scratch) => Ok(Durability::Scratch),
        Err(_) => {
            let message = format!("durability {number} is none that this release knows: upgrade the master");
            Err(Error::new(ErrorKind::InvalidArgument, message))
        }
    }
}

const fn durability_message(durability: Durability) -> v1::Durability {
    match durability {
        Durability::Through => v1::Durability::Through,
        Durability::Async => v1::Durability::Async,
        Durability::Deferred => v1::Durability::Deferred,
        Durability::Scratch => v1::Durability::Scratch,
    }
}

/// A mount as a message.
pub(super) fn mount_message(mount: &Mount) -> v1::Mount {
    let Persistence { durability, rules, commit_patterns, temporary_patterns, copies, strict_copies } =
        &mount.persistence;
    let rules = rules.iter().map(|(pattern, durability)| v1::DurabilityRule {
        pattern: pattern.clone(),
        durability: durability_message(*durability).into(),
    });
    v1::Mount {
        id: mount.id.0,
        path: mount.path.to_bytes().into(),
        uri: mount.uri.clone(),
        options: mount.options.clone().into_iter().collect(),
        read_only: mount.read_only,
        sync_interval_ms: mount.sync_interval_ms,
        uid: mount.uid,
        gid: mount.gid,
        file_mode: mount.file_mode,
        dir_mode: mount.dir_mode,
        durability: durability_message(*durability).into(),
        rules: rules.collect(),
        commit_patterns: commit_patterns.clone(),
        temporary_patterns: temporary_patterns.clone(),
        copies: *copies,
        strict_copies: *strict_copies,
    }
}

/// What no store holds, out of a message.
pub(super) fn unstored(kind: v1::FileKind, device: u32, target: &[u8]) -> Result<Unstored> {
    Ok(match file_kind(kind, device)? {
        FileKind::Symlink => Unstored::Symlink(target.to_vec()),
        FileKind::Fifo => Unstored::Fifo,
        FileKind::Socket => Unstored::Socket,
        FileKind::CharDevice(number) => Unstored::CharDevice(number),
        FileKind::BlockDevice(number) => Unstored::BlockDevice(number),
        FileKind::File | FileKind::Directory => {
            let message = "a file or a directory is not made as a node: there are calls for those";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
    })
}

/// Permission bits out of a message.
pub(super) fn mode(mode: u32) -> Result<u32> {
    if mode <= MODE_MASK {
        return Ok(mode);
    }
    let message = format!("mode {mode:#o} is more than permission bits: give at most 0o7777");
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

/// The id of a mutation; without one the call cannot be repeated safely, so it gets one of its own.
pub(super) fn request_id(bytes: &[u8]) -> Result<RequestId> {
    if bytes.is_empty() {
        return Ok(RequestId(rand::random()));
    }
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| {
        let message = format!("request_id has {} bytes: give 16", bytes.len());
        Error::new(ErrorKind::InvalidArgument, message)
    })?;
    Ok(RequestId(u128::from_be_bytes(bytes)))
}

/// The answer to a lookup as a message.
pub(super) fn lookup_response(answer: Answer) -> v1::LookupResponse {
    v1::LookupResponse { attr: answer.attr.map(Into::into), valid_ms: millis(answer.valid), as_of: answer.as_of }
}

/// Whole milliseconds, rounded down.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn path_error(error: &PathError, bytes: &[u8]) -> Error {
    let kind = match error {
        PathError::TooLong(_) => ErrorKind::NameTooLong,
        PathError::Empty | PathError::Dots | PathError::Separator | PathError::Relative(_) => {
            ErrorKind::InvalidArgument
        }
    };
    Error::new(kind, format!("{:?}: {error}", String::from_utf8_lossy(bytes)))
}
