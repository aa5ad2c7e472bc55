//! Deletions of many objects, each only in the version that is known.
//!
//! Where the store takes a condition on a deletion, each is a request. Elsewhere the version is looked at just before, and what is put under the key
//! between the look and the deletion is deleted. One page of a listing is the look at up to a thousand objects, and those that have their versions are
//! deleted together. A deletion is sent within [`FRESH`] from the moment on when its look was asked for, or there is another look.
//!
//! What such a page does not show as it should be is looked at by itself, since some stores list less than they have; and so is all where mostly others'
//! objects are listed, of which there may be any number.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use headpond_types::{Error, ErrorKind, Result};
use headpond_ufs::{Key, ListPage, ListRequest, Listed, UfsErrorKind, UnderStore};
use tokio::time::Instant;

use super::job::{AT_ONCE, Job};
use crate::{mount::Verdict, write::delete_version};

/// So long after a look what it showed counts.
const FRESH: Duration = Duration::from_millis(300);

/// Fewer are looked at one by one.
const FEW: usize = 8;

/// Objects of a page, at most.
const PAGE: usize = 1000;

/// Objects that one request deletes: with more of them the last waits longer.
const TOGETHER: usize = 250;

/// Such requests at the same time.
const REQUESTS: usize = 4;

/// Of so many listed objects one has to be deleted.
const ONE_OF: usize = 4;

/// An object that is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doomed {
    pub(super) key: Key,
    /// If it has another, it stays.
    pub(super) version: String,
}

/// What became of those that were to be deleted, in their order; `None`: that is not known.
pub(super) type Verdicts = Vec<Option<Verdict<()>>>;

impl Job<'_> {
    /// Deletes objects with keys that differ, each if it has its version. Gives what became of them, and the first failure.
    pub(super) async fn delete_versions(&self, doomed: &[Doomed]) -> (Verdicts, Result<()>) {
        let mut verdicts = vec![None; doomed.len()];
        let outcome = self.delete_into(doomed, &mut verdicts).await;
        (verdicts, outcome)
    }

    async fn delete_into(&self, doomed: &[Doomed], verdicts: &mut Verdicts) -> Result<()> {
        let mut order: Vec<_> = (0..doomed.len()).collect();
        order.sort_unstable_by(|one, other| doomed[*one].key.cmp(&doomed[*other].key));
        let alone = self.delete_by_pages(doomed, &order, verdicts).await?;
        let delete = |at: usize| async move {
            let Doomed { key, version } = &doomed[at];
            Ok::<_, Error>((at, self.delete_version(key, version).await?))
        };
        let mut deletions = stream::iter(alone).map(delete).buffer_unordered(AT_ONCE);
        while let Some(deleted) = deletions.next().await {
            let (at, verdict) = deleted?;
            verdicts[at] = Some(verdict);
        }
        Ok(())
    }

    /// As [`delete_version`], and takes note of no answer.
    pub(super) async fn delete_version(&self, key: &Key, version: &str) -> Result<Verdict<()>> {
        let asked = self.relocator.unanswered.ask(self.mount.mount.id);
        asked.answered(delete_version(&self.mount, key, version).await)
    }

    /// Deletes what pages of the listing show in its version, as long as that is worth it. Gives the others. Those of `order` are in the order of their keys.
    async fn delete_by_pages(&self, doomed: &[Doomed], order: &[usize], verdicts: &mut Verdicts) -> Result<Vec<usize>> {
        let store = self.mount.store().await?;
        let can = store.capabilities();
        let (mut rest, mut alone) = (order, Vec::new());
        let is_of_use = !can.conditional_delete && can.ordered_listing && can.max_deletes > 1;
        while is_of_use && rest.len() >= FEW {
            let looked_at = Instant::now();
            let keys: Vec<_> = rest.iter().map(|at| &doomed[*at].key).collect();
            let request = request_for(&keys);
            let page = self.mount.ask("list", &request.prefix, store.list(&request)).await?.unwrap_or_default();
            let (seen, behind) = rest.split_at(seen_of(&keys, &page));
            let listed: HashMap<_, _> = page
                .entries
                .iter()
                .filter_map(|listed| match listed {
                    Listed::Object(meta) => Some((&meta.key, &meta.version)),
                    Listed::Prefix(_) => None,
                })
                .collect();
            let is_shown = |at: &usize| listed.get(&doomed[*at].key) == Some(&&doomed[*at].version);
            let (shown, others): (Vec<_>, Vec<_>) = seen.iter().copied().partition(is_shown);
            alone.extend(others);
            rest = behind;
            let mut failed = Ok(());
            let together = shown.chunks(TOGETHER.min(can.max_deletes)).map(<[usize]>::to_vec);
            let delete = |which: Vec<usize>| self.delete_together(store, doomed, which, looked_at);
            let mut deletions = stream::iter(together).map(delete).buffer_unordered(REQUESTS);
            while let Some(deleted) = deletions.next().await {
                match deleted {
                    Ok(deleted) => {
                        for (at, verdict) in deleted {
                            match verdict {
                                Some(Ok(verdict)) => verdicts[at] = Some(verdict),
                                Some(Err(error)) => failed = failed.and(Err(error)),
                                None => alone.push(at),
                            }
                        }
                    }
                    Err(error) => failed = failed.and(Err(error)),
                }
            }
            failed?;
            if seen.is_empty() || shown.len() * ONE_OF < page.entries.len() {
                break;
            }
        }
        alone.extend(rest);
        Ok(alone)
    }

    /// Deletes objects that were seen in their versions when they were looked at; gives what became of each, `None` if it is to be looked at once more.
    async fn delete_together(
        &self,
        store: &Arc<dyn UnderStore>,
        doomed: &[Doomed],
        which: Vec<usize>,
        looked_at: Instant,
    ) -> Result<Vec<(usize, Option<Result<Verdict<()>>>)>> {
        let again = || which.iter().map(|at| (*at, None)).collect();
        let keys: Vec<_> = which.iter().map(|at| doomed[*at].key.clone()).collect();
        let Some(first) = keys.first().filter(|_| looked_at.elapsed() <= FRESH) else { return Ok(again()) };
        let asked = self.relocator.unanswered.ask(self.mount.mount.id);
        let answers = match asked.answered(self.mount.attempt("delete", first, store.delete_all(&keys)).await) {
            Ok(Verdict::Done(answers)) if answers.len() == keys.len() => answers,
            Ok(_) => return Ok(again()),
            Err(error) if matches!(error.kind(), ErrorKind::NotSupported | ErrorKind::InvalidArgument) => {
                tracing::debug!(%error, "objects are deleted one by one");
                return Ok(again());
            }
            Err(error) => return Err(error),
        };
        let verdict = |answer| match answer {
            Ok(()) => Ok(Verdict::Done(())),
            Err(error) => {
                let error: headpond_ufs::UfsError = error;
                if error.kind() == UfsErrorKind::NotFound {
                    return Ok(Verdict::Missing);
                }
                self.relocator.unanswered.ask(self.mount.mount.id).answered(Err(error.into()))
            }
        };
        Ok(which.into_iter().zip(answers.into_iter().map(|answer| Some(verdict(answer)))).collect())
    }
}

/// A page that shows `keys` from the first on, as far as it reaches: they are in order, and more than one.
fn request_for(keys: &[&Key]) -> ListRequest {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return ListRequest::default() };
    let (first, last) = (first.as_bytes(), last.as_bytes());
    let common = first.iter().zip(last).take_while(|(one, other)| one == other).count();
    let prefix = match whole(&first[..common]) {
        b"/" => b"",
        prefix => prefix,
    };
    // The longest key before the first that is surely one; a store may show nothing after one that does not begin as all do.
    let before = whole(&first[..first.len().saturating_sub(1)]);
    let start_after = (before.len() > prefix.len()).then(|| Key::from(before.to_vec()));
    let most = (keys.len() + keys.len() / ONE_OF + FEW).min(PAGE);
    ListRequest {
        prefix: Key::from(prefix.to_vec()),
        start_after,
        max_keys: u32::try_from(most).unwrap_or(0),
        ..ListRequest::default()
    }
}

/// Without a character that was cut off at the end.
fn whole(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

/// Of how many of `keys` the page says whether they are there.
fn seen_of(keys: &[&Key], page: &ListPage) -> usize {
    match (&page.continuation, page.entries.last()) {
        (None, _) => keys.len(),
        (Some(_), Some(last)) => keys.partition_point(|key| *key <= last.key()),
        (Some(_), None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(keys: &[&str]) -> (String, Option<String>, u32) {
        let keys: Vec<_> = keys.iter().map(|key| Key::from((*key).to_owned())).collect();
        let request = request_for(&keys.iter().collect::<Vec<_>>());
        (request.prefix.to_string(), request.start_after.map(|key| key.to_string()), request.max_keys)
    }

    #[test]
    fn a_page_begins_just_before_the_first_key() {
        let text = |text: &str| text.to_owned();
        assert_eq!(asked(&["a/f10", "a/f23"]), (text("a/f"), Some(text("a/f1")), 10));
        assert_eq!(asked(&["a/b", "a/c"]), (text("a/"), None, 10));
        assert_eq!(asked(&["a/b", "c"]), (text(""), Some(text("a/")), 10));
        assert_eq!(asked(&["/a", "/b"]), (text(""), Some(text("/")), 10));
        // These two begin with the same byte.
        assert_eq!(asked(&["d/\u{e4}x", "d/\u{e5}"]), (text("d/"), Some(text("d/\u{e4}")), 10));
        assert_eq!(asked(&["d/\u{e4}", "d/\u{e5}"]), (text("d/"), None, 10));
    }
}
