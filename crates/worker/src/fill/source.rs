//! Where a run gets its bytes: the owner of its block, who owned it before, or the under store.

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use headpond_types::{ByteRange, Error, ErrorKind, Member, Result};
use headpond_ufs::{UfsError, UfsErrorKind};

use super::Filler;
use crate::grants::Grant;

/// Bytes of a range, in order. Each item comes under a deadline; whoever reads compares the length.
pub(super) type Body = BoxStream<'static, Result<Bytes>>;

impl Filler {
    /// Opens `range` of a granted content at its block's owner.
    pub(super) async fn ask_owner(&self, owner: &Member, grant: &Grant, range: ByteRange) -> Result<Body> {
        self.peers.read(owner, grant, range).await
    }

    /// Opens what `previous`, the former owner of the block, has of `range` from its start on.
    pub(super) async fn ask_previous_owner(&self, previous: &Member, grant: &Grant, range: ByteRange) -> Result<Body> {
        self.peers.read_cached(previous, grant, range).await
    }

    /// Opens `range` of a content that only workers have at one of these, perhaps this one.
    pub(super) async fn ask_holder(&self, address: &str, grant: &Grant, range: ByteRange) -> Result<Body> {
        self.peers.read_from(address, grant, range).await
    }

    /// Opens `range` of a granted content in the under store.
    ///
    /// # Errors
    /// `Stale` when the store has another version or none of it, also as an item of the body.
    pub(super) async fn ask_under_store(&self, grant: &Grant, range: ByteRange) -> Result<Body> {
        let deadline = self.config.deadlines.under_store;
        let what = format!("get {} of mount {}", grant.key, grant.mount);
        let open = async {
            let store = self.cluster.mounts.store(grant.mount).await?;
            store.get(&grant.key, range, &grant.version).await.map_err(refused)
        };
        let body = tokio::time::timeout(deadline, open).await.map_err(|_| late(&what))??;
        let parts = futures::stream::unfold(body, move |mut body| {
            let what = what.clone();
            async move {
                match tokio::time::timeout(deadline, body.next()).await {
                    Ok(part) => Some((part?.map_err(refused), body)),
                    Err(_) => Some((Err(late(&what)), futures::stream::empty().boxed())),
                }
            }
        });
        Ok(parts.boxed())
    }
}

/// A grant names a version; when the store no longer has it, the grant is stale, be it replaced or gone.
fn refused(error: UfsError) -> Error {
    match error.kind() {
        UfsErrorKind::NotFound => Error::new(ErrorKind::Stale, error.to_string()).with_source(error),
        _ => error.into(),
    }
}

fn late(what: &str) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, format!("{what}: no bytes from the under store within the deadline"))
}
