//! The one table between [`ErrorKind`] and gRPC statuses.
//!
//! A status carries the precise kind in the metadata `headpond-error`; without it (a proxy answered, or the transport
//! failed) the kind follows from the code, unless the transport says that one side will not have the other.

use std::{error::Error as StdError, io};

use headpond_types::{Error, ErrorKind};
use tonic::{Code, Status, metadata::MetadataValue};

/// Metadata key of the precise kind.
const KIND_KEY: &str = "headpond-error";

/// Every kind, to read names back.
const KINDS: [ErrorKind; 21] = [
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::NotADirectory,
    ErrorKind::IsADirectory,
    ErrorKind::NotEmpty,
    ErrorKind::PermissionDenied,
    ErrorKind::ReadOnly,
    ErrorKind::InvalidArgument,
    ErrorKind::NameTooLong,
    ErrorKind::Stale,
    ErrorKind::StoreRefused,
    ErrorKind::Unavailable,
    ErrorKind::DeadlineExceeded,
    ErrorKind::Busy,
    ErrorKind::CrossMount,
    ErrorKind::ResourceExhausted,
    ErrorKind::Corrupt,
    ErrorKind::NoAttribute,
    ErrorKind::NotSupported,
    ErrorKind::Fenced,
    ErrorKind::Internal,
];

/// Wire name and gRPC code of a kind.
const fn row(kind: ErrorKind) -> (&'static str, Code) {
    match kind {
        ErrorKind::NotFound => ("not_found", Code::NotFound),
        ErrorKind::AlreadyExists => ("already_exists", Code::AlreadyExists),
        ErrorKind::NotADirectory => ("not_a_directory", Code::FailedPrecondition),
        ErrorKind::IsADirectory => ("is_a_directory", Code::FailedPrecondition),
        ErrorKind::NotEmpty => ("not_empty", Code::FailedPrecondition),
        ErrorKind::PermissionDenied => ("permission_denied", Code::PermissionDenied),
        ErrorKind::ReadOnly => ("read_only", Code::FailedPrecondition),
        ErrorKind::InvalidArgument => ("invalid_argument", Code::InvalidArgument),
        ErrorKind::NameTooLong => ("name_too_long", Code::InvalidArgument),
        ErrorKind::Stale => ("stale", Code::FailedPrecondition),
        ErrorKind::StoreRefused => ("store_refused", Code::FailedPrecondition),
        ErrorKind::Unavailable => ("unavailable", Code::Unavailable),
        ErrorKind::DeadlineExceeded => ("deadline_exceeded", Code::DeadlineExceeded),
        ErrorKind::Busy => ("busy", Code::FailedPrecondition),
        ErrorKind::CrossMount => ("cross_mount", Code::FailedPrecondition),
        ErrorKind::ResourceExhausted => ("resource_exhausted", Code::ResourceExhausted),
        ErrorKind::Corrupt => ("corrupt", Code::DataLoss),
        ErrorKind::NoAttribute => ("no_attribute", Code::FailedPrecondition),
        ErrorKind::NotSupported => ("not_supported", Code::Unimplemented),
        ErrorKind::Fenced => ("fenced", Code::FailedPrecondition),
        ErrorKind::Internal => ("internal", Code::Internal),
    }
}

/// The name of a kind on the wire, in JSON and in metrics.
#[must_use]
pub const fn name(kind: ErrorKind) -> &'static str {
    row(kind).0
}

/// The kind with that name.
#[must_use]
pub fn kind(text: &str) -> Option<ErrorKind> {
    KINDS.into_iter().find(|kind| name(*kind) == text)
}

/// The message of `error` and its causes in one line: causes cannot travel otherwise.
#[must_use]
pub fn message_with_causes(error: &Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}

/// The status that tells a caller of `error` and its causes.
#[must_use]
pub fn from_error(error: &Error) -> Status {
    let (name, code) = row(error.kind());
    let mut status = Status::new(code, message_with_causes(error));
    status.metadata_mut().insert(KIND_KEY, MetadataValue::from_static(name));
    status
}

/// The error that a status tells of; `what` says which call to whom it was.
#[must_use]
pub fn to_error(status: &Status, what: &str) -> Error {
    let precise = status.metadata().get(KIND_KEY).and_then(|value| value.to_str().ok()).and_then(kind);
    if let Some(kind) = precise {
        return Error::new(kind, status.message());
    }
    let causes = || causes(status);
    if let Some((kind, reason)) = causes().find_map(refusal) {
        return Error::new(kind, format!("{what}: {reason}"));
    }
    // What the transport says at the bottom: its own errors only repeat that they failed.
    let text = causes().last().map_or_else(|| status.message().to_owned(), ToString::to_string);
    let kind = if is_closing(status) { ErrorKind::Unavailable } else { of_code(status.code()) };
    Error::new(kind, format!("{what}: {text}"))
}

/// Whether the other side closed the connection or the stream without an answer and without anything having been wrong, as a server
/// does that ends, or that a silent client seemed dead to. gRPC has no code for that: it is shown as a defect.
#[must_use]
pub fn is_closing(status: &Status) -> bool {
    let reason = |cause: &(dyn StdError + 'static)| cause.downcast_ref().and_then(h2::Error::reason);
    !is_answer(status) && causes(status).find_map(reason) == Some(h2::Reason::NO_ERROR)
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

/// Whether the two sides will not have each other, so that trying again is of no use: the connector of `headpond-transport` says so
/// with an error of ours that has no cause, or, once HTTP/2 runs, by the kind of an I/O error that is not the system's; a server
/// without plaintext by the reason of its GOAWAY.
fn refusal(cause: &(dyn StdError + 'static)) -> Option<(ErrorKind, String)> {
    if let Some(error) = cause.downcast_ref::<Error>() {
        return error.source().is_none().then(|| (error.kind(), error.to_string()));
    }
    let http = cause.downcast_ref::<h2::Error>();
    if http.and_then(h2::Error::reason) == Some(h2::Reason::INADEQUATE_SECURITY) {
        return Some((ErrorKind::InvalidArgument, "it speaks nothing but TLS: set [tls] here too".to_owned()));
    }
    let io = http.and_then(h2::Error::get_io).or_else(|| cause.downcast_ref::<io::Error>())?;
    let ours = io.kind() == io::ErrorKind::PermissionDenied && io.raw_os_error().is_none();
    ours.then(|| (ErrorKind::PermissionDenied, io.to_string()))
}

/// Whether a service of Headpond answered this status; otherwise the transport or something between us did.
#[must_use]
pub fn is_answer(status: &Status) -> bool {
    status.metadata().contains_key(KIND_KEY)
}

/// The kind of a status that did not come from a Headpond service.
const fn of_code(code: Code) -> ErrorKind {
    match code {
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::PermissionDenied,
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::Unavailable | Code::Cancelled | Code::Aborted | Code::Unknown => ErrorKind::Unavailable,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::Unimplemented => ErrorKind::NotSupported,
        Code::Ok | Code::FailedPrecondition | Code::Internal => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in KINDS {
            let status = from_error(&Error::new(kind, "x").with_source(std::io::Error::other("y")));
            assert_eq!(status.message(), "x: y");
            assert_eq!(to_error(&status, "call").kind(), kind);
            assert!(is_answer(&status));
        }
    }

    #[test]
    fn a_status_of_a_stranger_names_the_call() {
        let refused = std::io::Error::other(Error::new(ErrorKind::Internal, "failed").with_source("refused"));
        let status = Status::from_error(Box::new(refused));
        assert!(to_error(&status, "lookup").to_string().ends_with("lookup: refused"), "{status:?}");
        let status = Status::unavailable("connection refused");
        assert!(!is_answer(&status));
        let error = to_error(&status, "lookup at 127.0.0.1:7100");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.to_string(), "lookup at 127.0.0.1:7100: connection refused");
    }

    #[test]
    fn who_was_closed_on_may_try_again() {
        for (reason, kind) in
            [(h2::Reason::NO_ERROR, ErrorKind::Unavailable), (h2::Reason::PROTOCOL_ERROR, ErrorKind::Internal)]
        {
            let status = Status::from_error(Box::new(h2::Error::from(reason)));
            assert_eq!(to_error(&status, "lookup").kind(), kind);
            assert_eq!(is_closing(&status), kind == ErrorKind::Unavailable);
        }
    }
}
