//! Pages of a walk as messages.

use futures::{Stream, StreamExt, stream::BoxStream};
use headpond_proto::v1::{Entry, ListResponse};
use headpond_types::Result;
use tonic::Status;

use super::{asker::Asker, message::millis, refuse};
use crate::walk::WalkPage;

/// The stream that answers a list call.
pub(super) type Pages = BoxStream<'static, Result<ListResponse, Status>>;

pub(super) fn pages(walk: impl Stream<Item = Result<WalkPage>> + Send + 'static, asker: Asker) -> Pages {
    walk.map(move |page| page.map(|page| response(asker.listed(page))).map_err(refuse)).boxed()
}

fn response(page: WalkPage) -> ListResponse {
    let entry = |(name, attr): (Vec<u8>, headpond_types::Attr)| Entry { name: name.into(), attr: Some(attr.into()) };
    ListResponse {
        entries: page.entries.into_iter().map(entry).collect(),
        valid_ms: millis(page.valid),
        skipped: page.skipped,
        as_of: page.as_of,
        directory: page.directory.map(Into::into),
    }
}
