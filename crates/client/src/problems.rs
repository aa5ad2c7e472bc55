//! What needs an operator.

use headpond_proto::v1;
use headpond_types::{Error, NsPath, Result, Timestamp};

use crate::{
    AdminClient,
    admin::request_id,
    master::{Retry, administration},
    writing::path_of,
};

/// Something that cannot be persisted or moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub path: NsPath,
    /// Why it does not go on.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Changes acknowledged later that wait for it.
    pub held_up: u64,
    /// The under store has another version than the one that was changed, and keeps it until somebody decides.
    pub conflict: bool,
}

/// What becomes of a file that cannot be persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It is tried again now.
    Retry,
    /// It replaces what the under store has.
    Overwrite,
    /// What was written is given up: the file is what the under store has.
    Skip,
    /// It is persisted under another name beside; under its own the file is what the under store has.
    Divert,
}

impl AdminClient {
    /// What cannot be persisted or moved, and why.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn problems(&self) -> Result<Vec<Problem>> {
        let call = |channel| async move { administration(channel).list_problems(v1::ListProblemsRequest {}).await };
        let answer = self.masters().call("list problems", Retry::Yes, call).await?;
        answer.problems.into_iter().map(Problem::try_from).collect()
    }

    /// Decides what becomes of a file that cannot be persisted. Answers where it is persisted when it is diverted. Repeated by a retry it is
    /// done once.
    ///
    /// # Errors
    /// `NotFound` when there is nothing at `path`; `InvalidArgument` when it has no problem that `resolution` would solve; otherwise those of any
    /// call and of the under store.
    pub async fn resolve_problem(&self, path: &NsPath, resolution: Resolution) -> Result<Option<NsPath>> {
        let resolution = v1::Resolution::from(resolution).into();
        let request = v1::ResolveProblemRequest { path: path.to_bytes().into(), resolution, request_id: request_id() };
        let call = |channel| {
            let request = request.clone();
            async move { administration(channel).resolve_problem(request).await }
        };
        let diverted = self.masters().call("resolving a problem", Retry::Change, call).await?.diverted;
        if diverted.is_empty() { Ok(None) } else { path_of(&diverted).map(Some) }
    }
}

impl TryFrom<v1::Problem> for Problem {
    type Error = Error;

    fn try_from(problem: v1::Problem) -> Result<Self> {
        let v1::Problem { path, reason, since_ns, held_up, conflict } = problem;
        Ok(Self { path: path_of(&path)?, reason, since: Timestamp(since_ns), held_up, conflict })
    }
}

impl From<Resolution> for v1::Resolution {
    fn from(resolution: Resolution) -> Self {
        match resolution {
            Resolution::Retry => Self::Retry,
            Resolution::Overwrite => Self::Overwrite,
            Resolution::Skip => Self::Skip,
            Resolution::Divert => Self::Divert,
        }
    }
}
