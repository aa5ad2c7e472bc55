//! Comparing namespace, stores and workers.

use std::time::Duration;

use headpond_proto::{status, v1};
use headpond_types::{Error, ErrorKind, NsPath, Result};
use tokio::time::timeout;

use crate::{
    AdminClient,
    master::{Retry, administration},
};

/// Longest silence of a master that checks: it waits for a store a few times between two words.
const PATIENCE: Duration = Duration::from_mins(5);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// Bytes that were acknowledged are on no worker that is live, and in no under store.
    LostContent,
    /// The object of a file is not in the under store.
    MissingObject,
    /// The object of a file has another version or length than the namespace says.
    OtherObject,
    /// An object in a directory that was listed, and no file.
    UnknownObject,
    /// An empty directory that the under store has nothing of.
    MissingMarker,
    /// A marker, and no directory.
    LeftMarker,
    /// A multipart upload that was given up and is still there.
    LeftUpload,
    /// What a newer master calls by a name that this release does not know.
    Other,
}

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// Where: bytes, since not every key of a store is a path.
    pub path: Vec<u8>,
    /// What was found, in words.
    pub detail: String,
}

/// How much was compared, and what differs without being wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckSums {
    /// Files of the namespace.
    pub files: u64,
    /// Directories of the namespace.
    pub directories: u64,
    /// Objects of under stores.
    pub objects: u64,
    /// What is being written or renamed.
    pub writing: u64,
    /// What is to be persisted, or deleted.
    pub pending: u64,
    /// What follows a rename.
    pub moving: u64,
    /// Objects in directories that nobody listed yet.
    pub unlisted: u64,
    /// Objects that no path shows: their keys are no paths, or something else has the name.
    pub hidden: u64,
    /// Multipart uploads that Headpond goes on with.
    pub uploads_under_way: u64,
    /// Multipart uploads that Headpond knows nothing of.
    pub uploads_of_others: u64,
    /// What is wrong.
    pub findings: u64,
    /// What could not be compared, and why.
    pub unseen: Vec<String>,
}

impl AdminClient {
    /// Compares what the namespace knows at and below `path` with what under stores and workers have, and changes nothing. `report` gets what is
    /// found as it is found, with the sums so far. What is changed meanwhile is not told.
    ///
    /// # Errors
    /// `NotFound` when there is nothing at `path`; `DeadlineExceeded` when the master says nothing for five minutes; else those of any call.
    /// Dropped, the master stops as well.
    pub async fn check(&self, path: &NsPath, mut report: impl FnMut(&[Finding], &CheckSums)) -> Result<CheckSums> {
        let request = v1::CheckRequest { path: path.to_bytes().into() };
        let call = |channel| {
            let request = request.clone();
            async move { administration(channel).check(request).await }
        };
        let mut told = self.masters().call("check", Retry::Yes, call).await?;
        loop {
            let message = timeout(PATIENCE, told.message()).await;
            let message = message.map_err(|_| {
                let message = format!("the check made no progress within {} s", PATIENCE.as_secs());
                Error::new(ErrorKind::DeadlineExceeded, message)
            })?;
            let Some(message) = message.map_err(|status| status::to_error(&status, "check"))? else {
                return Err(Error::new(ErrorKind::Unavailable, "the check was broken off: check again"));
            };
            let findings: Vec<_> = message.findings.into_iter().map(Finding::from).collect();
            let sums = CheckSums::from(message.sums.unwrap_or_default());
            report(&findings, &sums);
            if message.done {
                return Ok(sums);
            }
        }
    }
}

impl From<v1::Finding> for Finding {
    fn from(finding: v1::Finding) -> Self {
        let kind = match finding.kind() {
            v1::FindingKind::LostContent => FindingKind::LostContent,
            v1::FindingKind::MissingObject => FindingKind::MissingObject,
            v1::FindingKind::OtherObject => FindingKind::OtherObject,
            v1::FindingKind::UnknownObject => FindingKind::UnknownObject,
            v1::FindingKind::MissingMarker => FindingKind::MissingMarker,
            v1::FindingKind::LeftMarker => FindingKind::LeftMarker,
            v1::FindingKind::LeftUpload => FindingKind::LeftUpload,
            v1::FindingKind::Unspecified => FindingKind::Other,
        };
        Self { kind, path: finding.path.to_vec(), detail: finding.detail }
    }
}

impl From<v1::CheckSums> for CheckSums {
    fn from(sums: v1::CheckSums) -> Self {
        let v1::CheckSums { files, directories, objects, writing, pending, moving, unlisted, hidden, .. } = sums;
        let v1::CheckSums { uploads_under_way, uploads_of_others, findings, unseen, .. } = sums;
        Self {
            files,
            directories,
            objects,
            writing,
            pending,
            moving,
            unlisted,
            hidden,
            uploads_under_way,
            uploads_of_others,
            findings,
            unseen,
        }
    }
}
