//! What a listed key means to the directory that is listed.

use headpond_namespace::ObservedKind;
use headpond_types::ContentId;
use headpond_ufs::{Listed, ObjectMeta};

/// A result of a delimited listing, seen from the directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// The directory's own marker object.
    Itself,
    /// An object of that raw name.
    Object(&'a [u8], &'a ObjectMeta),
    /// A common prefix of that raw name.
    Directory(&'a [u8]),
    /// Not below the prefix asked for.
    Elsewhere,
}

/// A result of a flat listing, seen from the directory at its top.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Branch<'a> {
    /// Raw names of the directories on the way, `/` behind each; empty for an entry of the top.
    pub(crate) directories: &'a [u8],
    /// Raw name of the object; `None` for the marker of the last directory.
    pub(crate) object: Option<&'a [u8]>,
}

/// Places one result of the delimited listing of `prefix`, which is empty or ends in `/`.
pub(crate) fn place<'a>(prefix: &[u8], listed: &'a Listed) -> Place<'a> {
    match listed {
        Listed::Object(meta) => match meta.key.as_bytes().strip_prefix(prefix) {
            None => Place::Elsewhere,
            Some([]) => Place::Itself,
            Some(name) => match name.strip_suffix(b"/") {
                Some(directory) => Place::Directory(directory),
                None => Place::Object(name, meta),
            },
        },
        Listed::Prefix(key) => match key.as_bytes().strip_prefix(prefix) {
            None => Place::Elsewhere,
            Some([]) => Place::Itself,
            Some(name) => Place::Directory(name.strip_suffix(b"/").unwrap_or(name)),
        },
    }
}

/// Places one key of the flat listing of `prefix`; `None` when it does not lie below.
pub(crate) fn branch<'a>(prefix: &[u8], key: &'a [u8]) -> Option<Branch<'a>> {
    let path = key.strip_prefix(prefix)?;
    let split = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (directories, object) = path.split_at(split);
    Some(Branch { directories, object: Some(object).filter(|object| !object.is_empty()) })
}

/// An object of the store `identity` as the namespace is told of it.
pub(crate) fn observed(identity: &str, meta: &ObjectMeta) -> ObservedKind {
    ObservedKind::File {
        size: meta.size,
        mtime: meta.mtime,
        version: meta.version.clone(),
        content: ContentId::of_object(identity, meta.key.as_bytes(), &meta.version, meta.size),
    }
}

#[cfg(test)]
mod tests {
    use headpond_types::Timestamp;
    use headpond_ufs::Key;

    use super::*;

    fn object(key: &'static str) -> Listed {
        Listed::Object(ObjectMeta {
            key: Key::from(key.as_bytes()),
            size: 1,
            mtime: Timestamp(0),
            version: "v".to_owned(),
            content: None,
        })
    }

    #[test]
    fn results_are_placed_below_the_prefix() {
        assert_eq!(place(b"d/", &object("d/")), Place::Itself);
        assert!(matches!(place(b"d/", &object("d/a")), Place::Object(b"a", _)));
        assert_eq!(place(b"d/", &object("e/a")), Place::Elsewhere);
        assert_eq!(place(b"d/", &Listed::Prefix(Key::from("d/e/"))), Place::Directory(b"e"));
        assert_eq!(place(b"d/", &Listed::Prefix(Key::from("d//"))), Place::Directory(b""));
        assert_eq!(place(b"", &Listed::Prefix(Key::from("/"))), Place::Directory(b""));
    }

    #[test]
    fn keys_of_a_flat_listing_are_split_at_the_last_slash() {
        let split = |key: &'static str| {
            let branch = branch(b"p/", key.as_bytes()).expect("below");
            (branch.directories, branch.object)
        };
        assert_eq!(split("p/"), (&b""[..], None));
        assert_eq!(split("p/a"), (&b""[..], Some(&b"a"[..])));
        assert_eq!(split("p/a/b/c"), (&b"a/b/"[..], Some(&b"c"[..])));
        assert_eq!(split("p/a/"), (&b"a/"[..], None));
        assert_eq!(split("p/a//b"), (&b"a//"[..], Some(&b"b"[..])));
        assert_eq!(branch(b"p/", b"q"), None);
    }
}
