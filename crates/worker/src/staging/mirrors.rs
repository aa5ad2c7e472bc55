//! Further copies of bytes that no store has: other workers stage the same file, and make it durable under the same grant.
//!
//! They are sent the pages that changed since they were last sent any, by checksum: a page is 1 MiB, and the whole file is read for it. A mirror that fails
//! is given up; the next worker of the grant is sent everything. It adopts what it has when the staged file is ended here, or when nobody has asked
//! about it for long; the master says later what of it is needed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fail::fail_point;
use headpond_proto::{
    MAX_MESSAGE, status,
    v1::{
        EndStagingRequest, PersistGrant, PersistRequest, PersistResponse, ResizeStagedRequest, SignedGrant,
        StageRequest, staging_service_client::StagingServiceClient,
    },
};
use headpond_store::checksums;
use headpond_transport::Link;
use headpond_types::{ContentId, Error, ErrorKind, PAGE_SIZE, Result, page_count, page_range};
use tonic::{Response, Status};

use super::{
    Stager,
    persist::{content_of, patience},
    table::Staged,
};

/// Nobody waits longer for a mirror to be told of an end.
const END: Duration = Duration::from_secs(5);

/// A worker that has a copy of a staged file, and which pages.
#[derive(Debug)]
pub(super) struct Mirror {
    address: String,
    staging: SignedGrant,
    checksums: Vec<u32>,
    length: u64,
}

/// The mirrors of a staged file.
pub(super) type Mirrors = Vec<Mirror>;

/// What is to be copied: as it was asked for here.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) signed: SignedGrant,
    pub(super) staging: SignedGrant,
    pub(super) length: u64,
}

/// Has as many other workers as `grant` wants make the staged bytes durable; their ids. Whoever calls has the file's turn.
///
/// # Errors
/// `Unavailable` when too few do; why the last one did not is its source.
pub(super) async fn copy(stager: &Stager, staged: &Arc<Staged>, grant: &PersistGrant, wish: &Wish) -> Result<Vec<u32>> {
    let content = content_of(stager, grant)?;
    let wanted = usize::try_from(grant.copies).unwrap_or(usize::MAX).saturating_sub(1);
    let (mut mirrors, mut ids, mut failure) = (staged.with_mirrors(std::mem::take), Vec::new(), None);
    let mut kept = Mirrors::new();
    // Those that have most of it come first.
    let known: Vec<_> = mirrors.iter().map(|mirror| mirror.address.clone()).collect();
    let fresh = grant.holders.iter().filter(|address| !known.contains(address)).cloned();
    let again: Vec<_> = known.iter().cloned().chain(fresh).collect();
    for address in again {
        if ids.len() >= wanted {
            break;
        }
        let at = mirrors.iter().position(|mirror| mirror.address == address);
        let mirror = at.map(|at| mirrors.swap_remove(at));
        let length = wish.length;
        let sending = send(stager, (staged, content), &address, mirror, wish);
        let sent = tokio::time::timeout(patience(length), sending).await;
        let late = || {
            Error::new(ErrorKind::DeadlineExceeded, format!("the worker at {address} did not make it durable in time"))
        };
        match sent.unwrap_or_else(|_| Err(late())) {
            Ok((mirror, id)) => {
                fail_point!("mirror::copied");
                kept.push(mirror);
                ids.push(id);
            }
            Err(error) => failure = Some(error),
        }
    }
    let surplus = std::mem::take(&mut mirrors);
    kept.extend(surplus);
    staged.with_mirrors(|mirrors| *mirrors = kept);
    if ids.len() >= wanted {
        return Ok(ids);
    }
    let have = ids.len() + 1;
    let message = format!(
        "{have} of {} workers have the bytes on disk: start more workers, or lower the mount's copies",
        grant.copies
    );
    let error = Error::new(ErrorKind::Unavailable, message);
    Err(match failure {
        Some(failure) => error.with_source(failure),
        None => error,
    })
}

/// Tells the mirrors that the staged file has ended, as `content` if that is known. Goes on when it is dropped. Without it they notice later.
pub(super) fn end(stager: &Stager, mirrors: Mirrors, content: Option<ContentId>) -> impl Future<Output = ()> + use<> {
    let tell = |Mirror { address, staging, .. }: Mirror| {
        let mut client = client(stager, &address).ok()?;
        Some(stager.tasks.spawn(async move {
            let request = EndStagingRequest { grant: Some(staging), content: content.map(Into::into) };
            match tokio::time::timeout(END, client.end_staging(request)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(address, %error, "a mirror was not told that its staged file has ended")
                }
                Err(late) => tracing::debug!(address, %late, "a mirror was not told that its staged file has ended"),
            }
        }))
    };
    let told: Vec<_> = mirrors.into_iter().filter_map(tell).collect();
    async move {
        for told in told {
            let _ = told.await;
        }
    }
}

/// Brings one worker up to date; anew, if it has lost what it had.
async fn send(
    stager: &Stager,
    staged: (&Arc<Staged>, ContentId),
    address: &str,
    mirror: Option<Mirror>,
    wish: &Wish,
) -> Result<(Mirror, u32)> {
    let new =
        || Mirror { address: address.to_owned(), staging: wish.staging.clone(), checksums: Vec::new(), length: 0 };
    if let Some(mirror) = mirror {
        match update(stager, staged, mirror, wish, true).await {
            Err(error) if error.kind() == ErrorKind::Stale => {}
            done => return done,
        }
    }
    update(stager, staged, new(), wish, false).await
}

async fn update(
    stager: &Stager,
    (staged, content): (&Arc<Staged>, ContentId),
    mut mirror: Mirror,
    wish: &Wish,
    mut continues: bool,
) -> Result<(Mirror, u32)> {
    let mut client = client(stager, &mirror.address)?;
    let grant = Some(wish.staging.clone());
    let told =
        |what: &str, status: &Status| status::to_error(status, &format!("{what} at the worker at {}", mirror.address));
    let mut now = Vec::new();
    for page in 0..page_count(wish.length) {
        let range = page_range(page, wish.length);
        let length = usize::try_from(range.end - range.start).expect("a page fits in memory");
        let data = staged.on_file(move |file| file.read_version(content, page * PAGE_SIZE, length, Vec::new())).await?;
        let data = Bytes::from(data.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the file was made durable anew while it was copied: persist it again")
        })?);
        let checksum = checksums(&data).first().copied().unwrap_or_default();
        let index = now.len();
        now.push(checksum);
        // What was the last page of a shorter file has other bytes, and another checksum.
        if mirror.checksums.get(index) == Some(&checksum) && range.end <= mirror.length {
            continue;
        }
        let request = StageRequest { grant: grant.clone(), offset: range.start, data, continues, version: None };
        client.stage(request).await.map_err(|status| told("staging a copy", &status))?;
        continues = true;
    }
    if !continues || mirror.length != wish.length {
        let request = ResizeStagedRequest { grant, length: wish.length, continues, version: None };
        client.resize_staged(request).await.map_err(|status| told("staging a copy", &status))?;
    }
    let request = PersistRequest {
        grant: Some(wish.signed.clone()),
        length: wish.length,
        is_copy: true,
        staging: Some(wish.staging.clone()),
        ..PersistRequest::default()
    };
    let answer = client.persist(request).await.map(Response::into_inner);
    let PersistResponse { holders, .. } = answer.map_err(|status| told("making a copy durable", &status))?;
    let [id] = holders[..] else {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("the worker at {} does not say who it is", mirror.address),
        ));
    };
    mirror.checksums = now;
    mirror.length = wish.length;
    mirror.staging = wish.staging.clone();
    Ok((mirror, id))
}

fn client(stager: &Stager, address: &str) -> Result<StagingServiceClient<Link>> {
    let link = stager.peers.link(address)?;
    Ok(StagingServiceClient::new(link).max_decoding_message_size(MAX_MESSAGE))
}
