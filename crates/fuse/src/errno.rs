//! The one table from kinds of error to what system calls answer.

use headpond_types::ErrorKind;

/// The errno that a system call returns for an error of `kind`.
pub(crate) const fn of(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::NotFound => libc::ENOENT,
        ErrorKind::AlreadyExists => libc::EEXIST,
        ErrorKind::NotADirectory => libc::ENOTDIR,
        ErrorKind::IsADirectory => libc::EISDIR,
        ErrorKind::NotEmpty => libc::ENOTEMPTY,
        ErrorKind::PermissionDenied | ErrorKind::StoreRefused => libc::EACCES,
        ErrorKind::ReadOnly => libc::EROFS,
        ErrorKind::InvalidArgument => libc::EINVAL,
        ErrorKind::NameTooLong => libc::ENAMETOOLONG,
        ErrorKind::Stale => libc::ESTALE,
        ErrorKind::Busy => libc::EBUSY,
        ErrorKind::CrossMount => libc::EXDEV,
        ErrorKind::ResourceExhausted => libc::ENOSPC,
        ErrorKind::NoAttribute => libc::ENODATA,
        ErrorKind::NotSupported => libc::EOPNOTSUPP,
        // Not EAGAIN, which programs take for "would block" and spin, and not ETIMEDOUT, which they do not expect of files.
        ErrorKind::Unavailable
        | ErrorKind::DeadlineExceeded
        | ErrorKind::Corrupt
        | ErrorKind::Fenced
        | ErrorKind::Internal => libc::EIO,
    }
}

/// The symbolic name of an errno that we answer, for metrics and logs.
pub(crate) const fn name(errno: i32) -> &'static str {
    match errno {
        libc::ENOENT => "ENOENT",
        libc::EEXIST => "EEXIST",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::ENOTEMPTY => "ENOTEMPTY",
        libc::EACCES => "EACCES",
        libc::EROFS => "EROFS",
        libc::EINVAL => "EINVAL",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::ESTALE => "ESTALE",
        libc::EBUSY => "EBUSY",
        libc::EXDEV => "EXDEV",
        libc::ENOSPC => "ENOSPC",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::ENODATA => "ENODATA",
        libc::EIO => "EIO",
        libc::EPERM => "EPERM",
        libc::ETXTBSY => "ETXTBSY",
        _ => "other",
    }
}
