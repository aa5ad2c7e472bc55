//! One who looks at the bucket and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};

use super::history::{At, File, History, Step, identify};
use crate::lake::Lake;

/// The files that a listing shows, by key, with their versions.
type Look = BTreeMap<String, (File, u32)>;

/// Looks again and again, and holds every commit that it sees against what was acknowledged before that.
#[derive(Debug)]
pub(super) struct Observer<'a> {
    lake: &'a Lake,
    history: &'a History,
    /// What an object holds, by key and `ETag`.
    known: HashMap<(String, String), (File, u32)>,
    /// So many changes have been found to be there.
    verified: usize,
    /// Where versions of files were seen.
    places: HashSet<(File, u32, String)>,
    /// Commits, and directories that were renamed, that showed more than those before them.
    pub(super) checks: usize,
    /// So many of them were directories.
    pub(super) moves: usize,
}

impl<'a> Observer<'a> {
    pub(super) fn new(lake: &'a Lake, history: &'a History) -> Self {
        Self { lake, history, known: HashMap::new(), verified: 0, places: HashSet::new(), checks: 0, moves: 0 }
    }

    /// Looks once.
    ///
    /// # Errors
    /// A commit is there without what was acknowledged before it.
    pub(super) fn observe(&mut self) -> Result<()> {
        let seen = self.look()?;
        let files = self.history.files();
        let mut required = self.verified;
        let mut shows = None;
        for (key, (file, version)) in &seen {
            let mut steps =
                files[*file].iter().filter(|step| step.state.as_ref().is_some_and(|at| at.version == *version));
            let step = steps.find_map(|step| step.requires);
            if let Some(requires) = step.filter(|requires| *requires > required) {
                required = requires;
                shows = Some((key, false));
            }
            if let Some(follows) = self.follows(&files[*file], key, (*file, *version)).filter(|more| *more > required) {
                required = follows;
                shows = Some((key, true));
            }
        }
        let shows = shows.map(|(key, moved)| (key.clone(), moved));
        self.places.extend(seen.into_iter().map(|(key, (file, version))| (file, version, key)));
        let Some((shows, moved)) = shows else { return Ok(()) };
        self.checks += 1;
        self.moves += usize::from(moved);
        self.check(required).with_context(|| format!("{shows} is there, and with it {required} changes must be"))
    }

    /// What must be there since this object followed a directory that was renamed: it was seen where it was before, or had a temporary name.
    fn follows(&self, steps: &[Step], key: &str, (file, version): (File, u32)) -> Option<usize> {
        let renamed = steps.iter().position(|step| step.follows.is_some())?;
        let (before, after) = steps.split_at(renamed);
        let of_version = |steps: &'_ [Step]| -> Vec<At> {
            steps.iter().filter_map(|step| step.state.clone()).filter(|at| at.version == version).collect()
        };
        let has_been = |at: &At| is_temporary(at) || self.places.contains(&(file, version, at.path.clone()));
        let followed = of_version(before).iter().any(has_been) && of_version(after).iter().any(|at| at.path == key);
        after[0].follows.filter(|_| followed)
    }

    /// Checks that everything is there, once nothing is pending any more.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn must_see_all(&mut self) -> Result<()> {
        self.verified = 0;
        self.check(self.history.acknowledged())
    }

    /// Checks that the first `required` changes are there. Files that were changed again since, or are being changed, may have got on.
    fn check(&mut self, required: usize) -> Result<()> {
        // Listed in this order: what has moved between two keys while the first listing passed them by is in the second.
        let looks = [self.look()?, self.look()?];
        let mut places = HashMap::<File, Vec<&String>>::new();
        for (key, (file, _)) in &looks[0] {
            places.entry(*file).or_default().push(key);
        }
        for (file, steps) in self.history.files().iter().enumerate() {
            let is_before = |step: &Step| step.acknowledged.is_some_and(|number| number < required);
            let Some(last) = steps.iter().rposition(is_before) else { continue };
            if steps[last].acknowledged.is_some_and(|number| number < self.verified) {
                continue;
            }
            let (now, later) = (&steps[last].state, &steps[last + 1..]);
            let places = places.get(&file).map_or(&[][..], Vec::as_slice);
            let context = || format!("file {file}, found at {places:?}: {:?}", &steps[last..]);
            match now {
                _ if later.iter().any(|step| step.state.is_none()) => {}
                Some(at) if is_temporary(at) => {}
                // A commit file that is written again before it is persisted takes its turn anew, and is never seen as it was.
                Some(_) if steps[last].requires.is_some() && later.iter().any(|step| step.requires.is_some()) => {}
                Some(at) if later.is_empty() => must_be_at(file, at, places, &looks[0]).with_context(context)?,
                Some(at) => must_be_on_its_way(file, at, later, &looks).with_context(context)?,
                None => ensure!(places.is_empty(), "a file that was removed is there: {}", context()),
            }
        }
        self.verified = required;
        Ok(())
    }

    /// What the bucket holds.
    fn look(&mut self) -> Result<Look> {
        let listed = self.lake.list()?.into_iter().filter(|(key, ..)| !key.ends_with('/'));
        let listed: Vec<_> = listed.map(|(key, _, etag)| (key, etag)).collect();
        let unknown: Vec<_> = listed.iter().filter(|object| !self.known.contains_key(object)).collect();
        let keys: Vec<_> = unknown.iter().map(|(key, _)| key.clone()).collect();
        let bodies = self.lake.bodies(&keys);
        let mut found = Vec::new();
        for (object, body) in unknown.into_iter().zip(bodies) {
            // It may have gone since.
            if let Some(body) = body {
                found.push((object.clone(), identify(&body).with_context(|| format!("the object {}", object.0))?));
            }
        }
        self.known.extend(found);
        let look = listed.into_iter().filter_map(|object| self.known.get(&object).map(|found| (object.0, *found)));
        Ok(look.collect())
    }
}

/// Whether the bucket is to hear nothing of it there.
fn is_temporary(at: &At) -> bool {
    at.path.contains("/_temporary/")
}

/// Nobody has touched the file since: it is exactly there, and nowhere else.
fn must_be_at(file: File, at: &At, places: &[&String], look: &Look) -> Result<()> {
    let found = look.get(&at.path);
    ensure!(found == Some(&(file, at.version)), "{at:?} is {found:?}");
    ensure!(places.len() == 1, "it is at more than one key");
    Ok(())
}

/// The file is where it was or where it was moved since, in no older version.
fn must_be_on_its_way(file: File, at: &At, later: &[Step], looks: &[Look; 2]) -> Result<()> {
    let after = later.iter().filter_map(|step| step.state.as_ref());
    let mut paths = std::iter::once(at).chain(after).map(|at| &at.path);
    let there = paths.any(|path| {
        looks.iter().any(|look| look.get(path).is_some_and(|found| found.0 == file && found.1 >= at.version))
    });
    ensure!(there, "{at:?} is nowhere");
    Ok(())
}
