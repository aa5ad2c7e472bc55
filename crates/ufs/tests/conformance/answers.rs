//! S3 answers that no well-behaved server gives, from a small server that says what it is told to.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, Uri},
    response::Response,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use headpond_types::{ByteRange, ContentId, Timestamp};
use headpond_ufs::{Key, Label, ListRequest, Listed, Precondition, UfsError, UfsErrorKind, UnderStore};
use tokio::{net::TcpListener, task::AbortHandle};

use super::s3::{connect_to, connect_with};

#[derive(Debug)]
struct Seen {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Response>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Script {
    fn answers(&self) -> MutexGuard<'_, VecDeque<Response>> {
        self.answers.lock().expect("no test panics while it holds the lock")
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().expect("no test panics while it holds the lock")
    }
}

/// Gives its answers in order; a request too many is answered 418, which no test expects.
struct Server {
    endpoint: String,
    script: Script,
    task: AbortHandle,
}

async fn answer(State(script): State<Script>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    script.seen().push(Seen { method: parts.method, uri: parts.uri, headers: parts.headers });
    let next = script.answers().pop_front();
    next.unwrap_or_else(|| plain(418, ""))
}

impl Server {
    async fn start(answers: impl IntoIterator<Item = Response>) -> Self {
        let script = Script::default();
        script.answers().extend(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let app = Router::new().fallback(answer).with_state(script.clone());
        let tasks = headpond_runtime::Tasks::default();
        let task = tasks.spawn(async move { axum::serve(listener, app).await }).abort_handle();
        Self { endpoint, script, task }
    }

    async fn store(&self) -> Arc<dyn UnderStore> {
        connect_to(&self.endpoint, "bucket", "good", 20).await
    }

    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.script.seen())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn plain(status: u16, body: impl Into<Body>) -> Response {
    Response::builder().status(status).body(body.into()).expect("a response")
}

fn failure(status: u16, code: &str) -> Response {
    plain(status, format!("<Error><Code>{code}</Code><Message>so it is</Message></Error>"))
}

/// A page whose keys are given as they stand in the XML.
fn page(keys: &[&str], next: Option<&str>) -> Response {
    let objects: String = keys
        .iter()
        .map(|key| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>\
                 <ETag>&quot;e&quot;</ETag><Size>3</Size></Contents>"
            )
        })
        .collect();
    let next = next.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    plain(
        200,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>\
             <EncodingType>url</EncodingType><IsTruncated>{}</IsTruncated>{objects}{}</ListBucketResult>",
            next.is_some(),
            next.unwrap_or_default()
        ),
    )
}

/// Bytes `range` of an object of `size` bytes with the ETag `etag`, of which `sent` are sent before the connection breaks.
fn part(range: ByteRange, size: u64, etag: &str, sent: &'static [u8]) -> Response {
    let whole = sent.len() as u64 == range.end - range.start;
    let breaks = stream::iter((!whole).then_some(())).then(|()| async {
        // The server sends what it has when there is nothing more for the moment.
        tokio::task::yield_now().await;
        Err("broken")
    });
    let pieces = stream::iter([Ok(Bytes::from_static(sent))]).chain(breaks);
    Response::builder()
        .status(206)
        .header("etag", format!("\"{etag}\""))
        .header("content-length", range.end - range.start)
        .header("content-range", format!("bytes {}-{}/{size}", range.start, range.end - 1))
        .body(Body::from_stream(pieces))
        .expect("a response")
}

async fn read(store: &dyn UnderStore, range: ByteRange) -> Result<Vec<u8>, UfsError> {
    let chunks: Vec<Bytes> = store.get(&Key::from("k"), range, "v1").await?.try_collect().await?;
    Ok(chunks.concat())
}

async fn list_all(store: &dyn UnderStore) -> Result<Vec<Vec<u8>>, UfsError> {
    let mut keys = Vec::new();
    let mut request = ListRequest::default();
    loop {
        let page = store.list(&request).await?;
        keys.extend(page.entries.iter().map(|entry| entry.key().as_bytes().to_vec()));
        request.continuation = page.continuation;
        if request.continuation.is_none() {
            return Ok(keys);
        }
    }
}

#[tokio::test]
async fn raw_keys_survive_a_listing() {
    let one = ["%00%01", ".%2Fx", "..%2Fx", "a%2F%2Fb", "a+b%2Bc", "a/"];
    let two = ["%C3%A9%0A", "%FF%FE"];
    let server = Server::start([page(&one, Some("to+ken=/&amp;")), page(&two, None)]).await;
    let keys = list_all(&*server.store().await).await.expect("two pages");
    let expected: [&[u8]; 8] = [b"\0\x01", b"../x", b"./x", b"a b+c", b"a/", b"a//b", "é\n".as_bytes(), b"\xff\xfe"];
    assert_eq!(keys, expected);
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.uri.query().is_some_and(|query| query.contains("encoding-type=url"))));
    assert!(
        seen[1].uri.query().is_some_and(|query| query.contains("continuation-token=to%2Bken%3D%2F%26")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_page_that_fails_is_asked_for_again_and_never_the_end() {
    let server =
        Server::start([page(&["a"], Some("t")), failure(503, "SlowDown"), plain(502, "<html>"), page(&["b"], None)])
            .await;
    assert_eq!(list_all(&*server.store().await).await.expect("both pages"), [b"a", b"b"]);
    let pages = server
        .seen()
        .iter()
        .filter(|seen| seen.uri.query().is_some_and(|q| q.contains("continuation-token=t")))
        .count();
    assert_eq!(pages, 3);

    for (answer, kind) in [
        (failure(403, "AccessDenied"), UfsErrorKind::Refused),
        (failure(404, "NoSuchBucket"), UfsErrorKind::NoSuchStore),
        (failure(400, "InvalidArgument"), UfsErrorKind::Invalid),
    ] {
        let server = Server::start([page(&["a"], Some("t")), answer]).await;
        assert_eq!(list_all(&*server.store().await).await.map_err(|error| error.kind()), Err(kind));
    }
}

/// Lists with a short deadline, so that what stays wrong ends soon.
async fn list_wrong(answers: impl Fn() -> Response) -> UfsError {
    let server = Server::start((0..100).map(|_| answers())).await;
    let store = connect_to(&server.endpoint, "bucket", "good", 1).await;
    store.list(&ListRequest { prefix: Key::from("p"), ..ListRequest::default() }).await.expect_err("a wrong page")
}

#[tokio::test]
async fn a_listing_that_makes_no_sense_is_an_error() {
    let truncated = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    let no_etag = "<ListBucketResult><Contents><Key>p</Key><Size>1</Size></Contents></ListBucketResult>";
    let no_size = "<ListBucketResult><Contents><Key>p</Key><ETag>e</ETag></Contents></ListBucketResult>";
    for wrong in [truncated, no_etag, no_size, "<ListBucketResult><Contents>", "", "<html>hello</html>"] {
        let error = list_wrong(|| plain(200, wrong)).await;
        assert_eq!(error.kind(), UfsErrorKind::Protocol, "{wrong}: {error}");
    }
    assert_eq!(list_wrong(|| page(&["elsewhere"], None)).await.kind(), UfsErrorKind::Protocol);
    // Not a word of S3: anything on the way may have said it.
    assert_eq!(list_wrong(|| plain(404, "<html>")).await.kind(), UfsErrorKind::Protocol);
}

#[tokio::test]
async fn a_broken_body_is_resumed_with_the_same_version() {
    let server =
        Server::start([part(2..10, 20, "v1", b"234"), failure(500, "InternalError"), part(5..10, 20, "v1", b"56789")])
            .await;
    assert_eq!(read(&*server.store().await, 2..10).await.expect("all bytes"), b"23456789");
    let seen = server.seen();
    let header = |at: usize, name: &str| seen[at].headers[name].to_str().unwrap().to_owned();
    assert_eq!([0, 1, 2].map(|at| header(at, "range")), ["bytes=2-9", "bytes=5-9", "bytes=5-9"]);
    assert!((0..3).all(|at| header(at, "if-match") == "\"v1\"" && seen[at].method == Method::GET));
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("x-amz-checksum-mode")));
}

#[tokio::test]
async fn a_wrong_answer_to_a_get_is_never_taken_for_the_object() {
    let full = || plain(200, "0123456789");
    let with = |name: &'static str, value: &'static str| {
        let mut answer = part(0..3, 10, "v1", b"012");
        answer.headers_mut().insert(name, value.parse().unwrap());
        answer
    };
    let without = |name: &str| {
        let mut answer = part(0..3, 10, "v1", b"012");
        answer.headers_mut().remove(name);
        answer
    };
    let answers: [(&str, &dyn Fn() -> Response, UfsErrorKind); 9] = [
        ("a 404 of anybody", &|| plain(404, "<html>"), UfsErrorKind::Protocol),
        ("an ignored If-Match", &|| part(0..3, 10, "v2", b"012"), UfsErrorKind::Changed),
        ("412", &|| failure(412, "PreconditionFailed"), UfsErrorKind::Changed),
        ("an ignored range without an ETag", &full, UfsErrorKind::Protocol),
        (
            "an ignored range",
            &|| {
                let mut all = full();
                all.headers_mut().insert("etag", "\"v1\"".parse().unwrap());
                all
            },
            UfsErrorKind::Protocol,
        ),
        ("no ETag", &|| without("etag"), UfsErrorKind::Protocol),
        ("another range", &|| with("content-range", "bytes 1-3/10"), UfsErrorKind::Protocol),
        ("a shorter object", &|| part(0..2, 2, "v1", b"01"), UfsErrorKind::Invalid),
        ("416", &|| failure(416, "InvalidRange"), UfsErrorKind::Invalid),
    ];
    for (what, answer, kind) in answers {
        let server = Server::start((0..100).map(|_| answer())).await;
        let store = connect_to(&server.endpoint, "bucket", "good", 1).await;
        assert_eq!(read(&*store, 0..3).await.map_err(|error| error.kind()), Err(kind), "{what}");
    }
}

#[tokio::test]
async fn absence_is_believed_only_when_the_store_says_so() {
    let heads: [(&[u16], UfsErrorKind); 4] = [
        (&[404, 200], UfsErrorKind::NotFound),
        (&[404, 403], UfsErrorKind::NotFound),
        (&[404, 404], UfsErrorKind::NoSuchStore),
        (&[403], UfsErrorKind::Refused),
    ];
    for (statuses, kind) in heads {
        let server = Server::start(statuses.iter().map(|status| plain(*status, ""))).await;
        let error = server.store().await.head(&Key::from("k")).await.expect_err("no object");
        assert_eq!(error.kind(), kind, "{statuses:?}: {error}");
        assert_eq!(server.seen().len(), statuses.len());
    }
    let server = Server::start([failure(404, "NoSuchKey")]).await;
    assert_eq!(read(&*server.store().await, 0..1).await.map_err(|error| error.kind()), Err(UfsErrorKind::NotFound));
    let server = Server::start([failure(404, "NoSuchBucket")]).await;
    assert_eq!(read(&*server.store().await, 0..1).await.map_err(|error| error.kind()), Err(UfsErrorKind::NoSuchStore));
}

#[tokio::test]
async fn refusals_and_redirects_say_what_to_do() {
    let mut moved = failure(301, "PermanentRedirect");
    moved.headers_mut().insert("x-amz-bucket-region", "eu-west-7".parse().unwrap());
    let server = Server::start([moved, failure(403, "InvalidAccessKeyId"), failure(403, "RequestTimeTooSkewed")]).await;
    let store = server.store().await;
    for (kind, said) in [
        (UfsErrorKind::NoSuchStore, "set the option region to eu-west-7"),
        (UfsErrorKind::Refused, "403 InvalidAccessKeyId so it is; check the credentials"),
        (UfsErrorKind::Refused, "set the clock of this machine"),
    ] {
        let error = read(&*store, 0..1).await.expect_err(said);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(said) && error.to_string().contains("s3://bucket/k"), "{error}");
    }
}

#[tokio::test]
async fn the_pause_that_a_server_asks_for_reaches_the_caller() {
    let mut slow = failure(503, "SlowDown");
    slow.headers_mut().insert("retry-after", "7".parse().unwrap());
    let server = Server::start([slow]).await;
    let store = connect_to(&server.endpoint, "bucket", "good", 1).await;
    let error = read(&*store, 0..1).await.expect_err("too long a pause");
    assert_eq!((error.kind(), error.retry_after().map(|pause| pause.as_secs())), (UfsErrorKind::SlowDown, Some(7)));
}

#[tokio::test]
async fn the_root_is_never_asked_for() {
    let server = Server::start([]).await;
    let store = server.store().await;
    for key in ["", "/"].map(Key::from) {
        assert!(store.head(&key).await.is_err());
        assert!(store.get(&key, 0..1, "v").await.is_err());
    }
    assert!(store.list(&ListRequest { prefix: Key::from("/"), ..ListRequest::default() }).await.is_err());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn objects_and_prefixes_of_a_page_are_merged_in_byte_order() {
    let body = "<ListBucketResult><EncodingType>url</EncodingType>\
        <Contents><Key>a.b</Key><ETag>e</ETag><Size>1</Size></Contents>\
        <Contents><Key>a0</Key><ETag>e</ETag><Size>1</Size></Contents>\
        <CommonPrefixes><Prefix>a%2F</Prefix></CommonPrefixes></ListBucketResult>";
    let server = Server::start([plain(200, body)]).await;
    let request = ListRequest { delimited: true, ..ListRequest::default() };
    let entries = server.store().await.list(&request).await.expect("a page").entries;
    assert_eq!(entries.iter().map(|entry| entry.key().to_string()).collect::<Vec<_>>(), ["a.b", "a/", "a0"]);
    assert!(matches!(entries[1], Listed::Prefix(_)));
}

#[tokio::test]
async fn what_an_object_says_is_in_the_metadata_of_users() {
    let begun = plain(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>");
    let server = Server::start([stored(), begun]).await;
    let (store, key) = (server.store().await, Key::from("k"));
    let mtime = Some(Timestamp(1_700_000_000_000_000_042));
    let label = Label { content: Some(ContentId(7)), mode: Some(0o640), mtime };
    store.put_as(&key, "x".into(), &Precondition::None, label).await.expect("a put");
    store.create_multipart_as(&key, Label { mode: Some(0o640), ..Label::default() }).await.expect("an upload");
    let seen = server.seen();
    let said = |at: usize, name: &str| seen[at].headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let names = ["x-amz-meta-headpond-content", "x-amz-meta-mode", "x-amz-meta-mtime"];
    let all = ["00000000000000000000000000000007", "0100640", "1700000000.000000042"];
    assert_eq!(names.map(|name| said(0, name)), all.map(|value| Some(value.to_owned())));
    assert_eq!(names.map(|name| said(1, name)), [None, Some("0100640".to_owned()), None]);
}

/// An answer to a PUT.
fn stored() -> Response {
    let mut answer = plain(200, "");
    answer.headers_mut().insert("etag", HeaderValue::from_static("\"e\""));
    answer
}

#[tokio::test]
async fn a_body_is_vouched_for_by_its_signature_or_its_checksum() {
    let begun = || plain(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>");
    let names = ["x-amz-content-sha256", "x-amz-checksum-crc32c"];
    // RFC 3720, B.4: 32 bytes of zeros.
    let (sha, crc) = ("66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925", "ipE2qg==");
    let (signed, checked) = ([Some(sha), None], [Some("UNSIGNED-PAYLOAD"), Some(crc)]);
    for (options, expected) in [
        (&[("credentials", "good")][..], [signed, signed, signed]),
        // What is copied into an upload has no checksum at some stores, so none of its parts has one.
        (&[("credentials", "good"), ("signed_payload", "false")][..], [checked, checked, signed]),
    ] {
        let server = Server::start([stored(), begun(), stored(), begun(), stored()]).await;
        let store = connect_with(&server.endpoint, "bucket", options).await;
        let (key, zeros) = (Key::from("k"), Bytes::from_static(&[0; 32]));
        store.put(&key, zeros.clone(), &Precondition::None).await.expect("a put");
        let upload = store.create_multipart(&key).await.expect("an upload");
        store.put_part(&key, &upload, 1, zeros.clone()).await.expect("a part");
        let upload = store.create_multipart_mixed(&key, Label::default()).await.expect("an upload");
        store.put_part(&key, &upload, 1, zeros).await.expect("a part");
        let seen = server.seen();
        let said = [0, 2, 4]
            .map(|at: usize| names.map(|name| seen[at].headers.get(name).map(|value| value.to_str().expect("text"))));
        assert_eq!(said, expected, "{options:?}");
    }
}

#[tokio::test]
async fn each_of_many_deletions_has_its_own_answer() {
    let keys = ["gone", "kept", "busy", "unsaid", "never"].map(|key| Key::from(key.to_owned()));
    let said = "<DeleteResult><Deleted><Key>gone</Key></Deleted>\
                <Error><Key>kept</Key><Code>AccessDenied</Code><Message>no</Message></Error>\
                <Error><Key>busy</Key><Code>SlowDown</Code><Message>later</Message></Error>\
                <Error><Key>never</Key><Code>NoSuchKey</Code></Error></DeleteResult>";
    let server = Server::start([plain(200, said), failure(501, "NotImplemented"), failure(503, "SlowDown")]).await;
    let store = server.store().await;
    let answers = store.delete_all(&keys).await.expect("an answer");
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect();
    assert_eq!(
        kinds,
        [Ok(()), Err(UfsErrorKind::Refused), Err(UfsErrorKind::SlowDown), Err(UfsErrorKind::Protocol), Ok(())]
    );
    for kind in [UfsErrorKind::Unsupported, UfsErrorKind::SlowDown] {
        let error = store.delete_all(&keys).await.expect_err("refused as a whole");
        assert_eq!(error.kind(), kind, "{error}");
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 3, "none is tried again: {seen:?}");
    assert!(seen.iter().all(|seen| seen.method == Method::POST && seen.uri.query() == Some("delete")), "{seen:?}");
}
