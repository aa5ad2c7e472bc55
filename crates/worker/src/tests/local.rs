//! The unix socket: real descriptors, and what a client may read through them.

use std::{collections::VecDeque, fs::File, os::unix::fs::FileExt as _, path::Path};

use headpond_proto::{
    frames::{FrameReader, send},
    v1::{
        EnsureRequest, EnsureResponse, FreeRequest, Head, KeepStagedRequest, LendRequest, LendResponse, LocalRequest,
        LocalResponse, Range, RecallNotice, ReturnRequest, SignedGrant, StageFileRequest, local_request::Request,
        local_response::Response,
    },
};
use headpond_types::{ByteRange, ContentId, Result};
use tokio::net::UnixStream;

use super::pond::{MIB, Pond, TestWorker, part};

/// A local client that asks one thing at a time.
pub(super) struct LocalClient {
    socket: UnixStream,
    frames: FrameReader,
    next: u64,
    /// What the worker said unasked.
    notices: VecDeque<RecallNotice>,
}

impl LocalClient {
    pub(super) async fn connect(socket: &Path) -> Self {
        let socket = UnixStream::connect(socket).await.expect("listens");
        Self { socket, frames: FrameReader::new(), next: 1, notices: VecDeque::new() }
    }

    pub(super) async fn of(worker: &TestWorker) -> Self {
        Self::connect(worker.running.socket().expect("configured")).await
    }

    async fn tell(&mut self, request: Request) -> u64 {
        let id = self.next;
        self.next += 1;
        send(&self.socket, &LocalRequest { id, request: Some(request) }, None).await.expect("sent");
        id
    }

    async fn receive(&mut self) -> LocalResponse {
        self.frames.receive(&self.socket).await.expect("a frame").expect("it has not hung up")
    }

    async fn ask(&mut self, request: Request) -> Result<Response> {
        let id = self.tell(request).await;
        let answer = loop {
            let answer = self.receive().await;
            match answer.response {
                Some(Response::Recall(notice)) => self.notices.push_back(notice),
                _ => break answer,
            }
        };
        assert_eq!(answer.id, id);
        match answer.response.expect("an answer") {
            Response::Failure(failure) => Err(headpond_proto::from_failure(&failure.kind, failure.message)),
            response => Ok(response),
        }
    }

    pub(super) async fn lend(&mut self, grant: &SignedGrant, fill_up_to: u64) -> Result<(LendResponse, File)> {
        let request = Request::Lend(LendRequest { grant: Some(grant.clone()), fill_up_to });
        let Response::Lent(lent) = self.ask(request).await? else { panic!("another answer") };
        let file = self.frames.take_descriptor().expect("a descriptor comes with it");
        Ok((lent, file.into()))
    }

    pub(super) async fn stage(&mut self, grant: &SignedGrant) -> Result<File> {
        let request = Request::Stage(StageFileRequest { grant: Some(grant.clone()) });
        let Response::Staged(_) = self.ask(request).await? else { panic!("another answer") };
        Ok(self.frames.take_descriptor().expect("a descriptor comes with it").into())
    }

    /// Has what a staged file has in a range kept for `version`, which has so many bytes.
    pub(super) async fn keep(
        &mut self,
        grant: &SignedGrant,
        (content, length): (ContentId, u64),
        range: ByteRange,
    ) -> Result<()> {
        let version = Some(Head { content: Some(content.into()), length, original: None });
        let request = KeepStagedRequest { grant: Some(grant.clone()), version, range: Some(range.into()) };
        let Response::StagedKept(_) = self.ask(Request::KeepStaged(request)).await? else { panic!("another answer") };
        Ok(())
    }

    pub(super) async fn ensure(&mut self, lease: u64, range: ByteRange) -> Result<EnsureResponse> {
        self.ensure_and(lease, range, None).await
    }

    async fn ensure_and(&mut self, lease: u64, range: ByteRange, readahead: Option<Range>) -> Result<EnsureResponse> {
        let request = EnsureRequest { lease, ranges: vec![range.into()], readahead };
        let Response::Ensured(ensured) = self.ask(Request::Ensure(request)).await? else { panic!("another answer") };
        Ok(ensured)
    }

    /// What the worker says unasked next.
    async fn notice(&mut self) -> RecallNotice {
        if let Some(notice) = self.notices.pop_front() {
            return notice;
        }
        let told = self.receive().await;
        let Some(Response::Recall(notice)) = told.response else { panic!("another message: {told:?}") };
        assert_eq!(told.id, 0);
        notice
    }

    async fn give_back(&mut self, lease: u64) {
        self.tell(Request::GiveBack(ReturnRequest { lease })).await;
    }
}

fn read_at(file: &File, range: &ByteRange) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("64 bits")];
    file.read_exact_at(&mut bytes, range.start).expect("read");
    bytes
}

#[tokio::test]
async fn small_contents_come_complete_and_are_plain_files() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("small", "1", MIB + 5);
    let mut client = LocalClient::of(&worker).await;
    let (lent, mut file) = client.lend(&pond.grant("small"), 2 * MIB).await.expect("lent");
    assert_eq!((lent.complete, lent.length), (true, MIB + 5));
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut read).expect("a file");
    assert_eq!(read, body);
    assert!(file.write_at(b"x", 0).is_err(), "a client cannot write it");

    pond.lake.put("empty", "1", 0);
    let (lent, file) = client.lend(&pond.grant("empty"), 0).await.expect("lent");
    assert_eq!((lent.complete, file.metadata().expect("a file").len()), (true, 0));
}

#[tokio::test]
async fn a_large_content_is_made_present_range_by_range() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    let body = pond.lake.put("big", "1", 20 * MIB + 1);
    let mut client = LocalClient::of(&worker).await;
    let (lent, file) = client.lend(&pond.grant("big"), MIB).await.expect("lent");
    assert!(!lent.complete);
    assert_eq!(pond.lake.sent(), 0, "nothing was asked for yet");

    let range = 10 * MIB + 3..10 * MIB + 9;
    let ensured = client.ensure(lent.lease, range.clone()).await.expect("ensured");
    assert_eq!(ensured.present, [Range { start: 10 * MIB, end: 11 * MIB }]);
    assert_eq!(read_at(&file, &range), part(&body, &range));

    let readahead = Some(Range { start: 12 * MIB, end: 14 * MIB });
    let ensured = client.ensure_and(lent.lease, 11 * MIB..11 * MIB + 1, readahead).await.expect("ensured");
    let [present] = ensured.present[..] else { panic!("{ensured:?}") };
    assert_eq!(present.start, 10 * MIB);
    assert!((12 * MIB..=14 * MIB).contains(&present.end), "readahead may have come by then: {present:?}");
    pond.lake.asked(3).await;
    assert!(pond.lake.gets().contains(&(12 * MIB..14 * MIB)), "{:?}", pond.lake.gets());

    let ensured = client.ensure(lent.lease, 0..u64::MAX).await.expect("ensured");
    assert!(ensured.complete);
    assert_eq!(ensured.present, [Range { start: 0, end: 20 * MIB + 1 }]);
    assert_eq!(read_at(&file, &(0..20 * MIB + 1)), body);
    assert_eq!(pond.lake.sent(), 20 * MIB + 1, "each byte once");
}

#[tokio::test]
async fn leases_end_when_given_back_or_when_the_client_hangs_up() {
    let pond = Pond::start().await;
    let worker = pond.worker().await;
    pond.lake.put("big", "1", 3 * MIB);
    let mut client = LocalClient::of(&worker).await;
    let (lent, _file) = client.lend(&pond.grant("big"), 0).await.expect("lent");
    client.give_back(lent.lease).await;
    let error = client.ensure(lent.lease, 0..1).await.expect_err("given back");
    assert!(error.to_string().contains("was given back"), "{error}");

    client.lend(&pond.grant("big"), 0).await.expect("lent");
    assert_eq!(worker.leases(), 1);
    drop(client);
    worker.stop().await;
}

#[tokio::test]
async fn a_file_dropped_under_a_lease_is_said_and_lent_anew() {
    let pond = Pond::start().await;
    let mut worker = pond.worker().await;
    let body = pond.lake.put("big", "1", 3 * MIB);
    let mut client = LocalClient::of(&worker).await;
    let (old, old_file) = client.lend(&pond.grant("big"), 0).await.expect("lent");
    client.ensure(old.lease, 0..MIB).await.expect("ensured");
    worker.client.free(FreeRequest { grants: vec![pond.grant("big")] }).await.expect("freed");
    assert_eq!(read_at(&old_file, &(0..MIB)), part(&body, &(0..MIB)), "what was present stays readable");
    let error = client.ensure(old.lease, MIB..2 * MIB).await.expect_err("another file by now");
    assert!(error.to_string().contains("was dropped"), "{error}");
    let (new, file) = client.lend(&pond.grant("big"), 0).await.expect("lent");
    client.ensure(new.lease, 0..3 * MIB).await.expect("ensured");
    assert_eq!(read_at(&file, &(0..3 * MIB)), body);
}

#[tokio::test]
async fn who_holds_what_was_freed_is_told_at_once_and_its_room_comes_back_with_it() {
    let pond = Pond::start().await;
    let mut worker = pond.worker().await;
    let mut clients = [LocalClient::of(&worker).await, LocalClient::of(&worker).await];
    let mut grants = Vec::new();
    // More than one kind of notice would hold.
    for n in 0..40 {
        let key = format!("f{n}");
        pond.lake.put(&key, "1", 100 * 1024);
        grants.push(pond.grant(&key));
    }
    let mut held = [Vec::new(), Vec::new()];
    for (client, held) in clients.iter_mut().zip(&mut held) {
        for n in 0..40 {
            held.push(client.lend(&pond.grant(&format!("f{n}")), MIB).await.expect("lent"));
        }
    }
    let used = || worker.running.status().usage.used_bytes();
    assert_eq!(used(), 40 * 100 * 1024);
    worker.client.free(FreeRequest { grants }).await.expect("freed");
    assert_eq!(used(), 40 * 100 * 1024, "descriptors are out");
    for (client, held) in clients.iter_mut().zip(held) {
        let mut told = Vec::new();
        while told.len() < held.len() {
            let notice = client.notice().await;
            assert!(notice.dropped);
            told.extend(notice.leases);
        }
        told.sort_unstable();
        assert_eq!(told, held.iter().map(|(lent, _)| lent.lease).collect::<Vec<_>>(), "each once");
        drop(held);
        for lease in told {
            client.give_back(lease).await;
        }
        // Answered behind what was given back.
        client.ensure(0, 0..1).await.expect_err("no such lease");
    }
    while worker.leases() > 0 {
        tokio::task::yield_now().await;
    }
    while used() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_lent_is_asked_back_when_room_is_needed() {
    let pond = Pond::start().await;
    let worker =
        pond.worker_in(tempfile::tempdir().expect("a directory"), |config| config.dirs[0].capacity = 8 * MIB).await;
    let mut client = LocalClient::of(&worker).await;
    let mut leases = Vec::new();
    for key in ["a", "b", "c", "d"] {
        pond.lake.put(key, "1", 2 * MIB);
        let (lent, _) = client.lend(&pond.grant(key), 2 * MIB).await.expect("lent");
        leases.push(lent.lease);
    }
    let body = pond.lake.put("large", "1", 8 * MIB);
    assert_eq!(worker.read(&pond.grant("large"), 0..8 * MIB).await.expect("read, if need be through memory"), body);
    let recall = client.notice().await;
    assert!(leases.contains(&recall.leases[0]) && !recall.dropped, "{recall:?}");
}
