//! `WritingService`: what clients change.

use std::time::Duration;

use headpond_namespace::{AttrChange, Owner, XattrChange};
use headpond_proto::v1::{
    self, CommitRequest, CommitResponse, CreateRequest, EndWritingRequest, EndWritingResponse, LinkRequest,
    LookupResponse, MadeResponse, MakeDirectoryRequest, MakeNodeRequest, OpenForWritingRequest, PendingRequest,
    PendingResponse, PersistPathRequest, PersistPathResponse, PreparePersistRequest, PreparePersistResponse,
    PrepareUploadRequest, PrepareUploadResponse, ReclaimLeaseRequest, ReclaimLeaseResponse, RemoveRequest,
    RemoveResponse, RenameRequest, RenameResponse, RenewLeasesRequest, RenewLeasesResponse, SetAttrRequest,
    SetXattrRequest, WriteLease, WriteResponse, WriteThroughRequest, WriteThroughResponse,
    writing_service_server::WritingService as Service,
};
use headpond_transport::Peer;
use headpond_types::{Error, ErrorKind, FileKind, InodeId, NsPath, Result, Timestamp, WorkerId};
use tonic::{Request, Response, Status};

use super::{
    asked,
    asker::{Asker, patience},
    message::{lookup_response, millis, mode, name, path, rename_mode, request_id, unstored},
    pending::pending_response,
    refuse,
};
use crate::{
    access::Caller,
    core::Core,
    lookup::Answer,
    write::{Change, Linking, NewEntry, Opened, Persisted, Place, Removal, Renaming},
};

/// What is to be made, as the three messages say that ask for something new: they have the same fields.
macro_rules! new_entry {
    ($request:ident) => {
        NewEntry {
            parent: InodeId($request.parent),
            name: name(&$request.name)?,
            owner: Owner { mode: mode($request.mode)?, uid: $request.uid, gid: $request.gid },
            caller: $request.caller.map(Caller::from),
            request: request_id(&$request.request_id)?,
        }
    };
}

/// The service.
#[derive(Debug)]
pub(crate) struct WritingService(pub(crate) Core);

#[tonic::async_trait]
impl Service for WritingService {
    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<WriteResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        let create = async || {
            let new = new_entry!(request);
            asker.settle(new.request, self.0.writing.create(new, request.exclusive)).await
        };
        let opened = create().await.map_err(refuse)?;
        let parent = self.beside(&opened.answer, &asker);
        Ok(Response::new(WriteResponse { parent, ..self.write_response(opened, &asker) }))
    }

    async fn open_for_writing(
        &self,
        request: Request<OpenForWritingRequest>,
    ) -> Result<Response<WriteResponse>, Status> {
        let (asker, patience) = (Asker::of(&self.0, &request), patience(&request));
        let request = asked(request, |request| &mut request.caller)?;
        let id = request_id(&request.request_id).map_err(refuse)?;
        let caller = request.caller.map(Caller::from);
        let opened = self.0.writing.open(InodeId(request.inode), caller, id, patience).await.map_err(refuse)?;
        Ok(Response::new(self.write_response(opened, &asker)))
    }

    async fn renew_leases(
        &self,
        request: Request<RenewLeasesRequest>,
    ) -> Result<Response<RenewLeasesResponse>, Status> {
        Peer::of(&request).map_err(refuse)?;
        let leases = &self.0.writing.leases;
        let lost = leases.renew(&request.into_inner().leases);
        Ok(Response::new(RenewLeasesResponse { lost, term_ms: millis(leases.term()) }))
    }

    async fn reclaim_lease(
        &self,
        request: Request<ReclaimLeaseRequest>,
    ) -> Result<Response<ReclaimLeaseResponse>, Status> {
        Peer::of(&request).map_err(refuse)?;
        let ReclaimLeaseRequest { staging, version } = request.into_inner();
        let held = self.0.writing.reclaim(&staging.unwrap_or_default(), &version).await.map_err(refuse)?;
        Ok(Response::new(ReclaimLeaseResponse { term_ms: millis(self.0.writing.leases.term()), held }))
    }

    async fn write_through(
        &self,
        request: Request<WriteThroughRequest>,
    ) -> Result<Response<WriteThroughResponse>, Status> {
        Peer::of(&request).map_err(refuse)?;
        let grant = self.0.writing.write_through(request.into_inner().lease).await.map_err(refuse)?;
        Ok(Response::new(WriteThroughResponse { grant: Some(grant) }))
    }

    async fn prepare_upload(
        &self,
        request: Request<PrepareUploadRequest>,
    ) -> Result<Response<PrepareUploadResponse>, Status> {
        Peer::of(&request).map_err(refuse)?;
        let grant = self.0.writing.prepare_upload(request.into_inner().lease).await.map_err(refuse)?;
        Ok(Response::new(PrepareUploadResponse { grant: Some(grant) }))
    }

    async fn prepare_persist(
        &self,
        request: Request<PreparePersistRequest>,
    ) -> Result<Response<PreparePersistResponse>, Status> {
        Peer::of(&request).map_err(refuse)?;
        let patience = patience(&request);
        let PreparePersistRequest { lease, worker } = request.into_inner();
        let worker = Some(WorkerId(worker)).filter(|worker| worker.0 != 0);
        let grant = self.0.writing.prepare(lease, worker, patience).await.map_err(refuse)?;
        Ok(Response::new(PreparePersistResponse { grant: Some(grant) }))
    }

    async fn commit(&self, request: Request<CommitRequest>) -> Result<Response<CommitResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        Peer::of(&request).map_err(refuse)?;
        let request = request.into_inner();
        let commit = async || {
            let content =
                request.content.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "no content is given"))?;
            let persisted = Persisted {
                content: content.into(),
                key: request.key.to_vec(),
                size: request.size,
                mtime: Timestamp(request.mtime_ns),
                version: request.version.clone(),
                holders: request.holders.iter().copied().map(WorkerId).collect(),
            };
            let id = request_id(&request.request_id)?;
            asker.settle(id, self.0.writing.commit(request.lease, persisted, id)).await
        };
        let Answer { attr, valid, as_of } = asker.resolved(commit().await.map_err(refuse)?);
        let persist = if request.goes_on { self.0.writing.offer(request.lease) } else { None };
        Ok(Response::new(CommitResponse { attr: attr.map(Into::into), valid_ms: millis(valid), as_of, persist }))
    }

    async fn end_writing(&self, request: Request<EndWritingRequest>) -> Result<Response<EndWritingResponse>, Status> {
        Peer::of(&request).map_err(refuse)?;
        self.0.writing.end_all(request.into_inner().leases).await.map_err(refuse)?;
        Ok(Response::new(EndWritingResponse {}))
    }

    async fn make_directory(&self, request: Request<MakeDirectoryRequest>) -> Result<Response<MadeResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        let make = async || {
            let new = new_entry!(request);
            asker.settle(new.request, self.0.writing.make_directory(new)).await
        };
        make().await.map(|answer| Response::new(self.made(answer, &asker))).map_err(refuse)
    }

    async fn make_node(&self, request: Request<MakeNodeRequest>) -> Result<Response<MadeResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        let make = async || {
            let what = unstored(request.kind(), request.device, &request.target)?;
            let new = new_entry!(request);
            asker.settle(new.request, self.0.writing.make_node(new, what)).await
        };
        make().await.map(|answer| Response::new(self.made(answer, &asker))).map_err(refuse)
    }

    async fn link(&self, request: Request<LinkRequest>) -> Result<Response<LookupResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        let link = async || {
            let linking = Linking {
                inode: InodeId(request.inode),
                parent: InodeId(request.parent),
                name: name(&request.name)?,
                caller: request.caller.map(Caller::from),
                request: request_id(&request.request_id)?,
            };
            asker.settle(linking.request, self.0.writing.link(linking)).await
        };
        link().await.map(|answer| Response::new(lookup_response(asker.resolved(answer)))).map_err(refuse)
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        let remove = async || {
            let removal = Removal {
                parent: InodeId(request.parent),
                name: name(&request.name)?,
                directory: request.directory,
                caller: request.caller.map(Caller::from),
                request: request_id(&request.request_id)?,
            };
            let (id, from) = (removal.request, (removal.parent, removal.name.clone()));
            if request.recursive {
                if !removal.directory {
                    return Err(Error::new(ErrorKind::InvalidArgument, "only directories are removed with all below"));
                }
                let removed = async { Ok((self.0.writing.remove_tree(removal).await?, 0)) };
                return Ok(self.removed(&from, asker.settle(id, removed).await?, &asker));
            }
            Ok(self.removed(&from, asker.settle(id, self.0.writing.remove(removal)).await?, &asker))
        };
        remove().await.map(Response::new).map_err(refuse)
    }

    async fn persist_path(
        &self,
        request: Request<PersistPathRequest>,
    ) -> Result<Response<PersistPathResponse>, Status> {
        let PersistPathRequest { path, caller } = asked(request, |request| &mut request.caller)?;
        let persist = async || {
            let (found, _) = self.existing(&path, caller).await?;
            self.0.persister.persist_below(found).await
        };
        persist().await.map(|files| Response::new(PersistPathResponse { files })).map_err(refuse)
    }

    async fn pending(&self, request: Request<PendingRequest>) -> Result<Response<PendingResponse>, Status> {
        let PendingRequest { path, caller, up_to } = asked(request, |request| &mut request.caller)?;
        let pending = async || {
            let (found, path) = self.existing(&path, caller).await?;
            let up_to = if up_to == 0 { u64::MAX } else { up_to };
            let now = self.0.catalog.snapshot()?.number();
            let pending = self.0.writing.pending(&path, up_to)?;
            let (dirty, amounts) = self.0.persister.dirty_below(found, &path, up_to)?;
            Ok(pending_response(pending, dirty, amounts, now))
        };
        pending().await.map(Response::new).map_err(refuse)
    }

    async fn rename(&self, request: Request<RenameRequest>) -> Result<Response<RenameResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        let rename = async || {
            let renaming = Renaming {
                from: (InodeId(request.from_parent), name(&request.from_name)?),
                to: (InodeId(request.to_parent), name(&request.to_name)?),
                mode: rename_mode(&request),
                caller: request.caller.map(Caller::from),
                request: request_id(&request.request_id)?,
            };
            let (from, to) = (renaming.from.clone(), renaming.to.clone());
            let renamed = asker.settle(renaming.request, self.0.writing.rename(renaming)).await?;
            Ok(self.renamed(&from, &to, renamed, &asker))
        };
        rename().await.map(Response::new).map_err(refuse)
    }

    async fn set_xattr(&self, request: Request<SetXattrRequest>) -> Result<Response<LookupResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        let set = async || {
            let SetXattrRequest { inode, name, value, exists, caller, request_id: id } = request;
            let change = XattrChange { name: name.to_vec(), value: value.map(|value| value.to_vec()), exists };
            let (inode, caller, request) = (InodeId(inode), caller.map(Caller::from), request_id(&id)?);
            asker.settle(request, self.0.writing.set_xattr(Change { inode, change, caller, request })).await
        };
        set().await.map(|answer| Response::new(lookup_response(asker.resolved(answer)))).map_err(refuse)
    }

    async fn set_attr(&self, request: Request<SetAttrRequest>) -> Result<Response<LookupResponse>, Status> {
        let asker = Asker::of(&self.0, &request);
        let request = asked(request, |request| &mut request.caller)?;
        let change = async || {
            let change = AttrChange {
                mode: request.mode.map(mode).transpose()?,
                uid: request.uid,
                gid: request.gid,
                mtime: request.mtime_ns.map(Timestamp),
            };
            let (inode, caller) = (InodeId(request.inode), request.caller.map(Caller::from));
            let change = Change { inode, change, caller, request: request_id(&request.request_id)? };
            let atime = request.atime_ns.map(Timestamp);
            asker.settle(change.request, self.0.writing.set_attr(change, atime)).await
        };
        change().await.map(|answer| Response::new(lookup_response(asker.resolved(answer)))).map_err(refuse)
    }
}

impl WritingService {
    /// What is at a path, and the path. Who may not see what is there learns nothing of it.
    async fn existing(&self, bytes: &[u8], caller: Option<v1::Caller>) -> Result<(InodeId, NsPath)> {
        let path = path(bytes)?;
        let caller = caller.map(Caller::from);
        let found = self.0.lookups.resolve(&path, caller.as_ref(), false).await?;
        let attr = found.attr.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{path} does not exist")))?;
        Ok((attr.inode, path))
    }

    /// The directory of what was made, if it holds for as long as that does.
    fn beside(&self, made: &Answer, asker: &Asker) -> Option<v1::Attr> {
        let dir = made.attr.as_ref()?.parent;
        let snapshot = self.0.catalog.snapshot().ok()?;
        let attr = snapshot.attr(dir).ok()?;
        let answer = asker.resolved(Answer { attr, valid: made.valid, as_of: made.as_of });
        answer.attr.filter(|_| answer.valid == made.valid).map(Into::into)
    }

    /// The answer to what was made.
    fn made(&self, answer: Answer, asker: &Asker) -> MadeResponse {
        let parent = self.beside(&answer, asker);
        let inode = answer.attr.as_ref().filter(|attr| attr.kind == FileKind::Directory).map(|attr| attr.inode);
        let empty = inode.and_then(|inode| self.0.lookups.emptiness(inode).ok().flatten());
        // Only now, so that an entry that was added since takes the answer's validity.
        let Answer { attr, valid, as_of } = asker.resolved(answer);
        let empty_ms = millis(empty.unwrap_or_default().min(valid));
        MadeResponse { attr: attr.map(Into::into), valid_ms: millis(valid), as_of, parent, empty_ms }
    }

    /// What `dirs` are since a change as of `as_of`, and how long that may be believed, and that nothing has the name that it took away. `None`:
    /// something has it.
    fn without(
        &self,
        (dir, name): &Place,
        dirs: &[InodeId],
        as_of: u64,
        asker: &Asker,
    ) -> Option<(Vec<v1::Attr>, Duration)> {
        self.0.catalog.denials().note(*dir, name);
        self.0.catalog.snapshot().ok()?.lookup(*dir, name).ok().filter(Option::is_none)?;
        let (mut valid, mut attrs) = (Duration::MAX, Vec::new());
        for dir in dirs {
            let answer = self.0.writing.answer(*dir).ok()?;
            let answer = asker.resolved(Answer { as_of, ..answer });
            valid = valid.min(answer.valid);
            attrs.extend(answer.attr.map(Into::into));
        }
        let valid = asker.named(*dir, Answer { attr: None, valid, as_of }).valid;
        Some((attrs, valid))
    }

    fn removed(&self, from: &Place, (as_of, links): (u64, u32), asker: &Asker) -> RemoveResponse {
        let (mut dirs, valid) = self.without(from, &[from.0], as_of, asker).unwrap_or_default();
        RemoveResponse { as_of, links, parent: dirs.pop(), valid_ms: millis(valid) }
    }

    /// The answer to a rename that was made as of `as_of`. What is where by now is not told when something has the old name: as when both were names of
    /// one file.
    fn renamed(&self, from: &Place, to: &Place, (as_of, links): (u64, u32), asker: &Asker) -> RenameResponse {
        let mut dirs = vec![from.0, to.0];
        dirs.dedup();
        let Some((parents, valid)) = self.without(from, &dirs, as_of, asker) else {
            return RenameResponse { as_of, links, ..RenameResponse::default() };
        };
        let moved = self.0.catalog.snapshot().and_then(|snapshot| {
            let found = snapshot.lookup(to.0, &to.1)?;
            found.map_or(Ok(None), |found| snapshot.shown(found))
        });
        let moved = asker.named(to.0, Answer { attr: moved.ok().flatten(), valid, as_of });
        let moved = moved.attr.filter(|_| moved.valid == valid).map(Into::into);
        RenameResponse { as_of, links, parents, valid_ms: millis(valid), moved }
    }

    fn write_response(&self, opened: Opened, asker: &Asker) -> WriteResponse {
        let Opened { answer, lease, persist } = opened;
        let answer = asker.resolved(answer);
        let term_ms = millis(self.0.writing.leases.term());
        let lease = lease.zip(answer.attr.as_ref().map(|attr| attr.inode)).map(|(id, inode)| WriteLease {
            id,
            term_ms,
            staging: Some(self.0.grants.staging(id, inode, self.0.writing.persisted_later_in(inode))),
            persist,
        });
        let (valid_ms, as_of) = (millis(answer.valid), answer.as_of);
        WriteResponse { attr: answer.attr.map(Into::into), lease, valid_ms, as_of, parent: None }
    }
}
