//! Whose pages the kernel has.
//!
//! An inode's bytes change when somebody writes it through Headpond. Here the kernel's pages change with them; when it was somewhere
//! else, they are of an older version and must go at the next open.

use headpond_types::ContentId;
use moka::sync::Cache;

/// Most nodes remembered, about 150 bytes each. The pages of one forgotten are read again, nothing worse.
const MOST: u64 = 256 << 10;

/// What a node's pages in the kernel are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// A content.
    Content(ContentId),
    /// What is being written through this mount.
    Written,
}

/// What the kernel has pages of, by node.
#[derive(Debug)]
pub(super) struct Pages(Cache<u64, Held>);

impl Default for Pages {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Pages {
    /// From now on the kernel is given pages of `held`: whether those that it has are of that.
    pub(super) fn hold(&self, node: u64, held: Held) -> bool {
        let same = self.0.get(&node) == Some(held);
        if !same {
            self.0.insert(node, held);
        }
        same
    }

    /// Whether the kernel has pages of what was written through this mount.
    pub(super) fn is_written(&self, node: u64) -> bool {
        self.0.get(&node) == Some(Held::Written)
    }

    /// What was written through this mount is called `content` now, or is lost.
    pub(super) fn settle(&self, node: u64, content: Option<ContentId>) {
        match content {
            Some(content) => self.0.insert(node, Held::Content(content)),
            None => self.0.invalidate(&node),
        }
    }

    /// Pages of `content` are as good as those that are written from now on.
    pub(super) fn take_over(&self, node: u64, content: Option<ContentId>) {
        if content.is_some_and(|content| self.0.get(&node) == Some(Held::Content(content))) {
            self.0.insert(node, Held::Written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u64 = 7;
    const OLD: ContentId = ContentId(1);
    const NEW: ContentId = ContentId(2);

    #[test]
    fn pages_are_kept_while_they_are_of_what_is_opened() {
        let pages = Pages::default();
        assert!(!pages.hold(NODE, Held::Content(OLD)), "nothing is known of them");
        assert!(pages.hold(NODE, Held::Content(OLD)));
        assert!(!pages.hold(NODE, Held::Content(NEW)), "it was written elsewhere");
        assert!(!pages.hold(NODE, Held::Content(OLD)));
    }

    #[test]
    fn pages_stay_over_a_writer_of_this_mount() {
        let pages = Pages::default();
        pages.hold(NODE, Held::Content(OLD));
        pages.take_over(NODE, Some(OLD));
        assert!(pages.hold(NODE, Held::Written));
        pages.settle(NODE, Some(NEW));
        assert!(pages.hold(NODE, Held::Content(NEW)));
        pages.take_over(NODE, Some(OLD));
        assert!(!pages.hold(NODE, Held::Written), "the writer began with another version");
        pages.settle(NODE, None);
        assert!(!pages.hold(NODE, Held::Content(NEW)), "what was written was lost");
    }
}
