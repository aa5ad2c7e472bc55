//! How the master comes to a store.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use headpond_namespace::Mount;
use headpond_ufs::{CredentialSource, Meters, StoreUri, UfsError, UnderStore};

/// Makes stores from URIs.
#[async_trait]
pub(crate) trait Connect: fmt::Debug + Send + Sync + 'static {
    /// The store that the URI of `mount` names.
    async fn connect(&self, mount: &Mount, uri: &StoreUri) -> Result<Arc<dyn UnderStore>, UfsError>;
}

/// The option that bounds a request with its retries, in whole seconds.
const DEADLINE_OPTION: &str = "deadline_seconds";

/// The drivers, with this process's credentials.
pub(crate) struct Drivers {
    credentials: Arc<dyn CredentialSource>,
    deadline: Duration,
    meters: Meters,
}

impl Drivers {
    /// Stores whose retries end before `deadline`, so that their error says what is wrong and not that time is up. Their requests
    /// are counted in `meters`.
    pub(crate) const fn new(credentials: Arc<dyn CredentialSource>, deadline: Duration, meters: Meters) -> Self {
        Self { credentials, deadline, meters }
    }

    /// The options with a deadline that is ours unless the mount's is shorter.
    fn bounded(&self, options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let ours = self.deadline.as_secs().saturating_sub(1).max(1);
        let mut options = options.clone();
        let seconds = options.entry(DEADLINE_OPTION.to_owned()).or_insert_with(|| ours.to_string());
        // What is no number is the store's to refuse.
        if seconds.parse::<u64>().is_ok_and(|theirs| theirs > ours) {
            *seconds = ours.to_string();
        }
        options
    }
}

#[async_trait]
impl Connect for Drivers {
    async fn connect(&self, mount: &Mount, uri: &StoreUri) -> Result<Arc<dyn UnderStore>, UfsError> {
        let counters = self.meters.of(&mount.path.to_string());
        headpond_ufs::connect_metered(uri, &self.bounded(&mount.options), &*self.credentials, counters).await
    }
}

impl fmt::Debug for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drivers").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use headpond_ufs::NoCredentials;

    use super::*;

    #[test]
    fn retries_end_before_the_deadline() {
        let drivers = Drivers::new(Arc::new(NoCredentials), Duration::from_secs(8), Meters::default());
        let bounded = |given: &[(&str, &str)]| {
            let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            drivers.bounded(&given).remove(DEADLINE_OPTION).expect("set")
        };
        assert_eq!(bounded(&[]), "7");
        assert_eq!(bounded(&[(DEADLINE_OPTION, "20")]), "7");
        assert_eq!(bounded(&[(DEADLINE_OPTION, "3")]), "3");
        assert_eq!(bounded(&[(DEADLINE_OPTION, "soon")]), "soon");
    }
}
