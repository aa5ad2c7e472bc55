//! Steps on open files.

use std::io::{IoSlice, IoSliceMut};

use rustix::fs::{Advice, AtFlags, FallocateFlags, Mode as Bits, SeekFrom, XattrFlags};

use super::{
    super::{
        calls::{Answer, accessed, done, number, times},
        outcome::Outcome,
        step::{Data, Room, Step, XATTRS},
    },
    Actor,
};

impl Actor {
    /// Steps on an open file.
    pub(super) fn answer_open(&mut self, step: &Step) -> Answer {
        let Some(slot) = step.slots().first().copied() else { unreachable!("{step:?} is none of an open file") };
        let file = self.held(slot)?;
        match step {
            Step::ReadAt(_, at, length) => self.read_at(&file, *at, *length),
            Step::ReadOn(_, length) => {
                let mut buffer = vec![0; *length];
                let got = self.call(|| rustix::io::read(&file, &mut buffer[..]))?;
                buffer.truncate(got);
                Ok(Outcome::Bytes(buffer))
            }
            Step::ReadToEnd(_) => self.read_to_end(&file),
            Step::ReadVector(_, at, lengths) => {
                let mut parts = lengths.map(|length| vec![0; length]);
                let [first, second] = &mut parts;
                let got = self
                    .call(|| rustix::io::preadv(&file, &mut [IoSliceMut::new(first), IoSliceMut::new(second)], *at))?;
                let mut bytes = parts.concat();
                bytes.truncate(got);
                Ok(Outcome::Bytes(bytes))
            }
            Step::WriteAt(_, at, data) => {
                let bytes = data.bytes();
                self.call(|| rustix::io::pwrite(&file, &bytes, *at)).map(number)
            }
            Step::WriteOn(_, data) => {
                let bytes = data.bytes();
                self.call(|| rustix::io::write(&file, &bytes)).map(number)
            }
            Step::WriteVector(_, at, parts) => {
                let [first, second] = parts.map(Data::bytes);
                let slices = [IoSlice::new(&first), IoSlice::new(&second)];
                self.call(|| rustix::io::pwritev(&file, &slices, *at)).map(number)
            }
            Step::SeekStart(_, at) => rustix::fs::seek(&file, SeekFrom::Start(*at)).map(Outcome::Number),
            Step::SeekEnd(_, by) => self.call(|| rustix::fs::seek(&file, SeekFrom::End(*by))).map(Outcome::Number),
            Step::SeekOn(_, by) => rustix::fs::seek(&file, SeekFrom::Current(*by)).map(Outcome::Number),
            Step::FTruncate(_, length) => done(self.call(|| rustix::fs::ftruncate(&file, *length))),
            Step::Allocate(_, room, at, length) => {
                let flags = match room {
                    Room::Plain => FallocateFlags::empty(),
                    Room::KeepSize => FallocateFlags::KEEP_SIZE,
                    Room::PunchHole => FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE,
                };
                done(self.call(|| rustix::fs::fallocate(&file, flags, *at, *length)))
            }
            Step::FSetXattr(_, name, value) => {
                let value = value.bytes();
                done(self.call(|| rustix::fs::fsetxattr(&file, XATTRS[*name], &value, XattrFlags::empty())))
            }
            Step::FGetXattr(_, name) => {
                let mut value = vec![0; 4096];
                let got = self.call(|| rustix::fs::fgetxattr(&file, XATTRS[*name], &mut value[..]))?;
                value.truncate(got);
                Ok(Outcome::Bytes(value))
            }
            Step::Fsync(_) => done(self.call(|| rustix::fs::fsync(&file))),
            Step::Fdatasync(_) => done(self.call(|| rustix::fs::fdatasync(&file))),
            Step::FStat(_) => {
                let stat = self.call(|| rustix::fs::fstat(&file))?;
                Ok(Outcome::Attributes(self.began.attributes(&stat)))
            }
            Step::FChmod(_, mode) => done(self.call(|| rustix::fs::fchmod(&file, Bits::from_raw_mode(*mode)))),
            Step::FSetTimes(_, seconds, nanoseconds) => {
                self.call(|| rustix::fs::futimens(&file, &times(*seconds, *nanoseconds)))?;
                Ok(accessed(&self.call(|| rustix::fs::fstat(&file))?))
            }
            Step::Forget(_) => done(rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)),
            Step::IsSame(_, path) => {
                let (root, flags) = (self.root()?, AtFlags::SYMLINK_NOFOLLOW);
                let there = self.call(|| rustix::fs::statat(&root, path.as_str(), flags))?;
                let here = self.call(|| rustix::fs::fstat(&file))?;
                Ok(Outcome::Number(u64::from(here.st_ino == there.st_ino)))
            }
            other => unreachable!("{other:?} is none of an open file"),
        }
    }
}
