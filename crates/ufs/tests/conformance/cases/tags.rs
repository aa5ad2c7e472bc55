//! What objects say of the content that they were put as.

use bytes::Bytes;
use headpond_types::ContentId;
use headpond_ufs::Precondition;

use super::{Place, describes};

pub(crate) async fn objects_say_which_content_they_are(place: Place) {
    let (first, second) = (ContentId(7), ContentId(u128::MAX - 1));
    let key = place.key("tagged");
    let said = async |name: &str| place.store.head(&place.key(name)).await.expect("a head").content;

    let put = place.store.put_as(&key, "first".into(), &Precondition::None, Some(first).into()).await.expect("a put");
    assert_eq!(put.content, Some(first));
    describes(&place, "tagged", &put).await;
    place.store.copy(&key, &put.version, &place.key("copy"), &Precondition::None).await.expect("a copy");
    assert_eq!(said("copy").await, Some(first));
    let copied = place.store.copy_as(&key, &put.version, &place.key("copy"), &Precondition::None, Some(second)).await;
    assert_eq!(copied.expect("a copy").content, Some(second));
    assert_eq!(said("copy").await, Some(second));

    let part = vec![1; usize::try_from(place.store.capabilities().min_part_size.max(1)).expect("few bytes")];
    let upload = place.store.create_multipart_as(&key, Some(second).into()).await.expect("an upload");
    let tag = place.store.put_part(&key, &upload, 1, Bytes::from(part)).await.expect("a part");
    assert_eq!(said("tagged").await, Some(first), "nothing is said before the object is there");
    let condition = Precondition::Matches(put.version);
    let whole = place.store.complete_multipart(&key, &upload, &[(1, tag)], &condition).await.expect("complete");
    assert_eq!(whole.content, Some(second));
    describes(&place, "tagged", &whole).await;

    let plain = place.put("tagged", "of somebody who says nothing").await;
    assert_eq!(plain.content, None);
    describes(&place, "tagged", &plain).await;
}
