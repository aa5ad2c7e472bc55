//! Memory for the parts of one upload, used again and again: what the system gives anew has to be cleared first, which can cost more than reading the
//! bytes into it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers that are free. There are as many as were ever lent at once; they go with the upload and what is left of its requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// Bytes whose memory goes back.
struct Lent {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// The bytes in a buffer, which is free again when the last reference to them goes.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { bytes, home: self.clone() })
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_nobody_has_the_bytes() {
        let buffers = Buffers::default();
        let first = buffers.lend(vec![7; 4096]);
        let (place, part) = (first.as_ptr(), first.slice(1..3));
        drop(first);
        assert_eq!((buffers.take().capacity(), &part[..]), (0, [7, 7].as_slice()));
        drop(part);
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() >= 4096 && again.as_ptr() == place);
    }
}
