//! Calls to the masters: deadline, retries, the next master when one does not answer.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use headpond_proto::{MAX_MESSAGE, status, v1};
use headpond_transport::{Link, Transport};
use headpond_types::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Response, Status, service::interceptor::InterceptedService, transport::Endpoint};

use crate::{
    ClientConfig,
    backoff::Backoff,
    reach::{Admitted, Reach},
    session_name::SessionName,
};

/// So many calls in a row may find that their connection has broken, and so much longer is waited each time, before a master counts as lost.
const BREAKS: u32 = 5;
const BREAK: Duration = Duration::from_millis(20);

/// How often a connection is probed and how long an answer may take, so that a dead peer is known in 10 s at most.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A deadline that passed this long ago was not kept: this process stood still, stopped or starved. Timers of a busy machine
/// are late by some ten milliseconds.
const STANDSTILL: Duration = Duration::from_millis(250);

/// The masters and which of them answered last.
pub(crate) struct Masters {
    masters: Vec<Master>,
    /// Index modulo their number.
    current: AtomicUsize,
    timeout: Duration,
    pub(crate) reach: Reach,
    pub(crate) session: SessionName,
}

/// The way to a master.
pub(crate) type Connection = InterceptedService<Link, SessionName>;

#[derive(Clone)]
struct Master {
    address: String,
    connection: Connection,
}

/// Whether a call may be repeated within its deadline after all masters have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Until the deadline.
    Yes,
    /// The same, for a change, which others have to hear of before it is answered: one that is dead is waited for.
    Change,
    /// Every master is asked once.
    No,
    /// Every master is asked once, also in a long outage: by the session, which finds out at its own pace.
    Session,
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct CallError {
    /// For the caller.
    pub(crate) error: Error,
    /// No master answered at all, not even with an error.
    pub(crate) unreachable: bool,
}

impl From<Error> for CallError {
    /// An error about what a master answered.
    fn from(error: Error) -> Self {
        Self { error, unreachable: false }
    }
}

impl From<CallError> for Error {
    fn from(failed: CallError) -> Self {
        failed.error
    }
}

impl Masters {
    pub(crate) fn new(config: &ClientConfig, transport: &Transport) -> Result<Self> {
        if config.masters.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "no master is configured: set `masters` to host:port"));
        }
        let session = SessionName::new(config.metadata_timeout);
        let masters = config.masters.iter().map(|address| {
            let link = transport.link(&endpoint(address, config.connect_timeout)?);
            Ok(Master { address: address.clone(), connection: InterceptedService::new(link, session.clone()) })
        });
        let masters = masters.collect::<Result<_>>()?;
        let (timeout, current) = (config.metadata_timeout, AtomicUsize::new(0));
        Ok(Self { masters, current, timeout, reach: Reach::new(timeout), session })
    }

    /// Makes a call and waits for its answer until the metadata deadline. If this process stood still meanwhile, which says nothing
    /// of the masters, it has its time once more.
    ///
    /// # Errors
    /// `Unavailable` when no master answered or the one that did said so until the deadline, or at once when none has answered for
    /// longer than that; `DeadlineExceeded` when it did not answer; what it answered otherwise.
    pub(crate) async fn call<T, F, Fut>(&self, what: &str, retry: Retry, call: F) -> Result<T, CallError>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut began = Instant::now();
        let admitted = match retry {
            Retry::Yes | Retry::Change | Retry::No => {
                self.reach.admit(what).map_err(|error| CallError { error, unreachable: true })?
            }
            Retry::Session => Admitted { deadline: began + self.timeout, is_probe: false },
        };
        let mut deadline = admitted.deadline;
        let is_cut = deadline < began + self.timeout;
        // An outage cuts the time to reach a master, not the time that one which has a change may take to answer.
        let mut grace = Duration::ZERO;
        match retry {
            Retry::Change if !is_cut => deadline += self.session.patience(),
            Retry::Change if !admitted.is_probe => grace = self.session.patience(),
            _ => {}
        }
        let (mut stood_still, mut breaks) = (false, 0);
        let once = admitted.is_probe || matches!(retry, Retry::No | Retry::Session);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut failed: Option<CallError> = None;
        let mut attempts = 0;
        loop {
            let current = self.current.load(Ordering::Relaxed);
            let master = &self.masters[current % self.masters.len()];
            let what = format!("{what} at master {}", master.address);
            let answer = timeout_at(deadline + grace, call(master.connection.clone())).await;
            let unanswered = match &answer {
                Ok(Ok(_)) => false,
                Ok(Err(status)) => is_of_transport(status),
                Err(_) => true,
            };
            if unanswered && !stood_still && (deadline + grace).elapsed() > STANDSTILL {
                stood_still = true;
                let allowed = deadline - began;
                began = Instant::now();
                deadline = began + allowed;
                failed = None;
                continue;
            }
            let Ok(answer) = answer else {
                self.step_over(current);
                // How earlier attempts failed, be they of other calls, says more than that the last was cut short.
                let outage = if is_cut { self.reach.outage(&what) } else { None };
                if let Some(error) = outage {
                    return Err(failed.unwrap_or(CallError { error, unreachable: true }));
                }
                let message = format!("{what}: no answer within {} ms", began.elapsed().as_millis());
                let error = Error::new(ErrorKind::DeadlineExceeded, message);
                let failed = failed.unwrap_or(CallError { error, unreachable: true });
                if failed.unreachable {
                    self.reach.timed_out(began, &failed.error);
                }
                return Err(failed);
            };
            let status = match answer {
                Ok(response) => {
                    self.reach.answered();
                    return Ok(response.into_inner());
                }
                Err(status) => status,
            };
            let unreachable = is_of_transport(&status);
            if unreachable && breaks < BREAKS && !is_of_connecting(&status) {
                // A connection to a master that has ended, or let go of it, says nothing of the one that is there now. Several calls may fail before all
                // of it is known to have broken.
                sleep(BREAK * breaks).await;
                breaks += 1;
                continue;
            }
            if !unreachable {
                self.reach.answered();
            }
            let error = status::to_error(&status, &what);
            if error.kind() != ErrorKind::Unavailable {
                return Err(CallError { error, unreachable });
            }
            // What a master answered says more than that another could not be reached.
            if !unreachable || failed.as_ref().is_none_or(|failed| failed.unreachable) {
                failed = Some(CallError { error, unreachable });
            }
            self.step_over(current);
            attempts += 1;
            if attempts % self.masters.len() == 0 {
                if let Some(failed) = failed.as_ref().filter(|failed| failed.unreachable) {
                    self.reach.failed(began, &failed.error);
                }
                let pause = backoff.pause();
                let is_over = once || Instant::now() + pause >= deadline;
                if let Some(failed) = failed.take_if(|_| is_over) {
                    return Err(failed);
                }
                sleep(pause).await;
            }
        }
    }

    /// Lets the next call go to the next master, unless another call has done so.
    fn step_over(&self, current: usize) {
        let _ = self.current.compare_exchange(current, current.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Whether a call failed in a way that no waiting helps: the masters will not have this client, or it cannot have them as it is
/// configured.
#[must_use]
pub const fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidArgument)
}

/// Whether no service of Headpond answered, but the way to it failed.
fn is_of_transport(status: &Status) -> bool {
    use tonic::Code;
    let failed = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown);
    !status::is_answer(status) && (failed || status::is_closing(status))
}

/// Whether no connection could be made; otherwise one that there was broke.
fn is_of_connecting(status: &Status) -> bool {
    let first = std::error::Error::source(status);
    std::iter::successors(first, |error| error.source()).any(|error| error.is::<tonic::ConnectError>())
}

impl fmt::Debug for Masters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.masters.iter().map(|master| &master.address)).finish()
    }
}

/// The namespace's service on a channel.
pub(crate) fn namespace(channel: Connection) -> v1::master_service_client::MasterServiceClient<Connection> {
    v1::master_service_client::MasterServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

/// The service for changes on a channel.
pub(crate) fn writing(channel: Connection) -> v1::writing_service_client::WritingServiceClient<Connection> {
    v1::writing_service_client::WritingServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

/// The operators' service on a channel.
pub(crate) fn administration(channel: Connection) -> v1::admin_service_client::AdminServiceClient<Connection> {
    v1::admin_service_client::AdminServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

/// How to connect to `address`, a `host:port`.
///
/// # Errors
/// `InvalidArgument` when it is none.
pub(crate) fn endpoint(address: &str, connect_timeout: Duration) -> Result<Endpoint> {
    let message = || format!("{address:?} is not an address: write it as host:port");
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Error::new(ErrorKind::InvalidArgument, message()).with_source(error))?;
    if endpoint.uri().port().is_none() {
        return Err(Error::new(ErrorKind::InvalidArgument, message()));
    }
    Ok(endpoint
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_during_which_the_process_stood_still_tells_of_no_outage() {
        let config = ClientConfig { masters: vec!["a:1".to_owned()], ..ClientConfig::default() };
        let transport = Transport::plaintext();
        let masters = Masters::new(&config, &transport).expect("an address");
        let asked = Cell::new(0);
        let answers_again = async |_| {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                std::future::pending::<()>().await;
            }
            Ok(Response::new(()))
        };
        let standstill = tokio::time::advance(2 * config.metadata_timeout);
        let (answer, ()) = tokio::join!(masters.call("watch", Retry::Session, answers_again), standstill);
        answer.expect("asked again");
        assert!(!masters.reach.is_lost());
        assert_eq!(asked.get(), 2);

        let silent = async |_| {
            asked.set(asked.get() + 1);
            tokio::time::advance(2 * config.metadata_timeout).await;
            std::future::pending::<Result<Response<()>, Status>>().await
        };
        masters.call("watch", Retry::Session, silent).await.expect_err("no answer");
        assert_eq!(asked.get(), 4, "once more, not for ever");
    }

    #[tokio::test]
    async fn a_connection_that_broke_is_made_anew_before_a_master_counts_as_lost() {
        let config = ClientConfig { masters: vec!["127.0.0.1:1".to_owned()], ..ClientConfig::default() };
        let masters = Masters::new(&config, &Transport::plaintext()).expect("an address");
        let asked = Cell::new(0);
        let breaks_thrice = async |_| {
            asked.set(asked.get() + 1);
            if asked.get() <= 3 { Err(Status::unknown("connection reset")) } else { Ok(Response::new(())) }
        };
        masters.call("lookup", Retry::No, breaks_thrice).await.expect("asked again");
        let breaks = async |_| Err::<Response<()>, _>(Status::unknown("connection reset"));
        assert!(masters.call("lookup", Retry::No, breaks).await.expect_err("not for ever").unreachable);
        // Nobody listens there: that is known at once.
        asked.set(0);
        let refused = async |connection| {
            asked.set(asked.get() + 1);
            namespace(connection).stat_fs(v1::StatFsRequest {}).await
        };
        assert!(masters.call("statfs", Retry::No, refused).await.expect_err("nobody").unreachable);
        assert_eq!(asked.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_before_there_is_a_session_waits_for_others_to_hear_of_it() {
        let config = ClientConfig { masters: vec!["a:1".to_owned()], ..ClientConfig::default() };
        let transport = Transport::plaintext();
        let masters = Masters::new(&config, &transport).expect("an address");
        let late = async |_| {
            sleep(2 * config.metadata_timeout).await;
            Ok(Response::new(()))
        };
        masters.call("create", Retry::Change, late).await.expect("it was waited for");
        masters.session.begin(1, Duration::ZERO);
        masters.call("create", Retry::Change, late).await.expect_err("nobody is to be waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_in_an_outage_has_less_time_to_reach_a_master_and_no_less_to_be_answered() {
        let config = ClientConfig { masters: vec!["a:1".to_owned()], ..ClientConfig::default() };
        let masters = Masters::new(&config, &Transport::plaintext()).expect("an address");
        let refused = || Error::new(ErrorKind::Unavailable, "a:1 refused");
        let (began, left) = (Instant::now(), Duration::from_millis(100));
        masters.reach.failed(began, &refused());
        tokio::time::advance(config.metadata_timeout - left).await;
        let unreached = async |_| Err::<Response<()>, _>(Status::unavailable("connection refused"));
        masters.call("create", Retry::Change, unreached).await.expect_err("the outage lasts");
        assert!(began.elapsed() < config.metadata_timeout + Duration::from_secs(1), "{:?}", began.elapsed());

        masters.reach.answered();
        masters.reach.failed(Instant::now(), &refused());
        tokio::time::advance(config.metadata_timeout - left).await;
        let late = async |_| {
            sleep(2 * config.metadata_timeout).await;
            Ok(Response::new(()))
        };
        masters.call("create", Retry::Change, late).await.expect("it was waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_an_outage_leaves_no_time_says_what_is_wrong() {
        let config = ClientConfig { masters: vec!["a:1".to_owned()], ..ClientConfig::default() };
        let transport = Transport::plaintext();
        let masters = Masters::new(&config, &transport).expect("an address");
        let silent = async |_| std::future::pending::<Result<Response<()>, Status>>().await;
        let late = masters.call("stat", Retry::Yes, silent).await.expect_err("no answer").error;
        assert_eq!(late.kind(), ErrorKind::DeadlineExceeded, "it had all of its time: {late}");

        masters.reach.answered();
        masters.reach.failed(Instant::now(), &Error::new(ErrorKind::Unavailable, "a:1 refused"));
        tokio::time::advance(config.metadata_timeout - Duration::from_micros(1)).await;
        let cut = masters.call("stat", Retry::Yes, silent).await.expect_err("no answer").error;
        assert_eq!(cut.kind(), ErrorKind::Unavailable, "{cut}");
        assert!(cut.message().ends_with("the last time a:1 refused"), "{cut}");
    }
}
