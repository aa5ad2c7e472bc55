//! Commands: everything that changes the namespace, and all that a change may depend on.
//!
//! A command carries every time and identity it needs: applying it reads no clock, no randomness and no network, so the
//! journal replays exactly.

use headpond_types::{ContentId, InodeId, MountId, Name, NsPath, RequestId, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

pub use crate::{
    described::{AttrChange, MovedFile, Owner, Version},
    observed::{Observed, ObservedKind},
    outcome::{Effect, Outcome},
    pending::{Dirty, Due, Left, PersistBegun},
    persistence::{Durability, Persistence},
    reply::{Refusal, Reply},
};
use crate::{unstored::Unstored, xattr::XattrChange};

/// A change of the namespace. Variants are journalled by their number: new ones come at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Changes nothing; proves that the journal takes commands.
    Noop,
    /// Names the cluster, once; later ones change nothing. Answers [`Reply::Cluster`].
    SetCluster {
        /// A random number, made by the proposer.
        cluster: u64,
    },
    /// A master starts to lead. Answers [`Reply::Term`] with a number larger than any before.
    BeginTerm,
    /// Gives a worker its id: the same for the same uuid. Answers [`Reply::Worker`].
    RegisterWorker {
        /// What the worker calls itself.
        uuid: String,
    },
    /// Binds a path to an under store; missing directories above it are made. Answers [`Reply::Mount`].
    AddMount {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The mount to be; its id is ignored.
        mount: Mount,
        /// When it was asked for.
        now: Timestamp,
    },
    /// Unbinds a path and forgets everything below. Answers [`Reply::Done`].
    RemoveMount {
        /// Makes a repetition harmless.
        request: RequestId,
        /// Where it is mounted.
        path: NsPath,
        /// When it was asked for.
        now: Timestamp,
    },
    /// The under store was seen to hold these entries in a directory. Answers [`Reply::Done`].
    Upsert {
        /// The directory; an unknown one is left alone.
        dir: InodeId,
        /// What was seen, each name once.
        entries: Vec<Observed>,
        /// When the store was asked, at the latest.
        at: Timestamp,
    },
    /// The under store was seen not to hold these entries any more. Answers [`Reply::Done`].
    Forget {
        /// The directory.
        dir: InodeId,
        /// The names and the inodes they had when the store was asked; an entry with another inode by now stays.
        entries: Vec<(Name, InodeId)>,
    },
    /// A listing of the directory was merged completely. Answers [`Reply::Done`].
    MarkListed {
        /// The directory.
        dir: InodeId,
        /// When the listing began.
        at: Timestamp,
        /// Keys directly below that no path can express.
        skipped: u64,
    },
    /// Clears away some of what lies below directories that are gone. Every command clears a little, so this is for idle times, while
    /// [`crate::Snapshot::has_remains`]. Answers [`Reply::Done`].
    Sweep,
    /// Makes a file that no under store holds yet: of no bytes and without a version. Answers [`Reply::Inode`], or [`Refusal::Exists`].
    Create {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The directory, in a mount.
        parent: InodeId,
        /// The name, which must be free.
        name: Name,
        /// Whose it is.
        owner: Owner,
        /// When it was asked for.
        now: Timestamp,
    },
    /// The under store was made to hold a version of a file that we wrote: the inode keeps its id. Answers [`Reply::Inode`], or
    /// [`Refusal::Gone`].
    Commit {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The file.
        inode: InodeId,
        /// Where the object is, relative to the mount's prefix. Not where the path says: the object is to be relocated.
        key: Vec<u8>,
        /// What it is, and what it is called.
        version: Version,
        /// When the write was begun.
        now: Timestamp,
    },
    /// The writer of a file is gone. One that never got a version goes, too. Answers [`Reply::Done`].
    Discard {
        /// The file.
        inode: InodeId,
    },
    /// Makes a directory, known to be empty. Answers [`Reply::Inode`], or [`Refusal::Exists`].
    MakeDirectory {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The directory above, in a mount.
        parent: InodeId,
        /// The name, which must be free.
        name: Name,
        /// Whose it is.
        owner: Owner,
        /// When the under store is to get its marker; `None`: it has it.
        dirty: Option<Due>,
        /// When it was asked for.
        now: Timestamp,
    },
    /// Removes a file or an empty directory. Answers [`Reply::Done`], or [`Refusal::NotEmpty`] or [`Refusal::Gone`].
    Remove {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The directory.
        parent: InodeId,
        /// The name.
        name: Name,
        /// What the name must lead to.
        inode: InodeId,
        /// The under store still has what it has of it, which is left to be deleted.
        later: bool,
        /// What is left besides.
        leaves: Vec<Left>,
        /// When the directory is to get its marker, should this be the last entry in it; `None`: it has it, or needs none.
        marker: Option<Due>,
        /// When it was asked for.
        now: Timestamp,
    },
    /// Renames, as rename(2) says. Nothing below is touched: a moved inode keeps its key, and a [`crate::Relocation`] is begun unless no under store
    /// holds anything of it. Relocations of it and of what lies below it go on under new ids. Answers [`Reply::Renamed`].
    Rename {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The directory and the name that goes.
        from: (InodeId, Name),
        /// The directory and the name that comes, in the same mount.
        to: (InodeId, Name),
        /// Refuse when the new name exists.
        no_replace: bool,
        /// The new name is no temporary one, but the old one was: what is [`Due::WhenRenamed`] there, or below, is due from now on.
        released: bool,
        /// The new name is one that the under store shows only after all that was changed before. Directories are so under any name.
        barrier: bool,
        /// What the under store has of what is replaced, and what is renamed has not the place of, is left to be deleted.
        later: bool,
        /// What is left besides.
        leaves: Vec<Left>,
        /// When the old directory is to get its marker, should this be the last entry in it; `None`: it has it, or needs none.
        marker: Option<Due>,
        /// When it was asked for.
        now: Timestamp,
    },
    /// A relocation has moved objects. Files that changed or went meanwhile are passed over. Answers [`Reply::Moved`].
    Moved {
        /// Which.
        relocation: u64,
        /// What was moved.
        files: Vec<MovedFile>,
    },
    /// All objects of a relocation are where the paths say. Its mask and its prefix go. Answers [`Reply::Done`].
    EndRelocation {
        /// Which; one that is not known is left alone, and so is that of a directory as long as one above it is relocated.
        relocation: u64,
    },
    /// Changes attributes. Answers [`Reply::Done`], or [`Refusal::Gone`].
    SetAttr {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The inode.
        inode: InodeId,
        /// What to change.
        change: AttrChange,
        /// When it was asked for.
        now: Timestamp,
    },
    /// Makes a symbolic link or a special file. Answers [`Reply::Inode`], or [`Refusal::Exists`].
    MakeUnstored {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The directory, in a mount.
        parent: InodeId,
        /// The name, which must be free.
        name: Name,
        /// Whose it is.
        owner: Owner,
        /// What it is.
        what: Unstored,
        /// When it was asked for.
        now: Timestamp,
    },
    /// Sets or removes an extended attribute. Answers [`Reply::Done`], or [`Refusal::Gone`].
    SetXattr {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The inode.
        inode: InodeId,
        /// What to change.
        change: XattrChange,
        /// When it was asked for.
        now: Timestamp,
    },
    /// Workers hold the next version of a file, which others see from now on; the under store has none of it. Answers [`Reply::Inode`], or
    /// [`Refusal::Gone`].
    CommitDirty {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The file: a [`Dirty`] of it that there is already is replaced, and keeps what may be in the under store of it.
        inode: InodeId,
        /// Bytes.
        size: u64,
        /// Last modification.
        mtime: Timestamp,
        /// Identity of its bytes: drawn.
        content: ContentId,
        /// Who has them.
        holders: Vec<WorkerId>,
        /// When they are to be persisted.
        due: Due,
        /// The under store shows it only after all that was changed before.
        barrier: bool,
        /// When the write was begun.
        now: Timestamp,
    },
    /// Objects, or markers of directories, are about to be put: from now on there may be one. What has another number by now is passed over, and
    /// so is what has another key already: that is where it is to be put. Answers [`Reply::Done`].
    BeginPersist {
        /// What, and where.
        files: Vec<PersistBegun>,
    },
    /// The under store has what was dirty. Where there is a newer content by now, that stays dirty, and replaces this. Answers
    /// [`Reply::Done`]; an inode that is gone is left alone.
    EndPersist {
        /// The file or directory.
        inode: InodeId,
        /// Which [`Dirty`] it was.
        number: u64,
        /// Where it is, relative to the mount's prefix. Not where the path says: it is to be relocated.
        key: Vec<u8>,
        /// Of a file; `None` of a directory.
        version: Option<Version>,
    },
    /// Dirty inodes become due, with a new number each. Those that are due already are left alone. Answers [`Reply::Done`].
    MakeDue {
        /// Which, and whether each is a barrier.
        inodes: Vec<(InodeId, bool)>,
        /// The number that they get: that of a [`Dirty::tree`] above them; `None`: the next.
        number: Option<u64>,
    },
    /// All below a [`Dirty::tree`] of that number was made due. Answers [`Reply::Done`].
    EndTree {
        /// The directory.
        inode: InodeId,
        /// Which it was.
        number: u64,
    },
    /// Forgets a dirty content that is not to be persisted after all, and with it the file: the next listing shows what the under store has.
    /// Answers [`Reply::Done`].
    DropDirty {
        /// The file.
        inode: InodeId,
        /// Which [`Dirty`] it was; another stays.
        number: u64,
    },
    /// The under store holds another version of a dirty file than the one that was changed, and it may be replaced; or another than the one that
    /// was removed, and it may be deleted. Answers [`Reply::Done`].
    Overwrite {
        /// The file.
        inode: InodeId,
        /// Which [`Dirty`] it is; another stays as it is.
        number: u64,
        /// The version that may be replaced; `None`: there is no object.
        version: Option<String>,
    },
    /// Objects in a mount's store that are, or are about to be, nobody's: copies that a relocation makes, and sources of copies. Whoever finds
    /// them again deletes them. Those that are files' are forgotten when that is journalled. Answers [`Reply::Done`].
    Leave {
        /// The mount.
        mount: MountId,
        /// Keys, relative to the mount's prefix, and the versions that may be deleted.
        objects: Vec<(Vec<u8>, String)>,
        /// Keys at which there is nothing of the kind any more.
        gone: Vec<Vec<u8>>,
    },
    /// Gives a file, symbolic link or special file a further name. Its object there is to be made. Answers [`Reply::Inode`], or
    /// [`Refusal::Exists`], [`Refusal::IsDirectory`], [`Refusal::CrossMount`], [`Refusal::Gone`] or [`Refusal::TooManyLinks`].
    Link {
        /// Makes a repetition harmless.
        request: RequestId,
        /// What gets the name.
        inode: InodeId,
        /// The directory, in the same mount.
        parent: InodeId,
        /// The name, which must be free.
        name: Name,
        /// When the under store is to get the object.
        due: Due,
        /// It shows the object only after all that was changed before.
        barrier: bool,
        /// When it was asked for.
        now: Timestamp,
    },
    /// Has two names of a mount lead to what the other leads to, as renameat2(2) says of `RENAME_EXCHANGE`; each is then as after a
    /// [`Command::Rename`]. Answers [`Reply::Renamed`] of what `one` led to.
    Exchange {
        /// Makes a repetition harmless.
        request: RequestId,
        /// A directory and a name.
        one: (InodeId, Name),
        /// Another name, in the same mount; neither leads to what the other lies below.
        other: (InodeId, Name),
        /// As of a rename, of what `one` leads to and of what `other` does.
        released: (bool, bool),
        /// As of a rename, of the same.
        barriers: (bool, bool),
        /// Objects that files which the under store has not yet were to replace: they are left to be deleted.
        leaves: Vec<Left>,
        /// When it was asked for.
        now: Timestamp,
    },
    /// Removes a directory with all that lies below, in one step. A [`crate::Relocation`] of it, which goes nowhere, is begun unless no under
    /// store has anything of it: what was known below is in [`crate::Snapshot::remains`] until that ends, or it was reaped. What is dirty there is given up.
    /// Answers [`Reply::Done`], or [`Refusal::Gone`], [`Refusal::NoDirectory`] or [`Refusal::Fixed`].
    RemoveTree {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The directory above.
        parent: InodeId,
        /// The name.
        name: Name,
        /// What the name must lead to.
        inode: InodeId,
        /// Objects that files below which the under store has not yet were to replace: they are left to be deleted.
        leaves: Vec<Left>,
        /// When the directory above is to get its marker, should this be the last entry in it; `None`: it has it, or needs none.
        marker: Option<Due>,
        /// When it was asked for.
        now: Timestamp,
    },
    /// Files below a directory that is being removed have no objects any more, or other versions than these, which are nobody's. Those that
    /// have other versions by now are passed over. Answers [`Reply::Done`].
    Reap {
        /// The directory.
        tree: InodeId,
        /// Files, and the versions that are gone.
        files: Vec<(InodeId, String)>,
    },
    /// What somebody else put where a relocation is to move a file's object may be replaced: the relocation goes on under its id, and knows it as
    /// [`crate::Relocation::replaced`], in place of what it knew of at that key. Answers [`Reply::Done`], also when there is no such relocation any more.
    Replace {
        /// The relocation.
        relocation: u64,
        /// Where it is, relative to the mount's prefix.
        key: Vec<u8>,
        /// The version that may be replaced; another stays.
        version: String,
    },
    /// A file whose object is to be moved gives way to what somebody else put where its path says: that is the file from now on, and its own object
    /// is nobody's. Nothing happens when the file is another version by now, dirty, or its object there already. Answers [`Reply::Done`].
    Yield {
        /// The file.
        inode: InodeId,
        /// The version of it that is given up.
        from: String,
        /// Where the path says, relative to the mount's prefix.
        key: Vec<u8>,
        /// What is there.
        version: Version,
    },
    /// As [`Command::SetAttr`], and sets the time of access.
    SetTimes {
        /// Makes a repetition harmless.
        request: RequestId,
        /// The inode.
        inode: InodeId,
        /// What else to change.
        change: AttrChange,
        /// Last access.
        atime: Timestamp,
        /// When it was asked for.
        now: Timestamp,
    },
    /// A client has a session, in which it may believe what it is told. A later one of the same id takes its place. Answers [`Reply::Done`].
    BeginSession {
        /// Its id: a random number, made by the proposer.
        id: u64,
        /// What is known of it.
        session: ClientSession,
    },
    /// Nothing that was told in these sessions is believed any more. Those that are not known are passed over. Answers [`Reply::Done`].
    EndSessions {
        /// Their ids.
        ids: Vec<u64>,
    },
}

/// What outlives a master of a client's session: the next one has to know who may still believe what it does not know that it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSession {
    /// What the client calls itself.
    pub client: String,
    /// How long it may believe what it is told, at most, in milliseconds.
    pub valid_ms: u64,
}

/// A namespace path bound to an under store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Given by the namespace, never reused.
    pub id: MountId,
    /// Where it appears.
    pub path: NsPath,
    /// The under store and the prefix in it, for example `s3://bucket/prefix`. Never with credentials.
    pub uri: String,
    /// Options of the driver; credentials only by name.
    pub options: std::collections::BTreeMap<String, String>,
    /// Refuses changes.
    pub read_only: bool,
    /// Bound in milliseconds on how long a change behind our back stays unseen; `None`: for ever.
    pub sync_interval_ms: Option<u64>,
    /// Owner that entries show.
    pub uid: u32,
    /// Group that entries show.
    pub gid: u32,
    /// Permission bits that files show.
    pub file_mode: u32,
    /// Permission bits that directories show.
    pub dir_mode: u32,
    /// How what is written is persisted.
    pub persistence: Persistence,
}

#[cfg(test)]
mod tests;
