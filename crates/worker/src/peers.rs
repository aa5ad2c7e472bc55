//! Reads from other workers.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use headpond_proto::{
    MAX_MESSAGE, status,
    v1::{self, worker_service_client::WorkerServiceClient},
};
use headpond_transport::{Link, Transport};
use headpond_types::{ByteRange, Error, ErrorKind, Member, Result};
use tokio::time::Instant;
use tonic::transport::Endpoint;

use crate::{config::Deadlines, grants::Grant};

/// How long a peer that could not be reached is not asked again.
const SHUNNED: Duration = Duration::from_secs(3);

/// HTTP/2 windows: what may be under way to us unread, per stream and per connection.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// Largest HTTP/2 frame that we take.
const FRAME: u32 = 1 << 20;

/// Pause between two HTTP/2 pings while calls are open; an answer is due within the deadline of a connection. They tell a
/// dead peer from one whose under store is slow.
const PING: Duration = Duration::from_secs(3);

/// A connection to a peer, or the time until which it is shunned.
#[derive(Debug)]
enum Peer {
    Connected(Link),
    Shunned(Instant),
}

/// Connections to other workers, made when first needed.
#[derive(Debug)]
pub(crate) struct Peers {
    by_address: Mutex<HashMap<String, Peer>>,
    transport: Transport,
    deadlines: Deadlines,
}

impl Peers {
    /// No connections yet.
    pub(crate) fn new(transport: Transport, deadlines: Deadlines) -> Self {
        Self { by_address: Mutex::default(), transport, deadlines }
    }

    /// The bytes `range` of the content of `grant` from `member`, the owner of the block, which fetches what it lacks. Each part is
    /// awaited under the deadline of peers.
    ///
    /// # Errors
    /// What the peer answered, or `Unavailable`; also as the last item of the stream.
    pub(crate) async fn read(
        &self,
        member: &Member,
        grant: &Grant,
        range: ByteRange,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.read_as(v1::Origin::Peer, self.deadlines.peer, &member.address, grant, range).await
    }

    /// The same from a worker at `address` that holds what no store has.
    ///
    /// # Errors
    /// As of [`Peers::read`]; `NotFound` when it does not hold it any more.
    pub(crate) async fn read_from(
        &self,
        address: &str,
        grant: &Grant,
        range: ByteRange,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.read_as(v1::Origin::Peer, self.deadlines.peer, address, grant, range).await
    }

    /// What `member`, which owned the block before, has of it from the start of `range` on. Each part is awaited under the deadline of a
    /// connection: nothing but a disk stands between the question and the answer.
    ///
    /// # Errors
    /// `NotFound` when it has no more, else as of [`Peers::read`].
    pub(crate) async fn read_cached(
        &self,
        member: &Member,
        grant: &Grant,
        range: ByteRange,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.read_as(v1::Origin::Heir, self.deadlines.connect, &member.address, grant, range).await
    }

    async fn read_as(
        &self,
        origin: v1::Origin,
        deadline: Duration,
        address: &str,
        grant: &Grant,
        range: ByteRange,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let link = self.link(address)?;
        let what = format!("read from the worker at {address}");
        let request = v1::ReadRequest {
            grant: Some(grant.signed.clone()),
            ranges: vec![range.clone().into()],
            origin: origin.into(),
            readahead: None,
        };
        let mut client = WorkerServiceClient::new(link).max_decoding_message_size(MAX_MESSAGE);
        let answer = tokio::time::timeout(deadline, client.read(request)).await;
        let stream = match answer {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                let error = status::to_error(&status, &what);
                if error.kind() == ErrorKind::Unavailable {
                    self.shun(address);
                }
                return Err(error);
            }
            Err(_) => {
                self.shun(address);
                return Err(late(&what));
            }
        };
        let parts = futures::stream::try_unfold((stream, range.start), move |(mut stream, at)| {
            let what = what.clone();
            async move {
                let Ok(part) = tokio::time::timeout(deadline, stream.message()).await else { return Err(late(&what)) };
                let Some(v1::ReadResponse { offset, data }) =
                    part.map_err(|status| status::to_error(&status, &what))?
                else {
                    return Ok(None);
                };
                if offset != at {
                    return Err(Error::new(ErrorKind::Unavailable, format!("{what}: bytes out of order")));
                }
                let next = at.saturating_add(data.len() as u64);
                Ok(Some((data, (stream, next))))
            }
        });
        Ok(parts.boxed())
    }

    /// A connection to the worker at `address`, made when it is first used.
    ///
    /// # Errors
    /// `Unavailable` when it could not be reached a moment ago.
    pub(crate) fn link(&self, address: &str) -> Result<Link> {
        let mut peers = self.by_address.lock().expect("no panic while held");
        match peers.get(address) {
            Some(Peer::Connected(link)) => return Ok(link.clone()),
            Some(Peer::Shunned(until)) if Instant::now() < *until => {
                let message = format!("worker at {address} could not be reached a moment ago");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            _ => {}
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("{address:?} is not the address of a worker")).with_source(error)
        })?;
        let endpoint = endpoint
            .connect_timeout(self.deadlines.connect)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(self.deadlines.connect);
        let link = self.transport.link(&endpoint);
        peers.insert(address.to_owned(), Peer::Connected(link.clone()));
        Ok(link)
    }

    fn shun(&self, address: &str) {
        let until = Instant::now() + SHUNNED;
        self.by_address.lock().expect("no panic while held").insert(address.to_owned(), Peer::Shunned(until));
    }
}

fn late(what: &str) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, format!("{what}: no bytes within the deadline"))
}
