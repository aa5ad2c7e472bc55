//! Connects mounts to their under stores.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use headpond_proto::v1::Mount;
use headpond_types::Result;
use headpond_ufs::{CredentialSource, Meters, StoreUri, UnderStore};

use crate::mounts::Connect;

/// Builds the driver that a mount's URI names, with this process's credentials, and has its requests counted.
pub(crate) struct Connector {
    pub(crate) credentials: Arc<dyn CredentialSource>,
    pub(crate) meters: Meters,
}

impl Connect for Connector {
    fn connect<'a>(&'a self, mount: &'a Mount) -> BoxFuture<'a, Result<Arc<dyn UnderStore>>> {
        Box::pin(async move {
            let uri = StoreUri::parse(&mount.uri)?;
            let options = mount.options.clone().into_iter().collect();
            let counters = self.meters.of(&String::from_utf8_lossy(&mount.path));
            Ok(headpond_ufs::connect_metered(&uri, &options, &*self.credentials, counters).await?)
        })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
