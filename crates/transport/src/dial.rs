//! Connects to servers over TLS and says what is wrong with them.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use headpond_types::{Error, ErrorKind, Result};
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::{Service, http::Uri};

use crate::{Role, files::why, transport::Tls};

/// Connects a channel.
#[derive(Clone, Debug)]
pub(crate) struct Dialler(pub(crate) Arc<Tls>);

/// A connection to a server that has shown the certificate of a node.
#[derive(Debug)]
pub(crate) struct Dialled {
    stream: TlsStream<TcpStream>,
    address: String,
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<Dialled>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = Arc::clone(&self.0);
        async move { dial(&tls, &uri).await.map(TokioIo::new) }.boxed()
    }
}

/// Errors have no sources: what a status tells of them is what lies at the bottom.
async fn dial(tls: &Tls, uri: &Uri) -> Result<Dialled> {
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let not_an_address = || Error::new(ErrorKind::InvalidArgument, format!("{authority:?} is not host:port"));
    let host = uri.host().ok_or_else(not_an_address)?.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().ok_or_else(not_an_address)?;
    let name = match &tls.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(host.to_owned()).map_err(|_| not_an_address())?,
    };
    let unavailable = |error: io::Error| Error::new(ErrorKind::Unavailable, error.to_string());
    let stream = TcpStream::connect((host, port)).await.map_err(unavailable)?;
    stream.set_nodelay(true).map_err(unavailable)?;
    let connector = TlsConnector::from(Arc::clone(&tls.current().client));
    let stream = connector.connect(name, stream).await.map_err(|error| refused(&authority, &error))?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    match certificate.map(Role::of) {
        Some(Ok(Role::Node)) => Ok(Dialled { stream, address: authority }),
        _ => {
            let message = format!("the certificate of {authority} is not a server's: it needs the URI headpond://node");
            Err(Error::new(ErrorKind::PermissionDenied, message))
        }
    }
}

/// Why a handshake failed.
fn refused(address: &str, error: &io::Error) -> Error {
    let Some(cause) = cause(error) else {
        return Error::new(ErrorKind::Unavailable, format!("no TLS handshake with {address}: {error}"));
    };
    match cause {
        rustls::Error::InvalidMessage(_) => {
            let message = format!("{address} does not speak TLS: set [tls] there too, or take it out here");
            Error::new(ErrorKind::InvalidArgument, message)
        }
        rustls::Error::InvalidCertificate(reason) => {
            let message = format!("the certificate of {address} cannot be trusted: {}", why(reason));
            Error::new(ErrorKind::PermissionDenied, message)
        }
        rustls::Error::AlertReceived(alert) => Error::new(ErrorKind::PermissionDenied, turned_away(address, *alert)),
        other => Error::new(ErrorKind::Unavailable, format!("no TLS handshake with {address}: {other}")),
    }
}

/// With TLS 1.3 a server judges our certificate when the handshake is over for us.
fn turned_away(address: &str, alert: AlertDescription) -> String {
    let remedy = match alert {
        AlertDescription::CertificateExpired => "it has expired there, renew it or check the clocks",
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "the authorities in its tls.ca did not sign the one in tls.cert here"
        }
        AlertDescription::CertificateRequired => "it wants one, set tls.cert and tls.key",
        _ => "compare tls.ca there with tls.cert here",
    };
    format!("{address} refuses the certificate of this process ({alert:?}): {remedy}")
}

fn cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

impl Dialled {
    /// HTTP/2 keeps no more of an error than its kind and its text.
    fn explain(&self, error: io::Error) -> io::Error {
        match cause(&error) {
            Some(rustls::Error::AlertReceived(alert)) => {
                io::Error::new(io::ErrorKind::PermissionDenied, turned_away(&self.address, *alert))
            }
            _ => error,
        }
    }
}

impl AsyncRead for Dialled {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Pin::new(&mut this.stream).poll_read(cx, buf).map_err(|error| this.explain(error))
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
