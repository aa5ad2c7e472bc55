//! A check as messages.

use futures::{StreamExt, stream::BoxStream};
use headpond_proto::v1::{self, CheckResponse, CheckSums, FindingKind};
use headpond_types::NsPath;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::refuse;
use crate::{
    check::{Check, Finding, Kind, Progress, Sums},
    core::Core,
};

/// The stream that answers a check.
pub(super) type Findings = BoxStream<'static, Result<CheckResponse, Status>>;

/// Messages that wait for who asked.
const AHEAD: usize = 16;

/// Compares what lies at and below `path`; dropped, it stops.
pub(super) fn check(core: &Core, path: NsPath) -> Findings {
    let (tell, told) = mpsc::channel(AHEAD);
    core.tasks.spawn_until_shutdown(Check::new(core.clone(), path, tell).run());
    ReceiverStream::new(told).map(|progress| progress.map(response).map_err(refuse)).boxed()
}

fn response(progress: Progress) -> CheckResponse {
    let Progress { findings, sums, done } = progress;
    CheckResponse { findings: findings.into_iter().map(finding).collect(), sums: Some(sums_message(sums)), done }
}

fn finding(Finding { kind, path, detail }: Finding) -> v1::Finding {
    let kind = match kind {
        Kind::LostContent => FindingKind::LostContent,
        Kind::MissingObject => FindingKind::MissingObject,
        Kind::OtherObject => FindingKind::OtherObject,
        Kind::UnknownObject => FindingKind::UnknownObject,
        Kind::MissingMarker => FindingKind::MissingMarker,
        Kind::LeftMarker => FindingKind::LeftMarker,
        Kind::LeftUpload => FindingKind::LeftUpload,
    };
    v1::Finding { kind: kind.into(), path: path.into(), detail }
}

fn sums_message(sums: Sums) -> CheckSums {
    let Sums { files, directories, objects, writing, pending, moving, unlisted, hidden, .. } = sums;
    let Sums { uploads_under_way, uploads_of_others, findings, unseen, .. } = sums;
    CheckSums {
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
