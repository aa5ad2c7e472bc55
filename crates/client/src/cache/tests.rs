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
        atime: None,
        own_mtime: false,
        has_xattrs: false,
        dirty: false,
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

/// What the tests' answers show; a change told with a larger one is newer.
const NOW: u64 = 5;

fn answered(cache: &MetaCache) -> Answered {
    cache.ticket().answered(NOW, VALID)
}

fn put(cache: &MetaCache) -> Lookup {
    cache.put_name(&answered(cache), DIRECTORY, b"a", Some(attr()))
}

fn name() -> Name {
    Name::new("a").expect("a name")
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_believed_until_its_validity_ends() {
    let cache = live();
    put(&cache);
    cache.put_name(&answered(&cache), DIRECTORY, b"absent", None);
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
    let ticket = cache.ticket();
    tokio::time::advance(Duration::from_secs(10)).await;
    let given = cache.put_name(&ticket.answered(NOW, VALID), DIRECTORY, b"a", Some(attr()));
    assert_eq!(given.remaining(), VALID - Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn an_expired_answer_is_known_for_a_while_but_an_absence_is_not() {
    let cache = live();
    put(&cache);
    cache.put_name(&answered(&cache), DIRECTORY, b"absent", None);
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
    let cache = live();
    cache.invalidate(NOW + 1, DIRECTORY, Some(&name()), Some(FILE));
    let given = put(&cache);
    assert!(given.attr.is_some() && !given.is_valid());
    assert!(cache.name(DIRECTORY, b"a").is_none());
    assert!(cache.attr(FILE).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_the_change_is_kept_whichever_comes_first() {
    for change_first in [true, false] {
        let cache = live();
        let change = || cache.invalidate(NOW, DIRECTORY, Some(&name()), None);
        if change_first {
            change();
        }
        assert!(put(&cache).is_valid());
        if !change_first {
            change();
        }
        assert!(cache.name(DIRECTORY, b"a").is_some_and(|found| found.is_valid()));
        assert!(cache.attr(FILE).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_takes_belief_from_what_is_older_and_knowledge_from_what_is_gone() {
    let other = Some(InodeId(FILE.0 + 1));
    for (old, known) in [(None, true), (other, true), (Some(FILE), false)] {
        let cache = live();
        put(&cache);
        cache.put_name(&answered(&cache), DIRECTORY, b"absent", None);
        for changed in [name(), Name::new("absent").expect("a name")] {
            cache.invalidate(NOW + 1, DIRECTORY, Some(&changed), old);
        }
        assert!(cache.name(DIRECTORY, b"a").is_none() && cache.name(DIRECTORY, b"absent").is_none());
        assert!(cache.attr(FILE).is_none(), "its attributes may be what changed");
        assert_eq!(cache.known_name(DIRECTORY, b"a", VALID).is_some(), known, "{old:?}");
        assert_eq!(cache.known_attr(FILE, VALID).is_some(), known, "{old:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_listing_takes_belief_from_older_names() {
    let cache = live();
    put(&cache);
    cache.invalidate(NOW, DIRECTORY, None, None);
    assert!(cache.name(DIRECTORY, b"a").is_some());
    cache.invalidate(NOW + 1, DIRECTORY, None, None);
    assert!(cache.name(DIRECTORY, b"a").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_another_name_keeps_no_name_out() {
    let cache = live();
    let mine = cache.name_slot(DIRECTORY, b"a");
    let other = (0..).map(|n| n.to_string()).find(|name| cache.name_slot(DIRECTORY, name.as_bytes()) != mine);
    let other = Name::new(other.expect("slots differ")).expect("a name");
    cache.invalidate(NOW + 1, DIRECTORY, Some(&other), None);
    assert!(put(&cache).is_valid());
    assert!(cache.name(DIRECTORY, b"a").is_some());
    cache.invalidate(NOW + 1, DIRECTORY, None, None);
    assert!(!put(&cache).is_valid(), "it may be one of all");
    assert!(!cache.put_attr(&answered(&cache), attr()).is_valid(), "it may be the file of the other name");
}

#[tokio::test(start_paused = true)]
async fn a_change_elsewhere_keeps_nothing_out() {
    let cache = live();
    // Slots are shared by hash: one of these directories has another one.
    let mine = [cache.slot(DIRECTORY), cache.slot(FILE)];
    let elsewhere = (100..).map(InodeId).find(|other| !mine.contains(&cache.slot(*other)));
    cache.invalidate(NOW + 1, elsewhere.expect("slots differ"), Some(&name()), None);
    put(&cache);
    assert!(cache.name(DIRECTORY, b"a").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_new_session_may_have_a_shorter_journal() {
    let cache = live();
    cache.invalidate(NOW + 1000, DIRECTORY, Some(&name()), None);
    cache.end_session();
    cache.begin_session();
    put(&cache);
    assert!(cache.name(DIRECTORY, b"a").is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_believed_without_a_session_or_across_one() {
    let cache = MetaCache::new(100);
    let before = answered(&cache);
    let put_before = || cache.put_name(&before, DIRECTORY, b"a", Some(attr()));
    assert!(!put_before().is_valid());
    cache.begin_session();
    assert!(!put_before().is_valid());
    assert!(cache.name(DIRECTORY, b"a").is_none());

    put(&cache);
    assert!(cache.name(DIRECTORY, b"a").is_some());
    for lose in [MetaCache::reset, |cache: &MetaCache| {
        cache.end_session();
        cache.begin_session();
    }] {
        put(&cache);
        lose(&cache);
        assert!(cache.name(DIRECTORY, b"a").is_none());
        assert!(cache.attr(FILE).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_entry_leaves_its_directory_known() {
    let cache = live();
    let directory = Arc::new(Attr { inode: DIRECTORY, kind: FileKind::Directory, content: None, ..(*attr()).clone() });
    cache.put_attr(&answered(&cache), directory);
    cache.invalidate(NOW + 1, DIRECTORY, Some(&name()), None);
    assert!(cache.attr(DIRECTORY).is_none());
    assert!(cache.known_attr(DIRECTORY, VALID).is_some());
}

#[tokio::test(start_paused = true)]
async fn only_the_outdated_content_makes_an_inode_suspect_and_forgotten() {
    let cache = live();
    put(&cache);
    cache.suspect(FILE, ContentId(8));
    assert!(cache.attr(FILE).is_some(), "the inode has another content by now");
    cache.suspect(FILE, ContentId(9));
    assert!(cache.attr(FILE).is_none() && cache.is_suspect(FILE));
    cache.clear(FILE);
    assert!(!cache.is_suspect(FILE));
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_known_whole_lacks_what_it_never_had() {
    let cache = live();
    cache.put_empty(&answered(&cache), DIRECTORY);
    cache.invalidate(NOW, DIRECTORY, Some(&name()), None);
    assert!(cache.name(DIRECTORY, b"b").is_some_and(|found| found.attr.is_none() && found.remaining() == VALID));
    assert!(cache.name(DIRECTORY, b"a").is_none(), "what it is must be asked");
    assert!(cache.name(DIRECTORY, &[b'a'; 256]).is_none(), "it is no name");
    let other = Name::new("b").expect("a name");
    cache.invalidate(NOW + 1, DIRECTORY, Some(&other), None);
    assert!(cache.name(DIRECTORY, b"b").is_none(), "it may be there");
    assert!(cache.name(DIRECTORY, b"c").is_some());
    cache.invalidate(NOW + 1, DIRECTORY, None, None);
    assert!(cache.name(DIRECTORY, b"c").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_known_whole_only_as_long_as_was_said_and_if_nothing_overtook_it() {
    let lacks = |cache: &MetaCache| cache.name(DIRECTORY, b"a").is_some();
    let cache = live();
    cache.put_empty(&answered(&cache), DIRECTORY);
    assert!(lacks(&cache));
    tokio::time::advance(VALID).await;
    assert!(!lacks(&cache));
    for lose in [MetaCache::reset, MetaCache::end_session, |cache: &MetaCache| {
        cache.invalidate(NOW + 1, DIRECTORY, Some(&name()), None);
    }] {
        for is_first in [false, true] {
            let cache = live();
            let whole = answered(&cache);
            if is_first {
                lose(&cache);
            }
            cache.put_empty(&whole, DIRECTORY);
            if !is_first {
                lose(&cache);
            }
            assert!(!lacks(&cache));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn more_names_than_there_is_room_for_are_forgotten() {
    let cache = live();
    cache.put_empty(&answered(&cache), DIRECTORY);
    cache.put_empty(&answered(&cache), InodeId(6));
    for name in 0..600_000 {
        cache.invalidate(NOW, InodeId(6), Some(&Name::new(name.to_string()).expect("a name")), None);
    }
    assert!(cache.name(DIRECTORY, b"a").is_none() && cache.name(InodeId(6), b"a").is_none());
    cache.put_empty(&answered(&cache), DIRECTORY);
    assert!(cache.name(DIRECTORY, b"a").is_some(), "there is room again");
}
