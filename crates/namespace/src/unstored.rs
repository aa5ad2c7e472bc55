//! What no under store can hold: symbolic links and special files. The namespace alone has them.

use headpond_types::FileKind;
use serde::{Deserialize, Serialize};

use crate::codec::{Reader, put_counted, put_varint};

const SYMLINK: u8 = 1;
const FIFO: u8 = 2;
const SOCKET: u8 = 3;
const CHAR_DEVICE: u8 = 4;
const BLOCK_DEVICE: u8 = 5;

/// Something that no under store can hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unstored {
    /// A symbolic link, with its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device of this number.
    CharDevice(u32),
    /// A block device of this number.
    BlockDevice(u32),
}

impl Unstored {
    /// What `stat` says that it is.
    #[must_use]
    pub const fn kind(&self) -> FileKind {
        match self {
            Self::Symlink(_) => FileKind::Symlink,
            Self::Fifo => FileKind::Fifo,
            Self::Socket => FileKind::Socket,
            Self::CharDevice(number) => FileKind::CharDevice(*number),
            Self::BlockDevice(number) => FileKind::BlockDevice(*number),
        }
    }

    /// What `stat` says that its size is.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match self {
            Self::Symlink(target) => target.len() as u64,
            Self::Fifo | Self::Socket | Self::CharDevice(_) | Self::BlockDevice(_) => 0,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let tag = match self {
            Self::Symlink(_) => SYMLINK,
            Self::Fifo => FIFO,
            Self::Socket => SOCKET,
            Self::CharDevice(_) => CHAR_DEVICE,
            Self::BlockDevice(_) => BLOCK_DEVICE,
        };
        out.push(tag);
        match self {
            Self::Symlink(target) => put_counted(out, target),
            Self::CharDevice(number) | Self::BlockDevice(number) => put_varint(out, (*number).into()),
            Self::Fifo | Self::Socket => {}
        }
    }

    /// `None` when the bytes are not what this release writes.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let tag = reader.byte()?;
        let mut number = || u32::try_from(reader.varint()?).ok();
        Some(match tag {
            CHAR_DEVICE => Self::CharDevice(number()?),
            BLOCK_DEVICE => Self::BlockDevice(number()?),
            SYMLINK => Self::Symlink(reader.counted()?.to_vec()),
            FIFO => Self::Fifo,
            SOCKET => Self::Socket,
            _ => return None,
        })
    }
}
