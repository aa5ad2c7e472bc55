//! What is not yet in the under store as the namespace says.

use headpond_proto::v1;
use headpond_types::{Error, ErrorKind, NsPath, Result};

use crate::{
    master::{self, Retry},
    shared::Shared,
};

/// What is pending at and below a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Files that somebody is writing.
    pub writing: Vec<NsPath>,
    /// What was renamed and whose objects are being moved.
    pub moving: Vec<Moving>,
}

/// Something whose objects are being moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// Where it is, or was.
    pub path: NsPath,
    /// Where its objects were, relative to the mount's prefix.
    pub from: Vec<u8>,
    /// Why it does not go on; it is tried again every 30 s.
    pub problem: Option<String>,
}

impl Shared {
    pub(crate) async fn pending(&self, path: &NsPath) -> Result<Pending> {
        let request = v1::PendingRequest { path: path.to_bytes().into(), caller: self.caller.clone(), up_to: 0 };
        let call = |channel| {
            let request = request.clone();
            async move { master::writing(channel).pending(request).await }
        };
        let answer = self.masters.call("pending", Retry::Yes, call).await?;
        let moving = answer.moving.into_iter().map(|moving| {
            let problem = Some(moving.problem).filter(|problem| !problem.is_empty());
            Ok(Moving { path: path_of(&moving.path)?, from: moving.from.to_vec(), problem })
        });
        let writing = answer.writing.iter().map(|path| path_of(path));
        Ok(Pending { writing: writing.collect::<Result<_>>()?, moving: moving.collect::<Result<_>>()? })
    }
}

fn path_of(bytes: &[u8]) -> Result<NsPath> {
    NsPath::parse(bytes).map_err(|error| Error::new(ErrorKind::Internal, "the master named no path").with_source(error))
}
