//! From the order of a store's keys to the order of names, deciding what each name is.
//!
//! A store lists in byte order of keys, in which a directory `a` stands as `a/`: behind `a` and `a-x`. So after any key
//! it is open for the proper prefixes of that key that continue with a byte below `/`, and for the key itself, whether
//! a directory of that name follows. Names from the first such prefix on are held back; everything before is settled
//! and released, each name once, in byte order of names. When one open prefix holds back much, the store can be asked
//! whether it is a directory ([`NameOrder::open`], [`NameOrder::settle`]).
//!
//! Where a file and a directory have one name the directory wins, whichever page they stand on. Names that no path can
//! have are counted and left out.

use std::collections::BTreeMap;

use headpond_namespace::ObservedKind;
use headpond_types::Name;

/// Longest name that can be a directory entry: longer prefixes need no thought.
const NAME_MAX: usize = 255;

/// The entries of one directory as a listing shows them.
#[derive(Debug)]
pub(crate) struct NameOrder {
    ordered: bool,
    complete: bool,
    /// Sort key of the last sighting: the name, with a trailing `/` for a directory.
    last: Option<Vec<u8>>,
    held: BTreeMap<Name, ObservedKind>,
    /// Prefixes of `last` about which the store was asked.
    settled: Vec<Name>,
    skipped: u64,
}

/// Names below this are settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Those whose bytes are less than these.
    Below(Vec<u8>),
    /// All of them.
    All,
}

/// The store listed a name behind one that follows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store lists {0:?} out of byte order")]
pub(crate) struct OutOfOrder(String);

impl NameOrder {
    /// For a listing in byte order of keys, or (not `ordered`) one in any order, of which nothing is settled before its end.
    pub(crate) const fn new(ordered: bool) -> Self {
        Self { ordered, complete: false, last: None, held: BTreeMap::new(), settled: Vec::new(), skipped: 0 }
    }

    /// Takes the next sighting. The same directory again is no news.
    pub(crate) fn see(&mut self, name: &[u8], object: ObservedKind) -> Result<(), OutOfOrder> {
        let directory = object == ObservedKind::Directory;
        let mut sort_key = name.to_vec();
        if directory {
            sort_key.push(b'/');
        }
        if self.last.as_ref() == Some(&sort_key) {
            return Ok(());
        }
        if self.ordered && self.last.as_ref().is_some_and(|last| *last > sort_key) {
            return Err(OutOfOrder(String::from_utf8_lossy(name).into_owned()));
        }
        self.settled.retain(|prefix| sort_key.starts_with(prefix.as_bytes()));
        self.last = Some(sort_key);
        let Ok(name) = Name::new(name) else {
            self.skipped += 1;
            return Ok(());
        };
        if !self.settled.contains(&name) {
            self.hold(name, object);
        }
        Ok(())
    }

    /// Says that nothing follows.
    pub(crate) const fn complete(&mut self) {
        self.complete = true;
    }

    /// The name that holds back the others: whether it is a directory is not known yet.
    pub(crate) fn open(&self) -> Option<Name> {
        if self.complete || !self.ordered {
            return None;
        }
        let last = self.last.as_deref()?;
        (1..=last.len().min(NAME_MAX))
            .filter(|length| last.get(*length).map_or_else(|| !last.ends_with(b"/"), |next| *next < b'/'))
            .filter_map(|length| Name::new(&last[..length]).ok())
            .find(|name| !self.settled.contains(name))
    }

    /// Answers for the name that [`NameOrder::open`] gave.
    pub(crate) fn settle(&mut self, name: Name, directory: bool) {
        if directory {
            self.hold(name.clone(), ObservedKind::Directory);
        }
        self.settled.push(name);
    }

    /// Which names are settled.
    pub(crate) fn bound(&self) -> Settled {
        if self.complete {
            return Settled::All;
        }
        if !self.ordered {
            return Settled::Below(Vec::new());
        }
        match self.open() {
            Some(open) => Settled::Below(open.as_bytes().to_vec()),
            None => Settled::Below(self.last.clone().unwrap_or_default()),
        }
    }

    /// Takes out the settled entries, in byte order of names, behind those taken before.
    pub(crate) fn release(&mut self) -> Vec<(Name, ObservedKind)> {
        let kept = match self.bound() {
            Settled::All => BTreeMap::new(),
            Settled::Below(bound) => match self.held.keys().find(|name| name.as_bytes() >= &bound[..]).cloned() {
                Some(first) => self.held.split_off(&first),
                None => BTreeMap::new(),
            },
        };
        std::mem::replace(&mut self.held, kept).into_iter().collect()
    }

    /// How many entries are not settled.
    pub(crate) fn held_back(&self) -> usize {
        match self.bound() {
            Settled::All => 0,
            Settled::Below(bound) => self.held.keys().rev().take_while(|name| name.as_bytes() >= &bound[..]).count(),
        }
    }

    /// Keys that no path can express, those hidden by a directory of the same name included.
    pub(crate) const fn skipped(&self) -> u64 {
        self.skipped
    }

    fn hold(&mut self, name: Name, object: ObservedKind) {
        let directory = object == ObservedKind::Directory;
        match self.held.get_mut(&name) {
            None => {
                self.held.insert(name, object);
            }
            Some(held) => {
                let was_directory = *held == ObservedKind::Directory;
                self.skipped += u64::from(was_directory != directory);
                if directory {
                    *held = object;
                }
            }
        }
    }
}

impl Settled {
    /// Whether `name` is settled.
    pub(crate) fn covers(&self, name: &Name) -> bool {
        match self {
            Self::All => true,
            Self::Below(bound) => name.as_bytes() < &bound[..],
        }
    }
}

#[cfg(test)]
mod tests {
    use headpond_types::{ContentId, Timestamp};

    use super::*;

    fn file() -> ObservedKind {
        ObservedKind::File { size: 1, mtime: Timestamp(0), version: "v".to_owned(), content: ContentId(1) }
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    /// Feeds keys (`x/` is a directory) and gives what is released after them.
    fn feed(order: &mut NameOrder, keys: &[&str]) -> Vec<String> {
        for key in keys {
            match key.strip_suffix('/') {
                Some(directory) => order.see(directory.as_bytes(), ObservedKind::Directory).expect("ordered"),
                None => order.see(key.as_bytes(), file()).expect("ordered"),
            }
        }
        shown(order.release())
    }

    fn shown(released: Vec<(Name, ObservedKind)>) -> Vec<String> {
        let slash = |object: &ObservedKind| if *object == ObservedKind::Directory { "/" } else { "" };
        released.iter().map(|(name, object)| format!("{name}{}", slash(object))).collect()
    }

    #[test]
    fn a_directory_hides_the_file_of_its_name_across_pages() {
        let mut order = NameOrder::new(true);
        assert_eq!(feed(&mut order, &["a"]), [""; 0]);
        assert_eq!(feed(&mut order, &["a!", "a-x"]), [""; 0]);
        assert_eq!(order.open(), Some(name("a")));
        assert_eq!(feed(&mut order, &["a/", "b"]), ["a/", "a!", "a-x"]);
        order.complete();
        assert_eq!(shown(order.release()), ["b"]);
        assert_eq!(order.skipped(), 1);
    }

    #[test]
    fn asking_about_an_open_name_releases_what_it_held_back() {
        let mut order = NameOrder::new(true);
        assert_eq!(feed(&mut order, &["part-0", "part-1", "part-2"]), [""; 0]);
        assert_eq!(order.open(), Some(name("part")));
        order.settle(name("part"), false);
        assert_eq!(shown(order.release()), ["part-0", "part-1"]);
        assert_eq!(order.bound(), Settled::Below(b"part-2".to_vec()));
        assert_eq!(feed(&mut order, &["part-3"]), ["part-2"]);
    }

    #[test]
    fn a_directory_found_by_asking_is_shown_once() {
        let mut order = NameOrder::new(true);
        assert_eq!(feed(&mut order, &["a", "a-1"]), [""; 0]);
        order.settle(name("a"), true);
        assert_eq!(shown(order.release()), ["a/"]);
        assert_eq!(feed(&mut order, &["a/", "b/"]), ["a-1", "b/"]);
        assert_eq!(order.skipped(), 1);
    }

    #[test]
    fn names_that_no_path_can_have_are_counted() {
        let long = "x".repeat(256);
        let mut order = NameOrder::new(true);
        assert_eq!(feed(&mut order, &["\0", ".", "..", "../", "/", "ok", &long]), ["ok"]);
        assert_eq!(order.skipped(), 6);
    }

    #[test]
    fn a_listing_out_of_order_is_refused_unless_announced() {
        let mut order = NameOrder::new(true);
        feed(&mut order, &["b"]);
        assert!(order.see(b"a", file()).is_err());
        let mut order = NameOrder::new(false);
        assert_eq!(feed(&mut order, &["b", "a/", "a"]), [""; 0]);
        order.complete();
        assert_eq!(shown(order.release()), ["a/", "b"]);
    }
}
