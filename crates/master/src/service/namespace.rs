//! `MasterService`: the namespace for clients.

use futures::{StreamExt, stream};
use headpond_proto::{
    failure,
    v1::{
        BatchLookupRequest, BatchLookupResponse, BatchOpenRequest, BatchOpenResponse, GetAttrRequest, GetXattrsRequest,
        GetXattrsResponse, ListRequest, LookupRequest, LookupResponse, LookupResult, OpenRequest, OpenResponse,
        OpenResult, ReadLinkRequest, ReadLinkResponse, ResolveRequest, StatFsRequest, StatFsResponse, WatchRequest,
        Xattr, lookup_result::Result as LookupAnswer, master_service_server::MasterService, open_result,
    },
};
use headpond_transport::{Peer, is_of_this_process};
use headpond_types::{Error, ErrorKind, FileKind, InodeId, Name, Result};
use tonic::{Request, Response, Status, Streaming};

use super::{
    asked,
    asker::Asker,
    listing::{self, Pages},
    message::{lookup_response, millis, name, path},
    refuse,
    watch::{self, Events},
};
use crate::{
    access::{Caller, READ},
    core::Core,
    grants::Source,
    lookup::{Answer, Known, Located, describe},
    sessions,
    sync::stale,
    walk::WalkOptions,
};

/// Questions of one batch for which stores are asked at the same time.
const AT_ONCE: usize = 64;

/// The service.
#[derive(Debug)]
pub(crate) struct NamespaceService(pub(crate) Core);

#[tonic::async_trait]
impl MasterService for NamespaceService {
    type ListStream = Pages;
    type WatchStream = Events;

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<LookupResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        self.0.metrics.lookups.inc();
        let path = path(&request.path).map_err(refuse)?;
        let caller = request.caller.map(Caller::from);
        let answer = self.0.lookups.resolve(&path, caller.as_ref(), request.refresh).await.map_err(refuse)?;
        Ok(Response::new(lookup_response(asker.resolved(answer))))
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        self.0.metrics.lookups.inc();
        let name = name(&request.name).map_err(refuse)?;
        let caller = request.caller.map(Caller::from);
        let dir = InodeId(request.parent);
        let answer = self.0.lookups.lookup(dir, &name, caller.as_ref(), request.refresh).await.map_err(refuse)?;
        Ok(Response::new(lookup_response(asker.named(dir, answer))))
    }

    async fn batch_lookup(
        &self,
        request: Request<BatchLookupRequest>,
    ) -> Result<Response<BatchLookupResponse>, Status> {
        let (asker, peer) = (Asker::of(&self.0, &request), Peer::of(&request).map_err(refuse)?);
        let BatchLookupRequest { mut lookups, known_only } = request.into_inner();
        for question in &mut lookups {
            question.caller = peer.caller(question.caller.take()).map_err(refuse)?;
        }
        self.0.metrics.lookups.inc_by(lookups.len() as u64);
        let results = self.lookup_all(lookups, known_only, &asker).await.map_err(refuse)?;
        let results = results.into_iter().map(|result| LookupResult { result: Some(result) }).collect();
        Ok(Response::new(BatchLookupResponse { results }))
    }

    async fn get_attr(&self, request: Request<GetAttrRequest>) -> Result<Response<LookupResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        self.0.metrics.lookups.inc();
        let inode = InodeId(request.inode);
        self.require_way(inode, request.caller.map(Caller::from).as_ref()).map_err(refuse)?;
        let found = self.0.lookups.attr(inode, request.refresh).await.map_err(refuse)?;
        let Located { attr, valid, as_of } = asker.located(found);
        Ok(Response::new(lookup_response(Answer { attr: Some(attr), valid, as_of })))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Pages>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        self.0.metrics.lists.inc();
        let walk = self.walk(request, asker).await.map_err(refuse)?;
        Ok(Response::new(walk))
    }

    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        self.0.metrics.opens.inc();
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        self.open_one(request, &asker).await.map(Response::new).map_err(refuse)
    }

    async fn read_link(&self, request: Request<ReadLinkRequest>) -> Result<Response<ReadLinkResponse>, Status> {
        let request = asked(request, |request| &mut request.caller)?;
        let inode = InodeId(request.inode);
        let read = || {
            self.require_way(inode, request.caller.map(Caller::from).as_ref())?;
            let snapshot = self.0.catalog.snapshot()?;
            snapshot.attr(inode)?.ok_or_else(|| stale(inode))?;
            snapshot.link_target(inode)?.ok_or_else(|| {
                let path = describe(&snapshot, inode);
                Error::new(ErrorKind::InvalidArgument, format!("{path} is not a symbolic link"))
            })
        };
        let target = read().map_err(refuse)?;
        Ok(Response::new(ReadLinkResponse { target: target.into() }))
    }

    async fn get_xattrs(&self, request: Request<GetXattrsRequest>) -> Result<Response<GetXattrsResponse>, Status> {
        let request = asked(request, |request| &mut request.caller)?;
        let caller = request.caller.map(Caller::from);
        let xattrs = self.0.writing.xattrs(InodeId(request.inode), caller.as_ref()).map_err(refuse)?;
        let xattrs = xattrs.into_iter().map(|(name, value)| Xattr { name: name.into(), value: value.into() });
        Ok(Response::new(GetXattrsResponse { xattrs: xattrs.collect() }))
    }

    async fn batch_open(&self, request: Request<BatchOpenRequest>) -> Result<Response<BatchOpenResponse>, Status> {
        let (asker, peer) = (Asker::of(&self.0, &request), Peer::of(&request).map_err(refuse)?);
        let mut questions = request.into_inner().opens;
        for question in &mut questions {
            question.caller = peer.caller(question.caller.take()).map_err(refuse)?;
        }
        self.0.metrics.opens.inc_by(questions.len() as u64);
        let opened = stream::iter(questions).map(|question| self.open_one(question, &asker)).buffered(AT_ONCE);
        let results = opened.map(|opened| {
            let result = match opened {
                Ok(opened) => open_result::Result::Opened(opened),
                Err(error) => open_result::Result::Failure(failure(&error)),
            };
            OpenResult { result: Some(result) }
        });
        Ok(Response::new(BatchOpenResponse { results: results.collect().await }))
    }

    async fn stat_fs(&self, _: Request<StatFsRequest>) -> Result<Response<StatFsResponse>, Status> {
        let counts = self.0.catalog.snapshot().and_then(|snapshot| snapshot.counts()).map_err(refuse)?;
        let reports =
            self.0.workers.all().into_iter().filter(|(worker, _)| worker.live).map(|(worker, _)| worker.report);
        let (cache_capacity, cache_used) = reports.fold((0u64, 0u64), |(capacity, used), report| {
            (capacity.saturating_add(report.capacity), used.saturating_add(report.used))
        });
        let (inodes, bytes) = (counts.inodes, counts.file_bytes);
        Ok(Response::new(StatFsResponse { inodes, bytes, cache_capacity, cache_used }))
    }

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Events>, Status> {
        let is_own = is_of_this_process(&request);
        let mut said = request.into_inner();
        let first = said.message().await?.unwrap_or_default();
        let resumes = (first.resumes != 0).then_some(first.resumes);
        let session = self.0.sessions.open(first.client.clone(), resumes, first.cached_above);
        if first.resumed && !session.resumes() {
            session.listener().resumes();
        }
        if !is_own {
            sessions::record(&self.0.catalog, &session).await;
        }
        self.0.tasks.spawn_until_shutdown(watch::listen(first, said, session.listener()));
        Ok(Response::new(watch::events(session, &self.0.workers.ring(), self.0.tasks.shutdown().clone())))
    }
}

impl NamespaceService {
    /// Answers what one snapshot can answer at once, and asks stores about the rest unless only what is `known` is wanted.
    async fn lookup_all(
        &self,
        questions: Vec<LookupRequest>,
        known_only: bool,
        asker: &Asker,
    ) -> Result<Vec<LookupAnswer>> {
        let (now, mounts) = (self.0.clock.now(), self.0.mounts.table());
        let mut answers = Vec::with_capacity(questions.len());
        let mut due = Vec::new();
        {
            let snapshot = self.0.catalog.snapshot()?;
            for (index, question) in questions.into_iter().enumerate() {
                let dir = InodeId(question.parent);
                let caller = question.caller.map(Caller::from);
                let known = name(&question.name).and_then(|name| {
                    let caller = caller.as_ref();
                    let known = self.0.lookups.known(&snapshot, &mounts, now, dir, &name, caller, question.refresh)?;
                    Ok((known, name))
                });
                answers.push(match known {
                    Ok((Known::Fresh(answer), _)) => lookup_answer(Ok(asker.named(dir, answer))),
                    Ok((Known::Due(question), name)) => {
                        if !known_only {
                            due.push((index, question, dir, name));
                        }
                        LookupAnswer::Due(true)
                    }
                    Err(error) => lookup_answer(Err(error)),
                });
            }
        }
        let mut checked = stream::iter(due)
            .map(|(index, question, dir, name)| async move {
                let answer = self.0.lookups.check(question, dir, &name, now).await;
                (index, answer.map(|answer| asker.named(dir, answer)))
            })
            .buffer_unordered(AT_ONCE);
        while let Some((index, answer)) = checked.next().await {
            answers[index] = lookup_answer(answer);
        }
        drop(checked);
        Ok(answers)
    }

    async fn walk(&self, request: ListRequest, asker: Asker) -> Result<Pages> {
        let start_after = Some(&request.start_after).filter(|bytes| !bytes.is_empty());
        let start_after: Option<Name> = start_after.map(|bytes| name(bytes)).transpose()?;
        if request.recursive && start_after.is_some() {
            let message = "a recursive listing cannot begin after a name: list from the start";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let caller = request.caller.map(Caller::from);
        let dir = match request.inode {
            0 => self.existing(&request.path, caller.as_ref(), false).await?.attr.inode,
            inode => {
                self.require_way(InodeId(inode), caller.as_ref())?;
                InodeId(inode)
            }
        };
        let options = WalkOptions {
            start_after,
            recursive: request.recursive,
            limit: Some(request.limit).filter(|limit| *limit > 0),
            refresh: request.refresh,
            caller,
        };
        Ok(listing::pages(self.0.lookups.walk(dir, options).await?, asker))
    }

    async fn open_one(&self, request: OpenRequest, asker: &Asker) -> Result<OpenResponse> {
        let caller = request.caller.map(Caller::from);
        let located = match request.inode {
            0 => self.existing(&request.path, caller.as_ref(), request.refresh).await?,
            inode => {
                self.require_way(InodeId(inode), caller.as_ref())?;
                self.0.lookups.attr(InodeId(inode), request.refresh).await?
            }
        };
        let Located { attr, valid, as_of } = asker.located(located);
        let snapshot = self.0.catalog.snapshot()?;
        if attr.kind == FileKind::Directory {
            let message = format!("{} is a directory: list it instead", describe(&snapshot, attr.inode));
            return Err(Error::new(ErrorKind::IsADirectory, message));
        }
        if let Some(caller) = caller {
            caller.require(&attr, READ, || describe(&snapshot, attr.inode))?;
        }
        // It may have been persisted since.
        let attr = if attr.dirty { snapshot.attr(attr.inode)?.ok_or_else(|| stale(attr.inode))? } else { attr };
        let (grant, grant_valid) = self.0.grants.issue(&attr, || {
            if attr.dirty {
                return self.0.writing.holders_of(&snapshot, attr.inode).map(Source::Holders);
            }
            let location = snapshot.location(attr.inode)?.ok_or_else(|| stale(attr.inode))?;
            let mounts = self.0.mounts.table();
            let mount = mounts.get(location.mount).ok_or_else(|| stale(attr.inode))?;
            Ok(Source::Object(mount.object_key(&location.key)))
        })?;
        Ok(OpenResponse {
            attr: Some(attr.into()),
            grant: Some(grant),
            valid_ms: millis(valid),
            grant_valid_ms: millis(grant_valid),
            as_of,
        })
    }

    fn require_way(&self, inode: InodeId, caller: Option<&Caller>) -> Result<()> {
        let Some(caller) = caller else { return Ok(()) };
        caller.require_way(&self.0.catalog.snapshot()?, inode)
    }

    /// What is at a path, which must be something.
    async fn existing(&self, bytes: &[u8], caller: Option<&Caller>, refresh: bool) -> Result<Located> {
        let path = path(bytes)?;
        let Answer { attr, valid, as_of } = self.0.lookups.resolve(&path, caller, refresh).await?;
        let attr = attr.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{path} does not exist")))?;
        Ok(Located { attr, valid, as_of })
    }
}

fn lookup_answer(answer: Result<Answer>) -> LookupAnswer {
    match answer {
        Ok(answer) => LookupAnswer::Found(lookup_response(answer)),
        Err(error) => LookupAnswer::Failure(failure(&error)),
    }
}
