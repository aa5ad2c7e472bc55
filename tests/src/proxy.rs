//! A proxy before a store: it writes down every request, counts bytes, and limits or breaks what passes, as told.
//!
//! It forwards bytes of HTTP/1.1 connections unchanged (signatures stay valid) and reads along only as far as it needs to see
//! where requests and answers begin.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    runtime::Runtime,
    time::Instant,
};

/// What the proxy does with requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behaviour {
    /// Wait before the first byte of each answer.
    pub first_byte: Duration,
    /// Bytes per second and connection towards the client; `None` for no limit.
    pub bytes_per_second: Option<u64>,
    /// Answer every request with this status instead of forwarding it.
    pub answer: Option<u16>,
    /// Only requests whose target contains this text are delayed or answered; empty for all.
    pub only: String,
    /// Only requests by this method are; empty for all.
    pub method: String,
    /// Only requests that copy what the store has are.
    pub copies: bool,
    /// Of these requests, only every so manieth is; 0 and 1 for all.
    pub every: u64,
    /// Take requests and never answer.
    pub hang: bool,
    /// Take requests whole and pass them on so much later, whether or not the client is there by then.
    pub late: Duration,
}

/// A request that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The object that is copied, whole or in part: the `x-amz-copy-source` header.
    pub copies: Option<String>,
}

impl Request {
    /// Whether it made an object of bytes that were sent, or was to: a PUT, or the end of an upload in parts.
    #[must_use]
    pub fn puts(&self) -> bool {
        match &*self.method {
            "PUT" => self.copies.is_none() && !self.target.contains("partNumber="),
            "POST" => self.target.contains("uploadId="),
            _ => false,
        }
    }
}

/// A proxy on a port of its own. Dropping it closes every connection.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<Request>>,
    sent: AtomicU64,
    taken: AtomicU64,
    connections: AtomicU64,
    /// Requests that the behaviour is about.
    concerned: AtomicU64,
    /// Requests that were passed on late and are answered.
    late: AtomicU64,
    /// Requests that wait for their first byte, as [`Behaviour::first_byte`] says, and the most that ever did.
    waiting: AtomicU64,
    most_waiting: AtomicU64,
}

impl Proxy {
    /// A proxy before the server on `upstream_port` of this machine.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(upstream_port: u16) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream: ([127, 0, 0, 1], upstream_port).into(),
            behaviour: Mutex::default(),
            requests: Mutex::default(),
            sent: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            concerned: AtomicU64::new(0),
            late: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            most_waiting: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                shared.connections.fetch_add(1, Ordering::SeqCst);
                #[expect(clippy::disallowed_methods, reason = "ends with the proxy's own runtime")]
                tokio::spawn(async move { serve(client, &shared).await });
            }
        });
        Ok(Self { port, shared, _runtime: runtime })
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes what happens to requests from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes sent to clients so far, heads included.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that clients have sent so far, as far as they passed.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// Connections made so far, also those that a dead server took nothing from.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Requests that were passed on late so far, and that the server has answered.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.shared.late.load(Ordering::SeqCst)
    }

    /// The most requests so far that waited at the same time, as [`Behaviour::first_byte`] says.
    #[must_use]
    pub fn most_waiting(&self) -> u64 {
        self.shared.most_waiting.load(Ordering::SeqCst)
    }

    /// Forgets the requests, bytes and connections so far.
    pub fn reset(&self) {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.sent.store(0, Ordering::SeqCst);
        self.shared.taken.store(0, Ordering::SeqCst);
        self.shared.connections.store(0, Ordering::SeqCst);
    }
}

/// Serves one connection, request by request.
async fn serve(client: TcpStream, shared: &Shared) -> Option<()> {
    let server = TcpStream::connect(shared.upstream).await.ok()?;
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    let (from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let mut from_client = BufReader::with_capacity(64 << 10, from_client);
    let mut from_server = BufReader::with_capacity(256 << 10, from_server);
    loop {
        let head = Head::read(&mut from_client).await?;
        let request = head.request()?;
        shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let behaviour = shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let concerned = request.target.contains(&behaviour.only)
            && (behaviour.method.is_empty() || request.method == behaviour.method)
            && (!behaviour.copies || request.copies.is_some())
            && shared.concerned.fetch_add(1, Ordering::SeqCst).is_multiple_of(behaviour.every.max(1));
        if concerned && behaviour.hang {
            return std::future::pending().await;
        }
        if concerned && let Some(status) = behaviour.answer {
            if !head.expects_continue() {
                // Closed before it is read to its end, a connection is reset and the answer lost.
                copy(&mut from_client, &mut tokio::io::sink(), head.body(), None, None).await?;
            }
            let code = match status {
                501 => "NotImplemented",
                503 => "SlowDown",
                _ => "AccessDenied",
            };
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as told</Message></Error>");
            let body = if request.method == "HEAD" { String::new() } else { body };
            let answer = format!(
                "HTTP/1.1 {status} As Told\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: \
                 close\r\n\r\n{body}",
                body.len()
            );
            to_client.write_all(answer.as_bytes()).await.ok()?;
            return None;
        }
        if concerned && !behaviour.late.is_zero() {
            if head.expects_continue() {
                to_client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
            }
            let mut whole = head.bytes.clone();
            copy(&mut from_client, &mut whole, head.body(), None, Some(&shared.taken)).await?;
            tokio::time::sleep(behaviour.late).await;
            to_server.write_all(&whole).await.ok()?;
            if head.expects_continue() {
                Head::read(&mut from_server).await?;
            }
            let answer = Head::read(&mut from_server).await?;
            let mut whole = answer.bytes.clone();
            let body = if request.method == "HEAD" { Body::Length(0) } else { answer.body() };
            copy(&mut from_server, &mut whole, body, None, None).await?;
            shared.late.fetch_add(1, Ordering::SeqCst);
            to_client.write_all(&whole).await.ok()?;
            shared.sent.fetch_add(whole.len() as u64, Ordering::SeqCst);
            continue;
        }
        to_server.write_all(&head.bytes).await.ok()?;
        if head.expects_continue() {
            let go_on = Head::read(&mut from_server).await?;
            to_client.write_all(&go_on.bytes).await.ok()?;
        }
        copy(&mut from_client, &mut to_server, head.body(), None, Some(&shared.taken)).await?;
        let answer = Head::read(&mut from_server).await?;
        let limit = if concerned { behaviour.bytes_per_second } else { None };
        if concerned && !behaviour.first_byte.is_zero() {
            let waiting = shared.waiting.fetch_add(1, Ordering::SeqCst) + 1;
            shared.most_waiting.fetch_max(waiting, Ordering::SeqCst);
            tokio::time::sleep(behaviour.first_byte).await;
            shared.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        to_client.write_all(&answer.bytes).await.ok()?;
        shared.sent.fetch_add(answer.bytes.len() as u64, Ordering::SeqCst);
        let body = if request.method == "HEAD" { Body::Length(0) } else { answer.body() };
        copy(&mut from_server, &mut to_client, body, limit, Some(&shared.sent)).await?;
    }
}

/// The head of a request or an answer, as received.
struct Head {
    bytes: Vec<u8>,
    text: String,
}

/// How long what follows a head is.
#[derive(Clone, Copy)]
enum Body {
    Length(u64),
    Chunked,
}

impl Head {
    async fn read<R: tokio::io::AsyncBufRead + Unpin>(from: &mut R) -> Option<Self> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            if from.read_until(b'\n', &mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(Self { bytes, text })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.text.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    fn request(&self) -> Option<Request> {
        let mut words = self.text.split(' ');
        let method = words.next()?.to_owned();
        let target = words.next()?.to_owned();
        let header = |name| self.header(name).map(str::to_owned);
        Some(Request { method, target, range: header("range"), copies: header("x-amz-copy-source") })
    }

    fn expects_continue(&self) -> bool {
        self.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }

    fn body(&self) -> Body {
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Body::Chunked;
        }
        Body::Length(self.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0))
    }
}

async fn copy<W: AsyncWrite + Unpin>(
    from: &mut BufReader<OwnedReadHalf>,
    to: &mut W,
    body: Body,
    limit: Option<u64>,
    sent: Option<&AtomicU64>,
) -> Option<()> {
    match body {
        Body::Length(length) => copy_bytes(from, to, length, limit, sent).await,
        Body::Chunked => loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line).await.ok()?;
            let text = String::from_utf8_lossy(&line);
            let size = u64::from_str_radix(text.split([';', '\r']).next()?.trim(), 16).ok()?;
            to.write_all(&line).await.ok()?;
            copy_bytes(from, to, size + 2, limit, sent).await?;
            if size == 0 {
                return Some(());
            }
        },
    }
}

async fn copy_bytes<W: AsyncWrite + Unpin>(
    from: &mut BufReader<OwnedReadHalf>,
    to: &mut W,
    length: u64,
    limit: Option<u64>,
    sent: Option<&AtomicU64>,
) -> Option<()> {
    let started = Instant::now();
    let mut buffer = vec![0; 256 << 10];
    let mut done = 0;
    while done < length {
        let room = usize::try_from(length - done).unwrap_or(usize::MAX).min(buffer.len());
        let got = from.read(&mut buffer[..room]).await.ok()?;
        if got == 0 {
            return None;
        }
        to.write_all(&buffer[..got]).await.ok()?;
        done += got as u64;
        if let Some(sent) = sent {
            sent.fetch_add(got as u64, Ordering::SeqCst);
        }
        if let Some(limit) = limit {
            let due = started + Duration::from_nanos(done.saturating_mul(1_000_000_000) / limit);
            tokio::time::sleep_until(due).await;
        }
    }
    Some(())
}
