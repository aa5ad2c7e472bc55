//! Every request that changes something has an id. Repeated it gets the first answer and changes nothing, also of a master that started anew, and also
//! when what it did has been undone since.
//!
//! `PersistPath` has none: repeating it makes nothing due that is not due already (`persists`).

use headpond_proto::v1::{
    AddMountRequest, Attr, CommitRequest, CreateRequest, FileKind, LinkRequest, MakeDirectoryRequest, MakeNodeRequest,
    Mount, OpenForWritingRequest, RemoveMountRequest, RemoveRequest, RenameRequest, SetAttrRequest, SetXattrRequest,
    WriteResponse, admin_service_client::AdminServiceClient, writing_service_client::WritingServiceClient,
};
use headpond_types::InodeId;
use tonic::{Status, transport::Channel};

use super::{INTERVAL, Rig, services::channel};
use crate::walk::WalkOptions;

/// A request that changes something.
#[derive(Clone, Debug)]
enum Change {
    Create(CreateRequest),
    Open(OpenForWritingRequest),
    Commit(CommitRequest),
    MakeDirectory(MakeDirectoryRequest),
    MakeNode(MakeNodeRequest),
    Link(LinkRequest),
    Remove(RemoveRequest),
    Rename(RenameRequest),
    SetAttr(SetAttrRequest),
    SetXattr(SetXattrRequest),
    AddMount(AddMountRequest),
    RemoveMount(RemoveMountRequest),
}

/// What an answer says of what was done, and not of how long that may be believed.
#[derive(Debug, PartialEq)]
struct Told {
    attr: Option<Attr>,
    links: Option<u32>,
    mount: Option<Mount>,
    /// The lease, if there is one: those of a master that ended are given anew.
    lease: Option<u64>,
}

const NOTHING: Told = Told { attr: None, links: None, mount: None, lease: None };

fn of(attr: Option<Attr>) -> Told {
    Told { attr, ..NOTHING }
}

fn leased(response: WriteResponse) -> Told {
    Told { lease: response.lease.map(|lease| lease.id), ..of(response.attr) }
}

impl Change {
    async fn ask(self, channel: &Channel) -> Result<Told, Status> {
        let mut writing = WritingServiceClient::new(channel.clone());
        let mut admin = AdminServiceClient::new(channel.clone());
        Ok(match self {
            Self::Create(request) => leased(writing.create(request).await?.into_inner()),
            Self::Open(request) => leased(writing.open_for_writing(request).await?.into_inner()),
            Self::Commit(request) => of(writing.commit(request).await?.into_inner().attr),
            Self::MakeDirectory(request) => of(writing.make_directory(request).await?.into_inner().attr),
            Self::MakeNode(request) => of(writing.make_node(request).await?.into_inner().attr),
            Self::Link(request) => of(writing.link(request).await?.into_inner().attr),
            Self::Remove(request) => Told { links: Some(writing.remove(request).await?.into_inner().links), ..NOTHING },
            Self::Rename(request) => Told { links: Some(writing.rename(request).await?.into_inner().links), ..NOTHING },
            Self::SetAttr(request) => of(writing.set_attr(request).await?.into_inner().attr),
            Self::SetXattr(request) => of(writing.set_xattr(request).await?.into_inner().attr),
            Self::AddMount(request) => Told { mount: admin.add_mount(request).await?.into_inner().mount, ..NOTHING },
            Self::RemoveMount(request) => {
                admin.remove_mount(request).await?;
                NOTHING
            }
        })
    }

    /// The same under another id.
    fn anew(mut self) -> Self {
        let id = match &mut self {
            Self::Create(request) => &mut request.request_id,
            Self::Open(request) => &mut request.request_id,
            Self::Commit(request) => &mut request.request_id,
            Self::MakeDirectory(request) => &mut request.request_id,
            Self::MakeNode(request) => &mut request.request_id,
            Self::Link(request) => &mut request.request_id,
            Self::Remove(request) => &mut request.request_id,
            Self::Rename(request) => &mut request.request_id,
            Self::SetAttr(request) => &mut request.request_id,
            Self::SetXattr(request) => &mut request.request_id,
            Self::AddMount(request) => &mut request.request_id,
            Self::RemoveMount(request) => &mut request.request_id,
        };
        *id = rand::random::<[u8; 16]>().to_vec().into();
        self
    }
}

/// A change and what undoes it.
struct Case {
    what: &'static str,
    change: Change,
    undone: Option<Change>,
}

/// Builds requests about names in `/m`.
struct Names {
    dir: u64,
}

impl Names {
    fn make_file(&self, name: &'static str) -> Change {
        let (parent, name) = (self.dir, name.into());
        Change::Create(CreateRequest { parent, name, mode: 0o644, exclusive: true, ..Default::default() })
    }

    fn make_directory(&self, name: &'static str) -> Change {
        let (parent, name) = (self.dir, name.into());
        Change::MakeDirectory(MakeDirectoryRequest { parent, name, mode: 0o755, ..Default::default() })
    }

    fn make_node(&self, name: &'static str, kind: FileKind, target: &'static str) -> Change {
        let (parent, name, target, kind) = (self.dir, name.into(), target.into(), kind.into());
        Change::MakeNode(MakeNodeRequest { parent, name, mode: 0o777, kind, target, ..Default::default() })
    }

    fn remove(&self, name: &'static str, directory: bool, recursive: bool) -> Change {
        let (parent, name) = (self.dir, name.into());
        Change::Remove(RemoveRequest { parent, name, directory, recursive, ..Default::default() })
    }

    fn rename(&self, from: &'static str, to: &'static str, [no_replace, exchange]: [bool; 2]) -> Change {
        let (from_parent, to_parent) = (self.dir, self.dir);
        let (from_name, to_name) = (from.into(), to.into());
        let names = RenameRequest { from_parent, from_name, to_parent, to_name, ..Default::default() };
        Change::Rename(RenameRequest { no_replace, exchange, ..names })
    }
}

fn xattr(inode: InodeId, value: Option<&'static str>, exists: Option<bool>) -> Change {
    let (name, value) = ("user.tag".into(), value.map(Into::into));
    Change::SetXattr(SetXattrRequest { inode: inode.0, name, value, exists, ..Default::default() })
}

fn mode(inode: InodeId, mode: u32) -> Change {
    Change::SetAttr(SetAttrRequest { inode: inode.0, mode: Some(mode), ..Default::default() })
}

fn mount(path: &'static str) -> Change {
    let mount = Mount { path: path.into(), uri: "memory://other".to_owned(), ..Default::default() };
    let mount = Mount { file_mode: 0o644, dir_mode: 0o755, ..mount };
    Change::AddMount(AddMountRequest { mount: Some(mount), ..Default::default() })
}

fn unmount(path: &'static str) -> Change {
    Change::RemoveMount(RemoveMountRequest { path: path.into(), ..Default::default() })
}

/// Objects that the cases are about.
const KEYS: [&str; 19] = [
    "attr",
    "committed",
    "exchanged",
    "full/a",
    "full/b/c",
    "goes",
    "linked",
    "moved",
    "new-over",
    "old-over",
    "opened",
    "other/x",
    "twice",
    "untagged",
    "tagged",
    "tree/a",
    "tree/b/c",
    "written",
    "zz",
];

impl Rig {
    /// Every RPC that has an id.
    async fn cases(&self) -> Vec<Case> {
        let names = Names { dir: self.inode("/m").await.0 };
        let inode = async |name: &str| self.inode(&format!("/m/{name}")).await;
        let open = OpenForWritingRequest { inode: inode("opened").await.0, ..Default::default() };
        let link = LinkRequest {
            inode: inode("linked").await.0,
            parent: names.dir,
            name: "link".into(),
            ..Default::default()
        };
        let (attr, tagged, untagged) = (inode("attr").await, inode("tagged").await, inode("untagged").await);
        xattr(untagged, Some("old"), None).anew().ask(&channel(self).await).await.expect("set");
        self.make_directory("/m/empty").await.expect("made");
        mount("/was-there").anew().ask(&channel(self).await).await.expect("mounted");
        let case = |what, change: Change, undone: Option<Change>| Case { what, change: change.anew(), undone };
        vec![
            case("create", names.make_file("made"), Some(names.remove("made", false, false))),
            case("open for writing", Change::Open(open), None),
            case("mkdir", names.make_directory("dir"), Some(names.remove("dir", true, false))),
            case("mkfifo", names.make_node("fifo", FileKind::Fifo, ""), Some(names.remove("fifo", false, false))),
            case("symlink", names.make_node("l", FileKind::Symlink, "x"), Some(names.remove("l", false, false))),
            case("link", Change::Link(link), Some(names.remove("link", false, false))),
            case("unlink", names.remove("goes", false, false), Some(names.make_file("goes"))),
            case("rmdir", names.remove("empty", true, false), Some(names.make_directory("empty"))),
            case("remove a tree", names.remove("tree", true, true), Some(names.make_directory("tree"))),
            case("rename", names.rename("moved", "to", [false; 2]), Some(names.rename("to", "moved", [false; 2]))),
            case(
                "rename over a file",
                names.rename("new-over", "old-over", [false; 2]),
                Some(names.rename("old-over", "new-over", [false; 2])),
            ),
            case(
                "rename a directory to a free name",
                names.rename("full", "filled", [true, false]),
                Some(names.rename("filled", "full", [true, false])),
            ),
            case(
                "exchange",
                names.rename("exchanged", "other", [true; 2]),
                Some(names.rename("other", "exchanged", [true; 2])),
            ),
            case("chmod", mode(attr, 0o600), Some(mode(attr, 0o640))),
            case("setxattr", xattr(tagged, Some("blue"), Some(false)), Some(xattr(tagged, None, Some(true)))),
            case("removexattr", xattr(untagged, None, None), Some(xattr(untagged, Some("green"), None))),
            case("mount", mount("/added"), Some(unmount("/added"))),
            case("unmount", unmount("/was-there"), Some(mount("/was-there"))),
        ]
    }

    /// What commits new bytes of a file, which are in the store.
    async fn commit_of(&self, path: &str) -> Change {
        let lease = self.create(path).await.expect("opened").lease.expect("a file");
        let grant = self.persist_grant(lease).await.expect("granted");
        let meta = self.store_staged(&grant, "committed bytes").await.expect("stored");
        Change::Commit(CommitRequest {
            lease,
            content: grant.content,
            key: grant.key,
            size: meta.size,
            mtime_ns: meta.mtime.0,
            version: meta.version,
            ..Default::default()
        })
    }

    /// Waits until nothing follows any more from what was done, and nothing that is asked for has to be looked up.
    async fn quiet(&self) {
        loop {
            let before = self.journalled();
            self.tree("/").await.expect("listed");
            self.comes_to_rest().await;
            if self.journalled() == before {
                return;
            }
        }
    }

    /// Waits until nothing is left to do, and the journal grows no more.
    async fn comes_to_rest(&self) {
        let core = &self.master.core;
        let is_done = || {
            let littered = core.relocator.littered().expect("readable");
            let has_remains = core.catalog.snapshot().expect("readable").has_remains();
            let is_persisted = core.backlog.amounts().0.items == 0;
            core.relocator.pending() == 0 && littered.is_empty() && !has_remains && is_persisted
        };
        loop {
            let before = self.journalled();
            self.relocated().await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            if is_done() && self.journalled() == before {
                return;
            }
        }
    }

    /// Asks for a change once more. A master journals by itself, too, what listings bring; a repetition that is journalled is so every time.
    async fn ask_again(&self, what: &str, change: &Change) -> Result<Told, Status> {
        let channel = channel(self).await;
        for _ in 0..10 {
            self.comes_to_rest().await;
            let before = self.journalled();
            let told = change.clone().ask(&channel).await;
            if self.journalled() == before {
                return told;
            }
        }
        panic!("{what}: asked for again it is journalled again");
    }

    fn journalled(&self) -> u64 {
        self.master.core.catalog.applied_index()
    }

    /// All that is known of everything.
    async fn everything(&self) -> Vec<String> {
        use futures::TryStreamExt;
        let options = WalkOptions { recursive: true, ..WalkOptions::default() };
        let pages = self.master.core.lookups.walk(self.inode("/").await, options).await.expect("listed");
        let pages: Vec<_> = pages.try_collect().await.expect("listed");
        pages.into_iter().flat_map(|page| page.entries).map(|entry| format!("{entry:?}")).collect()
    }
}

#[tokio::test]
async fn a_change_that_is_asked_for_again_is_made_once_whatever_happened_since() {
    let rig = Rig::writable(&KEYS).await;
    rig.tree("/m").await.expect("listed");
    let mut cases = rig.cases().await;
    rig.quiet().await;
    // Before anybody lists the store, where the bytes are already.
    let commit = rig.commit_of("/m/committed").await.anew();
    cases.insert(0, Case { what: "commit", change: commit, undone: None });
    let mut first = Vec::new();
    for Case { what, change, .. } in &cases {
        let before = rig.journalled();
        let told = change.clone().ask(&channel(&rig).await).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(rig.journalled() > before || matches!(change, Change::Open(_)), "{what} is not in the journal");
        let again = rig.ask_again(what, change).await.unwrap_or_else(|error| panic!("{what}, again: {error}"));
        // What has moved meanwhile has another object.
        assert_eq!((again.links, &again.mount, again.lease), (told.links, &told.mount, told.lease), "{what}, again");
        first.push(again);
    }
    rig.quiet().await;

    let rig = rig.restart(Some(INTERVAL)).await;
    rig.quiet().await;
    let all = rig.everything().await;
    for (Case { what, change, .. }, first) in cases.iter().zip(&first) {
        let again = rig.ask_again(what, change).await.unwrap_or_else(|error| panic!("{what}, restarted: {error}"));
        assert_eq!(again.lease.is_some(), first.lease.is_some(), "{what}, restarted");
        assert_eq!(Told { lease: first.lease, ..again }, *first, "{what}, restarted");
    }
    assert_eq!(rig.everything().await, all);

    for Case { what, undone, .. } in &cases {
        let Some(undone) = undone else { continue };
        let told = undone.clone().anew().ask(&channel(&rig).await).await;
        told.unwrap_or_else(|error| panic!("{what}, undone: {error}"));
    }
    rig.quiet().await;
    let rig = rig.restart(Some(INTERVAL)).await;
    rig.quiet().await;
    let all = rig.everything().await;
    for Case { what, change, .. } in &cases {
        // What it made may be gone: that is an answer as well, but it is not made again.
        let _ = rig.ask_again(what, change).await;
    }
    assert_eq!(rig.everything().await, all);

    // Under another id each is another change.
    for Case { what, change, undone } in cases {
        if undone.is_some() {
            let before = rig.journalled();
            let told = change.anew().ask(&channel(&rig).await).await;
            told.unwrap_or_else(|error| panic!("{what}, anew: {error}"));
            assert!(rig.journalled() > before, "{what}, anew");
        }
    }
}
