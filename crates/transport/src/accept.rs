//! The connections that a server takes.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use headpond_runtime::Tasks;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpIncoming};

use crate::{Peer, Role, RoleError, refusals::Refusals, transport::Tls};

/// How long a client may take to show its certificate, and to hear why it was refused.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes under way at most; whoever comes meanwhile waits in the listener's queue.
const HANDSHAKES: usize = 256;

/// Connections that wait for the server to take them.
const WAITING: usize = 16;

/// Pause after the system gave no connection, as when the process is out of descriptors.
const OUT: Duration = Duration::from_millis(100);

/// First byte of a client that speaks HTTP/2 in plaintext: of its preface (RFC 9113, 3.4).
const PREFACE: u8 = b'P';

/// What it is told: empty settings, then GOAWAY with INADEQUATE_SECURITY (RFC 9113, 7) and what to do.
const INADEQUATE_SECURITY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x1b\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0cTLS only: set [tls]";

/// Connections, for `serve_with_incoming_shutdown`.
pub struct Incoming(BoxStream<'static, io::Result<Connection>>);

/// A connection whose other end is known as far as it will be.
#[derive(Debug)]
pub struct Connection {
    stream: Wire,
    peer: Peer,
}

#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What handshakes need.
struct Door {
    what: &'static str,
    tls: Arc<Tls>,
    refusals: Refusals,
    taken: mpsc::Sender<io::Result<Connection>>,
}

impl Incoming {
    pub(crate) fn plaintext(what: &'static str, listener: TcpListener) -> Self {
        if let Ok(address) = listener.local_addr()
            && !address.ip().is_loopback()
        {
            tracing::warn!(
                "{what} serves {address} in plaintext: whoever reaches it may do everything and say to be anybody, set [tls] to change that"
            );
        }
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let plain = |stream| Connection { stream: Wire::Plain(stream), peer: Peer::Anyone };
        Self(incoming.map(move |taken| taken.map(plain)).boxed())
    }

    pub(crate) fn tls(what: &'static str, listener: TcpListener, tls: Arc<Tls>, tasks: &Tasks) -> Self {
        let (taken, incoming) = mpsc::channel(WAITING);
        let door = Arc::new(Door { what, tls, refusals: Refusals::default(), taken });
        let handshakes = tasks.clone();
        tasks.spawn_until_shutdown(async move {
            tokio::select! {
                () = door.taken.closed() => {}
                () = accept(&listener, &door, &handshakes) => {}
            }
        });
        Self(ReceiverStream::new(incoming).boxed())
    }
}

/// Begins a handshake with whoever comes.
async fn accept(listener: &TcpListener, door: &Arc<Door>, tasks: &Tasks) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, address)) => {
                let door = Arc::clone(door);
                tasks.spawn_until_shutdown(async move {
                    let _place = place;
                    if timeout(HANDSHAKE, door.take(stream, address)).await.is_err() {
                        door.refusals.note(door.what, address, "no TLS handshake within its time");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "{} cannot take a connection", door.what);
                sleep(OUT).await;
            }
        }
    }
}

impl Door {
    async fn take(&self, stream: TcpStream, address: SocketAddr) {
        // Answers to requests must not wait for one another; without it they are only slower.
        let _ = stream.set_nodelay(true);
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] == PREFACE => {
                self.refusals.note(self.what, address, "it does not speak TLS, set [tls] there too");
                return dismiss(stream, INADEQUATE_SECURITY).await;
            }
            Ok(1) => {}
            // Whoever only looks whether the port is open.
            Ok(_) | Err(_) => return,
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls.current().server));
        match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let peer = match certificate.map_or(Err(RoleError::Missing), Role::of) {
                    Ok(role) => Peer::Known(role),
                    Err(error) => {
                        self.refusals.note(self.what, address, &error.to_string());
                        Peer::Unknown(error)
                    }
                };
                let connection = Connection { stream: Wire::Tls(Box::new(stream)), peer };
                // Fails when the server has ended.
                let _ = self.taken.send(Ok(connection)).await;
            }
            Err((error, stream)) => {
                self.refusals.note(self.what, address, &error.to_string());
                dismiss(stream, &[]).await;
            }
        }
    }
}

/// Sends the last words and waits until they are heard: closing while the other end still sends would take them back.
async fn dismiss(mut stream: TcpStream, words: &[u8]) {
    let mut rest = [0; 1024];
    if stream.write_all(words).await.is_ok() && stream.shutdown().await.is_ok() {
        while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Wire::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("what", &self.what).finish_non_exhaustive()
    }
}
