//! Says whom a server refused, without letting strangers fill the log.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Pause between two lines about one host.
const PAUSE: Duration = Duration::from_secs(30);

/// Hosts that are remembered at most; beyond it there are no lines about further ones until the pause is over.
const HOSTS: usize = 256;

/// Whom the log has told of.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Nothing else is locked while it is held.
    told: Mutex<HashMap<IpAddr, Instant>>,
}

impl Refusals {
    /// Logs that `peer` was refused.
    pub(crate) fn note(&self, what: &'static str, peer: SocketAddr, reason: &str) {
        if self.is_news(peer.ip()) {
            tracing::warn!("{what} refused {peer}: {reason}");
        } else {
            tracing::debug!("{what} refused {peer}: {reason}");
        }
    }

    fn is_news(&self, host: IpAddr) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains_key(&host) || told.len() == HOSTS {
            let now = Instant::now();
            told.retain(|_, at| now.duration_since(*at) < PAUSE);
        }
        told.len() < HOSTS && !told.contains_key(&host) && told.insert(host, Instant::now()).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_host_is_told_of_now_and_then() {
        let (refusals, host) = (Refusals::default(), IpAddr::from([10, 0, 0, 1]));
        assert!(refusals.is_news(host) && !refusals.is_news(host));
        assert!(refusals.is_news(IpAddr::from([10, 0, 0, 2])));
        tokio::time::advance(PAUSE).await;
        assert!(refusals.is_news(host));
        let news = (0..1000u32).filter(|n| refusals.is_news(IpAddr::from(n.to_be_bytes()))).count();
        assert!(news <= HOSTS, "{news}");
    }
}
