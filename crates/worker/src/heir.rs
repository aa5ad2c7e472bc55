//! What a block's owner gets from the worker that owned it before: pages that are in its cache, and nothing that it would have to wait for.
//! So two workers that take each other for the former owner cannot wait for each other.

use std::sync::Arc;

use futures::{Stream, StreamExt as _, stream};
use headpond_proto::v1::SignedGrant;
use headpond_types::{ByteRange, ContentId, Error, ErrorKind, PAGE_SIZE, Result, pages_of};

use crate::reader::{Chunk, Reader};

/// Pages read from the disk while earlier ones are on their way.
const PAGES_AHEAD: usize = 4;

/// The bytes of `ranges`, in order, up to the first page that is not in the cache: there it fails with `NotFound`.
///
/// # Errors
/// Those of [`crate::grants::Grants::check`]; `NotFound`.
pub(crate) fn cached(
    reader: &Reader,
    grant: Option<&SignedGrant>,
    ranges: Vec<ByteRange>,
) -> Result<impl Stream<Item = Result<Chunk>> + Send + 'static + use<>> {
    let grant = reader.cluster.grants.check(grant, reader.clock.now())?;
    let content = reader.cache.store().find(grant.content).ok_or_else(|| absent(grant.content))?;
    let pages = ranges.into_iter().map(move |range| grant.clamp(range)).flat_map(|range| {
        pages_of(&range).map(move |page| range.start.max(page * PAGE_SIZE)..range.end.min((page + 1) * PAGE_SIZE))
    });
    let cache = Arc::clone(&reader.cache);
    let metrics = reader.metrics.clone();
    Ok(stream::iter(pages)
        .map(move |bytes| {
            let (cache, content, metrics) = (Arc::clone(&cache), Arc::clone(&content), metrics.clone());
            async move {
                // Looked at before, so that it is no miss of the cache.
                if !content.is_present(bytes.start / PAGE_SIZE) {
                    return Err(absent(content.id()));
                }
                let data = cache.read(&content, bytes.clone()).await.map_err(|_| absent(content.id()))?;
                metrics.served(data.len());
                Ok(Chunk { offset: bytes.start, data })
            }
        })
        .buffered(PAGES_AHEAD))
}

fn absent(content: ContentId) -> Error {
    Error::new(ErrorKind::NotFound, format!("no more of content {content} is cached here: ask the under store"))
}
