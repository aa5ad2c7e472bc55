//! A directory of the namespace beside the listing of its objects.

use std::{cmp::Ordering, collections::VecDeque};

use headpond_types::{Error, ErrorKind, FileKind, Result};
use headpond_ufs::{ListRequest, Listed, ObjectMeta};

use super::{
    Check, SUSPECTS, Scope, Stopped,
    judge::{Sight, Verdict},
    walk::{KeyWalk, Place},
};
use crate::mount::LiveMount;

/// The objects below a prefix in order of their keys; a page of them is in memory.
struct Objects<'m> {
    mount: &'m LiveMount,
    request: ListRequest,
    page: VecDeque<ObjectMeta>,
    ended: bool,
}

impl<'m> Objects<'m> {
    fn below(mount: &'m LiveMount, key: &[u8]) -> Self {
        let request = ListRequest { prefix: mount.object_key(key), ..ListRequest::default() };
        Self { mount, request, page: VecDeque::new(), ended: false }
    }

    /// Has the next one at the front of the page; whether a page was read for it.
    async fn read_on(&mut self) -> Result<bool> {
        let mut has_read = false;
        while self.page.is_empty() && !self.ended {
            let store = self.mount.store().await?;
            let page = self.mount.ask("list", &self.request.prefix, store.list(&self.request)).await?;
            let page = page.unwrap_or_default();
            self.ended = page.continuation.is_none();
            self.request.continuation = page.continuation;
            self.page.extend(page.entries.into_iter().filter_map(|listed| match listed {
                Listed::Object(meta) => Some(meta),
                Listed::Prefix(_) => None,
            }));
            has_read = true;
        }
        Ok(has_read)
    }
}

impl Check {
    pub(super) async fn compare_directory(&mut self, scope: &Scope) -> Result<(), Stopped> {
        let (core, mount) = (self.core.clone(), &scope.mount);
        if !mount.store().await?.capabilities().ordered_listing {
            let message = format!("{} lists in no order, so it cannot be compared", mount.mount.uri);
            return Err(Error::new(ErrorKind::NotSupported, message).into());
        }
        let top = Sight::now(&core, mount)?.directory(&scope.key)?;
        let mut known = KeyWalk::new(mount.mount.id, top, scope.key.clone());
        let mut objects = Objects::below(mount, &scope.key);
        let (mut place, mut suspects) = (known.next(&core.catalog)?, Vec::new());
        let mut sight = Sight::now(&core, mount)?;
        loop {
            if objects.read_on().await? {
                sight = Sight::now(&core, mount)?;
                self.told(Vec::new()).await?;
            }
            let object = objects.page.front();
            let key = object.and_then(|object| mount.relative(object.key.as_bytes()));
            let order = match (&place, key) {
                (None, None) if object.is_some() => Ordering::Greater,
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(place), Some(key)) => place.key.as_slice().cmp(key),
            };
            let verdict = match (order, &place, key) {
                (Ordering::Less, Some(Place { key: dir, .. }), Some(key))
                    if dir.ends_with(b"/") && key.starts_with(dir) =>
                {
                    Verdict::Same
                }
                (Ordering::Less, Some(place), _) => sight.judge(&place.key, None)?,
                (_, _, Some(key)) => sight.judge(key, object)?,
                (..) => Verdict::Same,
            };
            if let Verdict::Fault(_) = verdict {
                let key = if order == Ordering::Less { place.as_ref().map(|place| &place.key[..]) } else { key };
                suspects.extend(key.map(<[u8]>::to_vec));
            }
            self.count(&verdict);
            if order != Ordering::Greater
                && let Some(passed) = place.take()
            {
                match passed.attr.kind {
                    FileKind::Directory => self.sums.directories += 1,
                    _ => self.sums.files += 1,
                }
                place = known.next(&core.catalog)?;
            }
            if order != Ordering::Less {
                objects.page.pop_front();
                self.sums.objects += 1;
            }
            if suspects.len() >= SUSPECTS {
                self.look_again(mount, std::mem::take(&mut suspects)).await?;
                sight = Sight::now(&core, mount)?;
            }
        }
        drop(sight);
        self.look_again(mount, suspects).await
    }

    /// Counts what is in work, or not to be seen.
    pub(super) const fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Same | Verdict::Fault(_) => {}
            Verdict::Writing => self.sums.writing += 1,
            Verdict::Pending => self.sums.pending += 1,
            Verdict::Moving => self.sums.moving += 1,
            Verdict::Unlisted => self.sums.unlisted += 1,
            Verdict::Hidden => self.sums.hidden += 1,
        }
    }
}
