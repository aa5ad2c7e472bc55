//! The guard of a mount: a process beside the daemon that ends the conversation with the kernel when the daemon is killed and
//! cannot end.
//!
//! To make the kernel doubt a name, a thread of the daemon waits in it for the name's directory, which whoever looks a name up there
//! holds until the daemon has answered him. Killed in that wait, the daemon can neither answer nor end: its device stays
//! open, and all who use the mount would hang for ever. So names are told to the kernel only while a guard watches: when
//! the daemon is dead it aborts the connection, upon which everybody is answered (`ECONNABORTED`) and the daemon can end.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::Errno,
    mount::UnmountFlags,
    process::Pid,
};

use crate::mount::is_mounted;

/// First argument of a guard's command line; the mount point and the device follow.
pub const GUARD_COMMAND: &str = "mount-guard";

/// What the guard says when it watches, and the daemon when it needs no guard any more.
const WORD: [u8; 1] = [b'.'];

/// How often a guard looks whether the daemon lives.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Where the kernel shows the connections of FUSE mounts, if that file system is mounted.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Watches over the mount at `mountpoint`, whose files have the device `major:minor`, from a process of its own: says so on the
/// standard output, and aborts the mount's connection when the parent of this process dies before it sends a word to the standard
/// input. Looks at the mount first, so that the kernel has its attributes. Blocks.
///
/// # Errors
/// This process may not abort the connection, or the standard output is closed.
pub fn guard_mount(mountpoint: &Path, device: &str) -> io::Result<()> {
    let daemon = rustix::process::getppid();
    // Nobody else can be told: whoever comes will see for himself.
    let _unanswered = rustix::fs::stat(mountpoint);
    let lever = Lever::find(mountpoint, device)?;
    let mut out = io::stdout();
    out.write_all(&WORD)?;
    out.flush()?;
    let mut leash = io::stdin();
    loop {
        match poll(&mut [PollFd::new(&leash, PollFlags::IN)], Some(&LOOK)) {
            Ok(0) if lives(daemon) => {}
            Ok(0) => return lever.pull(),
            // The end of the pipe is no word: the daemon is dying then.
            Ok(_) => return leash.read_exact(&mut [0; WORD.len()]).or_else(|_| lever.pull()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the parent, which was `daemon`, still is and is not about to end. A daemon that was killed while a thread of it waits in the
/// kernel is a zombie (proc(5)) with all its files open.
fn lives(daemon: Option<Pid>) -> bool {
    let parent = rustix::process::getppid();
    let Some(pid) = parent.filter(|_| parent == daemon) else { return false };
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // After the name, which may hold parentheses and spaces.
    state.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X'])))
}

/// A way to abort a connection.
#[derive(Debug)]
enum Lever {
    /// Its file in the kernel's table of connections, opened while it was this connection's for sure.
    Abort(File),
    /// A forced unmount, which aborts before it looks whether the mount is in use. Only for root.
    Force { mountpoint: PathBuf, device: String },
}

impl Lever {
    fn find(mountpoint: &Path, device: &str) -> io::Result<Self> {
        let minor = device.split_once(':').map_or(device, |(_, minor)| minor);
        match File::options().write(true).open(format!("{CONNECTIONS}/{minor}/abort")) {
            Ok(file) => Ok(Self::Abort(file)),
            Err(_) if rustix::process::geteuid().is_root() => {
                Ok(Self::Force { mountpoint: mountpoint.to_owned(), device: device.to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    fn pull(self) -> io::Result<()> {
        match self {
            Self::Abort(mut file) => file.write_all(b"1"),
            Self::Force { mountpoint, device } => {
                // Held, the mount is in use and stays: what was a mount must not turn into an empty directory.
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let _held: OwnedFd = rustix::fs::open(&mountpoint, flags, Mode::empty())?;
                if !is_mounted(&mountpoint, &device)? {
                    return Ok(());
                }
                match rustix::mount::unmount(&mountpoint, UnmountFlags::FORCE | UnmountFlags::NOFOLLOW) {
                    Ok(()) | Err(Errno::BUSY) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

/// How to start a guard.
#[derive(Clone, Debug)]
pub(crate) struct GuardCommand {
    pub(crate) program: PathBuf,
    pub(crate) mountpoint: PathBuf,
    pub(crate) device: String,
}

/// A guard that watches this process. Dropped, it is dismissed and waited for.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    leash: Option<ChildStdin>,
}

impl Guard {
    /// Starts a guard and waits until it watches. Blocks.
    ///
    /// # Errors
    /// The program cannot be started, or may not guard.
    pub(crate) fn start(command: &GuardCommand) -> io::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut child = Command::new(&command.program)
            // What lists of processes show.
            .arg0("headpond")
            .arg(GUARD_COMMAND)
            .arg(&command.mountpoint)
            .arg(&command.device)
            .env_clear()
            .current_dir("/")
            // An interrupt from the terminal is the daemon's to handle.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (leash, said) = (child.stdin.take(), child.stdout.take());
        let guard = Self { child, leash };
        let mut said = said.ok_or(io::ErrorKind::BrokenPipe)?;
        said.read_exact(&mut [0; WORD.len()])?;
        Ok(guard)
    }

    /// Whether it still watches.
    pub(crate) fn watches(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut leash) = self.leash.take() {
            // It may have been killed.
            drop(leash.write_all(&WORD));
        }
        drop(self.child.wait());
    }
}
