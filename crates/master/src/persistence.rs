//! What a mount says of persisting, ready to be asked: how a path is persisted, and whether it is temporary or a barrier.
//!
//! A pattern is a glob per component: `*`, `?` and `[…]` stay within a name. One of `n` components is compared with the last `n` of a path below the
//! mount point, or with all of them when it begins with `/`. Patterns of commits mean files themselves; rules and patterns of temporary names mean
//! everything below what matches, too. Names that are no UTF-8 are compared with their bad bytes replaced.

use std::borrow::Cow;

use glob::Pattern;
use headpond_namespace::{Due, Durability, Persistence};
use headpond_types::{Error, ErrorKind, Name, Result};

/// A mount's [`Persistence`], compiled.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    durability: Durability,
    rules: Vec<(PathPattern, Durability)>,
    commits: Vec<PathPattern>,
    temporary: Vec<PathPattern>,
    /// Workers that are to hold dirty bytes.
    pub(crate) copies: u32,
    /// Fewer will not do.
    pub(crate) strict_copies: bool,
}

/// One pattern.
#[derive(Debug)]
struct PathPattern {
    anchored: bool,
    names: Vec<Pattern>,
}

impl Policy {
    /// # Errors
    /// `InvalidArgument` for a pattern that cannot be read, naming it and what is wrong.
    pub(crate) fn new(persistence: &Persistence) -> Result<Self> {
        let Persistence { durability, rules, commit_patterns, temporary_patterns, copies, strict_copies } = persistence;
        let parse_all = |texts: &[String]| texts.iter().map(|text| PathPattern::parse(text)).collect::<Result<_>>();
        let rule = |(text, durability): &(String, _)| Ok((PathPattern::parse(text)?, *durability));
        Ok(Self {
            durability: *durability,
            rules: rules.iter().map(rule).collect::<Result<_>>()?,
            commits: parse_all(commit_patterns)?,
            temporary: parse_all(temporary_patterns)?,
            copies: (*copies).max(1),
            strict_copies: *strict_copies,
        })
    }

    /// Whether anything is persisted after it is acknowledged.
    pub(crate) fn persists_later(&self) -> bool {
        let modes = self.rules.iter().map(|(_, durability)| durability).chain([&self.durability]);
        modes.into_iter().any(|durability| *durability != Durability::Through)
    }

    /// Whether what is renamed from `old` to `new` is to be persisted now, and was to wait for a rename.
    pub(crate) fn releases(&self, old: &[Name], new: &[Name]) -> bool {
        self.due(old) == Some(Due::WhenRenamed) && self.due(new).is_none_or(|due| due == Due::Now)
    }

    /// When what is written at `path` below the mount point is persisted; `None`: before it is acknowledged.
    pub(crate) fn due(&self, path: &[Name]) -> Option<Due> {
        match self.durability(path) {
            Durability::Through => None,
            Durability::Async => Some(Due::Now),
            Durability::Deferred if self.is_temporary(path) => Some(Due::WhenRenamed),
            Durability::Deferred => Some(Due::Now),
            Durability::Scratch => Some(Due::Never),
        }
    }

    /// Whether the file `path` is to be seen in the store only after all that was changed before it.
    pub(crate) fn is_barrier(&self, path: &[Name]) -> bool {
        !self.commits.is_empty() && {
            let path = texts(path);
            self.commits.iter().any(|pattern| pattern.matches(&path))
        }
    }

    /// Whether `path`, or a directory above it, has a temporary name.
    pub(crate) fn is_temporary(&self, path: &[Name]) -> bool {
        !self.temporary.is_empty() && {
            let path = texts(path);
            self.temporary.iter().any(|pattern| pattern.matches_from_above(&path))
        }
    }

    fn durability(&self, path: &[Name]) -> Durability {
        if self.rules.is_empty() {
            return self.durability;
        }
        let path = texts(path);
        let rule = self.rules.iter().find(|(pattern, _)| pattern.matches_from_above(&path));
        rule.map_or(self.durability, |(_, durability)| *durability)
    }
}

impl PathPattern {
    fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::new(ErrorKind::InvalidArgument, format!("pattern {text:?}: {why}"));
        let (anchored, rest) = text.strip_prefix('/').map_or((false, text), |rest| (true, rest));
        let name = |name: &str| {
            if name.is_empty() {
                return Err(invalid("a name in it is empty: give globs with single slashes between them"));
            }
            if name.contains("**") {
                return Err(invalid(
                    "** is not known: a pattern is compared with the last names of a path, at any depth",
                ));
            }
            Pattern::new(name).map_err(|error| invalid(error.msg))
        };
        Ok(Self { anchored, names: rest.split('/').map(name).collect::<Result<_>>()? })
    }

    fn matches(&self, path: &[Cow<'_, str>]) -> bool {
        let Some(above) = path.len().checked_sub(self.names.len()) else { return false };
        (above == 0 || !self.anchored)
            && self.names.iter().zip(&path[above..]).all(|(pattern, name)| pattern.matches(name))
    }

    fn matches_from_above(&self, path: &[Cow<'_, str>]) -> bool {
        (1..=path.len()).any(|depth| self.matches(&path[..depth]))
    }
}

fn texts(path: &[Name]) -> Vec<Cow<'_, str>> {
    path.iter().map(|name| String::from_utf8_lossy(name.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<Name> {
        path.split('/').map(|name| Name::new(name).expect("a name")).collect()
    }

    fn policy(change: impl FnOnce(&mut Persistence)) -> Policy {
        let mut persistence = Persistence { durability: Durability::Deferred, ..Persistence::default() };
        change(&mut persistence);
        Policy::new(&persistence).expect("good patterns")
    }

    #[test]
    fn patterns_mean_the_last_names_of_a_path() {
        let policy = policy(|p| {
            p.commit_patterns = ["_SUCCESS", "_delta_log/*", "*.metadata.json", "/top"].map(str::to_owned).to_vec();
        });
        for path in ["_SUCCESS", "a/b/_SUCCESS", "t/_delta_log/00.json", "t/metadata/v1.metadata.json", "top"] {
            assert!(policy.is_barrier(&names(path)), "{path}");
        }
        for path in ["_SUCCESS/a", "_SUCCESS.crc", "_delta_log", "_delta_log/a/b", "metadata.json.tmp", "a/top"] {
            assert!(!policy.is_barrier(&names(path)), "{path}");
        }
    }

    #[test]
    fn temporary_names_and_rules_reach_down() {
        let policy = policy(|p| {
            p.temporary_patterns = ["_temporary", "*.inprogress*"].map(str::to_owned).to_vec();
            p.rules = vec![
                ("scratch".to_owned(), Durability::Scratch),
                ("tmp/*".to_owned(), Durability::Async),
                ("tmp".to_owned(), Durability::Through),
            ];
        });
        let due = |path| policy.due(&names(path));
        assert_eq!(due("t/_temporary/0/part-0"), Some(Due::WhenRenamed));
        assert_eq!(due("t/a.inprogress.7"), Some(Due::WhenRenamed));
        assert_eq!(due("t/part-0"), Some(Due::Now));
        assert_eq!(due("x/scratch/_temporary/y"), Some(Due::Never));
        assert_eq!(due("tmp/a/b"), Some(Due::Now), "the first rule that matches");
        assert_eq!(due("tmp"), None);
    }

    #[test]
    fn bad_patterns_say_what_is_wrong() {
        for (bad, why) in [("", "empty"), ("a//b", "empty"), ("a/**", "**"), ("[a", "range"), ("a/", "empty")] {
            let persistence = Persistence { commit_patterns: vec![bad.to_owned()], ..Persistence::default() };
            let error = Policy::new(&persistence).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            let text = error.to_string();
            assert!(text.contains(&format!("{bad:?}")) && text.contains(why), "{text}");
        }
    }

    #[test]
    fn names_that_are_no_text_match_what_they_can() {
        let policy = policy(|p| p.temporary_patterns = vec!["*.tmp".to_owned()]);
        assert!(policy.is_temporary(&[Name::new(b"\xff.tmp").expect("a name")]));
    }
}
