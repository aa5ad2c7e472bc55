use headpond_types::{FileKind, MountId, Timestamp};

use super::*;

const DIRECTORY: InodeId = InodeId(5);
const FILE: InodeId = InodeId(7);
const VALID: Duration = Duration::from_secs(30);

fn attr() -> Arc<Attr> {
    Arc::new(Attr {
        inode: FILE,
        parent: DIRECTORY,
        mount: MountId(1),
        kind: FileKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        nlink: 1,
        size: 3,
        mtime: Timestamp(0),
        ctime: Timestamp(0),
        content: Some(ContentId(9)),
        version: "v".to_owned(),
    })
}

fn live() -> MetaCache {
    let cache = MetaCache::new(100);
    cache.begin_session();
    cache
}

fn put(cache: &MetaCache, ticket: &Ticket) -> Lookup {
    cache.put_name(ticket, DIRECTORY, b"a", Some(attr()), VALID)
}

fn name() -> Name {
    Name::new("a").expect("a name")
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_believed_until_its_validity_ends() {
    let cache = live();
    put(&cache, &cache.ticket(Scope::Inode(DIRECTORY)));
    cache.put_name(&cache.ticket(Scope::Inode(DIRECTORY)), DIRECTORY, b"absent", None, VALID);
    tokio::time::advance(VALID - Duration::from_millis(1)).await;
    assert!(cache.name(DIRECTORY, b"a").is_some_and(|found| found.attr.is_some() && found.is_valid()));
    assert!(cache.name(DIRECTORY, b"absent").is_some_and(|found| found.attr.is_none()));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(cache.name(DIRECTORY, b"a").is_none());
    assert!(cache.name(DIRECTORY, b"absent").is_none());
    assert!(cache.attr(FILE).is_none());
}

#[tokio::test(start_paused = true)]
async fn validity_counts_from_the_question() {
    let cache = live();
    let ticket = cache.ticket(Scope::Inode(DIRECTORY));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(put(&cache, &ticket).remaining(), VALID - Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn an_expired_answer_is_known_for_a_while_but_an_absence_is_not() {
    let cache = live();
    put(&cache, &cache.ticket(Scope::Inode(DIRECTORY)));
    cache.put_name(&cache.ticket(Scope::Inode(DIRECTORY)), DIRECTORY, b"absent", None, VALID);
    cache.end_session();
    let window = Duration::from_mins(10);
    tokio::time::advance(VALID + window - Duration::from_millis(1)).await;
    assert!(cache.known_name(DIRECTORY, b"a", window).is_some_and(|found| !found.is_valid()));
    assert!(cache.known_name(DIRECTORY, b"absent", window).is_none());
    assert!(cache.known_attr(FILE, Duration::ZERO).is_none());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(cache.known_name(DIRECTORY, b"a", window).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_change_overtook_is_for_its_caller_only() {
    for scope in [Scope::Inode(DIRECTORY), Scope::Any] {
        let cache = live();
        let ticket = cache.ticket(scope);
        cache.invalidate(DIRECTORY, Some(&name()), Some(FILE));
        let given = put(&cache, &ticket);
        assert!(given.attr.is_some() && !given.is_valid());
        assert!(cache.name(DIRECTORY, b"a").is_none());
        assert!(cache.attr(FILE).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_elsewhere_keeps_nothing_out() {
    let cache = live();
    let ticket = cache.ticket(Scope::Inode(DIRECTORY));
    // Slots are shared by hash: one of these directories has another one.
    let elsewhere = (100..).map(InodeId).find(|other| cache.slot(*other) != cache.slot(DIRECTORY));
    cache.invalidate(elsewhere.expect("slots differ"), Some(&name()), None);
    put(&cache, &ticket);
    assert!(cache.name(DIRECTORY, b"a").is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_believed_without_a_session_or_across_one() {
    let cache = MetaCache::new(100);
    let before = cache.ticket(Scope::Inode(DIRECTORY));
    assert!(!put(&cache, &before).is_valid());
    cache.begin_session();
    assert!(!put(&cache, &before).is_valid());
    assert!(cache.name(DIRECTORY, b"a").is_none());

    put(&cache, &cache.ticket(Scope::Inode(DIRECTORY)));
    assert!(cache.name(DIRECTORY, b"a").is_some());
    for lose in [MetaCache::reset, |cache: &MetaCache| {
        cache.end_session();
        cache.begin_session();
    }] {
        put(&cache, &cache.ticket(Scope::Inode(DIRECTORY)));
        lose(&cache);
        assert!(cache.name(DIRECTORY, b"a").is_none());
        assert!(cache.attr(FILE).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_entry_leaves_its_directory_known() {
    let cache = live();
    let ticket = cache.ticket(Scope::Inode(DIRECTORY));
    let directory = Arc::new(Attr { inode: DIRECTORY, kind: FileKind::Directory, content: None, ..(*attr()).clone() });
    cache.put_attr(&ticket, directory, VALID);
    cache.invalidate(DIRECTORY, Some(&name()), None);
    assert!(cache.attr(DIRECTORY).is_none());
    assert!(cache.known_attr(DIRECTORY, VALID).is_some());
}

#[tokio::test(start_paused = true)]
async fn only_the_outdated_content_makes_an_inode_suspect_and_forgotten() {
    let cache = live();
    put(&cache, &cache.ticket(Scope::Inode(DIRECTORY)));
    cache.suspect(FILE, ContentId(8));
    assert!(cache.attr(FILE).is_some(), "the inode has another content by now");
    cache.suspect(FILE, ContentId(9));
    assert!(cache.attr(FILE).is_none() && cache.is_suspect(FILE));
    cache.clear(FILE);
    assert!(!cache.is_suspect(FILE));
}
