//! What needs an operator, and what he decides.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use headpond_proto::v1::{self, Problem, ResolveProblemRequest, ResolveProblemResponse};
use headpond_types::{Error, ErrorKind, NsPath, RenameMode, RequestId, Result};

use super::{
    admin::Admin,
    message::{path, request_id},
};
use crate::{
    persist::{Resolution, beside},
    relocate::Decided,
    write::Renaming,
};

/// Decisions that are remembered, for those who ask again because they had no answer.
const REMEMBERED: usize = 256;

/// What was decided last, by request. In memory: after a restart there is no such problem any more.
#[derive(Debug, Default)]
pub(crate) struct Decisions(Mutex<VecDeque<(RequestId, ResolveProblemResponse)>>);

impl Decisions {
    fn get(&self, request: RequestId) -> Option<ResolveProblemResponse> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(known, _)| *known == request).map(|(_, response)| response.clone())
    }

    fn note(&self, request: RequestId, response: ResolveProblemResponse) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == REMEMBERED {
            all.pop_front();
        }
        all.push_back((request, response));
    }
}

impl Admin {
    pub(super) fn problems(&self) -> Result<Vec<Problem>> {
        let persists = self.core.persister.list_problems()?.into_iter().map(|located| Problem {
            path: located.path.to_bytes().into(),
            reason: located.problem.reason,
            since_ns: located.problem.since.0,
            held_up: located.held_up,
            conflict: located.problem.conflict,
        });
        let mut problems: Vec<_> = persists.collect();
        for stuck in self.core.relocator.list_problems()? {
            let line = self.core.backlog.line(stuck.mount);
            problems.push(Problem {
                path: stuck.path.to_bytes().into(),
                reason: stuck.reason,
                since_ns: stuck.since.0,
                held_up: line.map_or(0, |line| line.lock().held_up_behind(stuck.place)),
                conflict: stuck.conflict,
            });
        }
        let notices = self.core.notices.list().into_iter().map(|notice| Problem {
            path: notice.path.to_bytes().into(),
            reason: notice.reason,
            since_ns: notice.since.0,
            ..Problem::default()
        });
        problems.extend(notices);
        Ok(problems)
    }

    pub(super) async fn resolve(&self, asked: ResolveProblemRequest) -> Result<ResolveProblemResponse> {
        let resolution = match asked.resolution() {
            v1::Resolution::Retry => Resolution::Retry,
            v1::Resolution::Overwrite => Resolution::Overwrite,
            v1::Resolution::Skip => Resolution::Skip,
            v1::Resolution::Divert => Resolution::Divert,
            v1::Resolution::Unspecified => {
                let message = "it is not said what is to become of it: retry, overwrite, skip or divert";
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        };
        let request = request_id(&asked.request_id)?;
        if let Some(response) = self.decided.get(request) {
            return Ok(response);
        }
        let path = path(&asked.path)?;
        let diverted = match self.core.persister.resolve(path.clone(), resolution).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.resolve_moved(&path, resolution, request).await?.ok_or(error)?
            }
            done => done?,
        };
        if matches!(resolution, Resolution::Skip | Resolution::Divert) {
            // What the store has under these names is seen at once. It is done, whether or not the store can be asked.
            for seen in [Some(&path), diverted.as_ref()].into_iter().flatten() {
                let _ = self.core.lookups.resolve(seen, None, true).await;
            }
        }
        let diverted = diverted.map(|path| path.to_bytes().into()).unwrap_or_default();
        let response = ResolveProblemResponse { diverted };
        self.decided.note(request, response.clone());
        Ok(response)
    }

    /// Decides about what could not be moved, if there is such at `path`; gives the other path that it has then, if so.
    async fn resolve_moved(
        &self,
        path: &NsPath,
        resolution: Resolution,
        request: RequestId,
    ) -> Result<Option<Option<NsPath>>> {
        let (parent, name, content, relocation) = match self.core.relocator.resolve(path, resolution).await? {
            None if self.core.notices.is_at(path) => {
                if resolution != Resolution::Skip {
                    let message = format!("nothing is left to be done about {path}: skip it, and the notice is gone");
                    return Err(Error::new(ErrorKind::InvalidArgument, message));
                }
                self.core.notices.dismiss(path);
                return Ok(Some(None));
            }
            None => return Ok(None),
            Some(Decided::Done) => return Ok(Some(None)),
            Some(Decided::Divert { parent, name, content, relocation }) => (parent, name, content, relocation),
        };
        let other = beside(path, content)?;
        let Some((_, beside)) = other.split_last() else { return Ok(None) };
        let (from, to) = ((parent, name), (parent, beside.clone()));
        let renamed =
            self.core.writing.rename(Renaming { from, to, mode: RenameMode::NoReplace, caller: None, request });
        self.core.sessions.settle(request, None, renamed).await?;
        self.core.relocator.try_again(&relocation);
        Ok(Some(Some(other)))
    }
}
