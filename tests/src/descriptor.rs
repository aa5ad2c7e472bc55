//! Calls of which the standard library swallows or hides what they answer.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{IntoRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// Closes a descriptor and answers what close(2) does: a file that is written through a mount reports there that it could not be
/// stored, and dropping it would not say so.
///
/// # Errors
/// What close(2) says. The descriptor is closed all the same.
pub fn close(descriptor: impl Into<OwnedFd>) -> io::Result<()> {
    let raw = descriptor.into().into_raw_fd();
    // SAFETY: the descriptor was owned, and nobody else has its number now.
    #[expect(unsafe_code, reason = "no safe call closes a descriptor and answers the error")]
    let answer = unsafe { libc::close(raw) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// truncate(2): sets the length of a file that is not open.
///
/// # Errors
/// What truncate(2) says.
pub fn truncate(path: &Path, length: i64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a string that ends in zero and lives across the call.
    #[expect(unsafe_code, reason = "no safe call truncates by path")]
    let answer = unsafe { libc::truncate(path.as_ptr(), length) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Writes a file as a program does that looks at every answer: make or empty it, write, close.
///
/// # Errors
/// What any of the calls says, close(2) too.
pub fn write_and_close(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    close(file)
}

/// Adds bytes at the end of a file that is there, and closes it.
///
/// # Errors
/// As of [`write_and_close`].
pub fn append_and_close(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut file = File::options().append(true).open(path)?;
    file.write_all(bytes)?;
    close(file)
}
