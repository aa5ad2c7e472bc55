//! Bytes that were acknowledged and that no store has: whether a worker that is live holds them.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use headpond_namespace::Dirty;
use headpond_proto::v1::AccountRequest;
use headpond_types::{ContentId, InodeId, Result, WorkerId};
use tokio::time::sleep;

use super::{Check, Finding, Kind, MOMENT, Stopped};

/// Rows that are read at a time.
const PAGE: usize = 1000;

/// Workers that are asked at the same time.
const AT_ONCE: usize = 16;

/// A content that a file has and no store.
struct Only {
    path: Vec<u8>,
    size: u64,
    number: u64,
    inode: InodeId,
    content: ContentId,
    holders: Vec<WorkerId>,
}

impl Check {
    /// Of all files below the path that are dirty.
    pub(super) async fn compare_contents(&mut self) -> Result<(), Stopped> {
        let mut after = (0, InodeId(0));
        loop {
            let rows = self.core.catalog.snapshot()?.all_dirty(after, PAGE)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = (last.number, last.inode);
            let only = self.contents_of(&rows)?;
            let missing = self.not_held(&only).await;
            if missing.is_empty() {
                continue;
            }
            // It may have been written again, or stored, meanwhile.
            sleep(MOMENT).await;
            let suspects = only.into_iter().filter(|only| missing.contains_key(&only.content));
            let suspects: Vec<_> = suspects.collect();
            let missing = self.not_held(&suspects).await;
            let findings = suspects.iter().filter_map(|only| Some((only, missing.get(&only.content)?)));
            let mut told = Vec::new();
            for (only, why) in findings {
                if self.is_still(only)? {
                    let (size, number) = (only.size, only.number);
                    let detail = format!("{size} bytes, acknowledged as change {number}, are in no store, and {why}");
                    told.push(Finding { kind: Kind::LostContent, path: only.path.clone(), detail });
                }
            }
            self.told(told).await?;
        }
    }

    fn contents_of(&self, rows: &[Dirty]) -> Result<Vec<Only>> {
        let snapshot = self.core.catalog.snapshot()?;
        let mut found = Vec::new();
        for row in rows.iter().filter(|row| !row.is_orphan()) {
            let Some(attr) = snapshot.attr(row.inode)?.filter(|attr| attr.dirty) else { continue };
            // The bytes of a further name are those of another inode, which has a row of its own while no store has them.
            if snapshot.target(row.inode)?.is_some() {
                continue;
            }
            let (Some(content), Some(path)) = (attr.content, snapshot.path(row.inode)?) else { continue };
            if path.starts_with(&self.path) {
                let (number, inode, holders) = (row.number, row.inode, row.holders.clone());
                found.push(Only { path: path.to_bytes(), size: attr.size, number, inode, content, holders });
            }
        }
        Ok(found)
    }

    /// Whether the file has these very bytes and no others, still.
    fn is_still(&self, only: &Only) -> Result<bool> {
        let snapshot = self.core.catalog.snapshot()?;
        let row = snapshot.dirty(only.inode)?.filter(|row| row.number == only.number);
        let attr = snapshot.attr(only.inode)?;
        Ok(row.is_some() && attr.is_some_and(|attr| attr.content == Some(only.content)))
    }

    /// Those that no worker of theirs holds that is live, each with what is wrong. Of workers that do not answer nothing is said but that.
    async fn not_held(&mut self, contents: &[Only]) -> BTreeMap<ContentId, String> {
        let mut asked: BTreeMap<(WorkerId, String), Vec<ContentId>> = BTreeMap::new();
        let mut missing = BTreeMap::new();
        for only in contents {
            let live = self.core.workers.addresses(&only.holders);
            let ids: Vec<_> = only.holders.iter().map(ToString::to_string).collect();
            let why = if live.is_empty() {
                format!("worker {} is not live: start it again", ids.join(" or "))
            } else {
                format!("worker {} lacks them", ids.join(" and "))
            };
            missing.insert(only.content, why);
            for holder in live {
                asked.entry(holder).or_default().push(only.content);
            }
        }
        let holders = &self.core.persister.holders;
        let answers = stream::iter(asked).map(|((id, address), contents)| async move {
            let request =
                AccountRequest { contents: contents.iter().copied().map(Into::into).collect(), uploads: Vec::new() };
            (contents, holders.account(id, &address, request).await)
        });
        let answers: Vec<_> = answers.buffer_unordered(AT_ONCE).collect().await;
        for (contents, answer) in answers {
            match answer {
                Ok(answer) => {
                    let held = contents.iter().zip(answer.held).filter(|(_, held)| *held);
                    held.for_each(|(content, _)| drop(missing.remove(content)));
                }
                Err(error) => {
                    contents.iter().for_each(|content| drop(missing.remove(content)));
                    self.unseen(error.to_string());
                }
            }
        }
        missing
    }
}
