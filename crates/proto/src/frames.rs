//! Frames of a worker's unix socket: a little-endian `u32` length, then that many bytes of one message.
//!
//! A frame may carry one descriptor, as `SCM_RIGHTS` ancillary data with its first byte (unix(7)). The kernel delivers a
//! descriptor no later than the bytes that it was sent with, and in their order; so descriptors queue up beside the bytes, and
//! who receives a message that comes with one takes the next from the queue.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use bytes::{Buf, BytesMut};
use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::{io::Interest, net::UnixStream};

/// Largest frame either side accepts, in bytes. Data never crosses the socket, only questions and answers do.
pub const MAX_FRAME: usize = 1 << 20;

/// Bytes asked from the socket at once.
const CHUNK: usize = 16 << 10;

/// Room for descriptors in one receive. The kernel ends a receive behind the bytes that came with descriptors, so one would do.
const MAX_DESCRIPTORS: usize = 4;

/// Reads frames from a socket.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
    descriptors: VecDeque<OwnedFd>,
}

impl FrameReader {
    /// A reader with nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next message; `None` when the peer has closed the socket between two frames. Cancel-safe.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` when it was closed within a frame; `InvalidData` for a frame that is longer than
    /// [`MAX_FRAME`] or no such message. The socket is of no use after an error.
    pub async fn receive<M: Message + Default>(&mut self, socket: &UnixStream) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.take_frame()? {
                return Ok(Some(message));
            }
            if socket.async_io(Interest::READABLE, || self.fill(socket)).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The descriptor that came with the oldest frame whose descriptor was not taken. To be called for every received
    /// message that carries one, and for no other.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn take_frame<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is too long")));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let frame = self.buffer.split_to(length);
        // From a slice, so that fields are copied: a message that is kept would hold all of the buffer that it came in.
        M::decode(&frame[..]).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Receives once without waiting; 0 at the end of the stream.
    fn fill(&mut self, socket: &UnixStream) -> io::Result<usize> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let received = receive_once(socket, &mut self.buffer[filled..], &mut self.descriptors);
        self.buffer.truncate(filled + received.as_ref().map_or(0, |received| *received));
        received
    }
}

fn receive_once(socket: &UnixStream, room: &mut [u8], descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket.as_fd(), &mut [IoSliceMut::new(room)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a frame came with a descriptor that could not be received",
        ));
    }
    Ok(received.bytes)
}

/// Sends one message, with `descriptor` if there is one. Waits while the peer's buffer is full. Not cancel-safe: when dropped
/// before its end, the socket must be closed. One caller at a time per socket.
///
/// # Errors
/// Those of the socket, which is of no use afterwards; `InvalidInput` for a message longer than [`MAX_FRAME`], which
/// was not sent.
pub async fn send(socket: &UnixStream, message: &impl Message, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let length = message.encoded_len();
    let head = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
    let Some(head) = head else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a message of {length} bytes is too long")));
    };
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&head.to_le_bytes());
    message.encode(&mut frame).map_err(io::Error::other)?;

    let mut sent = 0;
    while sent < frame.len() {
        let descriptor = descriptor.filter(|_| sent == 0);
        sent += socket.async_io(Interest::WRITABLE, || send_once(socket, &frame[sent..], descriptor)).await?;
    }
    Ok(())
}

fn send_once(socket: &UnixStream, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let rights = descriptor.as_slice();
    if !rights.is_empty() {
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(rights));
        debug_assert!(fits, "the space was made for one descriptor");
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut ancillary, flags)?)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
    };

    use super::*;
    use crate::v1::{
        LendRequest, LocalFailure, LocalRequest, LocalResponse, SignedGrant, local_request::Request,
        local_response::Response,
    };

    fn response(id: u64, text: usize) -> LocalResponse {
        let failure = LocalFailure { kind: "internal".to_owned(), message: "x".repeat(text) };
        LocalResponse { id, response: Some(Response::Failure(failure)) }
    }

    #[tokio::test]
    async fn messages_and_descriptors_arrive_in_order() {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        let (mut reading, mut writing) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (read, write) = io::pipe().expect("a pipe");
            reading.push(read);
            writing.push(write);
        }
        // Longer than a socket buffer, so that frames are cut and merged.
        let sender = async {
            for id in 0..60_u64 {
                let carried = id.is_multiple_of(20).then(|| reading[usize::try_from(id / 20).expect("small")].as_fd());
                send(&near, &response(id, usize::try_from(id).expect("small") * 1000), carried).await.expect("sent");
            }
        };
        let receiver = async {
            let mut reader = FrameReader::new();
            let mut received = Vec::new();
            for id in 0..60_u64 {
                let message: LocalResponse = reader.receive(&far).await.expect("a frame").expect("no end yet");
                assert_eq!(message, response(id, usize::try_from(id).expect("small") * 1000));
                if id.is_multiple_of(20) {
                    received.push(reader.take_descriptor().expect("it carries a descriptor"));
                }
            }
            assert!(reader.take_descriptor().is_none());
            received
        };
        let ((), received) = tokio::join!(sender, receiver);
        for (mut write, read) in writing.into_iter().zip(received) {
            let flags = rustix::io::fcntl_getfd(&read).expect("flags");
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            write.write_all(b"hello").expect("written");
            let mut text = [0; 5];
            File::from(read).read_exact(&mut text).expect("the same pipe");
            assert_eq!(&text, b"hello");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_kept_holds_nothing_but_itself() {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        let signed = SignedGrant { grant: vec![1; 90].into(), signature: vec![2; 64].into() };
        let lend = LendRequest { grant: Some(signed), ..LendRequest::default() };
        let request = LocalRequest { id: 1, request: Some(Request::Lend(lend)) };
        send(&near, &request, None).await.expect("sent");
        let mut reader = FrameReader::new();
        let received: LocalRequest = reader.receive(&far).await.expect("a frame").expect("no end yet");
        let Some(Request::Lend(LendRequest { grant: Some(kept), .. })) = received.request else {
            panic!("what was sent")
        };
        assert!(kept.grant.is_unique() && kept.signature.is_unique());
    }

    #[tokio::test]
    async fn a_closed_socket_ends_between_frames_and_fails_within_one() {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        send(&near, &response(1, 10), None).await.expect("sent");
        drop(near);
        let mut reader = FrameReader::new();
        assert!(reader.receive::<LocalResponse>(&far).await.expect("whole").is_some());
        assert!(reader.receive::<LocalResponse>(&far).await.expect("end").is_none());

        let (near, far) = UnixStream::pair().expect("a socket pair");
        near.writable().await.expect("writable");
        near.try_write(&[9, 0, 0]).expect("written");
        drop(near);
        let error = FrameReader::new().receive::<LocalResponse>(&far).await.expect_err("cut");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn frames_beyond_the_limit_are_refused_on_both_sides() {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        let error = send(&near, &response(1, MAX_FRAME), None).await.expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        near.try_write(&u32::MAX.to_le_bytes()).expect("written");
        let error = FrameReader::new().receive::<LocalResponse>(&far).await.expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
