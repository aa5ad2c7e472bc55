//! Comparing pages with their checksums in the background.

use std::sync::Arc;

use headpond_types::page_len;

use crate::{content::Content, dir::Dir, error::StoreError, shared::lock};

/// What one step of scrubbing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes compared.
    pub bytes: u64,
    /// Pages found corrupt, and dropped.
    pub corrupt: u64,
    /// The end of the store was reached: the next step begins a new round.
    pub round_done: bool,
}

/// Where scrubbing goes on.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    dir: usize,
    slot: u32,
    page: u64,
}

impl Cursor {
    /// Compares pages of `dirs` until `budget` bytes were read or the round is done.
    pub(crate) fn step(&mut self, dirs: &[Option<Arc<Dir>>], budget: u64) -> Scrubbed {
        let mut done = Scrubbed::default();
        while done.bytes < budget {
            let Some(dir) = dirs.get(self.dir) else {
                *self = Self::default();
                done.round_done = true;
                break;
            };
            let next = dir.as_ref().and_then(|dir| lock(&dir.policy).next_content(self.slot));
            let Some((slot, content)) = next else {
                *self = Self { dir: self.dir + 1, ..Self::default() };
                continue;
            };
            if slot != self.slot {
                (self.slot, self.page) = (slot, 0);
            }
            if self.check_some(&content, budget, &mut done) {
                (self.slot, self.page) = (slot + 1, 0);
            }
        }
        done
    }

    /// Whether the end of the content was reached.
    fn check_some(&mut self, content: &Arc<Content>, budget: u64, done: &mut Scrubbed) -> bool {
        while done.bytes < budget {
            let length = page_len(self.page, content.length());
            if length == 0 {
                return true;
            }
            if content.is_present(self.page) {
                done.bytes += length;
                match content.check_page(self.page) {
                    Err(StoreError::Corrupt { .. }) => done.corrupt += 1,
                    Err(StoreError::DirFailed { .. }) => return true,
                    _ => {}
                }
            }
            self.page += 1;
        }
        false
    }
}
