//! Mutations.

use bytes::Bytes;
use headpond_types::ContentId;
use headpond_ufs::{Label, Listed, Precondition, UfsError, UfsErrorKind, UploadMark};

use super::{Place, describes, fails};

fn matches(version: &str) -> Precondition {
    Precondition::Matches(version.to_owned())
}

pub(crate) async fn conditions_of_put_hold(place: Place) {
    let key = place.key("o");
    let put = async |body: &'static str, condition: &Precondition| {
        place.store.put(&key, Bytes::from_static(body.as_bytes()), condition).await
    };
    fails(put("a", &matches("none")).await, UfsErrorKind::Precondition);
    fails(place.store.head(&key).await, UfsErrorKind::NotFound);
    let first = put("a", &Precondition::Absent).await.expect("nothing is there");
    fails(put("b", &Precondition::Absent).await, UfsErrorKind::Precondition);
    fails(put("b", &matches("other")).await, UfsErrorKind::Precondition);
    assert_eq!(place.read_all("o").await, "a");
    let second = put("b", &matches(&first.version)).await.expect("the version is right");
    fails(put("c", &matches(&first.version)).await, UfsErrorKind::Precondition);
    describes(&place, "o", &second).await;
    assert_eq!(place.read_all("o").await, "b");
}

pub(crate) async fn conditions_of_put_hold_for_empty_objects(place: Place) {
    let key = place.key("o");
    let put = async |body: &'static str, condition: &Precondition| {
        place.store.put(&key, Bytes::from_static(body.as_bytes()), condition).await
    };
    let empty = put("", &Precondition::Absent).await.expect("nothing is there");
    assert_eq!(empty.size, 0);
    describes(&place, "o", &empty).await;
    fails(put("", &Precondition::Absent).await, UfsErrorKind::Precondition);
    fails(put("", &matches("other")).await, UfsErrorKind::Precondition);
    let full = put("bytes", &matches(&empty.version)).await.expect("the version is right");
    let again = put("", &matches(&full.version)).await.expect("the version is right");
    assert_eq!((again.size, place.read_all("o").await), (0, Bytes::new()));
}

pub(crate) async fn a_multipart_upload_becomes_one_object(place: Place) {
    let key = place.key("big");
    let least = usize::try_from(place.store.capabilities().min_part_size).expect("a size");
    let (one, two, old) = (Bytes::from(vec![1; least]), Bytes::from_static(b"tail"), Bytes::from(vec![9; least]));
    let upload = place.store.create_multipart(&key).await.expect("an upload");
    let second = place.store.put_part(&key, &upload, 2, two.clone()).await.expect("a part");
    place.store.put_part(&key, &upload, 1, old).await.expect("a part");
    let first = place.store.put_part(&key, &upload, 1, one.clone()).await.expect("the part again");
    fails(place.store.head(&key).await, UfsErrorKind::NotFound);
    let parts = [(1, first), (2, second)];
    let complete = |condition| {
        let (place, key, upload, parts) = (&place, &key, &upload, &parts);
        async move { place.store.complete_multipart(key, upload, parts, &condition).await }
    };
    fails(complete(matches("none")).await, UfsErrorKind::Precondition);
    let meta = complete(Precondition::Absent).await.expect("a whole object");
    assert_eq!(meta.size, (one.len() + two.len()) as u64);
    assert_eq!(place.store.head(&key).await.expect("a head"), meta);
    assert_eq!(place.read_all("big").await, [one, two].concat());
    assert_eq!(place.names(place.request("", false)).await, ["big"]);
    fails(complete(Precondition::None).await, UfsErrorKind::NotFound);
}

pub(crate) async fn conditions_of_completing_hold(place: Place) {
    let key = place.key("big");
    let old = place.put("big", "old").await;
    let upload = place.store.create_multipart(&key).await.expect("an upload");
    let tag = place.store.put_part(&key, &upload, 1, "new bytes".into()).await.expect("a part");
    let parts = [(1, tag)];
    let complete =
        async |condition: &Precondition| place.store.complete_multipart(&key, &upload, &parts, condition).await;
    fails(complete(&Precondition::Absent).await, UfsErrorKind::Precondition);
    fails(complete(&matches("other")).await, UfsErrorKind::Precondition);
    describes(&place, "big", &old).await;
    let new = complete(&matches(&old.version)).await.expect("the version is right");
    assert_eq!(place.store.head(&key).await.expect("a head"), new);
    assert_eq!(place.read_all("big").await, "new bytes");
}

pub(crate) async fn parts_are_copied_within_the_store(place: Place) {
    let (source, key) = (place.key("source"), place.key("target"));
    let least = usize::try_from(place.store.capabilities().min_part_size).expect("a size");
    let body: Vec<u8> = (0..=252).cycle().take(least + 10).collect();
    let meta = place.put("source", body.clone()).await;
    let upload = place.store.create_multipart_mixed(&key, Label::default()).await.expect("an upload");
    let range = 5..5 + least as u64;
    let copy = |version: String| {
        let (store, key, upload, source, range) = (&place.store, &key, &upload, &source, range.clone());
        async move { store.copy_part(key, upload, 1, source, range, &version).await }
    };
    fails(copy("other".to_owned()).await, UfsErrorKind::Changed);
    let first = copy(meta.version.clone()).await.expect("a part");
    place.put("source", "").await;
    fails(copy(meta.version).await, UfsErrorKind::Changed);
    let second = place.store.put_part(&key, &upload, 2, "end".into()).await.expect("a part");
    let parts = [(1, first), (2, second)];
    place.store.complete_multipart(&key, &upload, &parts, &Precondition::None).await.expect("a whole object");
    assert_eq!(place.read_all("target").await, [&body[5..5 + least], b"end"].concat());
}

pub(crate) async fn an_object_is_replaced_by_one_with_its_own_beginning(place: Place) {
    let key = place.key("log");
    let least = usize::try_from(place.store.capabilities().min_part_size).expect("a size");
    let mut body: Vec<u8> = (0..=250).cycle().take(least + 10).collect();
    let mut version = place.put("log", body.clone()).await.version;
    // The second time it is one that was made of parts.
    for tail in ["more", "and more"] {
        let upload = place.store.create_multipart_mixed(&key, Label::default()).await.expect("an upload");
        let head = 0..body.len() as u64;
        let copied = place.store.copy_part(&key, &upload, 1, &key, head, &version).await.expect("a part");
        let sent = place.store.put_part(&key, &upload, 2, tail.into()).await.expect("a part");
        let parts = [(1, copied), (2, sent)];
        let whole = place.store.complete_multipart(&key, &upload, &parts, &matches(&version)).await.expect("whole");
        describes(&place, "log", &whole).await;
        version = whole.version;
        body.extend_from_slice(tail.as_bytes());
        assert_eq!(place.read_all("log").await, body);
    }
}

pub(crate) async fn an_aborted_upload_leaves_nothing(place: Place) {
    let key = place.key("gone");
    let upload = place.store.create_multipart(&key).await.expect("an upload");
    let tag = place.store.put_part(&key, &upload, 1, "part".into()).await.expect("a part");
    place.store.abort_multipart(&key, &upload).await.expect("an abort");
    place.store.abort_multipart(&key, &upload).await.expect("an abort of nothing");
    fails(place.store.put_part(&key, &upload, 1, "part".into()).await, UfsErrorKind::NotFound);
    let parts = [(1, tag)];
    fails(place.store.complete_multipart(&key, &upload, &parts, &Precondition::None).await, UfsErrorKind::NotFound);
    fails(place.store.head(&key).await, UfsErrorKind::NotFound);
    assert_eq!(place.names(place.request("", false)).await, [""; 0]);
}

pub(crate) async fn uploads_that_nobody_ended_are_listed(place: Place) {
    let all = async || {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = place.store.uploads(after.as_ref()).await?;
            found.extend(
                page.uploads.into_iter().filter(|mark| mark.key.as_bytes().starts_with(place.prefix.as_bytes())),
            );
            after = page.next;
            if after.is_none() {
                return Ok::<_, UfsError>(found);
            }
        }
    };
    match all().await {
        Err(error) if error.kind() == UfsErrorKind::Unsupported => return,
        before => assert_eq!(before.expect("listed"), []),
    }
    let mut begun = Vec::new();
    for number in 0..12 {
        let key = place.key(&format!("o d+d/{}", number / 4));
        let upload = place.store.create_multipart(&key).await.expect("an upload");
        begun.push(UploadMark { key, upload });
    }
    let aborted = begun.pop().expect("the last");
    place.store.abort_multipart(&aborted.key, &aborted.upload).await.expect("aborted");
    // Some that were begun twice, as their answers were lost, are listed as well.
    let listed = all().await.expect("listed");
    assert!(begun.iter().all(|mark| listed.contains(mark)) && !listed.contains(&aborted), "{begun:?}: {listed:?}");
    for mark in &begun {
        place.store.abort_multipart(&mark.key, &mark.upload).await.expect("aborted");
    }
    let listed = all().await.expect("listed");
    assert!(!begun.iter().any(|mark| listed.contains(mark)), "{listed:?}");
}

pub(crate) async fn a_copy_is_of_one_version(place: Place) {
    let (source, key) = (place.key("sou+rce ü"), place.key("deep/er/target %"));
    let old = place.put("sou+rce ü", "old").await;
    let new = place.put("sou+rce ü", "newer").await;
    let none = Precondition::None;
    fails(place.store.copy(&source, &old.version, &key, &none).await, UfsErrorKind::Changed);
    fails(place.store.copy(&place.key("no"), "v", &key, &none).await, UfsErrorKind::NotFound);
    fails(place.store.head(&key).await, UfsErrorKind::NotFound);
    let copy = place.store.copy(&source, &new.version, &key, &none).await.expect("a copy");
    assert_eq!(place.store.head(&key).await.expect("a head"), copy);
    assert_eq!(place.read_all("deep/er/target %").await, "newer");
    assert_eq!(place.read_all("sou+rce ü").await, "newer");
}

pub(crate) async fn conditions_of_copy_hold_or_are_refused(place: Place) {
    let (source, key) = (place.key("source"), place.key("target"));
    let new = place.put("source", "new").await;
    let old = place.put("target", "old").await;
    let kind = if place.store.capabilities().conditional_copy {
        UfsErrorKind::Precondition
    } else {
        UfsErrorKind::Unsupported
    };
    fails(place.store.copy(&source, &new.version, &key, &Precondition::Absent).await, kind);
    fails(place.store.copy(&source, &new.version, &key, &matches("other")).await, kind);
    assert_eq!(place.read_all("target").await, "old");
    if place.store.capabilities().conditional_copy {
        place.store.copy(&source, &new.version, &key, &matches(&old.version)).await.expect("a copy");
        assert_eq!(place.read_all("target").await, "new");
    }
}

pub(crate) async fn what_passes_through_is_of_one_version_and_under_a_condition(place: Place) {
    let (source, key) = (place.key("sou+rce ü"), place.key("deep/er/target %"));
    let old = place.put("sou+rce ü", "old").await;
    let new = place.put("sou+rce ü", "newer").await;
    let copy = async |version: &str, size: u64, condition: &Precondition| {
        place.store.copy_through((&source, version, size), &key, condition, Some(ContentId(7))).await
    };
    fails(copy(&old.version, old.size, &Precondition::Absent).await, UfsErrorKind::Changed);
    fails(copy(&new.version, new.size, &matches("other")).await, UfsErrorKind::Precondition);
    let nothing = place.key("no");
    let missing = place.store.copy_through((&nothing, "v", 1), &key, &Precondition::Absent, None).await;
    fails(missing, UfsErrorKind::NotFound);
    fails(place.store.head(&key).await, UfsErrorKind::NotFound);
    let first = copy(&new.version, new.size, &Precondition::Absent).await.expect("a copy");
    assert_eq!((first.size, first.content), (5, Some(ContentId(7))));
    describes(&place, "deep/er/target %", &first).await;
    assert_eq!(place.read_all("deep/er/target %").await, "newer");
    fails(copy(&new.version, new.size, &Precondition::Absent).await, UfsErrorKind::Precondition);
    let empty = place.put("sou+rce ü", "").await;
    let second = copy(&empty.version, 0, &matches(&first.version)).await.expect("a copy");
    describes(&place, "deep/er/target %", &second).await;
    assert_eq!(place.read_all("deep/er/target %").await, "");
}

pub(crate) async fn deleting_is_idempotent(place: Place) {
    place.put("o", "x").await;
    for name in ["o", "o", "never", "no/such/path"] {
        place.store.delete(&place.key(name), &Precondition::None).await.expect("a delete");
        fails(place.store.head(&place.key(name)).await, UfsErrorKind::NotFound);
    }
    assert_eq!(place.names(place.request("", false)).await, [""; 0]);
}

pub(crate) async fn many_are_deleted_together(place: Place) {
    let odd = ["d/a b", "d/gr\u{fc}n+%&<>\"'", "d/line\nfeed", "d/e", "never"];
    let names: Vec<_> = odd.into_iter().map(str::to_owned).chain((0..300).map(|n| format!("many/{n:03}"))).collect();
    for name in names.iter().filter(|name| *name != "never") {
        place.put(name, "x").await;
    }
    place.put("many/kept", "x").await;
    let keys: Vec<_> = names.iter().map(|name| place.key(name)).collect();
    for _ in 0..2 {
        for keys in keys.chunks(place.store.capabilities().max_deletes.min(250)) {
            let answers = loop {
                match place.store.delete_all(keys).await {
                    // Not tried again by itself: who wants them gone looks at them first.
                    Err(error) if error.kind() == UfsErrorKind::SlowDown => {}
                    answers => break answers.expect("deletions"),
                }
            };
            assert_eq!(answers.len(), keys.len());
            for (key, answer) in keys.iter().zip(answers) {
                answer.unwrap_or_else(|error| panic!("{key}: {error}"));
            }
        }
    }
    assert_eq!(place.names(place.request("", false)).await, ["many/kept"]);
    assert_eq!(place.store.delete_all(&[]).await.expect("nothing to do").len(), 0);
}

pub(crate) async fn markers_come_and_go(place: Place) {
    let marker = place.key("d/");
    let make = || place.store.put(&marker, Bytes::new(), &Precondition::Absent);
    let made = make().await.expect("nothing is there");
    assert_eq!(made.size, 0);
    describes(&place, "d/", &made).await;
    fails(make().await, UfsErrorKind::Precondition);
    let prefix = [Listed::Prefix(marker.clone())];
    let top = async || {
        let all = place.list(place.request("", true)).await;
        all.into_iter().filter(|entry| *entry.key() != place.key("")).collect::<Vec<_>>()
    };
    assert_eq!(top().await, prefix);
    // What lies below stays, and implies it.
    place.put("d/below", "x").await;
    place.store.delete(&marker, &Precondition::None).await.expect("a delete");
    assert_eq!(top().await, prefix);
    assert_eq!(place.read_all("d/below").await, "x");
    place.store.delete(&place.key("d/below"), &Precondition::None).await.expect("a delete");
    for _ in 0..2 {
        place.store.delete(&marker, &Precondition::None).await.expect("a delete");
        fails(place.store.head(&marker).await, UfsErrorKind::NotFound);
        assert_eq!(top().await, []);
    }
    make().await.expect("nothing is there any more");
}

pub(crate) async fn conditions_of_delete_hold_or_are_refused(place: Place) {
    let meta = place.put("o", "x").await;
    let key = place.key("o");
    if place.store.capabilities().conditional_delete {
        fails(place.store.delete(&key, &matches("other")).await, UfsErrorKind::Precondition);
        assert_eq!(place.read_all("o").await, "x");
        place.store.delete(&key, &matches(&meta.version)).await.expect("a delete");
        fails(place.store.delete(&key, &matches(&meta.version)).await, UfsErrorKind::Precondition);
    } else {
        fails(place.store.delete(&key, &matches(&meta.version)).await, UfsErrorKind::Unsupported);
        assert_eq!(place.read_all("o").await, "x");
    }
}
