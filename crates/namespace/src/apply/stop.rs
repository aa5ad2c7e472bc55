//! How a command ends early.

use crate::{command::Refusal, error::TableError};

/// Why a command goes no further. It has changed nothing by then.
#[derive(Debug)]
pub(super) enum Stop {
    /// The one who asked is told why.
    Refused(Refusal),
    /// The batch fails.
    Failed(TableError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        Self::Failed(error)
    }
}
