//! Pages of a file that the kernel must not give up.

use std::{fs::File, os::fd::AsRawFd as _, ptr};

use anyhow::{Result, ensure};

/// The first bytes of a file, mapped and locked in memory until dropped.
#[derive(Debug)]
pub struct Pinned {
    address: *mut libc::c_void,
    length: usize,
}

impl Pinned {
    /// Reads `length` bytes of `file` into the kernel's page cache, and keeps them there.
    ///
    /// # Errors
    /// They cannot be read, or this user may not lock so many.
    pub fn new(file: &File, length: usize) -> Result<Self> {
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory of ours.
        #[expect(unsafe_code, reason = "nothing else keeps pages in the page cache")]
        let address =
            unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        ensure!(address != libc::MAP_FAILED, "cannot map: {}", std::io::Error::last_os_error());
        let pinned = Self { address, length };
        // SAFETY: the range is the mapping just made; locking changes none of its bytes.
        #[expect(unsafe_code, reason = "nothing else keeps pages in the page cache")]
        let locked = unsafe { libc::mlock(pinned.address, pinned.length) };
        ensure!(locked == 0, "cannot lock {length} bytes: {}", std::io::Error::last_os_error());
        Ok(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the range is a mapping of ours that nothing refers to any more.
        #[expect(unsafe_code, reason = "the counterpart of mmap")]
        let _unmapped = unsafe { libc::munmap(self.address, self.length) };
    }
}
