//! The operations of the trait as values, for counters and injected faults.

use std::fmt;

/// An operation of [`UnderStore`](crate::UnderStore).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `list`
    List,
    /// `head`
    Head,
    /// `get`
    Get,
    /// `put`
    Put,
    /// `create_multipart`
    CreateMultipart,
    /// `put_part`
    PutPart,
    /// `copy_part`
    CopyPart,
    /// `complete_multipart`
    CompleteMultipart,
    /// `abort_multipart`
    AbortMultipart,
    /// `uploads`
    Uploads,
    /// `copy`
    Copy,
    /// `delete`
    Delete,
    /// `delete_all`
    DeleteAll,
}

impl Op {
    /// Every operation, in the order of their discriminants.
    pub const ALL: [Self; 13] = [
        Self::List,
        Self::Head,
        Self::Get,
        Self::Put,
        Self::CreateMultipart,
        Self::PutPart,
        Self::CopyPart,
        Self::CompleteMultipart,
        Self::AbortMultipart,
        Self::Uploads,
        Self::Copy,
        Self::Delete,
        Self::DeleteAll,
    ];

    /// The name in metrics and messages: the method's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Head => "head",
            Self::Get => "get",
            Self::Put => "put",
            Self::CreateMultipart => "create_multipart",
            Self::PutPart => "put_part",
            Self::CopyPart => "copy_part",
            Self::CompleteMultipart => "complete_multipart",
            Self::AbortMultipart => "abort_multipart",
            Self::Uploads => "uploads",
            Self::Copy => "copy",
            Self::Delete => "delete",
            Self::DeleteAll => "delete_all",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
