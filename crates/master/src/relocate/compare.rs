//! Whether two objects hold the same bytes.

use futures::TryStreamExt;
use headpond_types::{Error, ErrorKind, Result};
use headpond_ufs::{Key, ObjectMeta, UfsError, UnderStore};

use crate::mount::LiveMount;

/// Bytes of each that are compared at a time.
const PIECE: u64 = 8 << 20;

/// Whether `one` and `other` are the same bytes. Versions that are equal say so without reading; others are read, which only happens when
/// a master ended between copying and journalling.
///
/// # Errors
/// Those of the store; `Stale` when one changes meanwhile.
pub(crate) async fn are_same(mount: &LiveMount, one: &ObjectMeta, other: &ObjectMeta) -> Result<bool> {
    if one.size != other.size {
        return Ok(false);
    }
    if one.version == other.version {
        return Ok(true);
    }
    let store = mount.store().await?;
    let read = async |meta: &ObjectMeta, range: std::ops::Range<u64>| {
        let body = mount.ask("read", &meta.key, piece(&**store, &meta.key, range, &meta.version)).await?;
        body.ok_or_else(|| Error::new(ErrorKind::Stale, format!("{:?} is gone", meta.key)))
    };
    let mut at = 0;
    while at < one.size {
        let range = at..one.size.min(at + PIECE);
        let (a, b) = futures::future::try_join(read(one, range.clone()), read(other, range.clone())).await?;
        if a != b {
            return Ok(false);
        }
        at = range.end;
    }
    Ok(true)
}

async fn piece(
    store: &dyn UnderStore,
    key: &Key,
    range: std::ops::Range<u64>,
    version: &str,
) -> Result<Vec<u8>, UfsError> {
    let body = store.get(key, range, version).await?;
    body.try_fold(Vec::new(), async |mut bytes, piece| {
        bytes.extend_from_slice(&piece);
        Ok(bytes)
    })
    .await
}
