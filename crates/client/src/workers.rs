//! Connections to workers, and which of them did not answer lately.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headpond_proto::{
    MAX_MESSAGE,
    v1::{staging_service_client::StagingServiceClient, worker_service_client::WorkerServiceClient},
};
use headpond_transport::{Link, Transport};
use headpond_types::{ContentId, Member, Result, Ring};
use tokio::time::Instant;

use crate::master;

/// Bytes of one stream under way: enough for 10 Gbit/s over 6 ms.
const STREAM_WINDOW: u32 = 8 << 20;

/// Bytes of one connection under way.
const CONNECTION_WINDOW: u32 = 32 << 20;

/// Largest HTTP/2 frame taken: the default of 16 KiB costs 64 headers for each MiB.
const FRAME: u32 = 1 << 20;

/// How long a worker that failed is asked last.
const AVOID: Duration = Duration::from_secs(5);

/// Connections to workers by address.
#[derive(Debug)]
pub(crate) struct Workers {
    connect_timeout: Duration,
    transport: Transport,
    /// Not held across an await; no other lock is taken inside.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    links: HashMap<String, Link>,
    avoided: HashMap<String, Instant>,
}

impl Workers {
    pub(crate) fn new(connect_timeout: Duration, transport: Transport) -> Self {
        Self { connect_timeout, transport, state: Mutex::default() }
    }

    /// The service of a worker; connects when it is first used.
    ///
    /// # Errors
    /// `InvalidArgument` when the worker registered with an address that is none.
    pub(crate) fn service(&self, member: &Member) -> Result<WorkerServiceClient<Link>> {
        Ok(WorkerServiceClient::new(self.link(member)?).max_decoding_message_size(MAX_MESSAGE))
    }

    /// A worker's service for bytes that are being written; otherwise as [`Workers::service`].
    pub(crate) fn staging(&self, member: &Member) -> Result<StagingServiceClient<Link>> {
        Ok(StagingServiceClient::new(self.link(member)?).max_decoding_message_size(MAX_MESSAGE))
    }

    fn link(&self, member: &Member) -> Result<Link> {
        let mut state = self.lock();
        let link = match state.links.get(&member.address) {
            Some(link) => link.clone(),
            None => {
                let endpoint = master::endpoint(&member.address, self.connect_timeout)?
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_frame_size(FRAME);
                let link = self.transport.link(&endpoint);
                state.links.insert(member.address.clone(), link.clone());
                link
            }
        };
        Ok(link)
    }

    /// The workers to ask for a block, the owner first, those that failed lately last.
    pub(crate) fn order(&self, ring: &Ring, content: ContentId, block: u64) -> Vec<Member> {
        let mut owners: Vec<_> = ring.owners(content, block).into_iter().cloned().collect();
        let state = self.lock();
        let now = Instant::now();
        owners.sort_by_key(|member| state.avoided.get(&member.address).is_some_and(|until| now < *until));
        owners
    }

    /// A worker failed: others are asked first for a while.
    pub(crate) fn avoid(&self, member: &Member) {
        self.lock().avoided.insert(member.address.clone(), Instant::now() + AVOID);
    }

    /// Closes connections to workers that left the ring.
    pub(crate) fn retain(&self, ring: &Ring) {
        let mut state = self.lock();
        let is_member = |address: &String| ring.members.iter().any(|member| member.address == *address);
        state.links.retain(|address, _| is_member(address));
        state.avoided.retain(|address, _| is_member(address));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
