//! Commands and replies as they lie in journals and tables.

use super::*;

/// Journals and tables of requests hold these bytes.
#[test]
fn what_was_journalled_before_there_was_writing_is_read() {
    let name = Name::new("f").expect("a name");
    let file = ObservedKind::File { size: 5, mtime: Timestamp(-1), version: "v".to_owned(), content: ContentId(9) };
    let upsert = Command::Upsert {
        dir: InodeId(3),
        entries: vec![Observed { name: name.clone(), object: file }],
        at: Timestamp(4),
    };
    let forget = Command::Forget { dir: InodeId(3), entries: vec![(name.clone(), InodeId(7))] };
    let commands = [
        (vec![0], Command::Noop),
        (vec![6, 3, 1, 1, b'f', 1, 5, 1, 1, b'v', 9, 8], upsert),
        (vec![7, 3, 1, 1, b'f', 7], forget),
        (vec![8, 3, 4, 2], Command::MarkListed { dir: InodeId(3), at: Timestamp(2), skipped: 2 }),
        (vec![9], Command::Sweep),
    ];
    for (bytes, command) in commands {
        assert_eq!(postcard::to_allocvec(&command), Ok(bytes.clone()));
        assert_eq!(postcard::from_bytes(&bytes), Ok(command));
    }
    let at = NsPath::root().join(name);
    let replies = [
        (vec![0], Reply::Done),
        (vec![3, 8], Reply::Worker(WorkerId(8))),
        (vec![5, 1, 1, 1, b'f'], Reply::Refused(Refusal::NoMount(at))),
    ];
    for (bytes, reply) in replies {
        assert_eq!(postcard::to_allocvec(&reply), Ok(bytes.clone()));
        assert_eq!(postcard::from_bytes(&bytes), Ok(reply));
    }
}

#[test]
fn the_numbers_of_later_commands_stay() {
    let (request, now, inode, name) = (RequestId(1), Timestamp(0), InodeId(3), Name::new("f").expect("a name"));
    let version = Version { size: 0, mtime: now, version: String::new(), content: ContentId(0) };
    let commands = [
        Command::RemoveTree { request, parent: inode, name, inode, leaves: vec![], marker: None, now },
        Command::Reap { tree: inode, files: vec![(inode, String::new())] },
        Command::Replace { relocation: 1, key: vec![], version: String::new() },
        Command::Yield { inode, from: String::new(), key: vec![], version },
        Command::SetTimes { request, inode, change: AttrChange::default(), atime: now, now },
        Command::BeginSession { id: 1, session: ClientSession { client: String::new(), valid_ms: 0 } },
        Command::EndSessions { ids: vec![1] },
    ];
    for (number, command) in (31..).zip(commands) {
        let bytes = postcard::to_allocvec(&command).expect("encodes");
        assert_eq!(bytes[0], number, "{command:?}");
        assert_eq!(postcard::from_bytes(&bytes), Ok(command));
    }
}

/// Later releases read what this one journals.
#[test]
fn the_numbers_of_commands_of_writing_stay() {
    let (request, now, inode, name) = (RequestId(1), Timestamp(0), InodeId(3), Name::new("f").expect("a name"));
    let owner = Owner { mode: 0, uid: 0, gid: 0 };
    let version = Version { size: 0, mtime: now, version: String::new(), content: ContentId(0) };
    let (from, to) = ((inode, name.clone()), (inode, name.clone()));
    let commands = [
        Command::Create { request, parent: inode, name: name.clone(), owner, now },
        Command::Commit { request, inode, key: vec![], version, now },
        Command::Discard { inode },
        Command::MakeDirectory { request, parent: inode, name: name.clone(), owner, dirty: None, now },
        Command::Remove {
            request,
            parent: inode,
            name: name.clone(),
            inode,
            later: true,
            leaves: vec![],
            marker: None,
            now,
        },
        Command::Rename {
            request,
            from,
            to,
            no_replace: false,
            released: false,
            barrier: false,
            later: true,
            leaves: vec![],
            marker: None,
            now,
        },
        Command::Moved { relocation: 1, files: vec![] },
        Command::EndRelocation { relocation: 1 },
        Command::SetAttr { request, inode, change: AttrChange::default(), now },
        Command::MakeUnstored { request, parent: inode, name, owner, what: Unstored::Fifo, now },
        Command::SetXattr { request, inode, change: XattrChange { name: vec![], value: None, exists: None }, now },
    ];
    for (number, command) in (10..).zip(commands) {
        let bytes = postcard::to_allocvec(&command).expect("encodes");
        assert_eq!(bytes[0], number, "{command:?}");
        assert_eq!(postcard::from_bytes(&bytes), Ok(command));
    }
}
