//! Looking again at what was found.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use headpond_types::Result;
use headpond_ufs::{ListRequest, Listed, ObjectMeta};
use tokio::time::sleep;

use super::{
    Check, MOMENT, Stopped,
    judge::{Sight, Verdict},
};
use crate::{core::Core, mount::LiveMount};

/// Keys that are asked about at the same time.
const AT_ONCE: usize = 16;

impl Check {
    /// Tells of those keys that are found wrong after a moment still.
    pub(super) async fn look_again(&mut self, mount: &Arc<LiveMount>, keys: Vec<Vec<u8>>) -> Result<(), Stopped> {
        if keys.is_empty() {
            return Ok(());
        }
        sleep(MOMENT).await;
        let core = self.core.clone();
        let looks = stream::iter(keys).map(|key| look(&core, mount, key)).buffered(AT_ONCE);
        let verdicts: Vec<Verdict> = looks.try_collect().await?;
        let mut findings = Vec::new();
        for verdict in verdicts {
            self.count(&verdict);
            if let Verdict::Fault(finding) = verdict {
                findings.push(finding);
            }
        }
        self.told(findings).await
    }
}

/// What the namespace said before and after the store was asked must come to the same: else something is changing.
async fn look(core: &Core, mount: &Arc<LiveMount>, key: Vec<u8>) -> Result<Verdict> {
    let before = Sight::now(core, mount)?;
    let object = ask(mount, &key).await?;
    let before = before.judge(&key, object.as_ref())?;
    let after = Sight::now(core, mount)?.judge(&key, object.as_ref())?;
    Ok(match (before, after) {
        (Verdict::Fault(before), Verdict::Fault(after)) if before != after => Verdict::Writing,
        (Verdict::Fault(_), after) => after,
        (before, _) => before,
    })
}

/// The object under a key, or of a directory any below.
async fn ask(mount: &LiveMount, key: &[u8]) -> Result<Option<ObjectMeta>> {
    let (store, whole) = (mount.store().await?, mount.object_key(key));
    // The marker itself, if there is one, comes first.
    if key.is_empty() || key.ends_with(b"/") {
        let request = ListRequest { prefix: whole.clone(), max_keys: 1, ..ListRequest::default() };
        let page = mount.ask("list", &whole, store.list(&request)).await?.unwrap_or_default();
        return Ok(page.entries.into_iter().find_map(|listed| match listed {
            Listed::Object(meta) => Some(meta),
            Listed::Prefix(_) => None,
        }));
    }
    mount.ask("find", &whole, store.head(&whole)).await
}
