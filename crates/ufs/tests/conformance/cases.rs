//! What every store does, each case under a prefix of its own.

mod listing;
mod reading;
mod tags;
mod writing;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use headpond_types::ByteRange;
use headpond_ufs::{Key, ListRequest, Listed, ObjectMeta, Precondition, UfsError, UfsErrorKind, UnderStore};

/// A store and the prefix of one case in it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) store: Arc<dyn UnderStore>,
    pub(crate) prefix: String,
}

/// Runs cases one after another; the one that fails is the last that was printed.
macro_rules! run {
    ($store:expr, $($module:ident::$case:ident),* $(,)?) => {
        $({
            println!("case {}", stringify!($case));
            let place = Place { store: Arc::clone($store), prefix: concat!(stringify!($case), "/").to_owned() };
            Box::pin($module::$case(place)).await;
        })*
    };
}

/// Runs every case.
pub(crate) async fn run(store: Arc<dyn UnderStore>) {
    // First, for it looks at the whole store.
    listing::an_empty_store_lists_nothing(Place { store: Arc::clone(&store), prefix: String::new() }).await;
    run![
        &store,
        listing::pages_tile_the_listing,
        listing::delimited_listings_fold,
        listing::start_after_is_exclusive,
        listing::a_missing_prefix_lists_nothing,
        listing::markers_are_objects,
        listing::odd_keys_survive,
        listing::long_keys_survive,
        listing::unrepresentable_keys_are_refused_or_kept,
        reading::ranges_are_exact,
        reading::another_version_is_changed,
        reading::missing_keys_are_not_found,
        reading::ranges_past_the_end_are_invalid,
        reading::empty_objects_are_read,
        reading::the_root_is_no_object,
        reading::keys_have_a_greatest_length,
        reading::large_bodies_arrive_whole,
        writing::conditions_of_put_hold,
        writing::conditions_of_put_hold_for_empty_objects,
        writing::a_multipart_upload_becomes_one_object,
        writing::conditions_of_completing_hold,
        writing::parts_are_copied_within_the_store,
        writing::an_object_is_replaced_by_one_with_its_own_beginning,
        writing::an_aborted_upload_leaves_nothing,
        writing::uploads_that_nobody_ended_are_listed,
        writing::a_copy_is_of_one_version,
        writing::conditions_of_copy_hold_or_are_refused,
        writing::what_passes_through_is_of_one_version_and_under_a_condition,
        writing::deleting_is_idempotent,
        writing::many_are_deleted_together,
        writing::markers_come_and_go,
        tags::objects_say_which_content_they_are,
        writing::conditions_of_delete_hold_or_are_refused,
    ];
}

impl Place {
    pub(crate) fn key(&self, name: &str) -> Key {
        Key::from(format!("{}{name}", self.prefix))
    }

    pub(crate) async fn put(&self, name: &str, body: impl Into<Bytes>) -> ObjectMeta {
        self.store.put(&self.key(name), body.into(), &Precondition::None).await.expect("a put")
    }

    pub(crate) async fn read(&self, name: &str, range: ByteRange, version: &str) -> Result<Bytes, UfsError> {
        let body = self.store.get(&self.key(name), range, version).await?;
        Ok(body
            .try_fold(BytesMut::new(), async |mut all, chunk| {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await?
            .freeze())
    }

    pub(crate) async fn read_all(&self, name: &str) -> Bytes {
        let meta = self.store.head(&self.key(name)).await.expect("a head");
        self.read(name, 0..meta.size, &meta.version).await.expect("a get")
    }

    pub(crate) fn request(&self, below: &str, delimited: bool) -> ListRequest {
        ListRequest { prefix: self.key(below), delimited, ..ListRequest::default() }
    }

    /// All results of a listing, page by page.
    pub(crate) async fn list(&self, mut request: ListRequest) -> Vec<Listed> {
        let mut all = Vec::new();
        loop {
            let page = self.store.list(&request).await.expect("a page");
            assert!(request.max_keys == 0 || page.entries.len() <= request.max_keys as usize, "a page is too long");
            all.extend(page.entries);
            let Some(next) = page.continuation else { return all };
            request.continuation = Some(next);
        }
    }

    /// What a listing gives, below the case's prefix; directories that only the store has (of `native_directories`) are left out.
    pub(crate) async fn names(&self, request: ListRequest) -> Vec<String> {
        let all = self.list(request).await;
        let below = |key: &Key| String::from_utf8(key.as_bytes()[self.prefix.len()..].to_vec()).expect("text");
        let implied = |entry: &&Listed| {
            self.store.capabilities().native_directories
                && matches!(entry, Listed::Object(meta) if meta.key.as_bytes().ends_with(b"/"))
        };
        all.iter().filter(|entry| !implied(entry)).map(|entry| below(entry.key())).collect()
    }
}

/// Checks what a put said of the object `name`: all but its time, which may be that of the answer.
async fn describes(place: &Place, name: &str, meta: &ObjectMeta) {
    let described = place.store.head(&place.key(name)).await.expect("a head");
    assert_eq!(ObjectMeta { mtime: described.mtime, ..meta.clone() }, described);
}

#[track_caller]
pub(crate) fn fails<T: std::fmt::Debug>(result: Result<T, UfsError>, kind: UfsErrorKind) {
    match result {
        Err(error) if error.kind() == kind => {}
        other => panic!("expected {kind:?}, got {other:?}"),
    }
}
