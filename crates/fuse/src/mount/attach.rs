//! Mounting: directly where this process may, else through the setuid `fusermount3`.

use std::{
    ffi::CString,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use headpond_types::{Error, ErrorKind, Result};
use rustix::{
    io::Errno,
    mount::MountFlags,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use tracing::debug;

use super::{DEVICE, SUBTYPE, detach, detach::HELPER, mountpoint::Mountpoint, open_device, table};
use crate::guard::GuardCommand;

/// Name of the variable that tells the helper which descriptor leads to us.
const HELPER_SOCKET: &str = "_FUSE_COMMFD";

/// What helps a root who may not mount.
const CONTAINER: &str =
    "mounting is not allowed in this container: start it with `--cap-add SYS_ADMIN --device /dev/fuse`";

/// A mount in the tree: what was mounted over it or took its place since is left alone. It is known by path and device as
/// long as it lives; the kernel gives the device's number to another mount once it has ended.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    mountpoint: Mountpoint,
    device: String,
    ended: Arc<AtomicBool>,
}

impl Attachment {
    pub(crate) fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    /// How to start a guard of it.
    pub(crate) fn guard(&self, program: PathBuf) -> GuardCommand {
        GuardCommand { program, mountpoint: self.path().to_owned(), device: self.device.clone() }
    }

    /// The kernel has ended the conversation: the mount is gone.
    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Whether it is still the uppermost mount at its path.
    fn is_attached(&self) -> bool {
        !self.ended.load(Ordering::SeqCst) && table::is_mounted(self.path(), &self.device).unwrap_or(false)
    }

    /// Unmounts it unless it is in use; fine if it is gone already. Blocks.
    ///
    /// # Errors
    /// `ResourceBusy` when it is in use.
    pub(crate) fn unmount(&self) -> io::Result<()> {
        if self.is_attached() { detach::unmount(self.path()) } else { Ok(()) }
    }

    /// Takes it out of the tree, in use or not; fine if it is gone already.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn detach(&self) -> io::Result<()> {
        if self.is_attached() { detach::detach(self.path()) } else { Ok(()) }
    }

    /// Sets the kernel's readahead, which only root may.
    pub(crate) fn set_read_ahead(&self, bytes: u64) {
        let setting = format!("/sys/class/bdi/{}/read_ahead_kb", self.device);
        if let Err(error) = std::fs::write(&setting, (bytes >> 10).to_string()) {
            debug!(setting, %error, "the kernel's readahead stays as it is");
        }
    }
}

/// What the kernel is told of a mount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Other users may use it.
    pub(crate) allow_other: bool,
    /// It takes no changes.
    pub(crate) read_only: bool,
}

/// Mounts at `mountpoint` and answers the device to speak to the kernel through. Blocks.
///
/// # Errors
/// `NotSupported` when this machine or user cannot mount at all, with what is missing; `PermissionDenied` when the mount
/// point or `allow_other` is not this user's to use.
pub(crate) fn attach(mountpoint: Mountpoint, label: &str, options: Options) -> Result<(OwnedFd, Attachment)> {
    let source = source_name(label);
    let device = match direct(mountpoint.path(), &source, options)? {
        Some(device) => device,
        None => through_helper(mountpoint.path(), &source, options)?,
    };
    let number = match mountpoint.device() {
        Ok(number) => number,
        Err(error) => {
            // It could not be recognised later, so it must not stay.
            drop(detach::detach(mountpoint.path()));
            return Err(error);
        }
    };
    Ok((device, Attachment { mountpoint, device: number, ended: Arc::default() }))
}

/// Whether this process may let other users in.
pub(crate) fn may_allow_other() -> bool {
    rustix::process::geteuid().is_root()
        || std::fs::read_to_string("/etc/fuse.conf")
            .is_ok_and(|conf| conf.lines().any(|line| line.trim() == "user_allow_other"))
}

/// `headpond:label` without what would end an option or a field of the mount table.
fn source_name(label: &str) -> String {
    let mut name = format!("{SUBTYPE}:");
    for part in label.chars() {
        match part {
            ',' | '\\' | '%' => name.push_str(&format!("%{:02X}", u32::from(part))),
            _ if part.is_control() || part.is_whitespace() => name.push('_'),
            _ => name.push(part),
        }
    }
    name
}

/// mount(2). `None`: not allowed, try the helper.
fn direct(path: &Path, source: &str, options: Options) -> Result<Option<OwnedFd>> {
    let device = match open_device() {
        Ok(device) => device,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = "load the module with `modprobe fuse`, or start the container with `--device /dev/fuse`";
            return Err(unsupported(format!("{DEVICE} is missing: {remedy}"), error));
        }
        Err(error) if !rustix::process::geteuid().is_root() => {
            // The helper opens it as this user as well.
            return Err(unsupported(format!("{DEVICE} cannot be opened by this user: `chmod 666 {DEVICE}`"), error));
        }
        Err(error) => {
            let remedy = "start the container with `--device /dev/fuse`";
            return Err(unsupported(format!("{DEVICE} cannot be opened: {remedy}"), error));
        }
    };
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut data =
        format!("fd={},rootmode=40000,user_id={user},group_id={group},default_permissions", device.as_raw_fd());
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    flags.set(MountFlags::RDONLY, options.read_only);
    match rustix::mount::mount(source, path, format!("fuse.{SUBTYPE}"), flags, data.as_c_str()) {
        Ok(()) => Ok(Some(device)),
        Err(Errno::PERM) => Ok(None),
        Err(error @ Errno::NODEV) => {
            Err(unsupported("this kernel has no FUSE: load the module with `modprobe fuse`".to_owned(), error.into()))
        }
        Err(error @ Errno::INVAL) => {
            let message =
                format!("{DEVICE} is not the FUSE device of this kernel: start the container with `--device {DEVICE}`");
            Err(unsupported(message, error.into()))
        }
        // The mount point has been looked at: what is left is about FUSE.
        Err(error) => Err(unsupported(
            format!("the kernel refuses to mount a FUSE file system at {}", path.display()),
            error.into(),
        )),
    }
}

/// `fusermount3`, which mounts as root and hands the device over a socket.
fn through_helper(path: &Path, source: &str, options: Options) -> Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()
        .map_err(|error| Error::new(ErrorKind::ResourceExhausted, "no socket for fusermount3").with_source(error))?;
    let mode = if options.read_only { "ro" } else { "rw" };
    let mut given = format!("{mode},nosuid,nodev,noatime,default_permissions,fsname={source},subtype={SUBTYPE}");
    if options.allow_other {
        given.push_str(",allow_other");
    }
    let child = Command::new(HELPER)
        .args(["-o", &given, "--"])
        .arg(path)
        .env(HELPER_SOCKET, "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            let message = if rustix::process::geteuid().is_root() {
                CONTAINER
            } else {
                "mounting as an ordinary user needs fusermount3: `apt install fuse3`"
            };
            unsupported(message.to_owned(), error)
        })?;
    let received = receive_device(&ours);
    let output = child
        .wait_with_output()
        .map_err(|error| Error::new(ErrorKind::Internal, "fusermount3 was lost").with_source(error))?;
    if let (Ok(device), true) = (received, output.status.success()) {
        return Ok(device);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(helper_refused(path, &said))
}

fn helper_refused(path: &Path, said: &str) -> Error {
    let at = path.display();
    if said.contains("user_allow_other") {
        return Error::new(
            ErrorKind::PermissionDenied,
            "other users may only be let in when /etc/fuse.conf says user_allow_other: add that line, or leave allow_other away",
        );
    }
    if said.contains("no write access") || said.contains("not owned") {
        return Error::new(
            ErrorKind::PermissionDenied,
            format!("mount point {at} is not this user's: name a directory of your own ({said})"),
        );
    }
    let remedy = if rustix::process::geteuid().is_root() { format!("; {CONTAINER}") } else { String::new() };
    Error::new(ErrorKind::NotSupported, format!("fusermount3 cannot mount at {at}: {said}{remedy}"))
}

/// The one descriptor that the helper sends.
fn receive_device(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(device) = descriptors.next()
        {
            return Ok(device);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn unsupported(message: String, error: io::Error) -> Error {
    Error::new(ErrorKind::NotSupported, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_inject_mount_options() {
        assert_eq!(source_name("s3://b/a,rw\\ x\n"), "headpond:s3://b/a%2Crw%5C_x_");
    }

    #[test]
    fn refusals_of_the_helper_say_what_to_do() {
        let path = Path::new("/mnt/x");
        let other =
            helper_refused(path, "option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf");
        assert_eq!(other.kind(), ErrorKind::PermissionDenied);
        let foreign = helper_refused(path, "user has no write access to mountpoint /mnt/x");
        assert_eq!(foreign.kind(), ErrorKind::PermissionDenied);
        assert_eq!(helper_refused(path, "fuse device not found").kind(), ErrorKind::NotSupported);
    }
}
